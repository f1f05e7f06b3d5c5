"""The input of a simulated job, and what the service makes of each row each time it is sent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgspec

from batches_core import SucceededResult
from batches_core.jobs import ChunkFiller, ChunkPlanned, Plan, PlannedInput, PlanRetry

#: What can become of a row when it is sent. The last fate of a row is repeated.
PASSING = ("api_error", "overloaded_error", "timeout_error", "rate_limit_error")
#: The messages that say that the account has no money; see `batches_core.jobs.failure`.
MONEY = {
    "credit": "Your credit balance is too low to access the API.",
    "usage": "You have reached your specified API usage limits.",
}
#: The text of an answer that the caller rejects.
_BAD = "bad"


def is_good(result: SucceededResult[Any]) -> bool:
    """The caller's check of an answer."""
    return bool(result.message.text != _BAD)


@dataclass
class Rows:
    """The rows of one job: their ids as they are sent, their lines, and their fates."""

    ids: list[str]
    fates: list[tuple[str, ...]]
    max_bytes: int
    lines: list[bytes] = field(default_factory=list)
    #: How often each row was answered, in any way.
    answers: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._rows = {custom_id: row for row, custom_id in enumerate(self.ids)}
        self.lines = [
            msgspec.json.encode(
                {
                    "custom_id": custom_id,
                    "params": {
                        "model": "gpt" if fates == ("invalid",) else "claude",
                        "max_tokens": 9,
                        "messages": [{"role": "user", "content": "x" * (row % 7)}],
                    },
                }
            )
            for row, (custom_id, fates) in enumerate(zip(self.ids, self.fates, strict=True))
        ]
        self._starts = [0]
        for line in self.lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def answer(self, custom_id: str) -> dict[str, Any]:
        """Build the next result of a row."""
        fates = self.fates[self._rows[custom_id]]
        fate = fates[min(self.answers[custom_id], len(fates) - 1)]
        self.answers[custom_id] += 1
        if fate in MONEY:
            return _error("invalid_request_error", MONEY[fate])
        if fate in {"ok", "bad"}:
            return _success(custom_id, "fine\né" if fate == "ok" else _BAD)
        return {"type": "expired"} if fate == "expired" else _error(fate, f"{fate} of {custom_id}")

    # --- what the operations of a job need ---------------------------------------------------

    def plan(self, spec: Plan) -> PlannedInput:
        """Cut the next chunk off the input."""
        filler = ChunkFiller(spec.rows, self.max_bytes)
        row = spec.first_row
        while row < len(self.lines) and filler.add(len(self.lines[row])):
            row += 1
        ended = row == len(self.lines)
        if row == spec.first_row:
            return PlannedInput(plan=None, ended=True)
        plan = ChunkPlanned(
            chunk=spec.chunk,
            count=row - spec.first_row,
            first_row=spec.first_row,
            start=spec.start,
            end=self._starts[row],
            content_length=filler.content_length,
        )
        return PlannedInput(plan=plan, ended=ended)

    def plan_retry(self, spec: PlanRetry) -> ChunkPlanned:
        """Gather failed rows into a chunk: as many as fit into a body."""
        filler = ChunkFiller(len(spec.rows), self.max_bytes)
        rows = []
        for row in spec.rows:
            if not filler.add(len(self.lines[row])):
                break
            rows.append(row)
        return ChunkPlanned(
            chunk=spec.chunk,
            count=len(rows),
            rows=tuple(rows),
            round=spec.round,
            content_length=filler.content_length,
        )

    def requests(self, plan: ChunkPlanned) -> list[bytes]:
        """Return the requests of a chunk."""
        return [self.lines[row] for row in rows_of(plan)]

    def ids_of(self, plan: ChunkPlanned) -> dict[str, int]:
        """Return the row of each custom_id of a chunk."""
        return {self.ids[row]: row for row in rows_of(plan)}


def rows_of(plan: ChunkPlanned) -> tuple[int, ...]:
    """Return the rows of a chunk."""
    return plan.rows or tuple(range(plan.first_row, plan.first_row + plan.count))


def _success(custom_id: str, text: str) -> dict[str, Any]:
    message = {
        "id": f"msg_{custom_id}",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5, "service_tier": "batch"},
    }
    return {"type": "succeeded", "message": message}


def _error(type_: str, message: str) -> dict[str, Any]:
    error = {"type": "error", "error": {"type": type_, "message": message}}
    return {"type": "errored", "error": {**error, "request_id": None}}
