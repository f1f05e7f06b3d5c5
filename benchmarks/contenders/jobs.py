"""A whole job, and what it is compared with: its creates and downloads alone."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from batches_jobs import JobOptions, JobReader, run_job
from benchmarks.meter import ResourceMeter
from benchmarks.task import Sample, Task
from transports.files import RequestsFile
from transports.h11 import BatchesClient

#: The server's batches end at once, so a longer wait would only add to the time.
_OPTIONS = JobOptions(poll_interval=0.1)


class _Meter:
    """The CPU time of a journal's database, in seconds, over all connections.

    Elapsed time would include the time in which other threads work: they go on while one waits for
    the disk.
    """

    seconds = 0.0


class _TimedConnection(sqlite3.Connection):
    """A connection that adds up the time of its statements."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        started = time.thread_time()
        try:
            return super().execute(*arguments)
        finally:
            _Meter.seconds += time.thread_time() - started

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        started = time.thread_time()
        try:
            return super().executemany(*arguments)
        finally:
            _Meter.seconds += time.thread_time() - started


def _client(task: Task) -> BatchesClient:
    return BatchesClient(api_key="a key", base_url=task.text("base_url"))


def bare(task: Task) -> Sample:
    """Create a batch from each part of the input, then download its results, one by one."""
    meter, rows = ResourceMeter(), 0
    parts = sorted(Path(task.text("parts")).glob("*.jsonl"))
    with (
        tempfile.TemporaryDirectory(dir=task.text("folder")) as folder,
        _client(task) as client,
        meter,
    ):
        for part in parts:
            batch = client.create(RequestsFile(part))
            rows += client.download(client.wait_for(batch), Path(folder) / part.name)
    return meter.sample(task.number("size"), {"rows": rows})


def job(task: Task) -> Sample:
    """Run a job, then run it again when it has finished."""
    connect: Any = sqlite3.connect

    def timed(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, factory=_TimedConnection, **options)
        return connection

    # The time of the journal cannot be measured from outside.
    setattr(sqlite3, "connect", timed)  # noqa: B010 - a checker knows that it is another function
    meter, path = ResourceMeter(), Path(task.text("requests"))
    with tempfile.TemporaryDirectory(dir=task.text("folder")) as folder, _client(task) as client:
        with meter:
            status = run_job(client, path, f"{folder}/a.job", options=_OPTIONS)
        journal = _Meter.seconds
        started = time.perf_counter()
        again = run_job(client, path, f"{folder}/a.job")
        resumed = time.perf_counter() - started
        assert again == status, "a finished job changes no more"  # noqa: S101
        if task.verify:
            assert JobReader(f"{folder}/a.job").results().verify().is_complete  # noqa: S101
    return meter.sample(
        task.number("size"), {"rows": status.answered}, journal=journal, resumed=resumed
    )
