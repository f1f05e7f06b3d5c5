"""Tests of the verbs that read a job, decide about it, or handle single batches."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet  # type: ignore[import-untyped] # it has no types
import pytest

from batches_core.emulator import Emulator, FaultPlan
from batches_jobs._cli.codes import ExitCode
from transports.files import RequestsFile
from transports.h11 import BatchesClient

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
from .test_run import TEMPLATE, in_shell, is_in_flight, wait_until


@pytest.fixture(name="done")
def finished_job(tmp_path: Path) -> Path:
    """A folder with a job in ``out``, which has ended."""
    write_table(tmp_path / "reviews.csv", 12)
    arguments = ("run", "reviews.csv", "-o", "out/", *TEMPLATE, *QUICK)
    with served(Emulator(speed=1000)) as base_url:
        ended = batches(tmp_path, *arguments, base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    return tmp_path


def test_results_can_be_chosen_by_column_and_format(done: Path) -> None:
    texts = batches(done, "results", "--select", "row,review", "--format", "csv")
    assert texts.out.splitlines()[:3] == ["row,review", '0,"review, 0"', '1,"review, 1"']
    assert texts.err == ""
    written = batches(done, "results", "out", "-o", "all.parquet", "--json")
    assert written.json["rows"] == 12
    table = pyarrow.parquet.read_table(done / "all.parquet")
    assert table.column("review").to_pylist() == [f"review, {number}" for number in range(12)]
    assert set(table.column("type").to_pylist()) == {"succeeded"}
    raw = in_shell(done, 'exec "$@"', "results", "out", "--format", "parquet")
    assert raw.stdout[:4] == raw.stdout[-4:] == b"PAR1"


def test_a_written_output_is_replaced_and_another_file_is_not(done: Path) -> None:
    for _ in range(2):
        assert batches(done, "results", "out", "-o", "a.csv").code == ExitCode.OK
    (done / "b.csv").write_text("mine", "utf-8")
    refused = batches(done, "results", "out", "-o", "b.csv")
    assert refused.code == ExitCode.INPUT
    assert (done / "b.csv").read_text("utf-8") == "mine"


def test_each_verb_that_reads_speaks_json(done: Path) -> None:
    status = batches(done, "status", "--json").json
    assert (status["state"], status["answered"], status["exit_code"]) == ("finished", 12, 0)
    assert batches(done, "watch", "--json").json["is_finished"] is True
    assert batches(done, "verify", "--json").json["is_complete"] is True
    assert batches(done, "settle", "--json").json == {"job": "out/job", "doubts": [], "lost": []}
    cost = batches(done, "cost", "--json").json
    assert float(cost["total"]) == pytest.approx(float(cost["by_round"]["0"]))
    plan = batches(done, "plan", "reviews.csv", *TEMPLATE, "--json").json
    assert (plan["requests"], plan["chunks"]) == (12, 1)
    assert plan["estimate"]["max_output_tokens"] == 12 * 9
    report = batches(done, "report", "--json").json["report"]
    assert (done / report).read_text("utf-8").startswith("<!doctype html>")
    assert batches(done, "report", "-o", "-").out.startswith("<!doctype html>")


def test_a_job_is_found_by_its_folder_its_output_or_alone(done: Path) -> None:
    for given in ((), ("out",), ("out/job",), ("./out/",)):
        assert batches(done, "status", *given).out.startswith("out/job: finished")
    (done / "labels.job").mkdir()
    (done / "labels.job/journal.db").write_bytes((done / "out/job/journal.db").read_bytes())
    assert batches(done, "status", "labels.csv").out.startswith("labels.job: finished")
    assert batches(done, "status").err == (
        "error: there are several jobs here, pass one:\n  labels.job\n  out/job\n"
    )


def test_a_plan_reads_stdin_and_leaves_nothing(tmp_path: Path) -> None:
    data = write_requests(tmp_path / "in.jsonl", 250).read_bytes()
    (tmp_path / "in.jsonl").unlink()
    ended = batches(tmp_path, "plan", "-", "--chunk-rows", "100", stdin=data)
    assert ended.out.startswith("250 requests in 3 batches, ")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_finds_every_problem_of_the_input(tmp_path: Path) -> None:
    lines = write_requests(tmp_path / "in.jsonl", 300).read_text("utf-8").splitlines()
    for number in range(0, 300, 2):
        lines[number] = lines[number].replace('_id": "r', '_id": "r r')
    (tmp_path / "in.jsonl").write_text("\n".join(lines), "utf-8")
    ended = batches(tmp_path, "plan", "in.jsonl", "--chunk-rows", "7")
    assert ended.code == ExitCode.INPUT
    assert "in.jsonl has 150 problems; nothing was sent" in ended.err
    assert "line 39, custom_id" in ended.err
    assert "… and 130 more" in ended.err


def test_a_plan_finds_a_request_whose_id_cannot_be_mapped(tmp_path: Path) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    write_requests(tmp_path / "in.jsonl", 2)
    with (tmp_path / "in.jsonl").open("ab") as file:
        file.write(b'{"params":{"messages":%b}}\n' % deep)
    ended = batches(tmp_path, "plan", "in.jsonl", "--map-ids")
    assert ended.code == ExitCode.INPUT
    assert "line 3: is nested too deeply to replace its custom_id" in ended.err


def test_a_canceled_job_keeps_what_was_answered(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 200)
    emulator = Emulator(speed=2)
    with served(emulator) as base_url:
        submitted = batches(tmp_path, "submit", "in.jsonl", "-o", "out/", *QUICK, base_url=base_url)
        assert submitted.code == ExitCode.OK, submitted.err
        asked = batches(tmp_path, "cancel", base_url=base_url)
        assert asked.code == ExitCode.PERSON
        assert "pass --yes to agree" in asked.err
        ended = batches(tmp_path, "cancel", "--yes", base_url=base_url)
        again = batches(tmp_path, "run", "in.jsonl", "-o", "out/", *QUICK, base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert "out/job: canceled" in ended.err
    assert len(rows_of(tmp_path / "out/results.jsonl")) == 200
    assert again.code == ExitCode.FAILED_ROWS


def test_a_running_job_is_canceled_by_another_process(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 2000)
    arguments = ("run", "in.jsonl", "-o", "out/", *QUICK)
    with (
        served(Emulator(speed=1)) as base_url,
        started(tmp_path, *arguments, base_url=base_url) as process,
    ):
        wait_until(tmp_path / "out/job", is_in_flight)
        asked = batches(tmp_path, "cancel", "--yes", base_url=base_url)
        assert asked.code == ExitCode.OK, asked.err
        assert f"runs in process {process.pid}, which cancels it" in asked.err
        _, err = process.communicate(timeout=60)
    assert process.returncode == ExitCode.FAILED_ROWS, err
    assert b"out/job: canceled" in err


def test_a_doubt_is_shown_and_decided(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)
    emulator = Emulator(speed=1000, faults=FaultPlan("create:drop=after"))
    arguments = ("run", "in.jsonl", "-o", "out/", *QUICK, "--settle-time", "0.1")
    with served(emulator) as base_url:
        with started(tmp_path, *arguments, base_url=base_url) as process:
            while not emulator.sales:
                assert process.poll() is None
                time.sleep(0.01)
            # A colleague creates a batch of the same size: which one is the job's?
            with BatchesClient(base_url=base_url, api_key=KEY) as client:
                other = client.create(RequestsFile(requests))
            _, err = process.communicate(timeout=60)
        assert process.returncode == ExitCode.PERSON, err
        assert err.rstrip().endswith(b"next: batches settle out/job")
        shown = batches(tmp_path, "settle")
        (doubt,) = batches(tmp_path, "settle", "--json").json["doubts"]
        (own,) = set(doubt["candidates"]) - {other.id}
        assert f"chunk 0 is in doubt, 30 requests: {doubt['reason']}" in shown.out
        assert f"next: batches settle out/job --chunk 0 --batch {own}" in shown.err
        assert "next: batches settle out/job --chunk 0 --none" in shown.err
        decided = batches(tmp_path, "settle", "--chunk", "0", "--batch", own, base_url=base_url)
        assert decided.code == ExitCode.OK, decided.err
        assert "next: batches resume out/job" in decided.err
        ended = batches(tmp_path, "resume", base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    assert set(sold(emulator).values()) == {2}


def test_single_batches_are_handled_without_a_job(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 8)
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:

        def remote(*arguments: str) -> tuple[int, str, str]:
            return batches(tmp_path, "remote", *arguments, base_url=base_url)

        assert remote("create", "in.jsonl")[0] == ExitCode.PERSON
        code, out, err = remote("create", "in.jsonl", "--yes")
        batch = out.strip()
        assert (code, batch[:9]) == (0, "msgbatch_"), err
        assert f"next: batches remote wait {batch}" in err
        code, out, _ = remote("wait", batch, "--poll-interval", "0.05")
        assert (code, "8 succeeded" in out) == (0, True)
        assert json.loads(remote("get", batch, "--json")[1])["id"] == batch
        assert [each["id"] for each in json.loads(remote("list", "--json")[1])] == [batch]
        assert batch in remote("list", "--all")[1]
        lines = [json.loads(line) for line in remote("results", batch)[1].splitlines()]
        assert {line["custom_id"] for line in lines} == {f"r{number}" for number in range(8)}
        assert remote("results", batch, "-o", "a.jsonl")[0] == ExitCode.OK
        assert rows_of(tmp_path / "a.jsonl") == lines
        assert remote("cancel", batch)[0] in {ExitCode.OK, ExitCode.INPUT}
        assert remote("delete", batch)[0] == ExitCode.PERSON
        assert remote("delete", batch, "--yes")[1] == f"{batch} was deleted\n"
        assert remote("get", batch)[0] == ExitCode.INPUT
        slow = json.loads(remote("create", "in.jsonl", "--yes", "--json")[1])["id"]
        assert remote("wait", slow, "--timeout", "0")[0] in {ExitCode.OK, ExitCode.AGAIN}
        assert remote("cancel", slow)[0] in {ExitCode.OK, ExitCode.INPUT}
    assert sum(sold(emulator).values()) == 16


def test_a_service_that_cannot_be_reached_is_to_be_called_again(tmp_path: Path) -> None:
    with served(Emulator()) as base_url:
        pass
    ended = batches(tmp_path, "remote", "list", base_url=base_url)
    assert ended.code == ExitCode.AGAIN, ended.err


def test_the_emulator_serves_jobs_until_it_is_interrupted(tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 10)
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command("emulator", "--speed", "1000", "--port", "0"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().decode().strip()
        ended = batches(tmp_path, "run", "in.jsonl", *QUICK, base_url=base_url)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == ExitCode.OK
    assert ended.code == ExitCode.OK, ended.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_of_each_shell_calls_the_command(shell: str, tmp_path: Path) -> None:
    ended = batches(tmp_path, "completion", shell)
    assert "_BATCHES_COMPLETE" in ended.out
    # Fish passes the word itself, the others its number.
    word = "st" if shell == "fish" else "1"
    asked = batches(
        tmp_path, _BATCHES_COMPLETE=f"{shell}_complete", COMP_WORDS="batches st", COMP_CWORD=word
    )
    assert "status" in asked.out


def test_the_help_imports_neither_clients_nor_jobs() -> None:
    script = (
        "import sys; from batches_jobs._cli.main import run; run(['--help']); "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in "
        "{'msgspec', 'transports', 'batches_core', 'rich', 'h11', 'sqlite3', 'anyio', 'ssl'}))"
    )
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", script], env=environment(), capture_output=True, check=True
    )
    assert done.stdout.decode().splitlines()[-1] == "[]"


def test_the_help_takes_less_than_a_seventh_of_the_time_of_another_import() -> None:
    def best(*arguments: str) -> float:
        times = []
        for _ in range(3):
            started_at = time.perf_counter()
            subprocess.run(  # noqa: S603 - this interpreter
                [sys.executable, *arguments], env=environment(), capture_output=True, check=True
            )
            times.append(time.perf_counter() - started_at)
        return min(times)

    assert best("-m", "batches_jobs", "--help") < best("-c", "import anthropic") / 6.67
