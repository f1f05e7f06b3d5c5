"""`examples/asyncio_batches.py`: results go through a queue to a database while they arrive."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, scripted
from transports.emulator import running_emulator

from .running import (
    REQUESTS,
    assert_failed,
    batches_of,
    interrupt,
    run,
    running,
    service,
    wait_for_line,
    wait_until,
)

SCRIPT = "asyncio_batches.py"


def rows_in(folder: Path, name: str = "results.sqlite") -> list[tuple[str, str, str, bytes]]:
    with closing(sqlite3.connect(folder / name)) as connection:
        return connection.execute("SELECT * FROM results").fetchall()


def test_without_a_key_an_emulator_invents_the_answers(tmp_path: Path) -> None:
    done = run(SCRIPT, REQUESTS, cwd=tmp_path, http_proxy="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "ANTHROPIC_API_KEY is not set: an emulator invents the answers" in done.stderr
    assert "in_progress" in done.stderr
    assert "414 results in results.sqlite: 407 succeeded, 7 errored" in done.stdout
    assert len(rows_in(tmp_path)) == 414


def test_every_result_is_stored_once_also_by_a_second_run(tmp_path: Path) -> None:
    database = ["--database", "r"]
    with running_emulator(Emulator(speed=1e6)) as base_url:
        first = run(SCRIPT, REQUESTS, *database, cwd=tmp_path, **service(base_url))
        (batch,) = batches_of(base_url)
        again = run(SCRIPT, "--batch", batch.id, *database, cwd=tmp_path, **service(base_url))
        assert len(batches_of(base_url)) == 1
    for done in (first, again):
        assert done.returncode == 0, done.stderr
        assert "emulator" not in done.stderr
        assert done.stdout == "414 results in r: 407 succeeded, 7 errored\n"
    rows = rows_in(tmp_path, "r")
    asked = [json.loads(line)["custom_id"] for line in REQUESTS.read_bytes().splitlines()]
    assert sorted(custom_id for _, custom_id, _, _ in rows) == sorted(asked)
    assert {batch_id for batch_id, _, _, _ in rows} == {batch.id}
    assert Counter(kind for _, _, kind, _ in rows) == {"succeeded": 407, "errored": 7}
    for _, custom_id, kind, stored in rows:
        item = json.loads(stored)
        assert (item["custom_id"], item["result"]["type"]) == (custom_id, kind)


def test_an_unreadable_line_is_stored_as_it_arrived(tmp_path: Path) -> None:
    ended = batch_json(status="ended", results_url="/results", request_counts={"succeeded": 2})
    batch = reply(json.dumps(ended).encode())
    with scripted(batch, batch, batch, reply(result_line("a") + b"{oops\n")) as served:
        done = run(SCRIPT, "--batch", "msgbatch_1", cwd=tmp_path, **service(served.base_url))
    assert done.returncode == 0, done.stderr
    assert "1 succeeded, 1 unreadable" in done.stdout
    assert ("msgbatch_1", "line 2", "unreadable", b"{oops") in rows_in(tmp_path)


def test_results_that_break_off_are_an_error_and_what_was_received_is_stored(
    tmp_path: Path,
) -> None:
    a, b = result_line("a"), result_line("b")
    ended = batch_json(status="ended", results_url="/results", request_counts={"succeeded": 2})
    batch = reply(json.dumps(ended).encode())
    broken = reply(a + b, cut=len(a) + 9)
    with scripted(batch, batch, batch, broken, close, raw(keep=False)) as served:
        done = run(SCRIPT, "--batch", "msgbatch_1", cwd=tmp_path, **service(served.base_url))
    assert_failed(done, "check the network")
    assert "continue with --batch msgbatch_1" in done.stderr
    assert [custom_id for _, custom_id, _, _ in rows_in(tmp_path)] == ["a"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait_and_the_batch_can_be_continued(
    number: signal.Signals, tmp_path: Path
) -> None:
    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        with running(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url)) as process:
            wait_for_line(process, "in_progress")
            text = interrupt(process, number)
        (batch,) = batches_of(base_url)
    assert process.returncode == 130
    assert "Traceback" not in text
    assert "interrupted" in text
    assert f"continue with --batch {batch.id}" in text


def test_a_signal_during_a_create_says_that_a_batch_may_exist(tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:delay=30"))
    with (
        running_emulator(emulator) as base_url,
        running(SCRIPT, REQUESTS, cwd=tmp_path, **service(base_url)) as process,
    ):
        wait_until(lambda: bool(batches_of(base_url)))
        text = interrupt(process, signal.SIGTERM)
    assert process.returncode == 130
    assert "Traceback" not in text
    assert "it is not known whether the batch of 414 requests was created" in text


def test_a_database_that_cannot_be_opened_is_an_error_before_the_batch_is_created(
    tmp_path: Path,
) -> None:
    (tmp_path / "r").write_text("this is no database, but a text that is long enough", "utf-8")
    with running_emulator(Emulator(speed=1e6)) as base_url:
        arguments = [REQUESTS, "--database", "r"]
        done = run(SCRIPT, *arguments, cwd=tmp_path, **service(base_url))
        assert not batches_of(base_url)
    assert_failed(done, "file is not a database")
    assert (tmp_path / "r").read_text("utf-8").startswith("this is no database")


def test_mistakes_are_errors_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("{oops", "utf-8")
    assert_failed(run(SCRIPT, "bad", cwd=tmp_path), "line 1: is not JSON")
    assert_failed(run(SCRIPT, "none", cwd=tmp_path), "No such file", "none")
    wrong = service("http://127.0.0.1:9", "sk-secret\n")
    done = run(SCRIPT, REQUESTS, cwd=tmp_path, **wrong)
    assert_failed(done, "line break")
    assert "sk-secret" not in done.stderr
    assert run(SCRIPT, cwd=tmp_path).returncode == 2
    no_key = run(SCRIPT, "--batch", "msgbatch_1", cwd=tmp_path)
    assert no_key.returncode == 2
    assert "set ANTHROPIC_API_KEY" in no_key.stderr
