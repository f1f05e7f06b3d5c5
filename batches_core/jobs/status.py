"""How far a job is, as a plain value that anybody can make from its records."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from .records import FailedRow, Paused, Usage
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


def job_status(state: JobState) -> JobStatus:
    """Say how far a job is."""
    by_state = state.by_state
    in_flight = [
        chunk
        for each in (ChunkState.SUBMITTED, ChunkState.CANCELING)
        for chunk in by_state[each].values()
    ]
    ended = [*by_state[ChunkState.ENDED].values()]
    expiries = [chunk.expires_at for chunk in in_flight if chunk.expires_at is not None]
    created = [chunk.created_at for chunk in (*in_flight, *ended) if chunk.created_at is not None]
    return JobStatus(
        job_id=state.job_id,
        rows=state.rows,
        planned=state.planned_rows,
        answered=state.answered,
        in_flight=state.in_flight,
        ended=sum(chunk.count for chunk in ended),
        to_retry=len(state.waiting),
        failed=len(state.failed),
        lost=sum(chunk.count for chunk in by_state[ChunkState.LOST].values()),
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
        failures=_reasons(state.failed),
        usage=tuple(state.usage[key] for key in sorted(state.usage)),
        paused=state.paused,
        is_canceled=state.is_canceled,
        is_finished=state.is_finished,
        expires_at=min(expiries, default=None),
        collect_by=min(created) + RESULTS_KEPT if created else None,
    )


def _reasons(failed: dict[int, FailedRow]) -> dict[str, int]:
    """Count failed rows by reason: the service's error type, or else the outcome."""
    reasons: dict[str, int] = {}
    for row in failed.values():
        reason = row.type or row.outcome
        reasons[reason] = reasons.get(reason, 0) + 1
    return dict(sorted(reasons.items(), key=lambda each: -each[1]))
