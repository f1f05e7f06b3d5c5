"""Runs jobs in memory, with a real `Job` and real results files, and says what each row must be.

The service answers each row as a plan says. Time is virtual.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batches_core import (
    CreateMarked,
    CreateMarker,
    MessageBatch,
    RequestCounts,
    ResultsUnavailableError,
    SucceededResult,
)
from batches_core.jobs import (
    Cancel,
    ChunkPlanned,
    Collect,
    CollectResult,
    Counts,
    Create,
    Done,
    Job,
    JobOpened,
    JobOptions,
    Persist,
    Plan,
    PlannedInput,
    PlanRetry,
    Poll,
    PollResult,
    Record,
    Run,
    Spec,
    Value,
    Wait,
    job_tag,
    wire_id,
)
from batches_jobs._collect import collect

AT = datetime(2026, 11, 1, tzinfo=UTC)
JOB_ID = "job_1"
#: What an answer says if `is_good` rejects it.
BAD = "bad"

#: The number of a row, and how often it was sent before. Returns what the service makes of it.
Fate = Callable[[int, int], str]


def is_good(result: SucceededResult[Any]) -> bool:
    """Accept an answer unless its text is `BAD`."""
    return bool(result.message.text != BAD)


def usage(**changes: Any) -> dict[str, Any]:
    return {"input_tokens": 10, "output_tokens": 5, "service_tier": "batch", **changes}


def success(text: str = "fine", model: str = "claude-haiku-4-5", **changes: Any) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": usage(),
        **changes,
    }
    return {"type": "succeeded", "message": message}


def error(type_: str, message: str = "no") -> dict[str, Any]:
    inner = {"type": type_, "message": message}
    return {"type": "errored", "error": {"type": "error", "error": inner, "request_id": "req_1"}}


#: What each fate looks like on the wire.
RESULTS: dict[str, dict[str, Any]] = {
    "succeeded": success(),
    "rejected": success(BAD),
    "overloaded": error("overloaded_error"),
    "invalid": error("invalid_request_error"),
    "expired": {"type": "expired"},
    "canceled": {"type": "canceled"},
    "new": {"type": "postponed", "until": "tomorrow"},
}


def line(custom_id: str, result: Any) -> bytes:
    return json.dumps({"custom_id": custom_id, "result": result}).encode() + b"\n"


def result_line(custom_id: str, fate: str) -> bytes:
    """Return the line of a fate, with its line feed."""
    if fate == "unreadable":
        return b'{"custom_id": "%b", "result": 7}\n' % custom_id.encode()
    if fate == "garbled":
        return b'{"custom_id": "%b", "resu}\n' % custom_id.encode()
    return line(custom_id, RESULTS[fate])


def counts_of(fates: Mapping[int, str]) -> Counts:
    """Return the counts of a batch of these fates. Unreadable lines are of successes."""
    counts = dict.fromkeys(("succeeded", "errored", "canceled", "expired"), 0)
    types = {"overloaded": "errored", "invalid": "errored", "new": "errored"}
    for fate in fates.values():
        type_ = types.get(fate, fate)
        counts[type_ if type_ in counts else "succeeded"] += 1
    return Counts(**counts)


@dataclass
class Folder:
    """The folder of a job."""

    path: Path

    def raw(self, chunk: int) -> Path:
        return self.path / "raw" / f"{chunk:06}.jsonl"


@dataclass
class Rows:
    """An input of rows that are held in memory. `own` are their own custom_ids."""

    own: list[str | None]
    is_mapped: bool = False

    def sent_id(self, row: int) -> str:
        return wire_id(job_tag(JOB_ID), row) if self.is_mapped else str(self.own[row])

    def ids(self, plan: ChunkPlanned) -> dict[str, int]:
        return {self.sent_id(row): row for row in self._rows(plan)}

    def custom_ids(self, plan: ChunkPlanned) -> dict[int, str | None]:
        return {row: self.own[row] for row in self._rows(plan)}

    def _rows(self, plan: ChunkPlanned) -> tuple[int, ...]:
        return plan.rows or tuple(range(plan.first_row, plan.first_row + plan.count))


@dataclass
class JobRun:
    """One run of a job. `records` is its journal, and `fates` what became of each sent row."""

    folder: Folder
    rows: Rows
    fate: Fate
    options: JobOptions
    #: The chunks whose results cannot be had.
    lost: frozenset[int] = frozenset()
    #: Cancel the job when it has so many records.
    cancel_at: int | None = None
    records: list[Record] = field(default_factory=list)
    #: What became of each row of each chunk.
    fates: dict[int, dict[int, str]] = field(default_factory=dict)
    _sent: dict[int, int] = field(default_factory=lambda: defaultdict(int))

    def run(self) -> None:
        (self.folder.path / "raw").mkdir(parents=True, exist_ok=True)
        self.records.append(JobOpened(job_id=JOB_ID, options=self.options))
        now = 0.0
        job = Job(self.records, now)
        while True:
            if self.cancel_at is not None and len(self.records) >= self.cancel_at:
                job.cancel(now)
            match job.next():
                case Done():
                    return
                case Persist(number=number, records=records):
                    self.records.extend(records)
                    job.persisted(number, now)
                case Run(operation_id=operation_id, spec=spec):
                    self._operate(job, operation_id, spec, now)
                case Wait(deadline=deadline):
                    assert deadline is not None
                    now = deadline
                    job.handle_timeout(now)

    def _operate(self, job: Job, operation_id: int, spec: Spec, now: float) -> None:
        if isinstance(spec, Create):
            marker = CreateMarker(requests=spec.plan.count)
            job.event(operation_id, CreateMarked(marker=marker), now)
            persist = job.unpersisted
            assert persist is not None
            self.records.extend(persist.records)
            job.persisted(persist.number, now)
        if isinstance(spec, Collect) and spec.plan.chunk in self.lost:
            job.failed(operation_id, ResultsUnavailableError(_archived(spec.batch_id)), now)
        else:
            job.succeeded(operation_id, self._value(spec), now)

    def _value(self, spec: Spec) -> Value:
        match spec:
            case Plan():
                count = min(spec.rows, len(self.rows.own) - spec.first_row)
                plan = ChunkPlanned(chunk=spec.chunk, count=count, first_row=spec.first_row)
                is_last = spec.first_row + count == len(self.rows.own)
                return PlannedInput(plan=plan, ended=is_last)
            case PlanRetry():
                return ChunkPlanned(
                    chunk=spec.chunk, count=len(spec.rows), rows=spec.rows, round=spec.round
                )
            case Create():
                self._answer(spec.plan)
                return self._batch(f"b{spec.plan.chunk}")
            case Poll():
                ended = [self._batch(batch_id, ended=True) for batch_id in spec.batch_ids]
                return PollResult(batches=tuple(ended))
            case Cancel():
                return self._batch(spec.batch_id)
            case Collect():
                return self.collect(spec.plan, spec.counts)
            case _:
                raise AssertionError(spec)

    def collect(self, plan: ChunkPlanned, counts: Counts) -> CollectResult:
        ids = self.rows.ids(plan)
        return collect(self.folder.raw(plan.chunk), ids, counts, accept=is_good)

    def _answer(self, plan: ChunkPlanned) -> None:
        fates = {}
        for row in self.rows.custom_ids(plan):
            fates[row] = self.fate(row, self._sent[row])
            self._sent[row] += 1
        self.fates[plan.chunk] = fates
        # Not in the order of the requests.
        lines = [result_line(self.rows.sent_id(row), fate) for row, fate in fates.items()]
        self.folder.raw(plan.chunk).write_bytes(b"".join(lines[::-1]))

    def _batch(self, batch_id: str, *, ended: bool = False) -> MessageBatch:
        fates = self.fates[int(batch_id[1:])]
        counts = counts_of(fates)
        return MessageBatch(
            id=batch_id,
            processing_status="ended" if ended else "in_progress",
            request_counts=RequestCounts(
                succeeded=counts.succeeded,
                errored=counts.errored,
                canceled=counts.canceled,
                expired=counts.expired,
            )
            if ended
            else RequestCounts(processing=len(fates)),
            created_at=AT,
            expires_at=AT,
        )


def _archived(batch_id: str) -> MessageBatch:
    return MessageBatch(
        id=batch_id,
        processing_status="ended",
        request_counts=RequestCounts(),
        created_at=AT,
        expires_at=AT,
        archived_at=AT,
    )
