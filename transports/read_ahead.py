"""A request body for async transports: a piece that blocks is read in a thread.

Knows bodies and how to run work in a thread; nothing of a network.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Self

from batches_core import Body

#: Runs blocking work beside the event loop, to its end.
InThread = Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]]


class ReadAhead:
    """One sending of a body, which holds the next piece as soon as `fetch` was awaited.

    To iterate over a body can block, as over that of a file, which says so by an attribute
    ``blocks = True``. Such a one is iterated over in threads.
    """

    def __init__(self, body: Body, in_thread: InThread) -> None:
        self.content_length = body.content_length
        self._next = partial(next, iter(body), None)
        self._in_thread = in_thread if getattr(body, "blocks", False) else None
        self._piece: bytes | None = None
        self._ended = False

    async def fetch(self) -> None:
        """Read the next piece, unless one is there; without waiting if the body cannot block."""
        read = self._next
        # An empty piece would give the reader nothing to send, and no reason to fetch another.
        while not self._piece and not self._ended:
            self._piece = read() if self._in_thread is None else await self._in_thread(read)
            self._ended = self._piece is None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece, self._piece = self._piece, None
        if piece is None:
            raise StopIteration
        return piece
