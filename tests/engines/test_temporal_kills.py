"""Jobs on Temporal whose workers are killed or stopped: each row once, and paid for once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from batches_core.jobs import JobStatus
from batches_jobs.engines.temporal import Output

from .running import HEARTBEAT, Site, TemporalServer, site, wait_until

ROWS = 150


def assert_each_row_once(here: Site, status: JobStatus, output: Output) -> None:
    once = {f"r{number}": 1 for number in range(ROWS)}
    assert here.answered(output) == once
    assert here.sold == once
    assert (status.answered, output.answered, output.unanswered) == (ROWS, ROWS, 0)
    assert here.emulator.billed(time.time()) == ROWS


@pytest.mark.parametrize(
    "instant", ["marked", "last-bytes", "answered", "download", "raw", "output"]
)
def test_a_job_survives_the_kill_of_its_worker(
    server: TemporalServer, tmp_path: Path, instant: str
) -> None:
    with site(server, tmp_path, Emulator(speed=1000)) as here:
        worker = here.start_worker(instant)

        def replace() -> None:
            here.wait_for_stop(worker)
            here.start_worker()

        status, output = here.run(ROWS, replace)
        assert worker.wait() == -signal.SIGKILL
        assert_each_row_once(here, status, output)


@pytest.mark.parametrize("effect", ["before", "after"])
def test_a_job_survives_the_kill_of_a_worker_that_waits_for_the_response_to_a_create(
    server: TemporalServer, tmp_path: Path, effect: str
) -> None:
    # The response comes after the kill; the second create is refused after the same time.
    fault = "create:delay=5" if effect == "after" else "create:delay=5,status=529"
    with site(server, tmp_path, Emulator(speed=1000, faults=FaultPlan(fault))) as here:
        worker = here.start_worker()

        def replace() -> None:
            wait_until(lambda: bool(here.emulator.faults.applied))
            worker.kill()
            here.start_worker()

        status, output = here.run(ROWS, replace)
        assert_each_row_once(here, status, output)


@pytest.mark.parametrize("instant", ["marked", "last-bytes", "download", "raw", "output"])
def test_a_worker_that_was_given_up_does_no_harm_when_it_wakes(
    server: TemporalServer, tmp_path: Path, instant: str
) -> None:
    with site(server, tmp_path, Emulator(speed=1000)) as here:
        worker = here.start_worker(instant, signal.SIGSTOP)

        def replace() -> None:
            here.wait_for_stop(worker)
            here.start_worker()
            time.sleep(HEARTBEAT * 2)  # it is given up
            if instant in {"marked", "last-bytes"}:
                # The other worker creates its chunk too: a second create would be a second batch.
                wait_until(lambda: len(here.sold) == ROWS)
            worker.send_signal(signal.SIGCONT)

        status, output = here.run(ROWS, replace)
        time.sleep(1)
        assert worker.poll() is None
        assert_each_row_once(here, status, output)
