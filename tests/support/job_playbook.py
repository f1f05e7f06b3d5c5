"""Plays a job by hand: expected directives on one side, what its operations did on the other."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from batches_core import (
    APIStatusError,
    BatchCreated,
    BatchesError,
    CreateMarked,
    CreateMarker,
    Event,
    MessageBatch,
    OutcomeUnknownError,
    RequestCounts,
    ResultsUnavailableError,
    TransportError,
)
from batches_core.jobs import (
    BoughtAgain,
    CancelSent,
    ChunkChanged,
    ChunkPlanned,
    ChunkState,
    Collected,
    Counts,
    CreateIntended,
    Directive,
    Done,
    Doubted,
    Ended,
    Ending,
    FailedRow,
    Failure,
    Hold,
    Job,
    JobOpened,
    JobOptions,
    Lost,
    News,
    Outcome,
    Persist,
    Progress,
    Record,
    Refused,
    Report,
    Run,
    Spec,
    Submitted,
    Value,
    Wait,
)

D = TypeVar("D", bound=Directive)
N = TypeVar("N", bound=News)
S = TypeVar("S", bound=Spec)

JOB_ID = "job"
#: Rows of each chunk unless a test chooses another number. One per cent of it is less than a row,
#: so all chunks have this size.
ROWS = 10
#: When chunk 0 was created. Each later one was created a minute after the one before.
CREATED = datetime(2026, 5, 1, 21, 0, tzinfo=UTC)

# --- values ------------------------------------------------------------------------------


def plans(*counts: int) -> list[ChunkPlanned]:
    """The first chunks of the input, with these sizes. Each row has 100 bytes."""
    made: list[ChunkPlanned] = []
    row = 0
    for number, count in enumerate(counts):
        first, row = row, row + count
        made.append(
            ChunkPlanned(
                chunk=number, count=count, first_row=first, start=first * 100, end=row * 100
            )
        )
    return made


def batch_id(chunk: int) -> str:
    return f"msgbatch_{chunk}"


def batch(
    id_: str, total: int = ROWS, status: str = "in_progress", *, created: datetime = CREATED
) -> MessageBatch:
    ended = status == "ended"
    return MessageBatch(
        id=id_,
        processing_status=status,
        request_counts=RequestCounts(
            processing=0 if ended else total, succeeded=total if ended else 0
        ),
        created_at=created,
        expires_at=created + timedelta(days=1),
        ended_at=created + timedelta(hours=1) if ended else None,
    )


def batch_of(plan: ChunkPlanned, status: str = "in_progress") -> MessageBatch:
    """The batch that a chunk's create makes."""
    created = CREATED + timedelta(minutes=plan.chunk)
    return batch(batch_id(plan.chunk), plan.count, status, created=created)


def marker(plan: ChunkPlanned, *listed: str) -> CreateMarker:
    return CreateMarker(requests=plan.count, serial=plan.chunk, listed_ids=listed)


def status_error(
    status: int, type_: str | None = None, message: str = "no", **fields: Any
) -> APIStatusError:
    return APIStatusError.for_response(status, type_, message=message, **fields)


def not_found() -> APIStatusError:
    return status_error(404, "not_found_error")


def outage() -> TransportError:
    return TransportError("connection reset", sent=True)


def archived() -> ResultsUnavailableError:
    """The results of chunk 0 are not kept any more."""
    gone = batch("msgbatch_0", status="ended")
    return ResultsUnavailableError(msgspec.structs.replace(gone, archived_at=CREATED))


def unknown(plan: ChunkPlanned, *candidates: MessageBatch) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        "read timeout", requests=plan.count, marker=marker(plan), candidates=candidates
    )


def failed_row(
    row: int, type_: str = "api_error", message: str = "no", outcome: Outcome = "errored"
) -> FailedRow:
    return FailedRow(row=row, outcome=outcome, type=type_, message=message)


# --- records -----------------------------------------------------------------------------


def intended(plan: ChunkPlanned) -> CreateIntended:
    return CreateIntended(chunk=plan.chunk, marker=marker(plan))


def submitted(plan: ChunkPlanned) -> Submitted:
    made = batch_of(plan)
    return Submitted(
        chunk=plan.chunk,
        batch_id=made.id,
        created_at=made.created_at,
        expires_at=made.expires_at,
    )


def ended(plan: ChunkPlanned) -> Ended:
    return Ended(chunk=plan.chunk, counts=Counts(succeeded=plan.count))


def history(plan: ChunkPlanned, state: ChunkState) -> list[Record]:
    """The shortest way of a chunk from its plan to this state."""
    number = plan.chunk
    to_intent: list[Record] = [plan, intended(plan)]
    to_submitted = [*to_intent, submitted(plan)]
    to_ended = [*to_submitted, ended(plan)]
    ways: dict[ChunkState, list[Record]] = {
        ChunkState.NEW: [],
        ChunkState.PLANNED: [plan],
        ChunkState.INTENT: [*to_intent],
        ChunkState.DOUBT: [*to_intent, Doubted(chunk=number, reason="read timeout")],
        ChunkState.SUBMITTED: [*to_submitted],
        ChunkState.CANCELING: [*to_submitted, CancelSent(chunk=number)],
        ChunkState.ENDED: [*to_ended],
        ChunkState.COLLECTED: [*to_ended, Collected(chunk=number, answered=plan.count)],
        ChunkState.LOST: [*to_submitted, Lost(chunk=number, reason="archived")],
    }
    return ways[state]


def histories(chunks: Iterable[ChunkPlanned], state: ChunkState) -> list[Record]:
    return [record for plan in chunks for record in history(plan, state)]


def bought_again(plan: ChunkPlanned) -> list[Record]:
    return [*history(plan, ChunkState.LOST), BoughtAgain(chunk=plan.chunk)]


def refused(plan: ChunkPlanned) -> list[Record]:
    return [*history(plan, ChunkState.INTENT), Refused(chunk=plan.chunk, reason="429")]


# --- the play ----------------------------------------------------------------------------


class Started(Generic[S]):
    """An operation that the job has started, and that does what the test says."""

    def __init__(self, book: JobPlaybook, number: int, spec: S) -> None:
        self.book = book
        self.number = number
        self.spec = spec

    def event(self, event: Event) -> Hold | None:
        return self.book.job.event(self.number, event, self.book.now)

    def mark(self, plan: ChunkPlanned, *listed: str) -> None:
        """The create is about to be sent; the driver may go on once the intent is durable."""
        hold = self.event(CreateMarked(marker=marker(plan, *listed)))
        assert hold is not None
        self.book.expect_persist(CreateIntended, number=hold.number)

    def create(self, made: MessageBatch, *, adopted: bool = False) -> None:
        """The batch was created or found, and the operation ends with it."""
        hold = self.event(BatchCreated(batch=made, adopted=adopted))
        assert hold is not None
        self.book.expect_persist(Submitted, number=hold.number)
        self.succeed(made)

    def succeed(self, value: Value) -> None:
        self.book.job.succeeded(self.number, value, self.book.now)

    def fail(self, error: BatchesError | Failure) -> None:
        self.book.job.failed(self.number, error, self.book.now)


class JobPlaybook:
    """One job with a journal in memory, on a clock that moves only when told to.

    `records` are those after `JobOpened`. What changes about a chunk is gathered in `changes`,
    and the progress in `progress`. They are passed over where other directives are expected.
    """

    def __init__(
        self,
        *records: Record,
        now: float = 1000.0,
        scope: str = "",
        same_key: bool | None = None,
        base_url: str = "",
        **options: Any,
    ) -> None:
        chosen = JobOptions(**{"chunk_rows": ROWS, **options})
        self.journal: list[Record] = [JobOpened(job_id=JOB_ID, options=chosen), *records]
        self.changes: list[tuple[int, str]] = []
        self.progress: list[Progress] = []
        self.scope, self.same_key, self.base_url = scope, same_key, base_url
        self.restart(now)

    def restart(self, now: float) -> None:
        """A new process goes on with what the journal has; its clock shows anything."""
        self.now = now
        self.job = Job(
            self.journal, now, scope=self.scope, same_key=self.same_key, base_url=self.base_url
        )

    def next(self) -> Directive:
        while isinstance(directive := self.job.next(), Report):
            if isinstance(directive.news, ChunkChanged):
                self.changes.append((directive.news.chunk, directive.news.state))
            elif isinstance(directive.news, Progress):
                self.progress.append(directive.news)
            else:
                break
        return directive

    def expect(self, kind: type[D]) -> D:
        directive = self.next()
        assert isinstance(directive, kind), f"expected {kind.__name__}, got {directive!r}"
        return directive

    def expect_persist(self, *kinds: type[Record], number: int | None = None) -> tuple[Record, ...]:
        """The next directive is to persist records of these kinds; they become durable."""
        persist = self.expect(Persist)
        assert [type(record) for record in persist.records] == [*kinds], persist.records
        assert number is None or persist.number == number
        self.journal += persist.records
        self.job.persisted(persist.number, self.now)
        return persist.records

    def expect_record(self, record: Record) -> None:
        """The next directive is to persist exactly this record; it becomes durable."""
        assert self.expect_persist(type(record)) == (record,)

    def expect_run(self, kind: type[S]) -> Started[S]:
        run = self.expect(Run)
        assert isinstance(run.spec, kind), f"expected {kind.__name__}, got {run.spec!r}"
        return Started(self, run.operation_id, run.spec)

    def expect_idle(self) -> None:
        """Nothing is to be done until a running operation reports something."""
        assert self.expect(Wait).deadline is None

    def expect_wait(self, seconds: float) -> None:
        """The next directive is to wait so long; the clock is moved there."""
        deadline = self.expect(Wait).deadline
        assert deadline is not None
        assert deadline - self.now == seconds
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.job.handle_timeout(self.now)

    def expect_news(self, kind: type[N]) -> N:
        news = self.expect(Report).news
        assert isinstance(news, kind), f"expected {kind.__name__}, got {news!r}"
        return news

    def expect_done(self, ending: Ending) -> None:
        assert self.expect(Done).ending is ending

    def state_of(self, chunk: int) -> ChunkState:
        return self.job.state.chunks[chunk].state
