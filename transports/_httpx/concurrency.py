"""The differences between httpx's async client and its blocking one, other than ``await``.

These are time limits, threads, event loops, and the closing of a response. `tools/unasync.py`
generates the blocking transport from the async one, so both classes here have the same methods.
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
from transports._client.asyncio_threads import HomeLoop, run_to_completion
from transports._client.failures import TOO_LATE

from .progress import Progress
from .upload import InThread

T = TypeVar("T")

#: The longest time to close a response, in seconds. TLS sends a closing message, and the peer may
#: not reply to it.
_CLOSE_TIMEOUT = 5.0


class Concurrency:
    """For a blocking client. Time is limited by the timeouts of the library's steps."""

    #: Reads blocking bodies in a thread; None, because this client may block.
    body_thread: InThread | None = None

    def enter(self) -> None:
        """Do nothing. Connections do not belong to an event loop."""

    def can_close(self) -> bool:
        """Return True. Connections can always be closed."""
        return True

    @contextmanager
    def limited(self, progress: Progress, deadline: float | None) -> Iterator[None]:
        """Limit the library's steps to a deadline.

        Raises:
            TransportError: the deadline has passed.
        """
        progress.limit(deadline)
        yield

    def now(self) -> float:
        """Return the time of the monotonic clock, in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in this thread, because a blocking client may block."""
        return work()

    def close(self, response: Any, chunks: Any) -> None:
        """Close a response. The iterator over its body needs no closing."""
        del chunks
        response.close()


class AsyncConcurrency:
    """For an async client, on asyncio or trio. Time is limited by cancellation."""

    def __init__(self) -> None:
        self._anyio: Any = importlib.import_module("anyio")
        importlib.import_module("anyio.to_thread")
        self._home = HomeLoop()
        self.body_thread: InThread | None = self.in_thread

    def enter(self) -> None:
        """Check that the running event loop is the loop of the first exchange.

        All runs of trio count as one loop, because connections can be used in the next run.

        Raises:
            LocalProtocolError: it is another loop.
        """
        self._home.enter(asyncio.get_running_loop() if self._is_asyncio() else "trio")

    def can_close(self) -> bool:
        """Whether connections can still be closed: their event loop was not closed.

        Raises:
            LocalProtocolError: the running event loop is another one.
        """
        if self._home.has_ended:
            return False
        self.enter()
        return True

    @contextmanager
    def limited(self, progress: Progress, deadline: float | None) -> Iterator[None]:
        """Cancel the ``with`` block at a deadline.

        Raises:
            TransportError: the block was cancelled.
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
        """Return the time of the event loop's clock, in seconds."""
        return float(self._anyio.current_time())

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._anyio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end. A cancellation is raised only afterwards."""
        # The shield defers cancellations by anyio's scopes, but not by asyncio's `Task.cancel`.
        with self._anyio.CancelScope(shield=True):
            if self._is_asyncio():
                return await run_to_completion(work)
            result: T = await self._anyio.to_thread.run_sync(work)
            return result

    async def aclose(self, response: Any, chunks: Any) -> None:
        """Close a response, and the generators through which its body is read."""
        # The shield lets a cancelled task close it too. The time limit bounds the shield.
        with self._anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            try:
                await _close_generators(chunks)
            except RuntimeError:
                pass  # another task is reading through them; closing the response wakes it
            finally:
                await response.aclose()

    def _is_asyncio(self) -> bool:
        return bool(self._anyio.get_cancelled_exc_class() is asyncio.CancelledError)


async def _close_generators(outer: AsyncGeneratorType[bytes, None]) -> None:
    """Close an async generator and all generators that it iterates over, the innermost first.

    The libraries read a body through half a dozen nested generators. Closing one does not close the
    generator inside it. The garbage collector would pass that one to the event loop, and trio warns
    about it. The inner generator is on the evaluation stack of the outer one, so only the garbage
    collector's references lead to it.
    """
    for inner in gc.get_referents(outer):
        if isinstance(inner, AsyncGeneratorType):
            await _close_generators(inner)
    await outer.aclose()
