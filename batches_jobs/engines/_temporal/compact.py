"""Shortens the records of a job, for a run that continues another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from batches_core import CreateMarker
from batches_core.jobs import ChunkState, CreateIntended, Doubted, JobState, Paused, Record, Resumed


def compact(records: Iterable[Record]) -> Iterator[Record]:
    """Yield the records without what matters no more: the lists in old markers, and old pauses.

    What they say of the job is the same.
    """
    records = [*records]
    state = JobState()
    state.apply_all(records)
    for record in records:
        if isinstance(record, Resumed) or (
            isinstance(record, Paused) and record is not state.paused
        ):
            continue
        if isinstance(record, (CreateIntended, Doubted)) and record.marker is not None:
            chunk = state.chunks[record.chunk]
            is_open = chunk.state in {ChunkState.INTENT, ChunkState.DOUBT}
            if not is_open or chunk.marker != record.marker:
                yield msgspec.structs.replace(record, marker=_short(record.marker))
                continue
        yield record


def _short(marker: CreateMarker) -> CreateMarker:
    return CreateMarker(
        requests=marker.requests,
        serial=marker.serial,
        scope=marker.scope,
        base_url=marker.base_url,
        workspace_id=marker.workspace_id,
    )
