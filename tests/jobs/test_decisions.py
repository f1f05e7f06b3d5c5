"""What a person decides about a job, and how a run is stopped, at the emulator."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from batches_core import InvalidInputError, OutcomeUnknownError, RetryPolicy
from batches_core.emulator import Emulator, FaultPlan
from batches_core.jobs import ChunkChanged, JobOptions
from batches_jobs import (
    AnsweredRow,
    JobFolderError,
    JobLockedError,
    JobReader,
    buy_again,
    cancel_job,
    decide,
    read_status,
    run_job,
)
from batches_jobs._runner.interrupts import Interrupts
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

from .test_run_job import (
    CHILD,
    OPTIONS,
    QUICK,
    ROOT,
    SETTINGS,
    StopError,
    answered,
    blocking,
    every_runner,
    sold,
    stop_at,
    write_requests,
)

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@contextmanager
def running(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code, *map(str, args)]
    child = subprocess.Popen(  # noqa: S603 - this interpreter
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        with child:
            yield child
    finally:
        child.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


class TestCancel:
    @every_runner
    def test_of_a_running_job_collects_what_was_answered(self, run: Any, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 500)
        path = tmp_path / "a.job"
        emulator = Emulator(speed=5)
        options = JobOptions(chunk_rows=100, max_waiting=100, poll_interval=0.05)

        def on_event(news: Any) -> None:
            if isinstance(news, ChunkChanged) and news.state == "in flight":
                cancel_job(path)

        with running_emulator(emulator) as base_url:
            status = run(base_url, requests, path, options=options, on_event=on_event)
        assert (status.is_canceled, status.is_finished) == (True, True)
        assert len(emulator.sales) == 1
        assert status.answered + status.failed == len(emulator.sales[0].custom_ids)
        assert sum(answered(path).values()) == status.answered

    def test_of_a_job_that_does_not_run_is_done_by_the_next_run(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 150)
        path = tmp_path / "a.job"
        with running_emulator(Emulator(speed=2)) as base_url:
            blocking(base_url, requests, path, options=OPTIONS, until="sent")
            cancel_job(path)
            assert not read_status(path).is_canceled
            status = blocking(base_url, None, path)
        assert (status.is_canceled, status.is_finished, status.in_flight) == (True, True, 0)

    def test_before_a_run_lets_it_send_nothing_more(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 150)
        path = tmp_path / "a.job"
        emulator = Emulator(speed=1000)
        with running_emulator(emulator) as base_url:
            with pytest.raises(StopError):
                blocking(base_url, requests, path, options=OPTIONS, on_event=stop_at("planned"))
            cancel_job(path)
            status = blocking(base_url, None, path)
        assert (status.is_canceled, status.is_finished) == (True, True)
        assert emulator.sales == []

    def test_of_a_finished_job_changes_nothing(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 20)
        path = tmp_path / "a.job"
        with running_emulator(Emulator(speed=1000)) as base_url:
            blocking(base_url, requests, path, options=OPTIONS)
            cancel_job(path)
            status = blocking(base_url, None, path)
        assert (status.is_canceled, status.answered) == (False, 20)
        assert not (path / "cancel").exists()

    def test_of_a_folder_without_a_job_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            JobFolderError, match=r"there is no job in .*: pass the folder of a job"
        ):
            cancel_job(tmp_path / "a.job")


class TestUntilSent:
    @every_runner
    def test_returns_when_all_is_sent(self, run: Any, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 250)
        emulator = Emulator(speed=0.01)
        with running_emulator(emulator) as base_url:
            status = run(base_url, requests, tmp_path / "a.job", options=OPTIONS, until="sent")
        assert (status.rows, status.in_flight, status.answered) == (250, 250, 0)

    @pytest.mark.parametrize("emulator", [{}, {"queue_limit": 220}])
    def test_returns_when_the_queue_is_full(self, emulator: Any, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 900)
        options = JobOptions(chunk_rows=100, max_waiting=250 if not emulator else 5000)
        with (
            running_emulator(Emulator(speed=0.01, **emulator)) as base_url,
            BatchesClient(base_url=base_url, retry=RetryPolicy(attempts=1), **SETTINGS) as client,
        ):
            status = run_job(client, requests, tmp_path / "a.job", options=options, until="sent")
        assert 190 < status.in_flight < 210
        assert status.chunks["planned"] >= 1

    def test_goes_on_in_the_next_run_without_the_requests(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 250)
        with running_emulator(Emulator(speed=1000)) as base_url:
            blocking(base_url, requests, tmp_path / "a.job", options=OPTIONS, until="sent")
            assert blocking(base_url, None, tmp_path / "a.job").answered == 250

    @every_runner
    def test_goes_on_where_a_batch_has_ended_meanwhile(self, run: Any, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 300)
        options = JobOptions(chunk_rows=100, max_waiting=100, poll_interval=60)
        emulator = Emulator(speed=1000)
        with running_emulator(emulator) as base_url:
            for calls in range(1, 5):
                status = run(base_url, requests, tmp_path / "a.job", options=options, until="sent")
                assert len(emulator.sales) >= min(calls, 3)
                time.sleep(0.05)
        assert status.in_flight + status.answered == 300


class TestWithoutRequests:
    def test_a_job_that_was_never_begun_is_refused(self, tmp_path: Path) -> None:
        with (
            BatchesClient(base_url="http://127.0.0.1:9", **SETTINGS) as client,
            pytest.raises(JobFolderError, match=r"there is no job in .*: pass the requests"),
        ):
            run_job(client, None, tmp_path / "a.job")
        assert not (tmp_path / "a.job").exists()

    def test_a_job_of_an_iterable_goes_on_if_all_of_it_was_read(self, tmp_path: Path) -> None:
        lines = write_requests(tmp_path / "in.jsonl", 150).read_bytes().splitlines()
        path = tmp_path / "a.job"
        with running_emulator(Emulator(speed=1000)) as base_url:
            blocking(base_url, lines, path, options=OPTIONS, until="sent")
            assert blocking(base_url, None, path).answered == 150

    def test_a_job_of_an_iterable_that_was_not_read_asks_for_it(self, tmp_path: Path) -> None:
        lines = write_requests(tmp_path / "in.jsonl", 900).read_bytes().splitlines()
        path = tmp_path / "a.job"
        options = JobOptions(chunk_rows=100, max_waiting=100, poll_interval=0.05)
        with running_emulator(Emulator(speed=1000)) as base_url:
            blocking(base_url, lines, path, options=options, until="sent")
            with pytest.raises(InvalidInputError, match="pass the same requests again"):
                blocking(base_url, None, path)
            assert blocking(base_url, lines, path).answered == 900


def doubted(base_url: str, tmp_path: Path) -> Path:
    """Run a job whose first create ends in a doubt: two batches fit it."""
    requests = write_requests(tmp_path / "in.jsonl", 30)
    path = tmp_path / "a.job"
    lines = requests.read_bytes().splitlines()

    def colleague() -> None:
        # With a key of its own: the clients of one key know each other's batches. The response is
        # lost as well, because either create may be the first to arrive.
        key = "sk-of-a-colleague"
        client = BatchesClient(base_url=base_url, api_key=key, settling=QUICK)
        with client, suppress(OutcomeUnknownError):
            client.create(lines)

    def on_event(news: Any) -> None:
        if getattr(news, "state", None) == "being created":
            thread = threading.Thread(target=colleague)
            thread.start()
            thread.join()

    status = blocking(base_url, requests, path, options=OPTIONS, on_event=on_event)
    assert status.chunks == {"in doubt": 1}
    return path


class TestDecide:
    @pytest.fixture
    def emulator(self) -> Emulator:
        return Emulator(speed=1000, faults=FaultPlan("create:drop=after,times=2"))

    def test_the_batch_of_a_doubt_is_collected_by_the_next_run(
        self, emulator: Emulator, tmp_path: Path
    ) -> None:
        with running_emulator(emulator) as base_url:
            path = doubted(base_url, tmp_path)
            (doubt,) = read_status(path).doubts
            assert len(doubt.candidates) == 2
            with BatchesClient(base_url=base_url, **SETTINGS) as client:
                status = decide(path, doubt.chunk, client.get(doubt.candidates[0]))
            assert status.chunks == {"in flight": 1}
            assert blocking(base_url, None, path).answered == 30
        assert len(emulator.sales) == 2

    def test_a_chunk_without_a_batch_is_sent_again_by_the_next_run(
        self, emulator: Emulator, tmp_path: Path
    ) -> None:
        with running_emulator(emulator) as base_url:
            path = doubted(base_url, tmp_path)
            assert decide(path, 0, None).chunks == {"planned": 1}
            assert blocking(base_url, None, path).answered == 30
        assert len(emulator.sales) == 3

    def test_a_batch_of_another_size_is_refused(self, emulator: Emulator, tmp_path: Path) -> None:
        with running_emulator(emulator) as base_url:
            path = doubted(base_url, tmp_path)
            with BatchesClient(base_url=base_url, **SETTINGS) as client:
                other = client.create((tmp_path / "in.jsonl").read_bytes().splitlines()[:7])
            with pytest.raises(InvalidInputError, match="has 7 requests and chunk 0 has 30"):
                decide(path, 0, other)
        assert read_status(path).chunks == {"in doubt": 1}

    def test_a_chunk_that_is_not_in_doubt_is_refused(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 30)
        path = tmp_path / "a.job"
        with running_emulator(Emulator(speed=1000)) as base_url:
            blocking(base_url, requests, path, options=OPTIONS)
        for chunk in (0, 1, -1):
            with pytest.raises(InvalidInputError, match=f"chunk {chunk} is not in doubt"):
                decide(path, chunk, None)


def test_a_chunk_that_is_not_lost_is_not_bought_again(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 30)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=1000)) as base_url:
        blocking(base_url, requests, path, options=OPTIONS)
    with pytest.raises(InvalidInputError):
        buy_again(path, 0)


def test_results_can_be_read_while_another_process_runs_the_job(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", 300)
    path = tmp_path / "a.job"
    with running_emulator(Emulator(speed=2)) as base_url, running(CHILD, base_url, requests, path):
        wait_until((path / "journal.db").exists)
        wait_until(lambda: read_status(path).answered > 0)
        rows = [row.row for row in JobReader(path).results() if isinstance(row, AnsweredRow)]
        assert rows == sorted(set(rows))
        with pytest.raises(JobLockedError):
            decide(path, 0, None)
        wait_until(lambda: read_status(path).is_finished)
    results = list(JobReader(path).results(dict))
    assert [row.row for row in results] == list(range(300))
    assert [row.custom_id for row in results] == [f"r{n}" for n in range(300)]
    assert JobReader(path, input_path=requests).results().verify().is_complete


# Python has no handler of its own where the tests run in the background of a shell.
INTERRUPTED = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.jobs.test_run_job import OPTIONS, blocking
def on_event(news):
    if getattr(news, "state", None) == sys.argv[4]:
        print("now", flush=True)
try:
    blocking(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), options=OPTIONS, on_event=on_event)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


class TestControlC:
    def test_waits_for_the_response_of_a_create_under_way(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 30)
        path = tmp_path / "a.job"
        emulator = Emulator(speed=1000, faults=FaultPlan("create:delay=1"))
        with (
            running_emulator(emulator) as base_url,
            running(INTERRUPTED, base_url, requests, path, "being created") as child,
        ):
            assert child.stdout is not None
            assert child.stdout.readline() == "now\n"
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert child.wait() == 0
        assert read_status(path).chunks == {"in flight": 1}
        assert len(emulator.sales) == 1

    def test_pressed_twice_ends_at_once_and_the_create_is_settled_later(
        self, tmp_path: Path
    ) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 30)
        path = tmp_path / "a.job"
        emulator = Emulator(speed=1000, faults=FaultPlan("create:delay=3"))
        with running_emulator(emulator) as base_url:
            with running(INTERRUPTED, base_url, requests, path, "being created") as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "now\n"
                child.send_signal(signal.SIGINT)
                time.sleep(0.3)
                child.send_signal(signal.SIGINT)
                assert child.stdout.readline() == "interrupted\n"
                child.wait()
            assert read_status(path).chunks == {"being created": 1}
            assert blocking(base_url, None, path).answered == 30
        assert set(sold(emulator).values()) == {1}

    @pytest.mark.parametrize("state", ["planned", "in flight", "ended"])
    def test_at_any_time_leaves_a_job_that_can_be_resumed(self, state: str, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 250)
        path = tmp_path / "a.job"
        emulator = Emulator(speed=100)
        with running_emulator(emulator) as base_url:
            with running(INTERRUPTED, base_url, requests, path, state) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == "now\n"
                child.send_signal(signal.SIGINT)
                assert "interrupted" in child.stdout.read()
            assert blocking(base_url, None, path).answered == 250
        assert set(sold(emulator).values()) == {1}

    def test_while_an_outcome_is_looked_for_frees_the_job_at_once(self, tmp_path: Path) -> None:
        requests = write_requests(tmp_path / "in.jsonl", 30)
        path = tmp_path / "a.job"
        options = JobOptions(chunk_rows=100, settle_time=600)
        emulator = Emulator(speed=1000, faults=FaultPlan("create:drop=before"))

        def on_event(news: Any) -> None:
            if getattr(news, "state", None) == "in doubt":
                raise StopError

        with (
            running_emulator(emulator) as base_url,
            BatchesClient(base_url=base_url, api_key="sk-of-a-job") as client,
        ):
            with pytest.raises(StopError):
                run_job(client, requests, path, options=options, on_event=on_event)
            signals = threading.Timer(1.5, signal.raise_signal, [signal.SIGINT])
            signals.start()
            with pytest.raises(KeyboardInterrupt):
                run_job(client, requests, path)
            signals.join()
            assert decide(path, 0, None).chunks == {"planned": 1}
        assert emulator.sales == []


class TestInterrupts:
    def test_a_handler_of_the_application_stays(self) -> None:
        def handler(number: int, frame: object) -> None:
            del number, frame

        before = signal.signal(signal.SIGINT, handler)
        try:
            interrupts = Interrupts(lambda: None)
            interrupts.hold()
            assert signal.getsignal(signal.SIGINT) is handler
            interrupts.release()
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, before)

    def test_the_first_one_is_held_back_and_the_second_one_is_not(self) -> None:
        woken: list[bool] = []
        interrupts = Interrupts(lambda: woken.append(True))
        interrupts.hold()
        try:
            signal.raise_signal(signal.SIGINT)
            assert woken == [True]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
            interrupts.check()
        finally:
            interrupts.release()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
