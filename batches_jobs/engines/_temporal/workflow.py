"""The workflow of a job: it drives the machine, and its history is the journal.

The machine decides what is next. What Temporal has recorded is durable: a record follows from the
result of an activity, which is in the history before the workflow sees it. The one record that must
be durable before something happens is the intent of a create. So a create is two activities: one
reads its marker, and only when that is in the history, the other one is scheduled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from bisect import bisect_right
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    import msgspec

    from batches_core import CreateMarked, CreateMarker, LocalProtocolError, MessageBatch
    from batches_core.jobs import (
        IN_FLIGHT,
        Cancel,
        ChunkPlanned,
        Collect,
        CollectResult,
        Create,
        Done,
        Failure,
        Get,
        Job,
        JobOpened,
        JobPaused,
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
        StraySeen,
        Trouble,
        Wait,
        job_status,
    )

    from .compact import compact
    from .messages import Ask, JobPlace, JobStart, Output, Ran, Work, WriteWork
    from .payloads import pack, unpack
    from .waiting import wait_for

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
#: Seconds in which a marker must arrive here. It is good for an hour: for these 5 minutes, for the
#: wait for a worker, and for the create itself.
_MARKER_ARRIVES_WITHIN = 300.0
#: For how long a create may wait for a worker.
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
        self._is_resumed = False
        #: The chunks with rows that the account has granted, and those that are being created.
        self._grants = {*start.granted}
        self._creating: set[int] = set()

    def _paused_before(self) -> Paused | None:
        if not self._start.is_paused:
            return None
        paused = [each for each in self._start.records if isinstance(each, Paused)]
        return paused[-1] if paused else None

    @workflow.run
    async def run(self, packed: Any) -> Any:
        """Run the job to its end, and return its status and the name of its output."""
        del packed  # `__init__` has it
        while not self._job.state.is_finished:
            try:
                await self._step()
            except asyncio.CancelledError:
                # Temporal's own cancel of a workflow: what was paid for is still collected.
                self.cancel()
        self._flush()
        await self._release()
        output = await self._write()
        await workflow.wait_condition(workflow.all_handlers_finished)
        return {"status": self._status(), "output": pack(output)}

    async def _step(self) -> None:
        """Do what the machine says is next."""
        if self._error is not None:
            raise self._error
        if self._is_stopping():
            await self._stop()
            return
        match self._job.next():
            case Persist() as persist:
                self._persist(persist)
            case Report(news=news):
                is_serious = isinstance(news, (JobPaused, StraySeen, Trouble))
                level = logging.WARNING if is_serious else logging.DEBUG
                workflow.logger.log(level, "job %s: %s", self._start.job, news)
            case Run(operation_id=operation_id, spec=spec):
                if isinstance(spec, Create):
                    self._creating.add(spec.plan.chunk)
                task = asyncio.create_task(self._operate(operation_id, spec))
                self._tasks.add(task)
                task.add_done_callback(self._ended)
            case Wait(deadline=deadline):
                await self._wait(deadline)
            case Done():
                # A person is needed: to resume the job, or to settle its doubts.
                await self._wait(None)

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

    @workflow.signal(name="resume")
    def resume(self) -> None:
        """Go on with a job that was paused: its reason has gone, or is accepted."""
        self._is_resumed = True
        self._wake()

    @workflow.update(name="decide")
    async def decide(self, chunk: int, batch_id: str | None) -> Any:
        """Settle a doubt as a person says: the chunk's create made this batch, or none."""
        batch: MessageBatch | None = None
        if batch_id is not None:
            spec = Get(chunk=chunk, batch_id=batch_id)
            work = Work(place=self._place, spec=spec)
            batch = await self._activity("batches.operate", work, MessageBatch)
            if isinstance(batch, Failure):
                raise ApplicationError(f"batch {batch_id} cannot be read: {batch.message}")
            chunks = self._job.state.chunks
            if 0 <= chunk < len(chunks) and batch.request_counts.total != chunks[chunk].count:
                raise ApplicationError(
                    f"batch {batch.id} has {batch.request_counts.total:,} requests and chunk "
                    f"{chunk} has {chunks[chunk].count:,}: it is not the batch of this chunk"
                )
        try:
            self._job.decide(chunk, batch, workflow.time())
        except LocalProtocolError as error:
            raise ApplicationError(str(error)) from error
        self._wake()
        return self._status()

    @workflow.update(name="buy_again")
    def buy_again(self, chunk: int) -> Any:
        """Send a lost chunk again. It is paid for twice if its batch had answers."""
        try:
            self._job.buy_again(chunk, workflow.time())
        except LocalProtocolError as error:
            raise ApplicationError(str(error)) from error
        self._wake()
        return self._status()

    # --- what the account says ---------------------------------------------------------------

    @workflow.signal(name="granted")
    def granted(self, key: str) -> None:
        """Rows are granted to a chunk of this job."""
        job_id, _, chunk = key.partition("/")
        if job_id == self._start.job_id:
            self._grants.add(int(chunk))
            self._wake()

    @workflow.signal(name="still_running")
    def still_running(self, key: str) -> None:
        """Do nothing: the account only wants to know that the signal arrives."""

    # --- for the loop ------------------------------------------------------------------------

    def _is_stopping(self) -> bool:
        """Whether nothing more is begun, because this run or this machine has to end."""
        info = workflow.info()
        is_long = (
            info.is_continue_as_new_suggested()
            or info.get_current_history_length() > self._start.most_events
        )
        return self._is_resumed or is_long

    async def _stop(self) -> None:
        """Wait for what runs; then begin a new machine, or a new run, on the same records."""
        self._flush()
        if self._tasks:
            await workflow.wait_condition(lambda: not self._tasks)
            return
        if self._is_resumed:
            self._is_resumed = False
            self._job = Job(self._records, workflow.time())
            return
        await self._release()
        await workflow.wait_condition(workflow.all_handlers_finished)
        # Nothing may be awaited from here on: a signal that arrives later would be forgotten.
        if self._is_resumed:
            return
        self._flush()
        workflow.continue_as_new(
            pack(
                msgspec.structs.replace(
                    self._start,
                    records=tuple(compact(self._records)),
                    granted=tuple(sorted(self._grants)),
                    is_paused=self._job.state.paused is not None,
                )
            )
        )

    async def _wait(self, deadline: float | None) -> None:
        await self._release()
        left = None if deadline is None else max(0.0, deadline - workflow.time())
        is_woken = await wait_for(lambda: self._is_woken, left)
        self._is_woken = False
        # The clock of the workflow can be a little behind its timer.
        passed = 0.0 if is_woken or deadline is None else deadline
        self._job.handle_timeout(max(passed, workflow.time()))

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

    # --- rows in flight ----------------------------------------------------------------------

    async def _ask(self, chunk: int, rows: int) -> bool:
        """Ask the account for rows; return whether they were granted before the job stopped."""
        if not self._start.account:
            return True
        ask = Ask(workflow_id=workflow.info().workflow_id, key=self._key(chunk), rows=rows)
        account = workflow.get_external_workflow_handle(self._start.account)
        await account.signal("ask", pack(ask))
        await workflow.wait_condition(lambda: chunk in self._grants or self._may_not_create())
        if self._may_not_create():
            # The next run asks again for the same chunk, which keeps its place.
            if not self._is_stopping():
                await self._give_back(chunk)
            return False
        return True

    async def _release(self) -> None:
        """Release the rows of chunks that are not in flight any more."""
        chunks = self._job.state.chunks
        for number in sorted(self._grants - self._creating):
            if chunks[number].state not in IN_FLIGHT:
                await self._give_back(number)

    async def _give_back(self, chunk: int) -> None:
        self._grants.discard(chunk)
        ask = Ask(workflow_id=workflow.info().workflow_id, key=self._key(chunk))
        # If the account does not run, there is nothing to release.
        with contextlib.suppress(FailureError):
            account = workflow.get_external_workflow_handle(self._start.account)
            await account.signal("release", pack(ask))

    def _key(self, chunk: int) -> str:
        return f"{self._start.job_id}/{chunk}"

    def _may_not_create(self) -> bool:
        state = self._job.state
        return state.is_canceled or state.paused is not None or self._is_stopping()

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
        chunk = spec.plan.chunk
        try:
            if not await self._ask(chunk, spec.plan.count):
                return Failure(meaning="passing", message="the create was put off")
            return await self._mark_and_send(operation_id, spec)
        except FailureError as error:
            message = f"the account {self._start.account} does not run: start it again ({error})"
            return Failure(meaning="passing", message=message)
        finally:
            self._creating.discard(chunk)

    async def _mark_and_send(self, operation_id: int, spec: Create) -> MessageBatch | Failure:
        asked_at = workflow.time()
        marker = await self._activity(
            "batches.mark", Work(place=self._place, spec=spec), CreateMarker
        )
        if isinstance(marker, Failure):
            return marker
        if workflow.time() - asked_at > _MARKER_ARRIVES_WITHIN:
            return Failure(meaning="passing", message="the marker of the create is too old")
        if self._job.state.is_canceled or self._job.state.paused is not None:
            return Failure(meaning="passing", message="the job was stopped before the create")
        self._job.event(operation_id, CreateMarked(marker=marker), workflow.time())
        self._flush()
        return await self._send(Work(place=self._place, spec=spec, marker=marker), marker)

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
        value: MessageBatch | Failure = _value_of(packed, MessageBatch)
        return value

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
        firsts = [plan.first_row for plan in plans]
        return tuple(
            plans[at] for at in sorted({bisect_right(firsts, row) - 1 for row in spec.rows})
        )

    async def _write(self) -> Output:
        work = WriteWork(place=self._place, records=tuple(compact(self._records)))
        written = await self._activity("batches.write", work, Output)
        if isinstance(written, Failure):
            raise ApplicationError(f"the output could not be written: {written.message}")
        assert isinstance(written, Output)  # noqa: S101 - the activity's only value
        return written

    def _status(self) -> Any:
        status: JobStatus = job_status(self._job.state)
        return pack(status)


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
