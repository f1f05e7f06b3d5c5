"""Jobs in real processes over real sockets: kill -9 at a hundred random instants."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from batches_core import SettlingPolicy
from batches_core.emulator import Emulator
from batches_core.jobs import JobOptions
from batches_jobs import AnsweredRow, JobReader, run_job
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

from .test_run_job import ROOT, sold, write_requests

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

KILLS = 100
ROWS = 1500
OPTIONS = JobOptions(chunk_rows=40, poll_interval=0.02, settle_time=0.2, max_waiting=240)
QUICK = SettlingPolicy(settle_time=0.2, alone=0.02, first_look=0.01, longest_look=0.05)

# It imports everything once and forks a process for each run, so that a kill meets the job and not
# the start of Python.
STARTER = """
import os, sys
from pathlib import Path
from tests.jobs.test_kills import run
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        run(sys.argv[1], *map(Path, line.split()))
        os._exit(0)
    print(pid, flush=True)
    sys.stdin.readline()
    print(os.WIFSIGNALED(os.waitpid(pid, 0)[1]), flush=True)
"""


def run(base_url: str, requests: Path, path: Path) -> None:
    with BatchesClient(base_url=base_url, api_key="sk-of-a-job", settling=QUICK) as client:
        run_job(client, requests, path, options=OPTIONS)


@contextmanager
def starter(base_url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", STARTER, base_url]
    with subprocess.Popen(  # noqa: S603 - this interpreter
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def run_and_kill(process: subprocess.Popen[str], requests: Path, path: Path, after: float) -> bool:
    """Run a job in a process of its own, kill that after some seconds, and say if it still ran."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{requests} {path}\n")
    process.stdin.flush()
    pid = int(process.stdout.readline())
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    process.stdin.write("wait for it\n")
    process.stdin.flush()
    return process.stdout.readline() == "True\n"


def test_a_job_that_is_killed_a_hundred_times_answers_and_pays_once(tmp_path: Path) -> None:
    seed = int(os.environ.get("KILLS_SEED", "7"))
    sys.stdout.write(f"KILLS_SEED={seed}\n")
    random = Random(seed)
    requests = write_requests(tmp_path / "in.jsonl", ROWS)
    emulator = Emulator(speed=40)
    jobs = [tmp_path / "0.job"]
    with running_emulator(emulator) as base_url:
        with starter(base_url) as process:
            kills = 0
            while kills < KILLS:
                if run_and_kill(process, requests, jobs[-1], random.uniform(0.0, 0.5)):
                    kills += 1
                else:  # it has finished: go on with another one
                    jobs.append(tmp_path / f"{len(jobs)}.job")
        for path in jobs:
            run(base_url, requests, path)
    assert sold(emulator) == {f"r{number}": len(jobs) for number in range(ROWS)}
    for path in jobs:
        results = JobReader(path).results()
        assert results.verify().is_complete
        answered = Counter(row.custom_id for row in results if isinstance(row, AnsweredRow))
        assert answered == {f"r{number}": 1 for number in range(ROWS)}
