"""What the records of a job say: its chunks, the rows to send again, and whether it goes on.

`JobState.apply` is the only way in which a job's state changes. It knows the legal order of
records, `TRANSITIONS`. `machine` decides which record comes next.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from batches_core.errors import LocalProtocolError
from batches_core.marker import CreateMarker

from .failure import pause_of
from .records import (
    BoughtAgain,
    CancelAsked,
    CancelSent,
    ChunkPlanned,
    ChunkRecord,
    Collected,
    Counts,
    CreateIntended,
    Doubted,
    Ended,
    FailedRow,
    Finished,
    InputEnded,
    JobOpened,
    JobOptions,
    Lost,
    Outcome,
    Paused,
    Record,
    Refused,
    Resumed,
    Submitted,
    Usage,
    UsageKey,
)


class ChunkState(enum.Enum):
    """Where a chunk stands."""

    NEW = "not planned"
    PLANNED = "planned"
    INTENT = "being created"
    DOUBT = "in doubt"
    SUBMITTED = "in flight"
    CANCELING = "being canceled"
    ENDED = "ended"
    COLLECTED = "collected"
    LOST = "lost"


_S = ChunkState

#: Every legal transition of a chunk. Any other record is a bug, or a journal that was changed.
TRANSITIONS: dict[tuple[ChunkState, type[ChunkRecord]], ChunkState] = {
    (_S.NEW, ChunkPlanned): _S.PLANNED,
    (_S.PLANNED, CreateIntended): _S.INTENT,
    (_S.INTENT, Submitted): _S.SUBMITTED,
    (_S.INTENT, Refused): _S.PLANNED,
    (_S.INTENT, Doubted): _S.DOUBT,
    (_S.DOUBT, Doubted): _S.DOUBT,
    (_S.DOUBT, Submitted): _S.SUBMITTED,
    (_S.DOUBT, Refused): _S.PLANNED,
    (_S.SUBMITTED, CancelSent): _S.CANCELING,
    (_S.SUBMITTED, Ended): _S.ENDED,
    (_S.CANCELING, Ended): _S.ENDED,
    # An adopted batch is gone before its results could show whose it was.
    (_S.SUBMITTED, Doubted): _S.DOUBT,
    (_S.CANCELING, Doubted): _S.DOUBT,
    # The same, or its results show that it is another's.
    (_S.ENDED, Doubted): _S.DOUBT,
    (_S.ENDED, Collected): _S.COLLECTED,
    (_S.SUBMITTED, Lost): _S.LOST,
    (_S.CANCELING, Lost): _S.LOST,
    (_S.ENDED, Lost): _S.LOST,
    (_S.LOST, BoughtAgain): _S.PLANNED,
}

#: The states in which a chunk's rows may be in the service's queue.
IN_FLIGHT = frozenset({_S.INTENT, _S.DOUBT, _S.SUBMITTED, _S.CANCELING})
#: The states in which a batch can still expire, and those in which its results are still needed.
_EXPIRING = frozenset({_S.SUBMITTED, _S.CANCELING})
_COLLECTABLE = _EXPIRING | {_S.ENDED}
#: A time, a chunk and its batch.
_Timed: TypeAlias = tuple[datetime, int, str]
#: The states in which nothing more happens by itself.
AT_REST = frozenset({_S.COLLECTED, _S.LOST})


#: The outcomes of rows for which an answer may have been paid.
_MAY_BE_PAID: frozenset[Outcome] = frozenset({"rejected", "unreadable", "lost"})


@dataclass(slots=True)
class Chunk:
    """One chunk: its plan, and what is known of its batch."""

    plan: ChunkPlanned
    state: ChunkState = ChunkState.NEW
    marker: CreateMarker | None = None
    batch_id: str = ""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    #: Whether its batch was found in the list, and whether a person said that it is the chunk's.
    adopted: bool = False
    decided: bool = False
    #: Why it is in doubt or lost, or why its last create was refused.
    reason: str = ""
    candidates: tuple[str, ...] = ()
    needs_person: bool = False
    #: The other candidates of the doubt in which its batch was found, and the batches that turned
    #: out to be another's.
    other_candidates: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)
    answered: int = 0
    failed: int = 0
    retried: int = 0
    #: How often its batch was lost. Each of them may have been paid for.
    times_lost: int = 0
    #: The answers of its results that were paid for, and their input tokens, cached ones too.
    paid_answers: int = 0
    input_tokens: int = 0
    #: The rows whose answers may have been paid for, and whose tokens are not known.
    unknown_answers: int = 0

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return self.plan.chunk

    @property
    def count(self) -> int:
        """Its number of rows."""
        return self.plan.count


@dataclass(slots=True)
class Waiting:
    """A failed row that is sent again, in this round."""

    row: FailedRow
    round: int


class JobState:
    """The state of a job: everything that its records say."""

    def __init__(self) -> None:
        self.job_id = ""
        self.options = JobOptions()
        self.opened: JobOpened | None = None
        self.chunks: list[Chunk] = []
        #: The rows of the input that are in chunks, and the byte at which the next one begins.
        self.planned_rows = 0
        self.planned_bytes = 0
        #: The number of rows of the input, once it is known.
        self.rows: int | None = None
        #: The rows to send again that are in no chunk yet, by row.
        self.waiting: dict[int, Waiting] = {}
        #: The rows that failed for good, by row.
        self.failed: dict[int, FailedRow] = {}
        self.answered = 0
        self.usage: dict[UsageKey, Usage] = {}
        self.paused: Paused | None = None
        self.is_canceled = False
        self.is_finished = False
        #: The chunks by state, so that no step looks at all of them.
        self.by_state: dict[ChunkState, dict[int, Chunk]] = {state: {} for state in ChunkState}
        #: The number of rows of these chunks.
        self.rows_by_state: dict[ChunkState, int] = dict.fromkeys(ChunkState, 0)
        #: The rows that failed for good, by reason: the service's error type, or else the outcome.
        self.failures: dict[str, int] = {}
        #: Heaps of the chunks whose batches expire, and whose results must be collected, each with
        #: its time and batch. The first one is always up to date.
        self._expiring: list[_Timed] = []
        self._collectable: list[_Timed] = []
        #: The batches that are or were a chunk's.
        self.batches: dict[str, int] = {}

    def apply_all(self, records: Iterable[Record]) -> None:
        """Apply the records of a journal."""
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> None:
        """Apply the next record.

        Raises:
            LocalProtocolError: the record cannot follow those before it. The state is unchanged.
        """
        if (self.opened is None) != isinstance(record, JobOpened):
            raise LocalProtocolError(
                f"{_name(record)} cannot be a job's {'first' if not self.opened else 'next'} record"
            )
        match record:
            case JobOpened():
                self.opened = record
                self.job_id, self.options = record.job_id, record.options
            case InputEnded(rows=rows):
                self._check(record, rows == self.planned_rows and self.rows is None)
                self.rows = rows
            case Paused():
                self.paused = record
            case Resumed():
                self.paused = None
            case CancelAsked():
                self.is_canceled = True
            case Finished():
                self._check(record, self.is_at_rest())
                self.is_finished = True
            case ChunkPlanned():
                self._plan(record)
            case _:
                self._check(record, 0 <= record.chunk < len(self.chunks))
                self._move(self.chunks[record.chunk], record)

    def is_at_rest(self) -> bool:
        """Whether nothing is left to do: every row has its end, or the job was canceled."""
        at_rest = AT_REST | {ChunkState.PLANNED} if self.is_canceled else AT_REST
        is_read = self.is_canceled or (self.rows is not None and not self.waiting)
        return is_read and all(
            state in at_rest or not chunks for state, chunks in self.by_state.items()
        )

    @property
    def in_flight(self) -> int:
        """How many rows may be in the service's queue."""
        return sum(self.rows_by_state[state] for state in IN_FLIGHT)

    @property
    def expires_at(self) -> datetime | None:
        """When the next batch in flight expires."""
        return self._expiring[0][0] if self._expiring else None

    @property
    def oldest_created_at(self) -> datetime | None:
        """When the oldest batch was created that is in flight, or has ended and not more."""
        return self._collectable[0][0] if self._collectable else None

    def _plan(self, record: ChunkPlanned) -> None:
        self._check(record, record.chunk == len(self.chunks) and record.count > 0)
        if record.rows:
            self._check(record, len({*record.rows}) == len(record.rows) == record.count)
            self._check(record, all(row in self.waiting for row in record.rows))
            for row in record.rows:
                del self.waiting[row]
        else:
            self._check(record, record.first_row == self.planned_rows and self.rows is None)
            self.planned_rows += record.count
            self.planned_bytes = record.end
        chunk = Chunk(record)
        self.chunks.append(chunk)
        self._move(chunk, record)

    def _move(self, chunk: Chunk, record: ChunkRecord) -> None:  # noqa: C901 - one case a record
        state = TRANSITIONS.get((chunk.state, type(record)))
        if state is None:
            raise LocalProtocolError(
                f"chunk {record.chunk} is {chunk.state.value}: {_name(record)} cannot follow"
            )
        if isinstance(record, Collected):
            total = record.answered + len(record.retried) + len(record.failed)
            self._check(record, total == chunk.count)
        if self.by_state[chunk.state].pop(chunk.number, None) is not None:
            self.rows_by_state[chunk.state] -= chunk.count
        chunk.state = state
        self.by_state[state][chunk.number] = chunk
        self.rows_by_state[state] += chunk.count
        match record:
            case CreateIntended(marker=marker):
                chunk.marker = marker
            case Submitted():
                self._submit(chunk, record)
            case Refused(reason=reason):
                chunk.marker, chunk.reason = None, reason
                chunk.candidates, chunk.needs_person = (), False
            case Doubted():
                self._doubt(chunk, record)
            case Ended(counts=counts):
                chunk.counts = counts
            case Collected():
                self._collect(chunk, record)
            case Lost(reason=reason):
                chunk.reason = reason
                chunk.times_lost += 1
            case BoughtAgain():
                chunk.batch_id, chunk.reason, chunk.marker = "", "", None
                self.is_finished = False
            case _:
                pass  # ChunkPlanned and CancelSent change nothing but the state
        self._drop_past(self._expiring, _EXPIRING)
        self._drop_past(self._collectable, _COLLECTABLE)

    def _submit(self, chunk: Chunk, record: Submitted) -> None:
        chunk.batch_id, chunk.adopted = record.batch_id, record.adopted
        chunk.decided = record.decided
        chunk.created_at, chunk.expires_at = record.created_at, record.expires_at
        others = tuple(each for each in chunk.candidates if each != record.batch_id)
        chunk.candidates, chunk.other_candidates = (), others
        chunk.reason, chunk.needs_person = "", False
        self.batches[record.batch_id] = chunk.number
        heapq.heappush(self._expiring, (record.expires_at, chunk.number, record.batch_id))
        heapq.heappush(self._collectable, (record.created_at, chunk.number, record.batch_id))

    def _drop_past(self, heap: list[_Timed], states: frozenset[ChunkState]) -> None:
        """Drop batches from the top of a heap that are not in one of these states any more."""
        while heap:
            _, number, batch_id = heap[0]
            chunk = self.chunks[number]
            if chunk.state in states and chunk.batch_id == batch_id:
                return
            heapq.heappop(heap)

    def _doubt(self, chunk: Chunk, record: Doubted) -> None:
        self.batches.pop(chunk.batch_id, None)
        if chunk.batch_id and chunk.batch_id not in record.candidates:
            chunk.foreign += (chunk.batch_id,)
        chunk.batch_id, chunk.adopted, chunk.decided = "", False, False
        chunk.marker = record.marker or chunk.marker
        chunk.reason, chunk.candidates = record.reason, record.candidates
        chunk.needs_person = record.needs_person

    def _collect(self, chunk: Chunk, record: Collected) -> None:
        chunk.answered = record.answered
        chunk.retried, chunk.failed = len(record.retried), len(record.failed)
        self.answered += record.answered
        for row in record.retried:
            # A row that failed because the account had no money left has lost no round.
            spent = 0 if pause_of(row) is not None else 1
            self.waiting[row.row] = Waiting(row, chunk.plan.round + spent)
        for row in record.failed:
            self.failed[row.row] = row
            reason = row.type or row.outcome
            self.failures[reason] = self.failures.get(reason, 0) + 1
        for usage in record.usage:
            chunk.paid_answers += usage.answers
            chunk.input_tokens += usage.prompt_tokens
            self._add_usage(usage)
        may_have_answers = sum(
            row.outcome in _MAY_BE_PAID for row in (*record.retried, *record.failed)
        )
        unknown = record.answered + may_have_answers - chunk.paid_answers
        chunk.unknown_answers = max(0, unknown)

    def _add_usage(self, usage: Usage) -> None:
        was = self.usage.get(usage.key)
        self.usage[usage.key] = usage if was is None else was.plus(usage)

    def _check(self, record: Record, is_legal: bool) -> None:  # noqa: FBT001 - one question, one answer
        if not is_legal:
            raise LocalProtocolError(f"{_name(record)} does not fit the records before it")


def _name(record: Record) -> str:
    return type(record).__name__
