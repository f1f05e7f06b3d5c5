"""Starts jobs on Temporal, and reaches those that run."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy

from batches_core import RequestLike
from batches_core.jobs import JobOptions, JobStatus
from batches_core.lowlevel import encode_request
from batches_jobs._storage.interface import Storage
from batches_jobs._storage.job_files import input_name

from .messages import JobStart, Output
from .payloads import pack, unpack
from .workflow import BatchesJob

#: How much of a file is hashed at once, in bytes.
_PIECE = 1024 * 1024


class JobHandle:
    """A job on Temporal. `workflow` is Temporal's own handle of it."""

    def __init__(self, workflow: WorkflowHandle[Any, Any]) -> None:
        self.workflow = workflow

    async def status(self) -> JobStatus:
        """Return how far the job is."""
        status: JobStatus = unpack(await self.workflow.query("status"), JobStatus)
        return status

    async def cancel(self) -> None:
        """Ask for the job to be canceled. What its batches have answered is still collected."""
        await self.workflow.signal("cancel")

    async def result(self) -> tuple[JobStatus, Output]:
        """Wait until the job has ended; return its status and its output."""
        result = await self.workflow.result()
        return unpack(result["status"], JobStatus), unpack(result["output"], Output)


async def start_job(
    client: Client,
    requests: str | os.PathLike[str] | Iterable[RequestLike],
    storage: Storage,
    *,
    name: str,
    task_queue: str,
    options: JobOptions | None = None,
    heartbeat: float = 60.0,
) -> JobHandle:
    """Start a job; the same call while it runs returns the running one."""
    digest_name = await asyncio.to_thread(_store_input, requests, storage, name)
    start = JobStart(
        job=name,
        job_id=secrets.token_hex(8),
        input_name=digest_name,
        options=options or JobOptions(),
        heartbeat=heartbeat,
    )
    handle = await client.start_workflow(
        BatchesJob.run,
        pack(start),
        id=name,
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    return JobHandle(handle)


def _store_input(
    requests: str | os.PathLike[str] | Iterable[RequestLike], storage: Storage, name: str
) -> str:
    if isinstance(requests, (str, os.PathLike)):
        return _store_file(Path(requests), storage, name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.jsonl"
        with path.open("wb") as file:
            for index, request in enumerate(requests):
                file.write(encode_request(request, index).translate(_SPACES) + b"\n")
        return _store_file(path, storage, name)


_SPACES = bytes.maketrans(b"\r\n", b"  ")


def _store_file(path: Path, storage: Storage, name: str) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    stored = input_name(name, digest.hexdigest())
    storage.put(stored, path)
    return stored
