"""How far a job is, as a plain value that anybody can make from its records."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from .records import Paused, Usage
from .state import ChunkState, JobState

#: How long results can be downloaded after their batch was created, by the service's documentation.
RESULTS_KEPT = timedelta(days=29)


class DoubtStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of which nobody knows whether its batch exists."""

    chunk: int
    requests: int
    reason: str
    candidates: tuple[str, ...]
    needs_person: bool


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is; all counts are rows.

    - `rows`: those of the input, None while it is not read to its end; `planned`: those in chunks;
    - `answered`, `failed`, `lost`: those that need nothing more;
    - `in_flight`: those that may be in the service's queue; `ended`: those whose batch has ended;
    - `to_retry`: those that failed and wait to be sent again;
    - `expires_at`: when the next batch in flight expires;
    - `failures`: the failed rows by reason, the service's error type or else the outcome;
    - `collect_by`: until when the results of the oldest batch can be downloaded.
    """

    job_id: str
    rows: int | None
    planned: int
    answered: int
    in_flight: int
    ended: int
    to_retry: int
    failed: int
    lost: int
    chunks: dict[str, int]
    doubts: tuple[DoubtStatus, ...] = ()
    failures: dict[str, int] = {}
    usage: tuple[Usage, ...] = ()
    paused: Paused | None = None
    is_canceled: bool = False
    is_finished: bool = False
    expires_at: datetime | None = None
    collect_by: datetime | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job is, as news: the counts of `JobStatus`, and `doubts`, the chunks in doubt."""

    rows: int | None
    planned: int
    answered: int
    in_flight: int
    ended: int
    to_retry: int
    failed: int
    lost: int
    doubts: int
    usage: tuple[Usage, ...]
    expires_at: datetime | None
    collect_by: datetime | None


def progress_of(state: JobState) -> Progress:
    """Say how far a job is. This takes as long for a large job as for a small one."""
    oldest = state.oldest_created_at
    return Progress(
        rows=state.rows,
        planned=state.planned_rows,
        answered=state.answered,
        in_flight=state.in_flight,
        ended=state.rows_by_state[ChunkState.ENDED],
        to_retry=len(state.waiting),
        failed=len(state.failed),
        lost=state.rows_by_state[ChunkState.LOST],
        doubts=len(state.by_state[ChunkState.DOUBT]),
        usage=tuple(state.usage[key] for key in sorted(state.usage)),
        expires_at=state.expires_at,
        collect_by=None if oldest is None else oldest + RESULTS_KEPT,
    )


def job_status(state: JobState) -> JobStatus:
    """Say how far a job is."""
    by_state = state.by_state
    progress = progress_of(state)
    return JobStatus(
        job_id=state.job_id,
        rows=progress.rows,
        planned=progress.planned,
        answered=progress.answered,
        in_flight=progress.in_flight,
        ended=progress.ended,
        to_retry=progress.to_retry,
        failed=progress.failed,
        lost=progress.lost,
        chunks={each.value: len(chunks) for each, chunks in by_state.items() if chunks},
        doubts=tuple(
            DoubtStatus(
                chunk=chunk.number,
                requests=chunk.count,
                reason=chunk.reason,
                candidates=chunk.candidates,
                needs_person=chunk.needs_person,
            )
            for chunk in by_state[ChunkState.DOUBT].values()
        ),
        failures=dict(sorted(state.failures.items(), key=lambda each: -each[1])),
        usage=progress.usage,
        paused=state.paused,
        is_canceled=state.is_canceled,
        is_finished=state.is_finished,
        expires_at=progress.expires_at,
        collect_by=progress.collect_by,
    )
