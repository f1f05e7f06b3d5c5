"""Cut one chunk off the input, and check that its requests can be sent.

`jsonl` and `source_cut` read the requests. `ChunkFiller` decides where the chunk ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from batches_core import InvalidInputError, RequestLike
from batches_core.jobs import ChunkFiller, ChunkPlanned, Plan, PlannedInput
from batches_core.lowlevel import RequestChecker

from .request_ids import RequestIds


class Cut(ABC):
    """A chunk that is being cut off the input.

    - `name`: the name of the input in errors;
    - `first`: the position of the chunk's first item in the whole input, from 0. An item is a
      request or a blank line;
    - `lines`: whether an item is a line of a file, so that problems name lines;
    - `max_bytes`: the limit of the body, in bytes.
    """

    def __init__(
        self, spec: Plan, ids: RequestIds, *, name: str, first: int, lines: bool, max_bytes: int
    ) -> None:
        self.spec = spec
        self.ids = ids
        self.name = name
        self.first = first
        self.filler = ChunkFiller(spec.rows, max_bytes)
        self.checker = RequestChecker(lines=lines, first=first)
        #: Whether the input was read to its end.
        self.is_last = False

    @abstractmethod
    def requests(self) -> Iterator[RequestLike]:
        """Read the items of the chunk: each request as it is sent, and each blank line."""

    @abstractmethod
    def finish(self) -> tuple[int, str]:
        """Return the end of the chunk's bytes, and their digest.

        It is called after all requests were read, if they have no problems.
        """

    def refuse(self, length: int, problem: str, index: int) -> bool:
        """Add a problem of a request of this many bytes; return False if it begins the next chunk.

        Yield an empty request instead of it.
        """
        if not self.filler.add(length):
            return False
        self.checker.count += 1
        self.checker.add(problem, index)
        return True

    def explain(self, error: InvalidInputError) -> InvalidInputError:
        """Return the error for problems of requests."""
        return self.ids.explain(error)

    def planned(self) -> PlannedInput:
        """Cut the chunk.

        Raises:
            InvalidInputError: requests have problems, or the whole input has none.
        """
        spec, filler = self.spec, self.filler
        for _ in self.checker.check(self.requests()):
            pass
        if not filler.count:
            if not spec.first_row:
                raise InvalidInputError(f"{self.name} has no requests: a job has at least one")
            return PlannedInput(plan=None, ended=True)
        try:
            self.checker.finish()
        except InvalidInputError as error:
            raise self.explain(error) from None
        end, digest = self.finish()
        plan = ChunkPlanned(
            chunk=spec.chunk,
            count=filler.count,
            first_row=spec.first_row,
            start=spec.start,
            end=end,
            content_length=filler.content_length,
            digest=digest,
        )
        return PlannedInput(plan=plan, ended=self.is_last)
