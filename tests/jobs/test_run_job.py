"""`run_job` against the emulator: each row once, paid for once, whatever happens to the process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import duckdb
import pytest
import trio

import transports.asyncio
import transports.h11
import transports.trio
from batches_core import InvalidInputError, LocalProtocolError, SettlingPolicy
from batches_core.emulator import Emulator, FaultPlan
from batches_core.jobs import JobOptions
from batches_jobs import (
    InputChangedError,
    JobLockedError,
    JobStatus,
    cost_of,
    read_status,
    run_job,
    run_job_async,
)
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.rows import open_rows
from batches_jobs._job_reader import JobReader
from batches_jobs._runner import workers
from batches_jobs._template import Template
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

ROOT = Path(__file__).parents[2]
OPTIONS = JobOptions(chunk_rows=100, poll_interval=0.05, settle_time=0.5, max_waiting=500)
QUICK = SettlingPolicy(settle_time=0.5, alone=0.02, first_look=0.01, longest_look=0.05)
SETTINGS: dict[str, Any] = {"api_key": "sk-of-a-job", "settling": QUICK}


def write_requests(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            params = {
                "model": "claude-opus-4-5",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": f"{number}"}],
            }
            file.write(json.dumps({"custom_id": f"r{number}", "params": params}) + "\n")
    return path


def blocking(base_url: str, requests: object, path: Path, **more: Any) -> JobStatus:
    with transports.h11.BatchesClient(base_url=base_url, **SETTINGS) as client:
        return run_job(client, requests, path, **more)


def on_asyncio(base_url: str, requests: object, path: Path, **more: Any) -> JobStatus:
    async def scenario() -> JobStatus:
        async with transports.asyncio.BatchesClient(base_url=base_url, **SETTINGS) as client:
            return await run_job_async(client, requests, path, **more)

    return asyncio.run(scenario())


def on_trio(base_url: str, requests: object, path: Path, **more: Any) -> JobStatus:
    async def scenario() -> JobStatus:
        async with transports.trio.BatchesClient(base_url=base_url, **SETTINGS) as client:
            return await run_job_async(client, requests, path, **more)

    return trio.run(scenario)


RUNNERS: list[Callable[..., JobStatus]] = [blocking, on_asyncio, on_trio]
every_runner = pytest.mark.parametrize("run", RUNNERS)


def sold(emulator: Emulator) -> Counter[str]:
    return Counter(custom_id for sale in emulator.sales for custom_id in sale.custom_ids)


def answered(path: Path) -> Counter[str]:
    """Count the successes by custom_id, in all results that the job keeps."""
    found: Counter[str] = Counter()
    for file in (path / "raw").glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            item = json.loads(line)
            found[item["custom_id"]] += item["result"]["type"] == "succeeded"
    return found


@every_runner
def test_a_job_answers_each_row_once_and_pays_once(run: Any, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 750)
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        status = run(base_url, requests, tmp_path / "a.job", options=OPTIONS)
        again = run(base_url, requests, tmp_path / "a.job")
    assert (status.rows, status.answered, status.failed, status.is_finished) == (750, 750, 0, True)
    assert again == status == read_status(tmp_path / "a.job")
    assert sold(emulator) == answered(tmp_path / "a.job") == {f"r{n}": 1 for n in range(750)}


@every_runner
def test_failed_rows_are_sent_again_in_chunks_of_their_own(run: Any, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 300)
    emulator = Emulator(speed=1000, errored=0.2)
    with running_emulator(emulator) as base_url:
        status = run(base_url, requests, tmp_path / "a.job", options=OPTIONS)
    assert status.answered + status.failed == 300
    assert set(answered(tmp_path / "a.job").values()) <= {0, 1}
    assert max(sold(emulator).values()) <= 1 + OPTIONS.rounds
    assert len(emulator.sales) > 3


@every_runner
def test_a_create_whose_response_is_lost_is_adopted_and_not_bought_again(
    run: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 120)
    emulator = Emulator(speed=1000, faults=FaultPlan("create:drop=after"))
    with running_emulator(emulator) as base_url:
        status = run(base_url, requests, tmp_path / "a.job", options=OPTIONS)
    assert status.answered == 120
    assert set(sold(emulator).values()) == {1}


def test_an_iterable_is_copied_and_the_job_is_resumed_from_it(tmp_path: Path) -> None:
    def requests() -> Iterator[bytes]:
        yield from write_requests(tmp_path / "in.jsonl", 150).read_bytes().splitlines()

    with running_emulator(Emulator(speed=1000)) as base_url:
        status = blocking(base_url, requests(), tmp_path / "a.job", options=OPTIONS)
        again = blocking(base_url, requests(), tmp_path / "a.job")
    assert (status.answered, again) == (150, status)


def test_other_options_than_those_of_the_job_are_refused(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 10)
    with running_emulator(Emulator(speed=1000)) as base_url:
        blocking(base_url, requests, tmp_path / "a.job", options=OPTIONS)
        with pytest.raises(InvalidInputError, match="opened with chunk_rows=100"):
            blocking(base_url, requests, tmp_path / "a.job", options=JobOptions(chunk_rows=50))


def test_an_input_without_requests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"")
    with running_emulator(Emulator(speed=1000)) as base_url, pytest.raises(InvalidInputError):
        blocking(base_url, tmp_path / "in.jsonl", tmp_path / "a.job", options=OPTIONS)


def test_rows_that_are_not_accepted_are_sent_again(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)
    judged: Counter[bool] = Counter()

    def accept(success: Any) -> bool:
        del success
        verdict = judged.total() >= 30
        judged[verdict] += 1
        return verdict

    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        status = blocking(base_url, requests, tmp_path / "a.job", options=OPTIONS, accept=accept)
    assert status.answered == 30
    assert set(sold(emulator).values()) == {2}


def test_an_error_in_accept_ends_the_run_and_the_job_can_be_resumed(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)

    def accept(success: Any) -> bool:
        del success
        raise ZeroDivisionError

    with running_emulator(Emulator(speed=1000)) as base_url:
        with pytest.raises(ZeroDivisionError):
            blocking(base_url, requests, tmp_path / "a.job", options=OPTIONS, accept=accept)
        assert blocking(base_url, requests, tmp_path / "a.job").answered == 30


def test_no_chunk_is_sent_that_could_exceed_the_maximum_cost(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 300)
    path = tmp_path / "a.job"
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        status = blocking(base_url, requests, path, options=OPTIONS, max_cost="0.0001")
        assert status.paused is not None
        assert status.paused.reason == "budget"
        assert emulator.sales == []
        # Enough for one chunk at its limit, and then for the others at their real cost.
        status = blocking(base_url, None, path, max_cost="0.03")
        assert status.answered == 300
    assert (cost_of(status.usage).total or 1) < Decimal("0.03")
    assert set(sold(emulator).values()) == {1}


class StopError(Exception):
    """Raised by a test's `on_event`, as a caller's code may."""


def stop_at(state: str, chunk: int = 0) -> Callable[[Any], None]:
    def on_event(news: Any) -> None:
        if getattr(news, "state", None) == state and news.chunk == chunk:
            raise StopError

    return on_event


@every_runner
def test_an_error_in_on_event_is_raised_as_it_is_and_the_job_can_be_resumed(
    run: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 150)
    emulator = Emulator(speed=1000)
    with running_emulator(emulator) as base_url:
        for state in ("planned", "being created", "in flight", "ended", "collected"):
            with pytest.raises(StopError):
                run(
                    base_url,
                    requests,
                    tmp_path / f"{state}.job",
                    options=OPTIONS,
                    on_event=stop_at(state),
                )
            assert run(base_url, requests, tmp_path / f"{state}.job").answered == 150
    assert max(sold(emulator).values()) == 5


@every_runner
def test_an_error_in_accept_is_raised_as_it_is(run: Any, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)

    def accept(success: Any) -> bool:
        del success
        raise StopError

    with running_emulator(Emulator(speed=1000)) as base_url, pytest.raises(StopError):
        run(base_url, requests, tmp_path / "a.job", options=OPTIONS, accept=accept)


@every_runner
def test_a_request_to_exit_ends_the_run_as_any_other_error(run: Any, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)

    def accept(success: Any) -> bool:
        del success
        sys.exit("enough")

    with running_emulator(Emulator(speed=1000)) as base_url:
        with pytest.raises(SystemExit, match="enough"):
            run(base_url, requests, tmp_path / "a.job", options=OPTIONS, accept=accept)
        assert run(base_url, requests, tmp_path / "a.job").answered == 30


def test_a_client_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)
    with running_emulator(Emulator(speed=1000)) as base_url:
        client = transports.h11.BatchesClient(base_url=base_url, **SETTINGS)
        client.close()
        with pytest.raises(LocalProtocolError, match="closed"):
            run_job(client, requests, tmp_path / "a.job", options=OPTIONS)


def _is_locked(path: Path) -> bool:
    try:
        with JobFolder(path).lock():
            return False
    except JobLockedError:
        return True


@pytest.mark.parametrize("loop", [asyncio, trio])
def test_a_cancelled_job_does_not_wait_for_an_input_that_blocks(
    loop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE", 0.1)
    path = tmp_path / "a.job"
    goes_on = threading.Event()
    module = transports.asyncio if loop is asyncio else transports.trio

    def requests() -> Iterator[bytes]:
        yield from write_requests(tmp_path / "in.jsonl", 3).read_bytes().splitlines()
        goes_on.wait()

    async def scenario(base_url: str) -> None:
        async with module.BatchesClient(base_url=base_url, **SETTINGS) as client:
            with anyio.move_on_after(0.2) as scope:
                await run_job_async(client, requests(), path, options=OPTIONS)
            assert scope.cancelled_caught
            # The thread can still write to the folder, so nobody else may.
            with pytest.raises(JobLockedError, match="what it left under way"):
                await run_job_async(client, requests(), path)
            goes_on.set()
            with anyio.fail_after(10):
                while _is_locked(path):  # noqa: ASYNC110 - a thread ends, which sets no event
                    await anyio.sleep(0.02)

    with running_emulator(Emulator(speed=1000)) as base_url:
        try:
            anyio.run(scenario, base_url, backend=loop.__name__)
        finally:
            goes_on.set()


@every_runner
def test_a_stopped_job_sends_no_create_that_has_not_left(run: Any, tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 130)
    emulator = Emulator(faults=FaultPlan("list:delay=0.5"))
    with running_emulator(emulator) as base_url:
        with pytest.raises(StopError):
            # The create of chunk 0 reads the list when chunk 1 is planned.
            run(
                base_url,
                requests,
                tmp_path / "a.job",
                options=OPTIONS,
                on_event=stop_at("planned", chunk=1),
            )
        time.sleep(0.7)
    assert emulator.sales == []
    assert read_status(tmp_path / "a.job").chunks == {"planned": 2}


@every_runner
def test_a_stopped_job_waits_for_the_response_of_a_create_under_way(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_GRACE", 0.0)
    requests = write_requests(tmp_path / "in.jsonl", 30)
    emulator = Emulator(faults=FaultPlan("create:delay=0.5"))
    with running_emulator(emulator) as base_url, pytest.raises(StopError):
        run(
            base_url,
            requests,
            tmp_path / "a.job",
            options=OPTIONS,
            on_event=stop_at("being created"),
        )
    assert len(emulator.sales) == 1
    assert read_status(tmp_path / "a.job").chunks == {"in flight": 1}


@pytest.mark.parametrize("loop", [asyncio, trio])
def test_a_cancelled_job_waits_for_the_response_of_a_create_under_way(
    loop: Any, tmp_path: Path
) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)
    emulator = Emulator(faults=FaultPlan("create:delay=0.5"))
    module = transports.asyncio if loop is asyncio else transports.trio

    async def scenario(base_url: str) -> None:
        with anyio.CancelScope() as scope:

            def on_event(news: Any) -> None:
                if getattr(news, "state", None) == "being created":
                    scope.cancel()

            async with module.BatchesClient(base_url=base_url, **SETTINGS) as client:
                path = tmp_path / "a.job"
                await run_job_async(client, requests, path, options=OPTIONS, on_event=on_event)
        assert scope.cancelled_caught

    with running_emulator(emulator) as base_url:
        anyio.run(scenario, base_url, backend=loop.__name__)
    assert len(emulator.sales) == 1
    assert read_status(tmp_path / "a.job").chunks == {"in flight": 1}


def test_a_job_stays_locked_until_a_create_that_was_left_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_CREATE_GRACE", 0.0)
    monkeypatch.setattr(workers, "_GRACE", 0.0)
    requests = write_requests(tmp_path / "in.jsonl", 30)
    path = tmp_path / "a.job"
    emulator = Emulator(speed=1000, faults=FaultPlan("create:delay=1"))
    with (
        running_emulator(emulator) as base_url,
        transports.h11.BatchesClient(base_url=base_url, **SETTINGS) as client,
    ):
        with pytest.raises(StopError):
            run_job(client, requests, path, options=OPTIONS, on_event=stop_at("being created"))
        with pytest.raises(JobLockedError, match="already running in this process"):
            run_job(client, requests, path)
        while any(each.name == "batches-jobs" for each in threading.enumerate()):
            time.sleep(0.05)
        assert read_status(path).chunks == {"in flight": 1}
        assert run_job(client, requests, path).answered == 30
    assert len(emulator.sales) == 1


CHILD = """
import sys
from tests.jobs.test_run_job import OPTIONS, blocking
from pathlib import Path
blocking(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), options=OPTIONS)
"""


def test_a_second_process_is_refused_while_a_job_runs(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 1000)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=1)) as base_url:
        command = [sys.executable, "-c", CHILD, base_url, str(requests), str(path)]
        child = subprocess.Popen(command, cwd=ROOT)  # noqa: S603 - this interpreter
        try:
            while not (path / "journal.db").exists():
                time.sleep(0.02)
            assert read_status(path).is_finished is False
            with pytest.raises(JobLockedError, match=f"process {child.pid}"):
                blocking(base_url, requests, path)
        finally:
            child.kill()
            child.wait()


def test_the_rows_of_a_csv_file_are_answered_and_joined(tmp_path: Path) -> None:
    table, out = tmp_path / "in.csv", tmp_path / "out.parquet"
    table.write_text("id,text\n" + "".join(f"x{n},review {n}\n" for n in range(250)))
    template = Template("claude-opus-4-5", "Classify: {text}", max_tokens=5, id_column="id")
    emulator = Emulator(speed=1000, errored=0.1)
    with running_emulator(emulator) as base_url:
        for _ in range(2):
            blocking(base_url, open_rows(table, template), tmp_path / "a.job", options=OPTIONS)
        other = Template("claude-opus-4-5", "Rate: {text}", max_tokens=5, id_column="id")
        with pytest.raises(InputChangedError, match="the template was changed"):
            blocking(base_url, open_rows(table, other), tmp_path / "a.job")
    reader = JobReader(tmp_path / "a.job")
    assert reader.write_table(reader.table(), out, None).rows == 250
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT custom_id, input_text, type FROM read_parquet(?) ORDER BY row", [str(out)]
        ).fetchall()
    assert [each[:2] for each in found] == [(f"x{n}", f"review {n}") for n in range(250)]
    failed = sum(1 for each in found if each[2] != "succeeded")
    assert failed == reader.status.failed == len([*reader.failed_requests()])
