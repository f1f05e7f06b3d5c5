"""`run_job`: opens a job, runs it as far as it goes, and says how far that is."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from batches_core import Message
from batches_core.jobs import Ending, Job, JobOptions, JobStatus, News, job_status
from batches_jobs._budget import Budget
from batches_jobs._open import OpenJob
from batches_jobs._runner.workers import AsyncWorkers

from .client import AsyncJobClient
from .runner import AsyncJobRunner, Until


async def run_job_async(
    client: AsyncJobClient,
    requests: object,
    path: str | os.PathLike[str],
    *,
    options: JobOptions | None = None,
    on_event: Callable[[News], None] | None = None,
    accept: Callable[[Any], bool] | None = None,
    message_type: type[Any] = Message,
    max_cost: float | str | None = None,
    until: Until = "finished",
) -> JobStatus:
    """Run a job of any number of requests; the same call resumes it.

    - `requests`: the path of a file with one request per line, which is read in place; or any
      iterable of requests, which is copied to the job's folder. To resume, pass the same; or None
      if it was a path, or if all requests were read already.
    - `path`: the folder of the job, such as ``reviews.job``. It is created if it does not exist.
    - `options`: `JobOptions`; those of the first call are kept.
    - `on_event`: a function that is called with each piece of news.
    - `accept`: a function of a success; rows for which it returns False are sent again, up to
      ``options.rounds`` times. `message_type` is the type of its message.
    - `max_cost`: US dollars. No chunk is sent with which the answers could cost more; see
      `Budget` for how the limit of a chunk is computed. Needs the extra ``cost``.

    - `until`: ``finished``; or ``sent`` to return as soon as nothing more can be sent for now,
      because everything is sent or the queue is full; or ``tried`` to return when the first chunk
      has been collected, whose size is ``options.canary_rows``. Call it again later to go on.

    The job can be interrupted at any instant, also by ``kill -9``. Nothing that was paid for is
    lost, and nothing is paid for twice. Returns when every row has its end, or when nothing more
    can be done without a person; `JobStatus.paused` and `JobStatus.doubts` say for what.

    If it is cancelled, interrupted by Ctrl-C, or stopped by an error of `on_event` or `accept`, it
    sends nothing more, and waits up to 90 seconds for the response of a create under way. A second
    Ctrl-C does not wait; the next run then settles the create.

    Raises:
        InvalidInputError: the input or an option is invalid. `InputChangedError` if the input is
            not the one that the job was begun with.
        JobLockedError: another process runs the job.
        JobFolderError: the folder cannot hold a job.
        StorageError: a file could not be written. Run the job again when it can.
    """
    workers = AsyncWorkers()
    budget = None if max_cost is None else Budget(max_cost)
    opened = await workers.in_thread(
        partial(
            OpenJob,
            client.api,
            requests,
            path,
            options=options,
            accept=accept,
            message_type=message_type,
            budget=budget,
        )
    )
    try:
        job_of = partial(
            Job,
            opened.records,
            scope=client.api.scope,
            same_key=opened.same_key,
            base_url=client.api.base_url,
        )
        runner = AsyncJobRunner(client, job_of, opened, on_event or _ignore, workers)
        job, ending = await runner.run(until)
    finally:
        workers.finish(opened.close)
    if ending is Ending.PAUSED and runner.invalid_input is not None:
        raise runner.invalid_input
    return job_status(job.state)


def _ignore(news: News) -> None:
    """Ignore a piece of news."""
