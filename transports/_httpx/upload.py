"""A request body in the form that httpx iterates over, and whether it was read to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from batches_core import Body
from transports._client.bodies import is_blocking, slices

#: Runs blocking work beside the event loop, to its end.
InThread = Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]]


class Upload:
    """A body that can be iterated over any number of times, each time from the start.

    Over HTTP/2 a library repeats a request that the peer said it had not processed. `in_thread`
    reads a body that blocks, such as a file's, for an async library.
    """

    def __init__(self, body: Body, in_thread: InThread | None = None) -> None:
        self._body = body
        self._in_thread = in_thread if is_blocking(body) else None
        #: Whether the last slice was ever read, so that all of the body may have left.
        self.is_whole = not body.content_length

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in slices(self._body):
            size += len(part)
            self.is_whole = self.is_whole or size >= self._body.content_length
            yield bytes(part)

    def __aiter__(self) -> AsyncSlices:
        return AsyncSlices(iter(self), self._in_thread)


class AsyncSlices:
    """The slices of one pass, awaited one by one.

    Not an async generator: one that is not read to its end, because the peer responds early, is
    left to the event loop's garbage collection, and trio complains about that.
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
