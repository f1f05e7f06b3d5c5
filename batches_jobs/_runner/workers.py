"""What differs between the async runner and the blocking one: tasks or threads.

`tools/unasync.py` makes the blocking runner from the async one. The two classes have the same
methods.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

#: Seconds that a blocking runner waits, when it is interrupted, for workers that must not be left.
_GRACE = 10.0


class Workers:
    """Threads that run operations, and a lock for what they share with the main one.

    The threads are daemons: an operation that is left in the middle costs nothing but time, because
    everything that it did is in the journal.
    """

    def __init__(self) -> None:
        #: Held while the machine or the journal is used.
        self.turn = threading.RLock()
        self._wakeup = threading.Event()
        self._threads: set[threading.Thread] = set()
        #: Whether workers should stop at their next event.
        self.is_stopping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_stopping = True
        deadline = time.monotonic() + _GRACE
        for thread in [*self._threads]:
            thread.join(max(0.0, deadline - time.monotonic()))

    def start(self, work: Callable[[], None]) -> None:
        """Run work in a thread of its own."""

        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(thread)
                self.wake()

        thread = threading.Thread(target=run, name="batches-jobs", daemon=True)
        self._threads.add(thread)
        thread.start()

    def wake(self) -> None:
        """End the wait of the main thread."""
        self._wakeup.set()

    def wait(self, deadline: float | None) -> None:
        """Wait until a worker has ended or called `wake`, or until the deadline."""
        left = None if deadline is None else max(0.0, deadline - self.now())
        self._wakeup.wait(left)
        self._wakeup.clear()

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        return time.monotonic()

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in this very thread, which may block."""
        return work()


class AsyncWorkers:
    """Tasks of asyncio or trio that run operations.

    Only one task runs at a time, so nothing has to be locked. Leaving the workers cancels them.
    """

    def __init__(self) -> None:
        import anyio  # noqa: PLC0415 - only the async runner needs it

        self._anyio: Any = anyio
        #: There for the blocking twin, whose threads need a lock.
        self.turn = _NoLock()
        self._wakeup = anyio.Event()
        self._group: Any = None
        self.is_stopping = False

    async def __aenter__(self) -> Self:
        self._group = self._anyio.create_task_group()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_stopping = True
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(kind, error, traceback)

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run work in a task of its own."""

        async def run() -> None:
            try:
                await work()
            finally:
                self.wake()

        self._group.start_soon(run)

    def wake(self) -> None:
        """End the wait of the main task."""
        self._wakeup.set()

    async def wait(self, deadline: float | None) -> None:
        """Wait until a worker has ended or called `wake`, or until the deadline."""
        left = None if deadline is None else max(0.0, deadline - self.now())
        with self._anyio.move_on_after(left):
            await self._wakeup.wait()
        self._wakeup = self._anyio.Event()

    def now(self) -> float:
        """Read the event loop's clock, in seconds."""
        return float(self._anyio.current_time())

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work beside the event loop, to its end."""
        with self._anyio.CancelScope(shield=True):
            result: T = await self._anyio.to_thread.run_sync(work)
        return result


class _NoLock:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass
