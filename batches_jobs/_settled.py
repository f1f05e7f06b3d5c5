"""Reads from a job's records what became of its rows, and which chunk settled each row.

`JobState` knows the states of the chunks. `_row_lines` joins the rows with their results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from batches_core.jobs import (
    Chunk,
    ChunkPlanned,
    ChunkState,
    Collected,
    FailedRow,
    JobState,
    Record,
)
from batches_core.lowlevel import quote

_NOT_SENT = "the job was canceled before this row was sent"


class RowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows of a job were answered, failed, were lost or are open.

    - `rows`: all rows of the input; None if it was not read to its end;
    - `planned`: the rows that were read, always ``answered + failed + lost + open``;
    - `answered`: the rows with an answer;
    - `failed`: the rows that failed for good, or were not sent before the job was canceled;
    - `lost`: the rows of batches whose results are no longer available;
    - `open`: the rows that are not settled yet;
    - `reasons`: the failed rows by the service's error type, or else by the outcome.
    """

    rows: int | None
    planned: int
    answered: int
    failed: int
    lost: int
    open: int
    reasons: dict[str, int]


class ChunkOutcome(msgspec.Struct):
    """The rows of a collected chunk that were not answered.

    `retried` are the rows that were sent again, or wait for that. `failed` are the rows that failed
    for good.
    """

    record: Collected
    retried: set[int]
    failed: dict[int, FailedRow]


class SettledRows:
    """What became of the rows of a job, according to its records.

    A chunk settles its rows when it is collected or lost, except the rows that are sent again. When
    a canceled job finishes, the rows that were not sent are settled as well: they have failed.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.state = JobState()
        #: The collected chunks by their number, in the order in which they were collected.
        self.outcomes: dict[int, ChunkOutcome] = {}
        for record in records:
            self.state.apply(record)
            if isinstance(record, Collected):
                self.outcomes[record.chunk] = ChunkOutcome(
                    record,
                    {each.row for each in record.retried},
                    {each.row: each for each in record.failed},
                )
        self._is_canceled = self.state.is_canceled and self.state.is_finished
        if self._is_canceled:
            self._fail_waiting()

    def is_settled(self, chunk: Chunk) -> bool:
        """Whether a chunk has settled its rows, except those that are sent again."""
        if chunk.state is ChunkState.PLANNED:
            return self._is_canceled
        return chunk.state in {ChunkState.COLLECTED, ChunkState.LOST}

    def is_retried(self, chunk: Chunk, row: int) -> bool:
        """Whether a row of a chunk was sent again, or waits for that."""
        outcome = self.outcomes.get(chunk.number)
        return outcome is not None and row in outcome.retried

    def failure(self, chunk: Chunk, row: int) -> FailedRow | None:
        """Return why a row that a chunk has settled was not answered; None if it was."""
        if chunk.state is ChunkState.COLLECTED:
            return self.outcomes[chunk.number].failed.get(row)
        if chunk.state is ChunkState.LOST:
            return FailedRow(row=row, outcome="lost", message=quote(chunk.reason))
        return FailedRow(row=row, outcome="canceled", message=_NOT_SENT)

    def failed_rows(self, chunk: Chunk) -> Sequence[int]:
        """Return the unanswered rows that a chunk has settled, in ascending order."""
        if chunk.state is ChunkState.COLLECTED:
            return sorted(self.outcomes[chunk.number].failed)
        return rows_of(chunk.plan) if self.is_settled(chunk) else ()

    def counts(self) -> RowCounts:
        """Count the rows."""
        reasons: Counter[str] = Counter()
        lost = unsent = 0
        for chunk in self.state.chunks:
            if chunk.state is ChunkState.LOST:
                lost += chunk.count
            elif chunk.state is ChunkState.COLLECTED:
                failures = self.outcomes[chunk.number].failed.values()
                reasons.update(each.type or each.outcome for each in failures)
            elif self.is_settled(chunk):
                unsent += chunk.count
        if unsent:
            reasons["canceled"] += unsent
        failed = reasons.total()
        planned, answered = self.state.planned_rows, self.state.answered
        return RowCounts(
            rows=self.state.rows,
            planned=planned,
            answered=answered,
            failed=failed,
            lost=lost,
            open=planned - answered - failed - lost,
            reasons=dict(reasons.most_common()),
        )

    def _fail_waiting(self) -> None:
        """Move the rows that wait to be sent again to the failed rows of their last chunk."""
        left = set(self.state.waiting)
        for outcome in reversed(self.outcomes.values()):
            rows = outcome.retried & left
            outcome.retried -= rows
            outcome.failed.update({row: self.state.waiting[row].row for row in rows})
            left -= rows


def rows_of(plan: ChunkPlanned) -> Sequence[int]:
    """Return the rows of a chunk, in ascending order."""
    return sorted(plan.rows) or range(plan.first_row, plan.first_row + plan.count)
