"""Request bodies on their way out: cut into slices, and whether the last one was handed over.

Pure. How a slice is sent is the transports' and their libraries' concern.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from batches_core import Body

from .read_ahead import InThread

#: The most that is sent at once, in bytes. Time limits are counted per slice, so a slow connection
#: is seen to move; and a library that copies what is left of a slice copies little.
SLICE = 256 * 1024


def slices(body: Body) -> Iterator[bytes | memoryview]:
    """Cut a body into slices, uncopied."""
    for piece in body:
        if len(piece) <= SLICE:
            yield piece
        else:
            view = memoryview(piece)
            for start in range(0, len(view), SLICE):
                yield view[start : start + SLICE]


class Upload:
    """A body for a library that iterates over it, as often as it likes: each time from the start.

    Over HTTP/2 a library sends a request again that the peer said it had not processed.
    """

    def __init__(self, body: Body, in_thread: InThread | None = None) -> None:
        self._body = body
        #: What reads a body that blocks for an async library, as that of a file does.
        self._in_thread = in_thread if getattr(body, "blocks", False) else None
        #: Whether the last slice was ever handed over, so that all of the body may have left.
        self.is_whole = not body.content_length

    def __iter__(self) -> Iterator[bytes]:
        given = 0
        for part in slices(self._body):
            given += len(part)
            self.is_whole = self.is_whole or given >= self._body.content_length
            yield bytes(part)

    def __aiter__(self) -> AsyncSlices:
        return AsyncSlices(iter(self), self._in_thread)


class AsyncSlices:
    """The slices of one pass, to be awaited.

    It is no async generator: one that is not used up, because the peer answers early or not at
    all, is left to the event loop's garbage collector, and under trio that complains.
    """

    def __init__(self, parts: Iterator[bytes], in_thread: InThread | None) -> None:
        self._next = partial(next, parts, None)
        self._in_thread = in_thread

    def __aiter__(self) -> AsyncSlices:
        return self

    async def __anext__(self) -> bytes:
        read = self._next
        part = read() if self._in_thread is None else await self._in_thread(read)
        if part is None:
            raise StopAsyncIteration
        return part
