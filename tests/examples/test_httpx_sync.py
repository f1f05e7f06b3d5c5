"""`examples/httpx_sync.py`: one file in, one file out, and a run that can be continued."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from transports.emulator import running_emulator

from .running import REQUESTS, SETTLING_QUICKLY, assert_failed, batches_of, run, service

SCRIPT = "httpx_sync.py"


def test_the_summary_counts_outcomes_and_tokens_and_lists_what_failed(tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"414 results in results-\S+\.jsonl: 407 succeeded, 7 errored", lines[0])
    assert re.fullmatch(r"tokens: [\d,]+ in, [\d,]+ out", lines[1])
    assert len(lines[2:]) == 7
    assert "  invalid-model: not_found_error: model: clever-model-1" in lines[2:]


def test_an_unreadable_result_is_counted_and_listed(tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("results:bad_lines=1"))
    with running_emulator(emulator) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url))
    assert done.returncode == 0, done.stderr
    assert "1 unreadable" in done.stdout


def test_progress_goes_to_stderr(tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url))
    batch, *polls = done.stderr.splitlines()
    assert re.fullmatch(r"batch msgbatch_\S+ has 414 requests and expires at [-\d]+ .* UTC", batch)
    assert re.fullmatch(r"  ended +0:00:0\d after its creation", polls[-1])


def test_a_complete_download_can_be_repeated_and_changes_nothing(tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        first = run(SCRIPT, REQUESTS, "--results", "r", cwd=tmp_path, **service(base_url))
        (batch,) = batches_of(base_url)
        was = (tmp_path / "r").stat()
        arguments = ("--batch", batch.id, "--results", "r")
        again = run(SCRIPT, *arguments, cwd=tmp_path, **service(base_url))
        assert len(batches_of(base_url)) == 1
    assert (first.returncode, again.returncode) == (0, 0)
    assert again.stdout == first.stdout
    now = (tmp_path / "r").stat()
    assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns)


@pytest.mark.parametrize(
    ("results", "text"),
    [(REQUESTS, "already exists"), ("/no/such/folder/r", "cannot be written")],
)
def test_a_file_for_results_that_cannot_be_made_is_refused_before_the_batch_is_created(
    results: str | Path, text: str, tmp_path: Path
) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(SCRIPT, REQUESTS, "--results", results, cwd=tmp_path, **service(base_url))
        assert not batches_of(base_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_a_batch_whose_answer_is_lost_is_found_and_not_created_twice(tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:drop=after"))
    with running_emulator(emulator) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, before=SETTLING_QUICKLY, **service(base_url))
        (batch,) = batches_of(base_url)
    assert done.returncode == 0, done.stderr
    assert "it is unknown whether a batch was created; searching the list" in done.stderr
    assert batch.id in done.stdout


def test_a_create_that_a_gateway_answers_with_a_page_is_sent_again_only_after_a_look(
    tmp_path: Path,
) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:proxy_page"))
    with running_emulator(emulator) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, before=SETTLING_QUICKLY, **service(base_url))
        assert len(batches_of(base_url)) == 1
    assert done.returncode == 0, done.stderr
    assert "searching the list for it" in done.stderr
    assert "502" in done.stderr


def test_a_batch_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with running_emulator(Emulator()) as base_url:
        done = run(SCRIPT, "--batch", "msgbatch_none", cwd=tmp_path, **service(base_url))
    assert_failed(done, "404", "check the batch id")
    assert "not lost" not in done.stderr


def test_retries_are_shown(tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("get:status=529,times=2"))
    with running_emulator(emulator) as base_url:
        done = run(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url))
    assert done.returncode == 0
    assert re.search(r"retry 2 in [\d.]+ s: 529 overloaded_error", done.stderr)
