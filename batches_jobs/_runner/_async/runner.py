"""Runs one job: the machine says what is next, and this carries it out.

Everything durable is the journal's, every rule the machine's. This knows how an operation of a job
becomes a call of a client, a download to a file, or a look at the input.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from batches_core import BatchesError, Event, InvalidInputError, MessageBatch
from batches_core.jobs import (
    Cancel,
    ChunkPlanned,
    Collect,
    CollectResult,
    Create,
    Done,
    Ending,
    Failure,
    Get,
    Job,
    JobState,
    News,
    Persist,
    Plan,
    PlanRetry,
    Poll,
    PollResult,
    Report,
    Run,
    Settle,
    Spec,
    Value,
    Wait,
)
from batches_core.lowlevel import prepare
from batches_jobs._errors import JournalError, StorageError
from batches_jobs._runner.workers import AsyncWorkers

from .client import AsyncJobClient

#: How much the stamps of batches can differ from their order in the list.
_SLACK = timedelta(seconds=10)
#: The size of a page of the list: one page shows all batches of most jobs.
_PAGE = 1000


class _LocalError(Exception):
    """An error, its cause, that ends the run although it is a `BatchesError`."""


class Work(Protocol):
    """What a job's operations need besides a client. All of it blocks."""

    def persist(self, persist: Persist) -> None:
        """Make records durable."""
        ...

    def plan(self, spec: Plan) -> Value:
        """Cut the next chunk off the input."""
        ...

    def plan_retry(self, spec: PlanRetry) -> ChunkPlanned:
        """Gather failed rows into a chunk."""
        ...

    def requests(self, plan: ChunkPlanned) -> Any:
        """Return the requests of a chunk, as a `RequestsSource`."""
        ...

    def results_path(self, plan: ChunkPlanned) -> Path:
        """Return the file that a chunk's results are kept in."""
        ...

    def collect(self, spec: Collect) -> CollectResult:
        """Count a chunk's results, which are in their file."""
        ...

    def over_budget(self, state: JobState, plan: ChunkPlanned) -> Failure | None:
        """Return why a chunk must not be sent, or None."""
        ...


class AsyncJobRunner:
    """Runs one job until nothing more can be done without a person.

    `on_event` is called with each of the machine's news.
    """

    def __init__(
        self,
        client: AsyncJobClient,
        job_of: Callable[[float], Job],
        work: Work,
        on_event: Callable[[News], None],
        workers: AsyncWorkers,
    ) -> None:
        self._client = client
        self._job_of = job_of
        self._work = work
        self._on_event = on_event
        self._workers = workers
        #: The problem of the input for which the job was paused in this run.
        self.invalid_input: InvalidInputError | None = None
        #: An error that is not the service's or the network's: it ends the run.
        self._fatal: BaseException | None = None

    async def run(self) -> tuple[Job, Ending]:
        """Run the job; return it, and how the run ended.

        Raises:
            OSError: a file cannot be read or written. The job can be run again.
        """
        workers = self._workers
        self._job = job = self._job_of(workers.now())
        async with workers:
            while True:
                if self._fatal is not None:
                    raise self._fatal
                with workers.turn:
                    directive = job.next()
                    if isinstance(directive, Persist):
                        self._persist(directive)
                match directive:
                    case Run(operation_id=operation_id, spec=spec):
                        workers.start(partial(self._operate, operation_id, spec))
                    case Report(news=news):
                        self._on_event(news)
                    case Wait(deadline=deadline):
                        await workers.wait(deadline)
                        with workers.turn:
                            job.handle_timeout(workers.now())
                    case Done(ending=ending):
                        return job, ending
                    case _:
                        pass

    def _persist(self, persist: Persist) -> None:
        self._work.persist(persist)
        self._job.persisted(persist.number, self._workers.now())

    async def _operate(self, operation_id: int, spec: Spec) -> None:
        workers = self._workers
        if isinstance(spec, Create):
            with workers.turn:
                problem = self._work.over_budget(self._job.state, spec.plan)
                if problem is not None:
                    self._job.failed(operation_id, problem, workers.now())
                    return
        try:
            value = await self._execute(operation_id, spec)
        except (StorageError, JournalError) as error:
            self._fatal = error
        except _LocalError as error:
            self._fatal = error.__cause__
        except BatchesError as error:
            if isinstance(error, InvalidInputError):
                self.invalid_input = error
            with workers.turn:
                self._job.failed(operation_id, error, workers.now())
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._fatal = error
        else:
            with workers.turn:
                self._job.succeeded(operation_id, value, workers.now())

    async def _execute(self, operation_id: int, spec: Spec) -> Value:  # noqa: C901, PLR0911 - one case an operation
        api, client, work = self._client.api, self._client, self._work
        on_event = partial(self._observe, operation_id)
        match spec:
            case Plan():
                return await self._workers.in_thread(partial(work.plan, spec))
            case PlanRetry():
                return await self._workers.in_thread(partial(work.plan_retry, spec))
            case Create(plan=plan):
                source = partial(prepare, work.requests(plan))
                prepared = await self._workers.in_thread(source)
                return await client.run(api.create(prepared, known_ids=spec.known_ids), on_event)
            case Settle():
                return await client.run(
                    api.settle(spec.marker, settle_time=spec.settle_time, known_ids=spec.known_ids),
                    on_event,
                )
            case Poll():
                return await self._poll(spec)
            case Get(batch_id=batch_id):
                return await client.run(api.get(batch_id), on_event)
            case Cancel(batch_id=batch_id):
                return await client.run(api.cancel(batch_id), on_event)
            case Collect():
                path = work.results_path(spec.plan)
                if not path.exists():
                    await client.download(spec.batch_id, path)
                try:
                    return await self._workers.in_thread(partial(work.collect, spec))
                except BatchesError as error:
                    # Of the file, or of the caller's `accept`: to try again would not help.
                    raise _LocalError from error

    async def _poll(self, spec: Poll) -> PollResult:
        missing = set(spec.batch_ids)
        shown: list[MessageBatch] = []
        async for batch in self._client.list_all(limit=_PAGE):
            if batch.id in missing or batch.request_counts.total in spec.sizes:
                missing.discard(batch.id)
                shown.append(batch)
            is_past = spec.since is not None and spec.since - batch.created_at > _SLACK
            if is_past or (not missing and not spec.sizes):
                break
        return PollResult(batches=tuple(shown))

    def _observe(self, operation_id: int, event: Event) -> None:
        """Report an operation's event; what the job records of it is durable when this returns."""
        with self._workers.turn:
            if self._job.event(operation_id, event, self._workers.now()) is None:
                return
            persist = self._job.unpersisted
            assert persist is not None, "a hold is for a record that is not durable"  # noqa: S101
            self._persist(persist)
