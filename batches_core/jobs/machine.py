"""The machine that runs a job: it decides what is done next, and does nothing itself.

It has one output and some inputs, like an operation. The driver carries out what `next` returns,
and reports by `event`, `succeeded` and `failed` what the running operations did. Every decision is
a record. While a record is not durable, `next` returns nothing but `Persist`. So a crash at any
moment loses nothing that was acted on, and a new `Job` on the same records continues.

`state` knows which records are legal, `failure` what failures mean, `plan` how large chunks are.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from batches_core.errors import BatchesError, LocalProtocolError
from batches_core.events import BatchCreated, CreateMarked, Event
from batches_core.models import MessageBatch

from .directives import (
    ChunkChanged,
    Directive,
    Done,
    Ending,
    Hold,
    JobPaused,
    News,
    Persist,
    Report,
    RoomChanged,
    Run,
    StraySeen,
    Trouble,
    Wait,
)
from .failure import Failure, describe, is_passing, pause_of
from .operations import (
    Cancel,
    Collect,
    CollectResult,
    Create,
    Get,
    Plan,
    PlannedInput,
    PlanRetry,
    Poll,
    PollResult,
    Settle,
    Spec,
    Value,
)
from .plan import chunk_size
from .records import (
    BoughtAgain,
    CancelAsked,
    CancelSent,
    ChunkPlanned,
    Collected,
    Counts,
    CreateIntended,
    Doubted,
    Ended,
    FailedRow,
    Finished,
    InputEnded,
    Lost,
    Paused,
    PauseReason,
    Record,
    Refused,
    Resumed,
    Submitted,
)
from .state import Chunk, ChunkState, JobState
from .status import Progress, progress_of

#: How many chunks are planned ahead of the one that is being created.
_PLANNED_AHEAD = 2
#: Seconds before an operation that failed is run again: the first time, and at most.
_FIRST_DELAY = 5.0
_LONGEST_DELAY = 300.0
#: Seconds without a full queue after which one more chunk may wait in it.
_GROWTH_INTERVAL = 3600.0
#: Seconds for which failed rows wait for others, to be sent again in one chunk.
_GATHERING = 3600.0
#: For how long a batch that was created may be missing, in seconds: reads of fresh batches were
#: reported to give a 404.
_MISSING = 600.0
#: Submitting stops if more than this share of a chunk's rows fails for good, for one reason.
_MOST_FAILED = 0.5
#: Chunks of fewer rows say too little about the others.
_LEAST_FAILED = 20

#: How often a request that never succeeded in this run may get a 404 before a person is needed.
_MOST_MISSING = 4
#: How many batches that have ended are read to see whether the key is the right one.
_MOST_PROVERS = 3
#: How often an outcome is looked for in one run, each time for the whole settle time.
_MOST_SETTLES = 3

_S = ChunkState
#: The pauses in which nothing can be read either.
_BLIND: frozenset[PauseReason] = frozenset({"credential", "permission", "base_url"})


@dataclass(slots=True)
class _Backoff:
    """How often something failed in a row, and when it may be tried again."""

    failures: int = 0
    until: float = 0.0
    #: When it failed for the first time.
    since: float = 0.0


class Job:
    """A job as a machine without I/O.

    `records` are those of its journal, at least the `JobOpened`. `now` is any monotonic clock in
    seconds, always the same one. A job that was paused is resumed: running it again is how a person
    says that the reason has gone.

    - `scope`: `BatchesAPI.scope`. It shows which batches the key in use has created;
    - `same_key`: whether this key opened the job; None if that is not known. If not, nothing is
      submitted or settled before one of the job's batches has been read: the key may be that of
      another workspace;
    - `base_url`: for messages.

    Raises:
        LocalProtocolError: the records are not those of a job.
    """

    def __init__(
        self,
        records: Iterable[Record],
        now: float,
        *,
        scope: str = "",
        same_key: bool | None = None,
        base_url: str = "",
    ) -> None:
        self.state = JobState()
        self.state.apply_all(records)
        if self.state.opened is None:
            raise LocalProtocolError("a job begins with the record JobOpened")
        self._now = now
        self._scope, self._same_key, self._base_url = scope, same_key, base_url
        self._unpersisted: list[Record] = []
        self._persist_number = 1
        #: How many of them are in the current `Persist`; 0 before the driver has fetched it.
        self._persisting = 0
        self._news: deque[News] = deque()
        self._running: dict[int, Spec] = {}
        #: Those of them that have reported their batch. How they end says nothing more.
        self._reported: set[int] = set()
        self._last_operation = 0
        self._backoffs: dict[str, _Backoff] = {}
        #: Until when the operations that are wanted, but failed before, must wait.
        self._blocked: list[float] = []
        self._next_poll = now
        self._room = self.state.options.max_waiting
        self._room_until = now + _GROWTH_INTERVAL
        #: When each batch was first not found, by chunk.
        self._missing_since: dict[int, float] = {}
        #: The chunks that the last poll did not show.
        self._unlisted: set[int] = set()
        self._gathering_since: float | None = now if self.state.waiting else None
        self._strays: set[str] = set()
        #: How often the outcome of a chunk's create could not be found out in this run.
        self._settle_failures: Counter[int] = Counter()
        #: The scopes of the batches that this run has read: its key is the right one for these.
        self._seen_scopes: set[str] = set()
        #: The chunks whose batches this run could not find before it read one of the job's.
        self._not_found: set[int] = set()
        #: Whether this run must read one of the job's batches first, to see that the key is right.
        self._is_unproven = same_key is False and self._has_foreign_batches()
        #: The chunks whose results cannot be kept before a person has moved a file away.
        self._obstructed: set[int] = set()
        #: Whether the next create waits until a chunk has been collected.
        self._waits = False
        #: What has succeeded in this run: "Create", and "list" for all that reads the list.
        self._succeeded: set[str] = set()
        #: What was last reported of it, and whether records were added since.
        self._progress = progress_of(self.state)
        self._may_have_progress = False
        if self.state.paused is not None:
            self._emit(Resumed())

    # --- for the driver ----------------------------------------------------------------------

    def next(self) -> Directive:  # noqa: PLR0911 - one directive after the other
        """Return what the driver is to do next."""
        if (persist := self.unpersisted) is not None:
            return persist
        if self._news:
            return Report(news=self._news.popleft())
        if (progress := self._new_progress()) is not None:
            return Report(news=progress)
        if self.state.is_finished:
            return self._done()
        if (spec := self._choose()) is not None:
            self._last_operation += 1
            self._running[self._last_operation] = spec
            return Run(operation_id=self._last_operation, spec=spec)
        if self._running:
            return Wait(deadline=self._next_time())
        if self.state.is_at_rest():
            self._emit(Finished())
            return self.next()
        if (deadline := self._next_time()) is not None:
            return Wait(deadline=deadline)
        return self._done()

    @property
    def unpersisted(self) -> Persist | None:
        """What `next` would return to persist, for a driver that must not wait for `next`."""
        if not self._unpersisted:
            return None
        # Records that are added while these are being written belong to the next one.
        self._persisting = self._persisting or len(self._unpersisted)
        records = tuple(self._unpersisted[: self._persisting])
        return Persist(number=self._persist_number, records=records)

    @property
    def is_submitting(self) -> bool:
        """Whether more can be sent before a batch in flight ends, or an operation is running.

        False once everything is sent, while the queue is full, and while a person is needed.
        """
        if self._running:
            return True
        if not self._submits():
            return False
        if self.state.by_state[_S.INTENT] or not (ready := self._ready()):
            # An outcome is still to be found out, or the input is to be read again after a failure.
            return bool(self.state.by_state[_S.INTENT]) or self.state.rows is None
        if not self.is_tried and ready[0].number:
            return False
        backoff = self._backoffs.get("Create")
        is_refused = backoff is not None and self._room < self.state.options.max_waiting
        return self._has_room(ready[0]) and not is_refused and not self._waits

    @property
    def is_tried(self) -> bool:
        """Whether the first chunk has its end, if `JobOptions.canary_rows` asks for one."""
        if not self.state.options.canary_rows:
            return True
        ends = (_S.COLLECTED, _S.LOST)
        return bool(self.state.chunks) and self.state.chunks[0].state in ends

    def persisted(self, number: int, now: float) -> None:
        """Report that the records of `Persist` number `number` are durable.

        Raises:
            LocalProtocolError: it is not the number of the last `Persist`.
        """
        self._tick(now)
        if number != self._persist_number or not self._persisting:
            raise LocalProtocolError(f"there is no Persist {number} to be done")
        del self._unpersisted[: self._persisting]
        self._persisting = 0
        self._persist_number += 1

    def event(self, operation_id: int, event: Event, now: float) -> Hold | None:
        """Report an event of a running operation; a `Hold` says when to pull it again.

        Raises:
            LocalProtocolError: no such operation runs.
        """
        self._tick(now)
        spec = self._spec(operation_id)
        match spec, event:
            case Create(plan=plan), CreateMarked(marker=marker):
                # Before that, the create has read the list.
                self._succeeded.add("list")
                del self._settle_failures[plan.chunk]
                self._emit(CreateIntended(chunk=plan.chunk, marker=marker))
            case Create(plan=plan), BatchCreated():
                self._reported.add(operation_id)
                self._submit(plan.chunk, event.batch, adopted=event.adopted)
            case Settle(), BatchCreated():
                self._reported.add(operation_id)
                self._adopt(spec, event.batch, adopted=event.adopted)
            case _:
                return None
        if not self._unpersisted:
            return None
        is_next = 0 < self._persisting < len(self._unpersisted)
        return Hold(number=self._persist_number + is_next)

    def succeeded(self, operation_id: int, value: Value, now: float) -> None:  # noqa: C901, PLR0912 - one case an operation
        """Report that an operation ended with this value.

        Raises:
            LocalProtocolError: no such operation runs, or its value is of another kind.
        """
        self._tick(now)
        spec, has_reported = self._end(operation_id)
        self._backoffs.pop(_key(spec), None)
        self._succeeded.add(_endpoint(spec))
        match spec, value:
            case ((Create() | Settle()), MessageBatch()) if has_reported:
                pass
            case Plan(), PlannedInput():
                self._planned(spec, value)
            case PlanRetry(), ChunkPlanned():
                self._emit(value)
            case Create(plan=plan), MessageBatch():
                self._submit(plan.chunk, value, adopted=False)
            case Settle(), MessageBatch():
                self._adopt(spec, value, adopted=True)
            case Settle(chunk=chunk), None:
                if self._is_open(spec):
                    self._emit(Refused(chunk=chunk, reason="the list shows that it made no batch"))
            case Poll(), PollResult():
                self._polled(spec, value)
            case Get(chunk=chunk), MessageBatch():
                self._unlisted.discard(chunk)
                self._seen(self.state.chunks[chunk], value)
            case Cancel(chunk=chunk), MessageBatch():
                if self.state.chunks[chunk].state is _S.SUBMITTED:
                    self._emit(CancelSent(chunk=chunk))
                self._seen(self.state.chunks[chunk], value)
            case Collect(), CollectResult():
                self._collected(spec, value)
            case _:
                raise LocalProtocolError(
                    f"{type(spec).__name__} cannot end with a {type(value).__name__}"
                )

    def failed(self, operation_id: int, error: BatchesError | Failure, now: float) -> None:  # noqa: C901 - one case an operation
        """Report that an operation failed.

        Raises:
            LocalProtocolError: no such operation runs.
        """
        self._tick(now)
        spec, has_reported = self._end(operation_id)
        failure = error if isinstance(error, Failure) else describe(error)
        paused = self.state.paused
        match spec:
            case Create() | Settle() if has_reported:
                pass
            case Create() if failure.meaning == "waiting":
                self._wait_to_create(failure)
                return
            case Create(plan=plan):
                self._create_failed(self.state.chunks[plan.chunk], failure)
            case Settle(chunk=chunk):
                if self._is_open(spec):
                    self._settle_failed(self.state.chunks[chunk], failure)
            case Get(chunk=chunk) | Cancel(chunk=chunk) if failure.meaning == "missing":
                self._is_missing(self.state.chunks[chunk], failure)
            case Collect(plan=plan) if failure.meaning in {"gone", "missing"}:
                self._results_are_missing(self.state.chunks[plan.chunk], failure)
            case Collect(plan=plan) if failure.pause == "input":
                self._obstructed.add(plan.chunk)
            case _:
                pass
        if failure.meaning == "person" and not self._is_harmless(spec, failure):
            self._pause(failure.pause or "refused", failure.message)
        if isinstance(spec, (Create, Settle, Poll)) and failure.meaning == "missing":
            self._endpoint_is_missing(spec, failure)
        # What is not tried again in this run is no trouble.
        needs_person = failure.meaning == "person" or self.state.paused is not paused
        is_over = _key(spec) in _SUBMITTING or _chunk_of(spec) in self._obstructed
        if not self._is_blind() and not (needs_person and is_over):
            self._delay(spec, failure)

    def pause(self, reason: PauseReason, message: str, now: float) -> None:
        """Submit nothing more in this run; batches in flight are still collected."""
        self._tick(now)
        self._pause(reason, message)

    def decide(self, chunk: int, batch: MessageBatch | None, now: float) -> None:
        """Settle a doubt as a person says: the chunk's create made this batch, or none.

        Raises:
            LocalProtocolError: the chunk is not in doubt, or the batch is another chunk's.
        """
        self._tick(now)
        if not 0 <= chunk < len(self.state.chunks) or (
            self.state.chunks[chunk].state is not _S.DOUBT
        ):
            raise LocalProtocolError(f"chunk {chunk} is not in doubt")
        if batch is None:
            self._emit(Refused(chunk=chunk, reason="a person says that it made no batch"))
        elif batch.id in self.state.batches:
            other = self.state.batches[batch.id]
            raise LocalProtocolError(f"batch {batch.id} is that of chunk {other}")
        elif batch.id in self.state.chunks[chunk].foreign:
            raise LocalProtocolError(f"the results of batch {batch.id} are those of other requests")
        else:
            self._submit(chunk, batch, adopted=True, decided=True)

    def buy_again(self, chunk: int, now: float) -> None:
        """Send a lost chunk once more. It is paid for twice if its batch had answers.

        Raises:
            LocalProtocolError: the chunk is not lost, or the job was canceled.
        """
        self._tick(now)
        if self.state.is_canceled:
            raise LocalProtocolError(f"the job was canceled: chunk {chunk} cannot be bought again")
        self._emit(BoughtAgain(chunk=chunk))

    def handle_timeout(self, now: float) -> None:
        """Report the time. Too early, too late or for no reason: always harmless."""
        self._tick(now)

    def cancel(self, now: float) -> None:
        """Submit nothing more, and cancel the batches in flight; their results are collected."""
        self._tick(now)
        if not self.state.is_canceled and not self.state.is_finished:
            self._emit(CancelAsked())

    # --- what comes next ---------------------------------------------------------------------

    def _choose(self) -> Spec | None:
        """Choose the next operation to run, the most urgent first."""
        self._blocked.clear()
        choices: tuple[Callable[[], Spec | None], ...] = (
            self._prove,
            self._settle,
            self._cancel,
            self._collect,
            self._poll,
            self._create,
            self._plan_retry,
            self._plan_input,
        )
        for choose in choices:
            if (spec := choose()) is not None:
                return spec
        return None

    def _prove(self) -> Spec | None:
        """Read a batch of the job that is not in flight, if only that can show the right key."""
        if not self._is_unproven or self._is_blind():
            return None
        if self._in_flight().keys() - self._not_found:
            return None  # a poll will show them
        chunk = next(iter(self._provers()), None)
        if chunk is None or chunk.number in self._busy(Get):
            return None
        get = Get(chunk=chunk.number, batch_id=chunk.batch_id)
        return get if self._may_run(get) else None

    def _settle(self) -> Spec | None:
        if self._is_blind() or self._is_unproven:
            return None
        busy = self._busy(Create) | self._busy(Settle)
        for state in (_S.INTENT, _S.DOUBT):
            for chunk in self.state.by_state[state].values():
                if chunk.number in busy or chunk.needs_person or chunk.marker is None:
                    continue
                if self._settle_failures[chunk.number] >= _MOST_SETTLES:
                    continue
                spec = Settle(
                    chunk=chunk.number,
                    marker=chunk.marker,
                    settle_time=self.state.options.settle_time,
                    known_ids=self._known_ids(chunk),
                )
                if self._may_run(spec):
                    return spec
        return None

    def _cancel(self) -> Spec | None:
        if not self.state.is_canceled or self._is_blind():
            return None
        busy = self._busy(Cancel)
        for chunk in self.state.by_state[_S.SUBMITTED].values():
            spec = Cancel(chunk=chunk.number, batch_id=chunk.batch_id)
            if chunk.number not in busy and self._may_run(spec):
                return spec
        return None

    def _collect(self) -> Spec | None:
        busy = self._busy(Collect)
        if len(busy) >= self.state.options.parallel or self._is_blind() or self._is_unproven:
            return None
        ended = self.state.by_state[_S.ENDED].values()
        # The oldest first: results are there for 29 days.
        for chunk in sorted(ended, key=lambda each: (each.created_at, each.number)):
            spec = Collect(plan=chunk.plan, batch_id=chunk.batch_id, counts=chunk.counts)
            if chunk.number not in busy | self._obstructed and self._may_run(spec):
                return spec
        return None

    def _poll(self) -> Spec | None:
        in_flight = self._in_flight()
        if not in_flight or self._is_blind() or self._runs(Poll):
            return None
        busy = self._busy(Get)
        for number in sorted(self._unlisted & in_flight.keys()):
            get = Get(chunk=number, batch_id=in_flight[number].batch_id)
            if number not in busy and self._may_run(get):
                return get
        doubted = self.state.by_state[_S.DOUBT].values()
        spec = Poll(
            batch_ids=tuple(chunk.batch_id for chunk in in_flight.values()),
            sizes=tuple(sorted({chunk.count for chunk in doubted})),
            since=min(
                (chunk.created_at for chunk in in_flight.values() if chunk.created_at is not None),
                default=None,
            ),
        )
        return spec if self._now >= self._next_poll and self._may_run(spec) else None

    def _create(self) -> Spec | None:
        if not self._submits() or self._is_unproven or self._waits or self._runs(Create):
            return None
        chunk = next(iter(self._ready()), None)
        if chunk is None or not self._has_room(chunk) or (chunk.number and not self.is_tried):
            return None
        spec = Create(plan=chunk.plan, known_ids=self._known_ids(chunk))
        return spec if self._may_run(spec) else None

    def _ready(self) -> list[Chunk]:
        """Return the planned chunks whose batches could be told apart from all others.

        Only its size does that. So a chunk waits while the outcome of another one of its size is
        unclear, unless that one is being created now.
        """
        creating = self._busy(Create)
        unclear = {
            chunk.count
            for state in (_S.INTENT, _S.DOUBT)
            for chunk in self.state.by_state[state].values()
            if chunk.number not in creating
        }
        planned = self.state.by_state[_S.PLANNED].values()
        return [chunk for chunk in planned if chunk.count not in unclear]

    def _has_room(self, chunk: Chunk) -> bool:
        """Whether a chunk fits in the queue; a large one goes alone."""
        in_flight = self.state.in_flight
        return not in_flight or in_flight + chunk.count <= self._room

    def _plan_input(self) -> Spec | None:
        state = self.state
        if state.rows is not None or not self._submits() or self._plans():
            return None
        # If all are alike, no number of chunks is enough: then `max_waiting` rows are.
        planned_rows = sum(chunk.count for chunk in state.by_state[_S.PLANNED].values())
        if len(self._ready()) >= _PLANNED_AHEAD or planned_rows >= state.options.max_waiting:
            return None
        number = len(state.chunks)
        spec = Plan(
            chunk=number,
            first_row=state.planned_rows,
            start=state.planned_bytes,
            rows=self._chunk_size(number),
        )
        return spec if self._may_run(spec) else None

    def _chunk_size(self, number: int) -> int:
        options = self.state.options
        rows = options.chunk_rows
        if options.canary_rows and not number:
            rows = min(rows, options.canary_rows)
        return chunk_size(self.state.job_id, number, rows)

    def _plan_retry(self) -> Spec | None:
        state = self.state
        if not state.waiting or not self._submits() or self._plans():
            return None
        number = len(state.chunks)
        size = chunk_size(state.job_id, number, state.options.chunk_rows)
        round_ = min(each.round for each in state.waiting.values())
        rows = sorted(row for row, each in state.waiting.items() if each.round == round_)
        if len(rows) < size and not self._is_last() and not self._has_gathered():
            return None
        spec = PlanRetry(chunk=number, rows=tuple(rows[:size]), round=round_)
        return spec if self._may_run(spec) else None

    def _is_last(self) -> bool:
        """Whether no more rows can fail before those that wait are sent again."""
        by_state = self.state.by_state
        ahead = (_S.PLANNED, _S.INTENT, _S.SUBMITTED, _S.CANCELING, _S.ENDED)
        return self.state.rows is not None and not any(by_state[state] for state in ahead)

    def _has_gathered(self) -> bool:
        since = self._gathering_since
        return since is not None and self._now >= since + _GATHERING

    def _in_flight(self) -> dict[int, Chunk]:
        return {**self.state.by_state[_S.SUBMITTED], **self.state.by_state[_S.CANCELING]}

    def _has_foreign_batches(self) -> bool:
        """Whether the job has batches, and none of them was created with the key in use."""
        chunks = [chunk for chunk in self.state.chunks if chunk.batch_id]
        return bool(self._in_flight() or self._provers()) and not any(
            self._scope and _scope_of(chunk) == self._scope for chunk in chunks
        )

    def _provers(self) -> list[Chunk]:
        """Return the newest chunks whose batches have ended and were not looked for in vain.

        A key of the right workspace can read them, unless somebody has deleted them.
        """
        by_state = self.state.by_state
        ended = [*by_state[_S.ENDED].values(), *by_state[_S.COLLECTED].values()]
        newest = sorted(ended, key=lambda each: -each.number)[:_MOST_PROVERS]
        return [chunk for chunk in newest if chunk.number not in self._not_found]

    def _submits(self) -> bool:
        return self.state.paused is None and not self.state.is_canceled

    def _is_blind(self) -> bool:
        return self.state.paused is not None and self.state.paused.reason in _BLIND

    def _plans(self) -> bool:
        return self._runs(Plan) or self._runs(PlanRetry)

    def _runs(self, kind: type[Spec]) -> bool:
        return any(isinstance(spec, kind) for spec in self._running.values())

    def _busy(self, kind: type[Spec]) -> set[int | None]:
        return {_chunk_of(spec) for spec in self._running.values() if isinstance(spec, kind)}

    def _known_ids(self, chunk: Chunk) -> tuple[str, ...]:
        """Return the batches of the chunk's size that are not its own, or are its earlier ones."""
        others = (
            batch_id
            for batch_id, number in self.state.batches.items()
            if self.state.chunks[number].count == chunk.count
        )
        return (*others, *chunk.foreign)

    def _done(self) -> Done:
        if self.state.is_finished:
            ending = Ending.CANCELED if self.state.is_canceled else Ending.FINISHED
        else:
            ending = Ending.PAUSED if self.state.paused is not None else Ending.DOUBTS
        return Done(ending=ending)

    # --- time --------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        self._now = max(self._now, now)
        if self._room < self.state.options.max_waiting and self._now >= self._room_until:
            self._change_room(self._room + self.state.options.chunk_rows)

    def _change_room(self, room: int) -> None:
        options = self.state.options
        self._room = max(min(room, options.max_waiting), 1)
        self._room_until = self._now + _GROWTH_INTERVAL
        self._news.append(RoomChanged(room=self._room))

    def _next_time(self) -> float | None:
        """Return when something can be chosen that `_choose` could not choose; None if never."""
        if self._is_blind():
            return None
        times = [*self._blocked]
        polls = self.state.by_state[_S.SUBMITTED] or self.state.by_state[_S.CANCELING]
        if polls:
            times.append(self._next_poll)
        if self._gathering_since is not None and self._submits():
            times.append(self._gathering_since + _GATHERING)
        if self._waits_for_room():
            times.append(self._room_until)
        return min((each for each in times if each > self._now), default=None)

    def _waits_for_room(self) -> bool:
        if self._room == self.state.options.max_waiting or not self._submits():
            return False
        return any(not self._has_room(chunk) for chunk in self._ready()[:1])

    def _may_run(self, spec: Spec) -> bool:
        backoff = self._backoffs.get(_key(spec))
        if backoff is None or self._now >= backoff.until:
            return True
        self._blocked.append(backoff.until)
        return False

    def _delay(self, spec: Spec, failure: Failure) -> None:
        backoff = self._backoffs.setdefault(_key(spec), _Backoff(since=self._now))
        delay = min(_FIRST_DELAY * 2.0**backoff.failures, _LONGEST_DELAY)
        delay = max(delay, failure.retry_after or 0.0)
        backoff.failures = min(backoff.failures + 1, 10)
        backoff.until = self._now + delay
        self._news.append(Trouble(chunk=_chunk_of(spec), message=failure.message, delay=delay))

    # --- what operations ended with ----------------------------------------------------------

    def _planned(self, spec: Plan, value: PlannedInput) -> None:
        if value.plan is not None:
            self._emit(value.plan)
        if value.ended:
            self._emit(InputEnded(rows=self.state.planned_rows))
        elif value.plan is None:
            raise LocalProtocolError(f"chunk {spec.chunk} has no rows, and the input has not ended")

    def _submit(
        self, number: int, batch: MessageBatch, *, adopted: bool, decided: bool = False
    ) -> None:
        chunk = self.state.chunks[number]
        if chunk.state is _S.PLANNED:
            # The driver let it leave without an intent. Its id must not be lost for that.
            self._emit(CreateIntended(chunk=number, marker=None))
        if chunk.state in {_S.INTENT, _S.DOUBT}:
            # What is known of an earlier batch of this chunk says nothing about this one.
            self._missing_since.pop(number, None)
            self._unlisted.discard(number)
            self._emit(
                Submitted(
                    chunk=number,
                    batch_id=batch.id,
                    created_at=batch.created_at,
                    expires_at=batch.expires_at,
                    adopted=adopted,
                    decided=decided,
                )
            )
        elif chunk.batch_id != batch.id:
            raise LocalProtocolError(f"chunk {number} is {chunk.state.value} and has another batch")

    def _is_open(self, spec: Settle) -> bool:
        """Whether the outcome is still unknown: a person can have decided meanwhile."""
        chunk = self.state.chunks[spec.chunk]
        return chunk.state in {_S.INTENT, _S.DOUBT} and chunk.marker == spec.marker

    def _adopt(self, spec: Settle, batch: MessageBatch, *, adopted: bool) -> None:
        if batch.id in self.state.batches or batch.id in self.state.chunks[spec.chunk].foreign:
            return
        if self._is_open(spec):
            self._submit(spec.chunk, batch, adopted=adopted)
        else:
            self._report_stray(spec.chunk, batch)

    def _polled(self, spec: Poll, value: PollResult) -> None:
        self._next_poll = self._now + self.state.options.poll_interval
        shown = {batch.id: batch for batch in value.batches}
        for batch_id in spec.batch_ids:
            number = self.state.batches.get(batch_id)
            if number is None:
                continue  # its results turned out to be foreign while the list was read
            if (batch := shown.get(batch_id)) is None:
                self._unlisted.add(number)
            else:
                self._unlisted.discard(number)
                self._seen(self.state.chunks[number], batch)
        self._look_for_strays(value)

    def _look_for_strays(self, value: PollResult) -> None:
        for chunk in self.state.by_state[_S.DOUBT].values():
            for batch in value.batches:
                known = {*self.state.batches, *chunk.candidates, *chunk.foreign}
                if batch.request_counts.total != chunk.count or batch.id in known:
                    continue
                if chunk.marker is not None and batch.id in chunk.marker.listed_ids:
                    continue
                self._report_stray(chunk.number, batch)

    def _report_stray(self, chunk: int, batch: MessageBatch) -> None:
        if batch.id not in self._strays:
            self._strays.add(batch.id)
            self._news.append(StraySeen(chunk=chunk, batch_id=batch.id))

    def _seen(self, chunk: Chunk, batch: MessageBatch) -> None:
        if batch.id != chunk.batch_id:
            return  # the chunk was lost and bought again while the list was read
        self._seen_scopes.add(_scope_of(chunk))
        self._is_unproven = False
        self._missing_since.pop(chunk.number, None)
        if batch.ended and chunk.state in {_S.SUBMITTED, _S.CANCELING}:
            counts = batch.request_counts
            self._emit(
                Ended(
                    chunk=chunk.number,
                    counts=Counts(
                        succeeded=counts.succeeded,
                        errored=counts.errored,
                        canceled=counts.canceled,
                        expired=counts.expired,
                    ),
                )
            )

    def _endpoint_is_missing(self, spec: Spec, failure: Failure) -> None:
        """Pause if a request to create or list gets a 404 too often to be a passing one."""
        backoff = self._backoffs.setdefault(_key(spec), _Backoff(since=self._now))
        if _endpoint(spec) in self._succeeded:
            is_passing_one = self._now < backoff.since + _MISSING
        else:
            is_passing_one = backoff.failures + 1 < _MOST_MISSING
        if is_passing_one:
            return
        url = f"the base URL {self._base_url}" if self._base_url else "the base URL"
        self._pause(
            # What can be listed can be collected.
            "refused" if "list" in self._succeeded else "base_url",
            f"{failure.message}; {url} is probably wrong: correct it, then run the job again",
        )

    def _is_missing(self, chunk: Chunk, failure: Failure) -> None:
        if self._is_unproven:
            self._not_found.add(chunk.number)
            if self._not_found >= self._in_flight().keys() and not self._provers():
                self._pause(
                    "credential",
                    f"this key did not open the job, and cannot read its batch {chunk.batch_id}: "
                    "use the key that opened it, or another of the same workspace",
                )
        since = self._missing_since.setdefault(chunk.number, self._now)
        if self._now >= since + _MISSING and chunk.state in {_S.SUBMITTED, _S.CANCELING}:
            self._lose(chunk, failure)

    def _lose(self, chunk: Chunk, failure: Failure) -> None:
        """Record that a batch is gone, unless the key may be that of another workspace."""
        if self._has_right_key(chunk):
            self._is_gone(chunk, failure)
        else:
            self._pause(
                "credential",
                f"batch {chunk.batch_id} cannot be read, nor any other that was created with the "
                "same key: use that key, or another of its workspace",
            )

    def _is_gone(self, chunk: Chunk, failure: Failure) -> None:
        """Record that a batch is lost, or open the doubt again if it may have been another's."""
        if not chunk.adopted or chunk.decided:
            self._emit(Lost(chunk=chunk.number, reason=failure.message))
            return
        # To buy a lost chunk again would buy it twice if its own batch is another one.
        self._emit(
            Doubted(
                chunk=chunk.number,
                reason=f"batch {chunk.batch_id}, which was found in the list, is gone before its "
                f"results could show whether it was this chunk's: {failure.message}",
                candidates=(chunk.batch_id, *chunk.other_candidates),
                needs_person=True,
            )
        )

    def _has_right_key(self, chunk: Chunk) -> bool:
        """Whether the key in use surely belongs to the workspace of a chunk's batch."""
        scope = _scope_of(chunk)
        if scope in self._seen_scopes or (scope != "" and scope == self._scope):
            return True
        # Without a scope, the batch was found for the job, and most keys never change.
        return scope == "" and self._same_key is True

    def _results_are_missing(self, chunk: Chunk, failure: Failure) -> None:
        if failure.meaning == "gone":
            self._is_gone(chunk, failure)
            return
        since = self._missing_since.setdefault(chunk.number, self._now)
        if self._now >= since + _MISSING:
            self._lose(chunk, failure)

    def _collected(self, spec: Collect, value: CollectResult) -> None:
        chunk = self.state.chunks[spec.plan.chunk]
        if value.is_foreign:
            self._is_foreign(chunk)
            return
        self._seen_scopes.add(_scope_of(chunk))
        retried: list[FailedRow] = []
        failed: list[FailedRow] = []
        for row in value.failed:
            is_again = self._is_sent_again(chunk, row)
            (retried if is_again else failed).append(row)
        if retried and self._gathering_since is None:
            self._gathering_since = self._now
        self._emit(
            Collected(
                chunk=chunk.number,
                answered=value.answered,
                retried=tuple(retried),
                failed=tuple(failed),
                usage=value.usage,
            )
        )
        self._check_failures(chunk, value.failed, failed)

    def _is_foreign(self, chunk: Chunk) -> None:
        """Open the doubt again: the results of the chunk's batch are those of other requests.

        A person decides. To look again would prove nothing, because the chunk's own batch can be
        one that another chunk of its size has adopted.
        """
        others = chunk.other_candidates
        candidates = others if chunk.adopted else (chunk.batch_id, *others)
        self._emit(
            Doubted(
                chunk=chunk.number,
                reason=f"the results of batch {chunk.batch_id} are those of other requests",
                candidates=candidates,
                needs_person=True,
            )
        )

    def _is_sent_again(self, chunk: Chunk, row: FailedRow) -> bool:
        if self.state.is_canceled or row.outcome == "canceled":
            return False
        if pause_of(row) is not None:
            return True
        return is_passing(row) and chunk.plan.round < self.state.options.rounds

    def _check_failures(
        self, chunk: Chunk, rows: tuple[FailedRow, ...], failed: list[FailedRow]
    ) -> None:
        for row in rows:
            if (reason := pause_of(row)) is not None:
                self._pause(reason, row.message)
                return
        kinds = Counter((row.type, row.message) for row in failed if row.outcome == "errored")
        if not kinds or chunk.count < _LEAST_FAILED:
            return
        (type_, message), count = kinds.most_common(1)[0]
        if count > _MOST_FAILED * chunk.count:
            self._pause(
                "failures",
                f"{count:,} of the {chunk.count:,} requests of chunk {chunk.number} failed for one "
                f"reason, {type_}: {message}; run the job again if the others are worth sending",
            )

    def _wait_to_create(self, failure: Failure) -> None:
        in_flight = (_S.INTENT, _S.SUBMITTED, _S.CANCELING, _S.ENDED)
        if any(self.state.by_state[state] for state in in_flight):
            self._waits = True
        else:
            self._pause("budget", failure.message)

    def _create_failed(self, chunk: Chunk, failure: Failure) -> None:
        if failure.meaning == "unknown":
            if chunk.state is _S.PLANNED:
                # The driver let it leave without an intent. It must not be created again for that.
                self._emit(CreateIntended(chunk=chunk.number, marker=failure.marker))
            self._doubt(chunk, failure)
            return
        if chunk.state is _S.INTENT:
            self._emit(Refused(chunk=chunk.number, reason=failure.message))
            if failure.meaning == "busy":
                self._change_room(max(self._room // 2, min(chunk.count, self._room)))

    def _settle_failed(self, chunk: Chunk, failure: Failure) -> None:
        if failure.meaning == "unknown":
            self._settle_failures[chunk.number] += 1
            # A new reason can be that the key is that of another workspace.
            is_new = failure.message != chunk.reason
            if failure.candidates or chunk.state is _S.INTENT or is_new:
                self._doubt(chunk, failure)

    def _doubt(self, chunk: Chunk, failure: Failure) -> None:
        self._emit(
            Doubted(
                chunk=chunk.number,
                reason=failure.message,
                marker=failure.marker,
                candidates=failure.candidates,
                needs_person=bool(failure.candidates) or not (failure.marker or chunk.marker),
            )
        )

    def _is_harmless(self, spec: Spec, failure: Failure) -> bool:
        """Whether nobody is needed: to cancel a batch that has just ended can be refused."""
        return isinstance(spec, Cancel) and failure.pause == "refused"

    def _pause(self, reason: PauseReason, message: str) -> None:
        if self.state.paused is None or (reason in _BLIND and not self._is_blind()):
            self._emit(Paused(reason=reason, message=message))
            self._news.append(JobPaused(reason=reason, message=message))

    # --- records -----------------------------------------------------------------------------

    def _emit(self, record: Record) -> None:
        self.state.apply(record)
        self._unpersisted.append(record)
        self._may_have_progress = True
        if isinstance(record, (Collected, Refused, Doubted, Lost)):
            self._waits = False
        if isinstance(record, ChunkPlanned) and record.rows and not self.state.waiting:
            self._gathering_since = None
        chunk = getattr(record, "chunk", None)
        if chunk is not None:
            state = self.state.chunks[chunk].state
            self._news.append(ChunkChanged(chunk=chunk, state=state.value))

    def _new_progress(self) -> Progress | None:
        """Return the counts of the job if they have changed since they were reported."""
        if not self._may_have_progress:
            return None
        self._may_have_progress = False
        before, self._progress = self._progress, progress_of(self.state)
        return None if self._progress == before else self._progress

    def _end(self, operation_id: int) -> tuple[Spec, bool]:
        """Return what an operation was to do, and whether it has reported its batch."""
        spec = self._spec(operation_id)
        del self._running[operation_id]
        has_reported = operation_id in self._reported
        self._reported.discard(operation_id)
        return spec, has_reported

    def _spec(self, operation_id: int) -> Spec:
        spec = self._running.get(operation_id)
        if spec is None:
            raise LocalProtocolError(f"no operation {operation_id} is running")
        return spec


#: What the operations that submit are named by; see `_key`.
_SUBMITTING = frozenset({"Create", "Plan", "PlanRetry"})


def _scope_of(chunk: Chunk) -> str:
    """Return the hash of the base URL, the workspace and the key of the chunk's create."""
    return "" if chunk.marker is None else chunk.marker.scope


def _endpoint(spec: Spec) -> str:
    """Name what an operation shows to be there if it succeeds."""
    return "list" if isinstance(spec, (Poll, Settle)) else type(spec).__name__


def _chunk_of(spec: Spec) -> int | None:
    match spec:
        case Create(plan=plan) | Collect(plan=plan):
            return plan.chunk
        case Poll():
            return None
        case _:
            return spec.chunk


def _key(spec: Spec) -> str:
    """Name what must wait if this operation fails: creates and polls are one queue each."""
    kind = type(spec).__name__
    return (
        kind if isinstance(spec, (Create, Poll, Plan, PlanRetry)) else f"{kind} {_chunk_of(spec)}"
    )
