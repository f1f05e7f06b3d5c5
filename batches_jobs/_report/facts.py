"""Gathers the facts of a report from the records of a job. No results are read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

import msgspec

from batches_core.jobs import (
    BoughtAgain,
    ChunkPlanned,
    Collected,
    Ended,
    FailedRow,
    JobState,
    JobStatus,
    Lost,
    Record,
    Submitted,
    Usage,
    UsageKey,
    job_status,
)
from batches_jobs._settled import RowCounts, SettledRows


class Span(msgspec.Struct):
    """A time in the life of a chunk: ``waiting`` in the queue, ``download``, or ``lost``.

    `end` is None while it lasts.
    """

    kind: str
    start: datetime
    end: datetime | None = None


class ChunkLife(msgspec.Struct):
    """What a report says about one chunk."""

    number: int
    round: int
    rows: int
    state: str = ""
    batch_id: str = ""
    answered: int = 0
    retried: int = 0
    failed: int = 0
    spans: list[Span] = []


class ErrorKind(msgspec.Struct):
    """An error: how often it came up, in how many rows it was final, and one of its messages."""

    reason: str
    seen: int = 0
    final: int = 0
    example: str = ""


class RoundCounts(msgspec.Struct):
    """What became of the rows that were sent in one round. `round` 0 is the first attempt."""

    round: int
    answered: int = 0
    retried: int = 0
    failed: int = 0
    lost: int = 0
    open: int = 0

    @property
    def sent(self) -> int:
        """All rows of the round."""
        return self.answered + self.retried + self.failed + self.lost + self.open


class JobFacts(msgspec.Struct, kw_only=True):
    """All that a report says by the records of a job.

    `in_flight` are the rows in flight from each time on. `usage` are tokens by round. `start` is
    when the job was begun, and `last` is the time of the last record.
    """

    status: JobStatus
    counts: RowCounts
    start: datetime
    last: datetime
    limit: int
    chunks: list[ChunkLife]
    in_flight: list[tuple[datetime, int]]
    rounds: list[RoundCounts]
    errors: list[ErrorKind]
    usage: dict[int, list[Usage]]


def gather_facts(records: Sequence[Record], times: Sequence[datetime]) -> JobFacts:
    """Gather the facts. `times` has the time of each record."""
    state = JobState()
    state.apply_all(records)
    settled = SettledRows(records)
    chunks: list[ChunkLife] = []
    errors: dict[str, ErrorKind] = {}
    in_flight: list[tuple[datetime, int]] = [(times[0], 0)]
    usage: dict[int, list[Usage]] = defaultdict(list)
    # The clock of a machine can be set back. The charts need ascending times.
    now = times[0]
    for record, at in zip(records, times, strict=True):
        now = max(now, at)
        if isinstance(record, ChunkPlanned):
            chunks.append(ChunkLife(record.chunk, rows=record.count, round=record.round, spans=[]))
        elif isinstance(record, (Submitted, Ended, Lost, Collected, BoughtAgain)):
            life = chunks[record.chunk]
            change = _advance(life, record, now)
            if change:
                in_flight.append((now, in_flight[-1][1] + change))
            if isinstance(record, Collected):
                usage[life.round] += record.usage
                _count_errors(errors, record)
    rounds: dict[int, RoundCounts] = {}
    for chunk, life in zip(state.chunks, chunks, strict=True):
        life.state, life.batch_id = chunk.state.value, chunk.batch_id
        life.answered, life.retried, life.failed = chunk.answered, chunk.retried, chunk.failed
        _count_round(rounds.setdefault(life.round, RoundCounts(life.round)), life)
    return JobFacts(
        status=job_status(state),
        counts=settled.counts(),
        start=times[0],
        last=now,
        limit=state.options.max_waiting,
        chunks=chunks,
        in_flight=in_flight,
        rounds=[rounds[number] for number in sorted(rounds)],
        errors=sorted(errors.values(), key=lambda each: (-each.seen, each.reason)),
        usage={number: usage[number] for number in sorted(usage)},
    )


def _advance(life: ChunkLife, record: Record, at: datetime) -> int:
    """Add a record to the life of its chunk. Return how it changes the rows in flight."""
    open_span = life.spans[-1] if life.spans and life.spans[-1].end is None else None
    was_waiting = open_span is not None and open_span.kind == "waiting"
    match record:
        case Submitted():
            life.spans.append(Span("waiting", at))
            return life.rows
        case Ended():
            if open_span is not None:
                open_span.end = at
            life.spans.append(Span("download", at))
        case Lost():
            if open_span is not None:
                open_span.end, open_span.kind = at, "lost"
        case _:
            if open_span is not None:
                open_span.end = at
    return -life.rows if was_waiting else 0


def _count_errors(errors: dict[str, ErrorKind], record: Collected) -> None:
    def count(rows: Sequence[FailedRow], *, is_final: bool) -> None:
        for row in rows:
            reason = row.type or row.outcome
            kind = errors.setdefault(reason, ErrorKind(reason))
            kind.seen += 1
            kind.final += is_final
            kind.example = kind.example or row.message

    count(record.retried, is_final=False)
    count(record.failed, is_final=True)


def _count_round(counts: RoundCounts, life: ChunkLife) -> None:
    counts.answered += life.answered
    counts.retried += life.retried
    counts.failed += life.failed
    left = life.rows - life.answered - life.retried - life.failed
    if life.spans and life.spans[-1].kind == "lost":
        counts.lost += left
    else:
        counts.open += left


def sum_usage(usages: Sequence[Usage]) -> list[Usage]:
    """Add up tokens that have the same price."""
    sums: dict[UsageKey, Usage] = {}
    for usage in usages:
        was = sums.get(usage.key)
        sums[usage.key] = usage if was is None else was.plus(usage)
    return [sums[key] for key in sorted(sums)]
