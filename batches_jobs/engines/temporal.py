"""Jobs on Temporal: they outlive every worker, and share what one account may have in flight.

A worker needs one line more than any other worker of Temporal::

    Worker(client, task_queue="batches", **temporal.worker(make_client, storage))

`start_job` starts a job. Needs the extra ``temporal``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from temporalio.plugin import SimplePlugin

from batches_core import Message
from batches_jobs._runner._sync.client import JobClient
from batches_jobs._storage.interface import Storage

from ._temporal.account import BatchesAccount
from ._temporal.activities import Activities
from ._temporal.messages import AccountStatus, Output
from ._temporal.operations import Operations
from ._temporal.starting import AccountHandle, JobHandle, get_job, open_account, start_job
from ._temporal.workflow import BatchesJob

__all__ = [
    "AccountHandle",
    "AccountStatus",
    "BatchesAccount",
    "BatchesJob",
    "JobHandle",
    "Output",
    "get_job",
    "open_account",
    "start_job",
    "worker",
]


def worker(
    make_client: Callable[[], JobClient],
    storage: Storage,
    *,
    scratch: str | os.PathLike[str] | None = None,
    accept: Callable[[Any], bool] | None = None,
    message_type: type[Any] = Message,
) -> dict[str, Any]:
    """Return the `workflows`, `activities` and `plugins` of a worker that runs jobs.

    - `make_client`: a function that returns a blocking client, such as `BatchesClient.from_env` of
      `transports.h11`. It is called once, in the first activity. The client is closed when the
      worker ends;
    - `storage`: the storage that all workers share;
    - `scratch`: a folder of this machine for copies and interrupted downloads, by default one in
      the system's folder for temporary files. Workers can share it;
    - `accept`, `message_type`: as for `run_job`. All workers must have the same.
    """
    folder = Path(tempfile.gettempdir()) / "batches-jobs" if scratch is None else Path(scratch)
    clients: list[JobClient] = []

    def operations() -> Operations:
        clients.append(client := make_client())
        return Operations(client, storage, folder, accept=accept, message_type=message_type)

    @contextlib.asynccontextmanager
    async def closing() -> AsyncIterator[None]:
        try:
            yield
        finally:
            for client in clients:
                if isinstance(client, _Closeable):
                    await asyncio.to_thread(client.close)

    return {
        "workflows": [BatchesJob, BatchesAccount],
        "activities": Activities(operations).all,
        "plugins": [SimplePlugin("batches", run_context=closing)],
    }


@runtime_checkable
class _Closeable(Protocol):
    def close(self) -> object: ...
