"""Present a request body to httpx, and record whether it was read to its end.

`bodies` cuts it into slices. `progress` uses the record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from batches_core import Body
from transports._client.bodies import is_blocking, slices

#: Runs blocking work to its end, without blocking the event loop.
InThread = Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]]


class Upload:
    """A body that httpx can iterate over any number of times, each time from the start.

    Over HTTP/2, httpx repeats a request if the peer says that it has not processed it. `in_thread`
    reads a blocking body, such as a file's, in a thread; None for a blocking client.
    """

    def __init__(self, body: Body, in_thread: InThread | None = None) -> None:
        self._body = body
        self._in_thread = in_thread if is_blocking(body) else None
        #: Whether the last slice was read at least once, so that the whole body may have left.
        self.was_read_to_end = not body.content_length

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in slices(self._body):
            size += len(part)
            self.was_read_to_end = self.was_read_to_end or size >= self._body.content_length
            yield bytes(part)

    def __aiter__(self) -> AsyncSlices:
        return AsyncSlices(iter(self), self._in_thread)


class AsyncSlices:
    """An async iterator over the slices of a body, for one iteration.

    It is not an async generator. If the peer responds early, the iteration does not reach its end.
    The event loop would then close the generator at a later time, and trio warns about that.
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
