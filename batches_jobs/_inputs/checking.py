"""Checks a whole input before a job on it begins, chunk by chunk, without copying it.

`jsonl` and `spooled` cut the chunks of a job.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from batches_core import MAX_BYTES, InvalidInputError, RequestLike, RequestProblem
from batches_core.jobs import ChunkPlanned, JobOptions, Plan, chunk_size

from .files import open_file
from .request_ids import RequestIds
from .source_cut import SourceCut
from .source_items import SourceItems
from .sources import LinesSource, Source

#: The job_id of the check. The chunks of the job have slightly other sizes.
_JOB_ID = "check"
#: How many problems are kept.
_KEPT = 100


def check_input(
    requests: str | os.PathLike[str] | Source,
    options: JobOptions,
    on_request: Callable[[RequestLike], object],
) -> Iterator[ChunkPlanned]:
    """Yield the chunks of an input, and call `on_request` with each of its requests.

    A path is a file of JSON lines.

    Raises:
        InvalidInputError: requests have problems. They are raised at the end of the input, except
            that a source that cannot be read further ends the check.
    """
    if isinstance(requests, Source):
        yield from _check(requests, options, on_request)
        return
    path = Path(requests)
    with open_file(path) as file:
        yield from _check(LinesSource(file, str(path)), options, on_request)


def _check(
    source: Source, options: JobOptions, on_request: Callable[[RequestLike], object]
) -> Iterator[ChunkPlanned]:
    items = SourceItems(source)
    ids = RequestIds(options.ids, _JOB_ID)
    problems: list[RequestProblem] = []
    omitted = chunk = row = 0
    is_last = False
    while not is_last:
        rows = chunk_size(_JOB_ID, chunk, options.chunk_rows)
        spec = Plan(chunk=chunk, first_row=row, start=0, rows=rows)
        cut = _Check(items, spec, ids, source=source, on_request=on_request)
        try:
            plan = cut.planned().plan
        except InvalidInputError as error:
            if error is items.failure:
                raise
            problems += error.problems
            omitted += error.omitted + max(0, len(problems) - _KEPT)
            del problems[_KEPT:]
        else:
            if plan is not None:
                yield plan
        row += max(1, cut.filler.count)
        chunk += 1
        is_last = cut.is_last
    if problems:
        raise InvalidInputError(*problems, omitted=omitted)


class _Check(SourceCut):
    """A chunk that is only checked."""

    def __init__(
        self,
        items: SourceItems,
        spec: Plan,
        ids: RequestIds,
        *,
        source: Source,
        on_request: Callable[[RequestLike], object],
    ) -> None:
        super().__init__(items, spec, ids, source=source, max_bytes=MAX_BYTES)
        self._on_request = on_request

    def keep(self, encoded: bytes) -> None:
        """See `SourceCut`."""
        self._on_request(encoded)

    def finish(self) -> tuple[int, str]:
        """See `Cut`."""
        return 0, ""
