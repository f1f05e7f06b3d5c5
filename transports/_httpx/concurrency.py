"""What differs between httpx's async client and its blocking one, beyond ``await``.

Time limits, threads, event loops, and how a response is closed. `tools/unasync.py` makes the
blocking transport from the async one; the two classes here have the same methods.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any, TypeVar

from batches_core import TransportError
from transports._client.asyncio_threads import HomeLoop, run_to_its_end
from transports._client.failures import TOO_LATE

from .progress import Progress
from .upload import InThread

T = TypeVar("T")

#: Seconds that closing a response may take: TLS says goodbye, and the peer may not reply.
_CLOSE_TIMEOUT = 5.0


class Concurrency:
    """A blocking client: its time limits are those of the library's own steps."""

    #: Reads a body that blocks; None if the library itself may block.
    body_thread: InThread | None = None

    def enter(self) -> None:
        """Do nothing: the connections belong to no event loop."""

    def can_close(self) -> bool:
        """Return True."""
        return True

    @contextmanager
    def limited(self, progress: Progress, deadline: float | None) -> Iterator[None]:
        """Limit the library's steps to a deadline.

        Raises:
            TransportError: it has passed.
        """
        progress.limit(deadline)
        yield

    def now(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in this very thread, which may block."""
        return work()

    def close(self, response: Any, chunks: Any) -> None:
        """Close a response."""
        del chunks
        response.close()


class AsyncConcurrency:
    """An async client, on asyncio or trio: its time limits are cancellations."""

    def __init__(self) -> None:
        self._anyio: Any = importlib.import_module("anyio")
        importlib.import_module("anyio.to_thread")
        self._home = HomeLoop()
        self.body_thread: InThread | None = self.in_thread

    def enter(self) -> None:
        """Check that the running loop is that of the first exchange.

        On trio connections belong to no run, and are used again in the next.

        Raises:
            LocalProtocolError: it is another loop.
        """
        self._home.enter(asyncio.get_running_loop() if self._is_asyncio() else "trio")

    def can_close(self) -> bool:
        """Whether connections can still be closed: their event loop has not ended."""
        if self._home.has_ended:
            return False
        self.enter()
        return True

    @contextmanager
    def limited(self, progress: Progress, deadline: float | None) -> Iterator[None]:
        """Cancel what is inside at a deadline.

        Raises:
            TransportError: the deadline has passed.
        """
        del progress
        if deadline is None:
            yield
            return
        with self._anyio.CancelScope(deadline=deadline) as scope:
            yield
        if scope.cancelled_caught:
            raise TransportError(TOO_LATE, sent=True)

    def now(self) -> float:
        """Read the event loop's clock."""
        return float(self._anyio.current_time())

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._anyio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end."""
        # A shield holds off a cancellation by anyio's scopes, but not `Task.cancel()`.
        with self._anyio.CancelScope(shield=True):
            if self._is_asyncio():
                return await run_to_its_end(work)
            result: T = await self._anyio.to_thread.run_sync(work)
            return result

    async def aclose(self, response: Any, chunks: Any) -> None:
        """Close a response and the generators that its body is read through."""
        # A cancelled task must close it too, so it is shielded; and it is bounded.
        with self._anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            try:
                await _close_generators(chunks)
            except RuntimeError:
                pass  # another task reads from it, and is woken by the next line
            finally:
                await response.aclose()

    def _is_asyncio(self) -> bool:
        return bool(self._anyio.get_cancelled_exc_class() is asyncio.CancelledError)


async def _close_generators(outer: AsyncGeneratorType[bytes, None]) -> None:
    """Close an async generator and those that it iterates over, from the innermost out.

    The libraries read a body through half a dozen nested generators. Closing one does not close the
    one inside: the garbage collector passes that to the event loop, and trio complains about it. An
    inner generator is on the stack of the outer one, where only the collector's view shows it.
    """
    for inner in gc.get_referents(outer):
        if isinstance(inner, AsyncGeneratorType):
            await _close_generators(inner)
    await outer.aclose()
