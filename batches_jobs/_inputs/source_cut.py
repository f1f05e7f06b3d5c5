"""Cut one chunk off the items of a source."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator

from batches_core import InvalidInputError, RequestLike
from batches_core.jobs import Plan

from .cut import Cut
from .request_ids import RequestIds, TooDeepError
from .source_items import SourceItems
from .sources import Source


class SourceCut(Cut):
    """A chunk that is being cut off the items of a source."""

    def __init__(
        self, items: SourceItems, spec: Plan, ids: RequestIds, *, source: Source, max_bytes: int
    ) -> None:
        super().__init__(
            spec,
            ids,
            name=source.name,
            first=items.position,
            lines=source.lines,
            max_bytes=max_bytes,
        )
        self._items = items
        #: The line of each item, for the problems.
        self._lines: list[int | None] = []

    @abstractmethod
    def keep(self, encoded: bytes) -> None:
        """Take a request of the chunk: the caller's, as JSON on one line."""

    def requests(self) -> Iterator[RequestLike]:
        """See `Cut`."""
        filler = self.filler
        # No item is read ahead, because a source can be slow.
        while filler.count < filler.rows:
            if (item := self._items.take()) is None:
                self.is_last = True
                return
            self._lines.append(item.line)
            if not item.encoded:
                # A blank line is not a row. Any other item has a problem, which the checker finds.
                if item.encoded is None and not filler.add(0):
                    self._items.push_back(item)
                    return
                yield item.request
                continue
            try:
                request = self.ids.as_sent(item.encoded, self.spec.first_row + filler.count)
            except TooDeepError as error:
                if not self.refuse(len(item.encoded), error.problem, item.position):
                    self._items.push_back(item)
                    return
                yield b""
                continue
            if not filler.add(len(request)):
                self._items.push_back(item)
                return
            self.keep(item.encoded)
            yield request

    def explain(self, error: InvalidInputError) -> InvalidInputError:
        """Add the line to each problem that names the position of an item."""
        problems = [
            each
            if each.index is None
            else dataclasses.replace(each, line=self._lines[each.index - self.first])
            for each in error.problems
        ]
        return super().explain(InvalidInputError(*problems, omitted=error.omitted))
