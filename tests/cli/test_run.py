"""Tests of ``run``, ``submit`` and ``resume`` in real processes, and of their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from batches_jobs import JobStatus, read_status
from batches_jobs._cli import places
from batches_jobs._cli.codes import ExitCode

from .snapshot_texts import output
from .support import (
    KEY,
    QUICK,
    batches,
    command,
    environment,
    rows_of,
    served,
    sold,
    started,
    write_requests,
    write_table,
)

RUN = ("run", "in.jsonl", "-o", "out/", *QUICK)
TEMPLATE = ("--model", "claude-haiku-4-5", "--prompt", "Good? {review}", "--max-tokens", "9")


def in_shell(
    cwd: Path, script: str, *arguments: str, base_url: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command by a script of the shell, in which it is ``"$@"``."""
    return subprocess.run(  # noqa: S603 - the scripts of this file
        ["/bin/sh", "-c", script, "sh", *command(*arguments)],
        cwd=cwd,
        env=environment(base_url),
        capture_output=True,
        timeout=60,
        check=False,
    )


def wait_until(job: Path, is_so: Callable[[JobStatus], bool]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (job / "journal.db").exists() and is_so(read_status(job)):
            return
        time.sleep(0.02)
    raise AssertionError("the job did not come so far")


def is_in_flight(status: JobStatus) -> bool:
    return set(status.chunks) == {"in flight"}


def test_a_run_answers_each_row_and_the_same_again_rewrites_nothing(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 60)
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        first = batches(tmp_path, *RUN, base_url=base_url)
        info = (tmp_path / "out/results.jsonl").stat()
        again = batches(tmp_path, *RUN, base_url=base_url)
    assert (first.code, first.out) == (ExitCode.OK, ""), first.err
    assert (again.code, again.out) == (ExitCode.OK, ""), again.err
    assert "next: batches report out/job" in first.err
    rows = rows_of(tmp_path / "out/results.jsonl")
    assert [row["custom_id"] for row in rows] == [f"r{number}" for number in range(60)]
    assert sold(emulator) == {f"r{number}": 1 for number in range(60)}
    now = (tmp_path / "out/results.jsonl").stat()
    assert (now.st_ino, now.st_mtime_ns) == (info.st_ino, info.st_mtime_ns)


def test_a_table_is_classified_and_its_columns_are_in_the_output(tmp_path: Path) -> None:
    write_table(tmp_path / "reviews.csv", 30)
    arguments = ("run", "reviews.csv", "-o", "labels.csv", *TEMPLATE, "--id", "id", *QUICK)
    with served(Emulator(speed=1000)) as base_url:
        ended = batches(tmp_path, *arguments, "--json", base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert ended.json["answered"] == 30
    assert ended.json["output"].endswith("labels.csv")
    lines = (tmp_path / "labels.csv").read_text("utf-8").splitlines()
    assert lines[0].startswith("row,custom_id,id,review,type,text")
    assert lines[8].startswith('7,7,7,"review, 7",succeeded,')
    assert (tmp_path / "labels.job/journal.db").exists()


@pytest.mark.parametrize("template", [(), (*TEMPLATE, "--input-format", "csv")])
def test_stdin_is_copied_so_that_the_job_goes_on_without_it(
    template: tuple[str, ...], tmp_path: Path
) -> None:
    write = write_table if template else write_requests
    data = write(tmp_path / "data", 200).read_bytes()
    emulator = Emulator(speed=4)
    arguments = ("run", "-", "-o", "out/", *template, *QUICK)
    with served(emulator) as base_url:
        with subprocess.Popen(  # noqa: S603 - this interpreter
            command(*arguments),
            cwd=tmp_path,
            env=environment(base_url),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            process.stdin.write(data)
            process.stdin.close()
            wait_until(tmp_path / "out/job", is_in_flight)
            process.kill()
        ended = batches(tmp_path, "resume", "out/", base_url=base_url)
        same = batches(tmp_path, *arguments, base_url=base_url, stdin=data)
        other = batches(tmp_path, *arguments, base_url=base_url, stdin=data[:-20])
    assert ended.code == ExitCode.OK, ended.err
    assert same.code == ExitCode.OK, same.err
    assert other.code == ExitCode.PERSON, other.err
    assert set(sold(emulator).values()) == {1}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 200


def test_a_killed_job_goes_on_by_the_same_command_and_pays_once(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 400)
    emulator = Emulator(speed=8)
    run = (*RUN, "--chunk-rows", "100")
    with served(emulator) as base_url:
        with started(tmp_path, *run, base_url=base_url) as process:
            wait_until(tmp_path / "out/job", is_in_flight)
            process.kill()
            assert process.wait() == -signal.SIGKILL
        ended = batches(tmp_path, *run, base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert sold(emulator) == {f"r{number}": 1 for number in range(400)}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 400


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_an_interrupted_job_is_safe_and_says_how_to_go_on(
    number: int, code: ExitCode, tmp_path: Path
) -> None:
    write_requests(tmp_path / "in.jsonl", 200)
    emulator = Emulator(speed=4)
    with served(emulator) as base_url:
        with started(tmp_path, *RUN, base_url=base_url) as process:
            wait_until(tmp_path / "out/job", is_in_flight)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
            assert process.returncode == code, err
        assert b"interrupted: the job is safe" in err
        assert err.rstrip().endswith(b"next: batches resume out/job")
        assert batches(tmp_path, "resume", "out/job", base_url=base_url).code == ExitCode.OK
    assert set(sold(emulator).values()) == {1}


def test_a_second_process_is_refused_and_can_watch(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 200)
    with (
        served(Emulator(speed=4)) as base_url,
        started(tmp_path, *RUN, base_url=base_url) as process,
    ):
        wait_until(tmp_path / "out/job", is_in_flight)
        second = batches(tmp_path, *RUN, base_url=base_url)
        status = batches(tmp_path, "status", "--json")
        watched = batches(tmp_path, "watch", "--progress-every", "0.1")
        process.wait(60)
    assert second.code == ExitCode.LOCKED
    assert f"process {process.pid}" in second.err
    assert status.json["process"] == process.pid
    assert status.json["next"] == "batches watch out/job"
    assert watched.code == ExitCode.OK, watched.err
    assert " answered=0 in_flight=200 " in watched.err
    assert "finished" in watched.out


def test_without_a_terminal_there_is_a_line_of_progress_now_and_then(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 100)
    with served(Emulator(speed=4)) as base_url:
        ended = batches(tmp_path, *RUN, "--progress-every", "0.1", base_url=base_url)
        quiet = batches(tmp_path, "run", "in.jsonl", "-q", *QUICK, base_url=base_url)
    assert " rows=100 answered=0 in_flight=100 " in ended.err
    assert "\x1b" not in ended.err
    assert "in_flight=" not in quiet.err


def test_failed_rows_end_with_their_own_code_and_can_be_mended(tmp_path: Path) -> None:
    write_requests(tmp_path / "good.jsonl", 5)
    bad = write_requests(tmp_path / "bad.jsonl", 2, temperature=9).read_text("utf-8")
    good = (tmp_path / "good.jsonl").read_text("utf-8")
    (tmp_path / "in.jsonl").write_text(good + bad.replace('_id": "r', '_id": "bad'), "utf-8")
    with served(Emulator(speed=1000)) as base_url:
        ended = batches(tmp_path, *RUN, base_url=base_url)
        assert ended.code == ExitCode.FAILED_ROWS, ended.err
        assert "next: batches failed out/job -o failed.jsonl" in ended.err
        failed = batches(tmp_path, "failed", "out/", "-o", "failed.jsonl")
        assert "next: batches run failed.jsonl -o failed/" in failed.err
        why = batches(tmp_path, "results", "out", "--failed", "--select", "custom_id,error_type")
        mended = (tmp_path / "failed.jsonl").read_text("utf-8").replace(', "temperature": 9', "")
        (tmp_path / "failed.jsonl").write_text(mended, "utf-8")
        again = batches(tmp_path, "run", "failed.jsonl", "-o", "failed/", *QUICK, base_url=base_url)
        assert batches(tmp_path, "verify", "out").code == ExitCode.FAILED_ROWS
    assert [json.loads(line) for line in why.out.splitlines()] == [
        {"custom_id": f"bad{number}", "error_type": "invalid_request_error"} for number in range(2)
    ]
    assert again.code == ExitCode.OK, again.err
    assert len(rows_of(tmp_path / "failed/results.jsonl")) == 2


def test_a_wrong_key_needs_a_person_and_loses_nothing(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 5)
    with served(Emulator(speed=1000, api_keys=["sk-another-key"])) as base_url:
        ended = batches(tmp_path, *RUN, base_url=base_url)
        right = batches(tmp_path, *RUN, base_url=base_url, ANTHROPIC_API_KEY="sk-another-key")
    assert ended.code == ExitCode.PERSON
    assert "set a valid ANTHROPIC_API_KEY, then resume" in ended.err
    assert "next: batches resume out/job" in ended.err
    assert right.code == ExitCode.OK, right.err


def test_a_reached_limit_of_cost_needs_a_person_and_can_be_raised(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 40, max_tokens=1000)
    run = (*RUN, "--chunk-rows", "10", "--max-waiting", "10", "--max-cost", "0.004")
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        ended = batches(tmp_path, *run, base_url=base_url)
        sent = sum(sold(emulator).values())
        assert ended.code == ExitCode.PERSON, ended.err
        assert "raise --max-cost" in ended.err
        assert "next: batches resume out/job --max-cost USD" in ended.err
        more = batches(tmp_path, "resume", "out", "--max-cost", "9", base_url=base_url)
    assert sent < 40
    assert more.code == ExitCode.OK, more.err


def test_submit_leaves_when_all_is_sent_or_the_queue_is_full(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 40)
    arguments = ("submit", "in.jsonl", "-o", "out/", *QUICK, "--chunk-rows", "10")
    emulator = Emulator(speed=2)
    with served(emulator) as base_url:
        full = batches(tmp_path, *arguments, "--max-waiting", "20", base_url=base_url)
        whole = batches(tmp_path, *arguments, "--job", "b", "-o", "b.csv", base_url=base_url)
        assert full.code == ExitCode.AGAIN, full.err
        assert whole.code == ExitCode.OK, whole.err
        assert not (tmp_path / "out/results.jsonl").exists()
        assert batches(tmp_path, "status", "out", "--exit-code").code == ExitCode.AGAIN
        ended = batches(tmp_path, "resume", "out", base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert set(sold(emulator).values()) == {2}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 40


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 3000)
    with served(Emulator(speed=10_000)) as base_url:
        assert batches(tmp_path, "run", "in.jsonl", *QUICK, base_url=base_url).code == ExitCode.OK
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command("results", "in.job"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == ExitCode.PIPE_CLOSED


def test_a_closed_or_full_stdout_is_an_error(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 3)
    with served(Emulator(speed=1000)) as base_url:
        batches(tmp_path, "run", "in.jsonl", *QUICK, base_url=base_url)
    for redirection, code, words in (
        (">&-", ExitCode.INPUT, "stdout is closed"),
        (">/dev/full", ExitCode.AGAIN, "No space left on device"),
    ):
        for verb in ("results", "status", "plan"):
            arguments = (verb, "in.jsonl" if verb == "plan" else "in.job")
            done = in_shell(tmp_path, f'exec "$@" {redirection}', *arguments)
            assert done.returncode == code, done.stderr
            assert words in done.stderr.decode()


def test_a_full_disk_ends_a_run_which_goes_on_when_there_is_room(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 2000)
    emulator = Emulator(speed=10_000)
    with served(emulator) as base_url:
        # No file can be larger than 390 blocks of 512 bytes.
        full = in_shell(tmp_path, 'ulimit -f 390; exec "$@"', *RUN, base_url=base_url)
        ended = batches(tmp_path, *RUN, base_url=base_url)
    assert full.returncode == ExitCode.AGAIN, full.stderr
    assert b"everything recorded before is kept; free some space" in full.stderr
    assert ended.code == ExitCode.OK, ended.err
    assert set(sold(emulator).values()) == {1}
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 2000


def test_an_unwritable_folder_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 3)
    (tmp_path / "file").touch()
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        ended = batches(tmp_path, "run", "in.jsonl", "-o", "file/out/", base_url=base_url)
    assert ended.code == ExitCode.INPUT
    assert "file" in ended.err
    assert not emulator.sales


def test_a_bug_is_short_and_says_how_to_report_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(given: str | None) -> Path:
        del given
        raise RuntimeError(f"surprise with {os.environ['ANTHROPIC_API_KEY']}")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("batches_jobs._cli.look_verbs.find_job", fail)
    assert places.find_job is not fail
    code, out, err = output("status", ANTHROPIC_API_KEY=KEY)
    assert (code, out) == (ExitCode.BUG, "")
    assert err == (
        "error: a bug in batches: RuntimeError: surprise with [redacted]\n"
        "please report it, with the output of the same command with --debug\n"
    )
    code, out, err = output("status", "--debug", ANTHROPIC_API_KEY=KEY)
    assert "Traceback" in err
    assert KEY not in err


def test_a_lost_create_is_settled_and_not_bought_again(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 30)
    emulator = Emulator(speed=1000, faults=FaultPlan("create:drop=after"))
    with served(emulator) as base_url:
        ended = batches(tmp_path, *RUN, "--settle-time", "1", base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert set(sold(emulator).values()) == {1}


def test_an_emulated_job_and_a_real_one_are_never_mixed(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 5)
    emulated = batches(tmp_path, "run", "in.jsonl", "-o", "out/", "--emulator")
    assert emulated.code == ExitCode.OK, emulated.err
    assert "the answers are invented" in emulated.err
    assert "the answers are invented" in batches(tmp_path, "status").out
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        ended = batches(tmp_path, "run", "in.jsonl", "-o", "out/", base_url=base_url)
        real = batches(tmp_path, "run", "in.jsonl", "--job", "real", *QUICK, base_url=base_url)
        mixed = batches(
            tmp_path, "run", "in.jsonl", "--job", "real", "--emulator", *QUICK, base_url=base_url
        )
    assert ended.code == ExitCode.INPUT
    assert "was begun on the emulator" in ended.err
    assert real.code == ExitCode.OK, real.err
    assert mixed.code == ExitCode.INPUT
    assert "would mix real answers and invented ones" in mixed.err


def test_a_job_on_another_service_is_refused(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 5)
    with served(Emulator(speed=1000)) as first, served(Emulator(speed=1000)) as second:
        assert batches(tmp_path, *RUN, base_url=first).code == ExitCode.OK
        for arguments in (RUN, ("resume", "out")):
            ended = batches(tmp_path, *arguments, base_url=second)
            assert ended.code == ExitCode.INPUT
            assert f"was begun at {first}, and this is {second}" in ended.err


def test_the_kept_settings_have_no_credential(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 5)
    with served(Emulator(speed=1000)) as base_url:
        batches(tmp_path, *RUN, base_url=base_url)
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


def test_a_killed_job_on_the_emulator_of_its_command_must_begin_again(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20_000)
    arguments = ("run", "in.jsonl", "-o", "out/", "--emulator")
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL
    ) as process:
        wait_until(tmp_path / "out/job", lambda status: bool(status.in_flight))
        process.kill()
    for again in (arguments, ("resume", "out")):
        ended = batches(tmp_path, *again)
        assert ended.code == ExitCode.PERSON
        assert "ran on an emulator, which ended with its command" in ended.err


def test_an_input_that_changed_after_rows_were_sent_needs_a_person(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 40)
    limits = ("--chunk-rows", "10", "--max-waiting", "20")
    with served(Emulator(speed=1)) as base_url:
        batches(tmp_path, "submit", *RUN[1:], *limits, base_url=base_url)
        requests.write_text(requests.read_text("utf-8").replace("haiku", "opus"), "utf-8")
        ended = batches(tmp_path, "resume", base_url=base_url)
    assert ended.code == ExitCode.PERSON, ended.err
    assert "was changed after the job read it" in ended.err
    assert ended.err.rstrip().endswith("next: batches status out/job")


def test_another_table_for_a_job_that_is_done_is_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "night.csv", 20)
    arguments = ("run", "night.csv", "-o", "night.csv.jsonl", *TEMPLATE, *QUICK)
    with served(Emulator(speed=1000)) as base_url:
        first = batches(tmp_path, *arguments, base_url=base_url)
        table.touch()
        same = batches(tmp_path, *arguments, base_url=base_url)
        write_table(table, 21)
        other = batches(tmp_path, *arguments, base_url=base_url)
    assert (first.code, same.code) == (ExitCode.OK, ExitCode.OK), first.err + same.err
    assert other.code == ExitCode.PERSON, other.err
    assert "it has more than the 20 rows of the job" in other.err
    assert "start another job in another folder" in other.err


def test_the_output_is_written_again_when_lost_rows_were_bought_again(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 20)
    with served(Emulator(speed=1000, faults=FaultPlan("create:archived"))) as base_url:
        lost = batches(tmp_path, *RUN, *QUICK, base_url=base_url)
        batches(tmp_path, "settle", "out/", "--buy-again", "0")
        bought = batches(tmp_path, "resume", "out/", base_url=base_url)
    assert (lost.code, bought.code) == (ExitCode.FAILED_ROWS, ExitCode.OK), lost.err + bought.err
    assert (tmp_path / "out/results.jsonl").read_text("utf-8").count('"succeeded"') == 20
