"""The workflow of a job: it drives the machine, and its history is the journal.

The machine decides what is next. What Temporal has recorded is durable: a record follows from the
result of an activity, which is in the history before the workflow sees it. The one record that must
be durable before something happens is the intent of a create. So a create is two activities: one
reads its marker, and only when that is in the history, the other one is scheduled.
"""

from __future__ import annotations

import asyncio
import builtins
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    from batches_core import (
        CreateMarked,
        CreateMarker,
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
        JobOpened,
        JobStatus,
        Paused,
        Persist,
        Plan,
        PlannedInput,
        PlanRetry,
        Poll,
        PollResult,
        Record,
        Report,
        Run,
        Settle,
        Spec,
        Wait,
        job_status,
    )

    from .compact import compact
    from .messages import JobPlace, JobStart, Output, Ran, Work, WriteWork
    from .payloads import pack, unpack

#: What each operation ends with.
_VALUES: dict[type[Any], Any] = {
    Plan: PlannedInput,
    PlanRetry: ChunkPlanned,
    Settle: MessageBatch | None,
    Poll: PollResult,
    Get: MessageBatch,
    Cancel: MessageBatch,
    Collect: CollectResult,
}
#: Events after which the workflow continues in a new run. A run can have 51,200.
_MANY_EVENTS = 10_000
#: For how long a create may wait for a worker. Its marker ages, and is good for an hour.
_CREATE_STARTS_WITHIN = timedelta(minutes=10)
#: For how long a create may run: the largest one, at 1 Mbit/s.
_CREATE_ENDS_WITHIN = timedelta(minutes=40)
_ENDS_WITHIN = timedelta(hours=2)


@workflow.defn(name="BatchesJob")
class BatchesJob:
    """A job of any number of requests, each of which gets one answer."""

    @workflow.init
    def __init__(self, packed: Any) -> None:
        start = unpack(packed, JobStart)
        self._start = start
        self._place = JobPlace(
            job=start.job,
            job_id=start.job_id,
            input_name=start.input_name,
            options=start.options,
        )
        opened = JobOpened(job_id=start.job_id, options=start.options, source=start.input_name)
        self._records: list[Record] = [*start.records] or [opened]
        self._job = Job(self._records, workflow.time())
        if (paused := self._paused_before()) is not None:
            # This run only continues the one before: no person has looked at the reason.
            self._job.pause(paused.reason, paused.message, workflow.time())
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_woken = False
        #: A bug of an operation. It fails the workflow's task, which Temporal repeats.
        self._error: BaseException | None = None
        self._output: Output | None = None

    def _paused_before(self) -> Paused | None:
        if not self._start.is_paused:
            return None
        paused = [each for each in self._start.records if isinstance(each, Paused)]
        return paused[-1] if paused else None

    @workflow.run
    async def run(self, packed: Any) -> Any:
        """Run the job to its end, and return its status and the name of its output."""
        del packed  # `__init__` has it
        while True:
            if self._error is not None:
                raise self._error
            match self._job.next():
                case Persist() as persist:
                    self._persist(persist)
                case Report(news=news):
                    workflow.logger.debug("job %s: %s", self._start.job, news)
                case Run(operation_id=operation_id, spec=spec):
                    task = asyncio.create_task(self._operate(operation_id, spec))
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
                case Wait(deadline=deadline):
                    await self._wait(deadline)
                case Done(ending=Ending.FINISHED | Ending.CANCELED):
                    break
                case Done():
                    await self._wait(None)
        self._output = await self._write()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._result()

    # --- what people ask and decide ----------------------------------------------------------

    @workflow.query(name="status")
    def status(self) -> Any:
        """How far the job is, as a `JobStatus`."""
        return self._status()

    @workflow.signal(name="cancel")
    def cancel(self) -> None:
        """Submit nothing more, cancel the batches in flight, and collect what they have."""
        self._job.cancel(workflow.time())
        self._wake()

    # --- for the loop ------------------------------------------------------------------------

    async def _wait(self, deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - workflow.time())
        now = deadline or 0.0
        try:
            await workflow.wait_condition(lambda: self._is_woken, timeout=left)
            now = 0.0
        except builtins.TimeoutError:
            pass
        self._is_woken = False
        self._job.handle_timeout(max(now, workflow.time()))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
        self._wake()

    def _wake(self) -> None:
        self._is_woken = True

    def _flush(self) -> None:
        """Record what the machine wants to be durable: it follows from the history."""
        while (persist := self._job.unpersisted) is not None:
            self._persist(persist)

    def _persist(self, persist: Persist) -> None:
        self._records += persist.records
        self._job.persisted(persist.number, workflow.time())

    # --- operations --------------------------------------------------------------------------

    async def _operate(self, operation_id: int, spec: Spec) -> None:
        if isinstance(spec, Create):
            value = await self._create(operation_id, spec)
        else:
            work = Work(place=self._place, spec=spec, chunks=self._chunks_of(spec))
            value = await self._activity("batches.operate", work, _VALUES[type(spec)])
        if isinstance(value, Failure):
            self._job.failed(operation_id, value, workflow.time())
        else:
            self._job.succeeded(operation_id, value, workflow.time())
        self._wake()

    async def _create(self, operation_id: int, spec: Create) -> MessageBatch | Failure:
        work = Work(place=self._place, spec=spec)
        marker = await self._activity("batches.mark", work, CreateMarker)
        if isinstance(marker, Failure):
            return marker
        if self._job.state.is_canceled or self._job.state.paused is not None:
            return Failure(meaning="passing", message="the job was stopped before the create")
        self._job.event(operation_id, CreateMarked(marker=marker), workflow.time())
        self._flush()
        work = Work(place=self._place, spec=spec, marker=marker)
        return await self._send(work, marker)

    async def _send(self, work: Work, marker: CreateMarker) -> MessageBatch | Failure:
        try:
            packed = await workflow.execute_activity(
                "batches.create",
                pack(work),
                schedule_to_start_timeout=_CREATE_STARTS_WITHIN,
                start_to_close_timeout=_CREATE_ENDS_WITHIN,
                heartbeat_timeout=self._heartbeat,
                # Temporal would send it again without knowing what became of it.
                retry_policy=RetryPolicy(maximum_attempts=1),
                summary=f"chunk {work.spec.plan.chunk}" if isinstance(work.spec, Create) else "",
            )
        except ActivityError as error:
            cause = error.cause
            if (
                isinstance(cause, ActivityTimeoutError)
                and cause.type is TimeoutType.SCHEDULE_TO_START
            ):
                return Failure(meaning="passing", message="no worker was there for the create")
            message = f"the worker of the create did not say how it ended ({cause or error})"
            return Failure(meaning="unknown", message=message, marker=marker)
        return _value_of(packed, MessageBatch)

    async def _activity(self, name: str, work: Work | WriteWork, kind: Any) -> Any:
        """Run an activity that can be repeated; return its value or `Failure`."""
        try:
            packed = await workflow.execute_activity(
                name,
                pack(work),
                start_to_close_timeout=_ENDS_WITHIN,
                heartbeat_timeout=self._heartbeat,
                retry_policy=RetryPolicy(
                    initial_interval=timedelta(seconds=1), maximum_interval=timedelta(minutes=1)
                ),
                summary=_summary(work),
            )
        except ActivityError as error:
            return Failure(meaning="passing", message=f"{error.cause or error}")
        return _value_of(packed, kind)

    @property
    def _heartbeat(self) -> timedelta:
        return timedelta(seconds=self._start.heartbeat)

    def _chunks_of(self, spec: Spec) -> tuple[ChunkPlanned, ...]:
        """Return the chunks of the input that have the rows of a retry."""
        if not isinstance(spec, PlanRetry):
            return ()
        plans = [chunk.plan for chunk in self._job.state.chunks if not chunk.plan.rows]
        rows = sorted(spec.rows)
        found: list[ChunkPlanned] = []
        for plan in plans:
            end = plan.first_row + plan.count
            if any(plan.first_row <= row < end for row in rows):
                found.append(plan)
        return tuple(found)

    async def _write(self) -> Output | None:
        work = WriteWork(place=self._place, records=tuple(compact(self._records)))
        written = await self._activity("batches.write", work, Output)
        if isinstance(written, Failure):
            raise ApplicationError(f"the output could not be written: {written.message}")
        return written

    def _status(self) -> Any:
        status: JobStatus = job_status(self._job.state)
        return pack(status)

    def _result(self) -> Any:
        return {"status": self._status(), "output": pack(self._output)}


def _value_of(packed: Any, kind: Any) -> Any:
    ran = unpack(packed, Ran)
    if ran.failure is not None:
        return unpack(ran.failure, Failure)
    return unpack(ran.value, kind)


def _summary(work: Work | WriteWork) -> str:
    """Name an activity for the people who look at the workflow."""
    if isinstance(work, WriteWork):
        return "output"
    spec = work.spec
    chunk = spec.plan.chunk if isinstance(spec, (Create, Collect)) else getattr(spec, "chunk", None)
    name = type(spec).__name__.lower()
    return name if chunk is None else f"{name} of chunk {chunk}"
