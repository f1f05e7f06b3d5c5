"""Runs one job: the machine says what is next, and this carries it out.

Everything durable is the journal's, every rule the machine's. This knows how an operation of a job
becomes a call of a client, a download to a file, or a look at the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from batches_core import (
    BatchCreated,
    BatchesError,
    Event,
    InvalidInputError,
    LocalProtocolError,
    MessageBatch,
)
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
from batches_core.lowlevel import CLOCK_SLACK, prepare
from batches_jobs._errors import JournalError, StorageError
from batches_jobs._runner.stoppable import StoppableOperation
from batches_jobs._runner.workers import AsyncWorkers, StoppedError

from .client import AsyncJobClient

#: Seconds after which a wait looks whether the job should be canceled.
_CANCEL_INTERVAL = 2.0
#: The size of a page of the list: one page shows all batches of most jobs.
_PAGE = 1000


#: When `run` returns: when no more can be done, when no more can be sent for now, or when the first
#: chunk has its end.
Until: TypeAlias = Literal["finished", "sent", "tried"]


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

    def unmeasured(self, state: JobState, plan: ChunkPlanned) -> Sequence[ChunkPlanned]:
        """Return the chunks that `measure` must read before `over_budget` is asked."""
        ...

    def measure(self, plan: ChunkPlanned) -> None:
        """Read the requests of a chunk, to know what it can cost."""
        ...

    def over_budget(self, state: JobState, plan: ChunkPlanned) -> Failure | None:
        """Return why a chunk must not be sent, or None."""
        ...

    def is_cancel_asked(self) -> bool:
        """Whether a person has asked for the job to be canceled."""
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

    async def run(self, until: Until = "finished") -> tuple[Job, Ending | None]:
        """Run the job; return it, and how the run ended: None if it ended because of `until`.

        Raises:
            StorageError: a file could not be written. The job can be run again.
        """
        workers = self._workers
        self._job = job = self._job_of(workers.now())
        async with workers:
            while True:
                workers.checkpoint()
                if workers.error is not None:
                    raise workers.error
                with workers.turn:
                    if until == "tried" and job.is_tried and job.unpersisted is None:
                        return job, None
                    self._look_for_cancel()
                    directive = job.next()
                    if isinstance(directive, Persist):
                        self._persist(directive)
                match directive:
                    case Run(operation_id=operation_id, spec=spec):
                        workers.start(
                            partial(self._operate, operation_id, spec),
                            must_end=isinstance(spec, Create),
                        )
                    case Report(news=news):
                        self._on_event(news)
                    case Wait(deadline=deadline):
                        with workers.turn:
                            if until == "sent" and not job.is_submitting:
                                return job, None
                        await self._wait(deadline)
                    case Done(ending=ending):
                        return job, ending
                    case _:
                        pass

    async def _wait(self, deadline: float | None) -> None:
        """Wait until an operation reports anything, until the deadline, or for a cancel."""
        workers, job = self._workers, self._job
        if not job.state.is_canceled:
            soon = workers.now() + _CANCEL_INTERVAL
            deadline = soon if deadline is None else min(deadline, soon)
        await workers.wait(deadline)
        with workers.turn:
            job.handle_timeout(workers.now())

    def _look_for_cancel(self) -> None:
        if not self._job.state.is_canceled and self._work.is_cancel_asked():
            self._job.cancel(self._workers.now())

    def _persist(self, persist: Persist) -> None:
        self._work.persist(persist)
        self._job.persisted(persist.number, self._workers.now())

    async def _operate(self, operation_id: int, spec: Spec) -> None:
        """Run an operation and report how it ended. An error that is not its own ends the run."""
        try:
            await self._run_and_report(operation_id, spec)
        except StoppedError:
            pass
        except _LocalError as error:
            raise error.__cause__ or error from None

    async def _run_and_report(self, operation_id: int, spec: Spec) -> None:
        workers = self._workers
        try:
            if isinstance(spec, Create) and (problem := await self._over_budget(spec)) is not None:
                with workers.turn:
                    self._job.failed(operation_id, problem, workers.now())
                return
            value = await self._execute(operation_id, spec)
        except (StorageError, JournalError, LocalProtocolError):
            raise  # to try again would not help
        except BatchesError as error:
            if isinstance(error, InvalidInputError):
                self.invalid_input = error
            with workers.turn:
                self._job.failed(operation_id, error, workers.now())
        else:
            with workers.turn:
                self._job.succeeded(operation_id, value, workers.now())

    async def _over_budget(self, spec: Create) -> Failure | None:
        workers, work, state = self._workers, self._work, self._job.state
        with workers.turn:
            unmeasured = work.unmeasured(state, spec.plan)
        for plan in unmeasured:
            await workers.in_thread(partial(work.measure, plan))
        with workers.turn:
            return work.over_budget(state, spec.plan)

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
                settle = api.settle(
                    spec.marker, settle_time=spec.settle_time, known_ids=spec.known_ids
                )
                stoppable = StoppableOperation(settle, self._check, self._workers.now)
                return await client.run(stoppable, on_event)
            case Poll():
                return await self._poll(spec)
            case Get(batch_id=batch_id):
                return await client.run(api.get(batch_id), on_event)
            case Cancel(batch_id=batch_id):
                return await client.run(api.cancel(batch_id), on_event)
            case Collect():
                path = work.results_path(spec.plan)
                if not path.exists():
                    try:
                        await client.download(spec.batch_id, path, on_event=self._check)
                    except OSError as error:
                        raise StorageError(path, error.strerror or str(error)) from error
                try:
                    return await self._workers.in_thread(partial(work.collect, spec))
                except BatchesError as error:
                    # Of the file, or of the caller's `accept`: to try again would not help.
                    raise _LocalError from error

    async def _poll(self, spec: Poll) -> PollResult:
        missing = set(spec.batch_ids)
        shown: list[MessageBatch] = []
        async for batch in self._client.list_all(limit=_PAGE):
            self._check()
            if batch.id in missing or batch.request_counts.total in spec.sizes:
                missing.discard(batch.id)
                shown.append(batch)
            is_past = spec.since is not None and spec.since - batch.created_at > CLOCK_SLACK
            if is_past or (not missing and not spec.sizes):
                break
        return PollResult(batches=tuple(shown))

    def _observe(self, operation_id: int, event: Event) -> None:
        """Report an operation's event; what the job records of it is durable when this returns.

        Raises:
            StoppedError: the run is stopping. A create that has not left must not leave: nobody
                would record its batch. A batch that was created is still recorded.
        """
        with self._workers.turn:
            if not isinstance(event, BatchCreated):
                self._check()
            self._job.event(operation_id, event, self._workers.now())
            while (persist := self._job.unpersisted) is not None:
                self._persist(persist)
        self._workers.wake()

    def _check(self, event: object = None) -> None:
        """End an operation if the run is stopping."""
        del event
        if self._workers.is_stopping:
            raise StoppedError
