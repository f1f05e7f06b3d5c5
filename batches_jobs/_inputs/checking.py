"""Checks a whole input before a job on it begins, chunk by chunk, without copying it.

`jsonl` and `spooled` cut the chunks of a job.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from batches_core import MAX_BYTES, InvalidInputError, RequestLike, RequestProblem
from batches_core.jobs import ChunkPlanned, JobOptions, Plan, chunk_size
from batches_core.lowlevel import NotEncodableError, encode_request

from .cut import Cut
from .files import open_file
from .request_ids import RequestIds
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
    items = _Items(source)
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
            items.check_readable(error)
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


class _Items:
    """The items of a source, one of which can be put back."""

    def __init__(self, source: Source) -> None:
        self._items = enumerate(source.read())
        self._pushed: tuple[int, tuple[int | None, RequestLike]] | None = None
        self._error: InvalidInputError | None = None
        self.position = 0

    def take(self) -> tuple[int, tuple[int | None, RequestLike]] | None:
        """Return the next item with its position; None after the last one."""
        item, self._pushed = self._pushed, None
        if item is None:
            try:
                item = next(self._items, None)
            except InvalidInputError as error:
                self._error = error
                raise
        if item is not None:
            self.position = item[0] + 1
        return item

    def push_back(self, item: tuple[int, tuple[int | None, RequestLike]]) -> None:
        """Put back an item. `take` returns it again."""
        self._pushed = item
        self.position = item[0]

    def check_readable(self, error: InvalidInputError) -> None:
        """Raise an error if it is the source's own: it cannot be read further."""
        if error is self._error:
            raise error


class _Check(Cut):
    """A chunk that is only checked."""

    def __init__(
        self,
        items: _Items,
        spec: Plan,
        ids: RequestIds,
        *,
        source: Source,
        on_request: Callable[[RequestLike], object],
    ) -> None:
        super().__init__(
            spec,
            ids,
            name=source.name,
            first=items.position,
            lines=source.lines,
            max_bytes=MAX_BYTES,
        )
        self._items = items
        self._on_request = on_request
        self._lines: list[int | None] = []

    def requests(self) -> Iterator[RequestLike]:
        """See `Cut`."""
        filler = self.filler
        while filler.count < filler.rows:
            item = self._items.take()
            if item is None:
                self.is_last = True
                return
            position, (line, request) = item
            self._lines.append(line)
            try:
                encoded: Any = encode_request(request, position)
            except NotEncodableError:
                encoded = None
            if not encoded:
                # A blank line is not a row. Any other item has a problem, which the checker finds.
                if encoded is None and not filler.add(0):
                    self._items.push_back(item)
                    return
                yield request
                continue
            sent = self.ids.as_sent(encoded, self.spec.first_row + filler.count)
            if not filler.add(len(sent)):
                self._items.push_back(item)
                return
            self._on_request(encoded)
            yield sent

    def finish(self) -> tuple[int, str]:
        """See `Cut`."""
        return 0, ""

    def explain(self, error: InvalidInputError) -> InvalidInputError:
        """Add the line to each problem that names the position of an item."""
        problems = [
            each
            if each.index is None
            else dataclasses.replace(each, line=self._lines[each.index - self.first])
            for each in error.problems
        ]
        return super().explain(InvalidInputError(*problems, omitted=error.omitted))
