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
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from batches_core import RequestLike
from batches_core.jobs import JobOptions, JobStatus
from batches_core.lowlevel import encode_request
from batches_jobs._storage.interface import Storage
from batches_jobs._storage.job_files import input_name

from .account import BatchesAccount
from .messages import AccountStart, AccountStatus, JobStart, Output
from .payloads import pack, unpack
from .workflow import BatchesJob

#: How much of a file is hashed at once, in bytes.
_PIECE = 1024 * 1024
#: Replaces line breaks between the values of JSON text by spaces.
_SPACES = bytes.maketrans(b"\r\n", b"  ")


class JobHandle:
    """A job on Temporal. `workflow` is Temporal's own handle of it.

    A method raises the errors of Temporal's client: `RPCError` if the server cannot be reached or
    knows no such job.
    """

    def __init__(self, workflow: WorkflowHandle[Any, Any]) -> None:
        self.workflow = workflow

    async def status(self) -> JobStatus:
        """Return how far the job is. A worker must run to answer that."""
        status: JobStatus = unpack(await self.workflow.query("status"), JobStatus)
        return status

    async def result(self) -> tuple[JobStatus, Output]:
        """Wait until the job has ended; return its status and its output."""
        result = await self.workflow.result()
        return unpack(result["status"], JobStatus), unpack(result["output"], Output)

    async def cancel(self) -> None:
        """Submit nothing more, cancel the batches in flight, and collect what they have answered.

        Temporal's own cancel of the workflow does the same.
        """
        await self.workflow.signal("cancel")

    async def resume(self) -> None:
        """Go on with a job that was paused, because the reason has gone or is accepted."""
        await self.workflow.signal("resume")

    async def decide(self, chunk: int, batch_id: str | None) -> JobStatus:
        """Settle a doubt: the create of a chunk made this batch, or none.

        If it is None, the chunk is sent again. If the create did make a batch, the chunk is then
        paid for twice.

        Raises:
            WorkflowUpdateFailedError: the chunk is not in doubt, or the batch is not the chunk's.
        """
        packed = await self.workflow.execute_update("decide", args=[chunk, batch_id])
        status: JobStatus = unpack(packed, JobStatus)
        return status

    async def buy_again(self, chunk: int) -> JobStatus:
        """Send a lost chunk again, while the job runs. It is paid for twice if it had answers.

        Raises:
            WorkflowUpdateFailedError: the chunk is not lost, or the job was canceled.
        """
        packed = await self.workflow.execute_update("buy_again", chunk)
        status: JobStatus = unpack(packed, JobStatus)
        return status


class AccountHandle:
    """An account on Temporal. `workflow` is Temporal's own handle of it."""

    def __init__(self, workflow: WorkflowHandle[Any, Any]) -> None:
        self.workflow = workflow

    @property
    def id(self) -> str:
        """What `start_job` accepts as its account."""
        return self.workflow.id

    async def status(self) -> AccountStatus:
        """Return the rows in flight."""
        status: AccountStatus = unpack(await self.workflow.query("status"), AccountStatus)
        return status

    async def set_rows(self, rows: int) -> None:
        """Change how many rows may be in flight. What was granted stays granted."""
        await self.workflow.signal("set_rows", rows)


async def open_account(
    client: Client, name: str, *, rows: int, task_queue: str, lease: float = 600.0
) -> AccountHandle:
    """Start the workflow of an account, which grants rows in flight to jobs; or return it.

    - `name`: any name of the account or workspace;
    - `rows`: how many rows may be in flight, in all jobs together. If the account runs already, it
      keeps its own number;
    - `lease`: the seconds after which jobs that hold rows are asked whether they still run, while
      others wait for rows.
    """
    handle = await client.start_workflow(
        BatchesAccount.run,
        pack(AccountStart(rows=rows, lease=lease)),
        id=f"batches-account-{name}",
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
    )
    return AccountHandle(handle)


def get_job(client: Client, name: str) -> JobHandle:
    """Return a job by its name. Nothing is sent."""
    return JobHandle(client.get_workflow_handle(name))


async def start_job(
    client: Client,
    requests: str | os.PathLike[str] | Iterable[RequestLike],
    storage: Storage,
    *,
    name: str,
    task_queue: str,
    options: JobOptions | None = None,
    account: AccountHandle | None = None,
    heartbeat: float = 60.0,
    most_events: int = 10_000,
) -> JobHandle:
    """Store the requests, and start a job. If there is a job of this name already, return that.

    A job that has ended is not started again either, as long as the server remembers it.

    - `client`: Temporal's client;
    - `requests`: the path of a file with one request per line, or any iterable of requests;
    - `storage`: the one that the workers have;
    - `name`: the job's name, which is the workflow's id and the folder in the storage;
    - `task_queue`: that of the workers;
    - `options`: `JobOptions`; their `max_waiting` is for this job alone;
    - `account`: the account that grants rows in flight; by default none does;
    - `heartbeat`: the seconds after which a silent worker is given up;
    - `most_events`: the events after which the workflow continues in a new run.

    Raises:
        InvalidInputError: the name cannot be a folder in the storage.
        StorageError: the requests could not be stored.
    """
    stored = await asyncio.to_thread(_store_input, requests, storage, name)
    start = JobStart(
        job=name,
        job_id=secrets.token_hex(8),
        input_name=stored,
        options=options or JobOptions(),
        account="" if account is None else account.id,
        heartbeat=heartbeat,
        most_events=most_events,
    )
    try:
        handle = await client.start_workflow(
            BatchesJob.run,
            pack(start),
            id=name,
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        )
    except WorkflowAlreadyStartedError:
        # It has ended. To start it again would buy all of it again.
        return get_job(client, name)
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


def _store_file(path: Path, storage: Storage, name: str) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while data := file.read(_PIECE):
            digest.update(data)
    stored = input_name(name, digest.hexdigest())
    storage.put(stored, path)
    return stored
