"""A service for jobs without a network: it knows which batches there are, and who bought them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from batches_core import MessageBatch, RequestCounts
from batches_core.jobs import ChunkPlanned, FailedRow

EPOCH = datetime(2026, 5, 1, tzinfo=UTC)
#: For how many seconds a fresh batch, or fresh results, can give a 404.
FRESH = 300.0
#: After how many seconds at most a create arrives whose sender has given up.
LATEST = 60.0
CREDIT = "Your credit balance is too low"

#: How the requests of a batch can end, the best way first.
QUALITIES = ("answered", "mixed", "expired", "invalid", "credit")


def rows_of(plan: ChunkPlanned) -> tuple[int, ...]:
    return plan.rows or tuple(range(plan.first_row, plan.first_row + plan.count))


@dataclass
class Batch:
    """A batch, with the chunk that it was made for; a stranger's has none."""

    id: str
    total: int
    created: float
    plan: ChunkPlanned | None = None
    canceling: bool = False
    ended: float | None = None
    archived: bool = False
    failed: dict[int, FailedRow] = field(default_factory=dict)

    @property
    def chunk(self) -> int | None:
        return None if self.plan is None else self.plan.chunk

    def message(self) -> MessageBatch:
        """The batch as the service describes it."""
        created = EPOCH + timedelta(seconds=self.created)
        failed = [row.outcome for row in self.failed.values()]
        done = self.ended is not None
        counts = RequestCounts(
            processing=0 if done else self.total,
            succeeded=self.total - len(failed) if done else 0,
            errored=failed.count("errored"),
            canceled=failed.count("canceled"),
            expired=failed.count("expired"),
        )
        status = "ended" if done else "canceling" if self.canceling else "in_progress"
        return MessageBatch(
            id=self.id,
            processing_status=status,
            request_counts=counts,
            created_at=created,
            expires_at=created + timedelta(days=1),
            archived_at=created if self.archived else None,
        )


@dataclass
class Service:
    """All batches, in the order of their creation, and the creates that are still on their way."""

    now: float = 0.0
    batches: list[Batch] = field(default_factory=list)
    #: The creates that arrive later, although nobody waits for their answer: when, and of what.
    late: list[tuple[float, ChunkPlanned]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.0)
        arrived = [plan for at, plan in self.late if at <= self.now]
        self.late = [each for each in self.late if each[0] > self.now]
        for plan in arrived:
            self.make(plan.count, plan)

    def make(self, total: int, plan: ChunkPlanned | None = None) -> Batch:
        batch = Batch(f"msgbatch_{len(self.batches)}", total, self.now, plan)
        self.batches.append(batch)
        return batch

    def make_late(self, plan: ChunkPlanned) -> None:
        self.late.append((self.now + LATEST, plan))

    def of_chunk(self, chunk: int) -> list[Batch]:
        return [batch for batch in self.batches if batch.chunk == chunk]

    def is_on_its_way(self, chunk: int) -> bool:
        return any(plan.chunk == chunk for _, plan in self.late)

    def find(self, id_: str) -> Batch:
        return next(batch for batch in self.batches if batch.id == id_)

    def running(self) -> list[Batch]:
        return [batch for batch in self.batches if batch.ended is None]

    def end(self, batch: Batch, quality: str) -> None:
        """Process a batch to its end; a canceled one has processed every other request."""
        batch.ended = self.now
        if batch.plan is None:
            return
        for row in rows_of(batch.plan):
            if batch.canceling and row % 2:
                batch.failed[row] = FailedRow(row=row, outcome="canceled")
            elif (failed := _failed(row, quality)) is not None:
                batch.failed[row] = failed


def _failed(row: int, quality: str) -> FailedRow | None:
    match quality:
        case "mixed" if row % 3 == 0:
            return FailedRow(row=row, outcome="errored", type="api_error", message="again")
        case "mixed" if row % 7 == 0:
            return FailedRow(row=row, outcome="errored", type="invalid_request_error")
        case "expired" if row % 2:
            return FailedRow(row=row, outcome="expired")
        case "invalid":
            return FailedRow(row=row, outcome="errored", type="invalid_request_error")
        case "credit":
            return FailedRow(row=row, outcome="errored", type="x", message=CREDIT)
        case _:
            return None
