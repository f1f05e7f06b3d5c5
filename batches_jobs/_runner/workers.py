"""What differs between the async runner and the blocking one: tasks or threads.

`tools/unasync.py` makes the blocking runner from the async one. The two classes have the same
methods. `interrupts` holds back Ctrl-C while the blocking one runs.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from .interrupts import Interrupts

T = TypeVar("T")

#: Seconds that a run that was stopped waits for a create under way: longer than the default
#: timeout of a client, after which a create without a response ends by itself.
_CREATE_GRACE = 90.0
#: Seconds that it waits for everything else. Nothing is lost if that is left: it is done again.
_GRACE = 5.0


class StoppedError(Exception):
    """Ends an operation of a run that is stopping."""


class Workers:
    """Threads that run operations, and a lock for what they share with the main one.

    The threads are daemons, so a second Ctrl-C ends the process at once. A create that was under
    way is then settled by the next run.
    """

    def __init__(self) -> None:
        #: Held while the machine or the journal is used.
        self.turn = threading.RLock()
        #: A signal handler may put into this queue at any moment; a lock could be held by then.
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        #: Each thread, and whether it should not be left.
        self._threads: dict[threading.Thread, bool] = {}
        self._interrupts = Interrupts(self.wake)
        self._at_end: Callable[[], object] | None = None
        #: The first error that a worker raised.
        self.error: BaseException | None = None
        #: Whether workers should stop at their next event.
        self.is_stopping = False

    def __enter__(self) -> Self:
        self._interrupts.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.is_stopping = True
        self._interrupts.release()
        started = time.monotonic()
        for thread, must_end in [*self._threads.items()]:
            if must_end:
                thread.join(max(0.0, started + _CREATE_GRACE - time.monotonic()))
        started = time.monotonic()
        for thread in [*self._threads]:
            thread.join(max(0.0, started + _GRACE - time.monotonic()))
        if error is None:
            self._interrupts.check()

    def start(self, work: Callable[[], None], *, must_end: bool) -> None:
        """Run work in a thread of its own. If it `must_end`, a run that is stopped waits for it.

        The first error of any worker is kept as `error`.
        """

        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - the main thread raises it
                self.error = self.error or error
            finally:
                with self.turn:
                    del self._threads[thread]
                    self._finish()
                self.wake()

        thread = threading.Thread(target=run, name="batches-jobs", daemon=True)
        self._threads[thread] = must_end
        try:
            thread.start()
        except BaseException:
            del self._threads[thread]
            raise

    def finish(self, close: Callable[[], object]) -> None:
        """Call `close` when no worker runs any more: now, or at the end of the last one.

        A thread that was left can still send a create. While it does, nobody else may run the job.
        """
        with self.turn:
            self._at_end = close
            self._finish()

    def _finish(self) -> None:
        if (close := self._at_end) is not None and not self._threads:
            self._at_end = None
            close()

    def wake(self) -> None:
        """End the wait of the main thread."""
        self._wakeups.put(None)

    def wait(self, deadline: float | None) -> None:
        """Wait until a worker has ended or called `wake`, or until the deadline."""
        left = None if deadline is None else max(0.0, deadline - self.now())
        with contextlib.suppress(Empty):
            self._wakeups.get(timeout=left)
            while True:
                self._wakeups.get_nowait()

    def checkpoint(self) -> None:
        """Raise the `KeyboardInterrupt` that was held back, if there is one."""
        self._interrupts.check()

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        return time.monotonic()

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work in this very thread, which may block."""
        return work()


class AsyncWorkers:
    """Tasks of asyncio or trio that run operations.

    Only one task runs at a time, so nothing has to be locked. Leaving the workers cancels them,
    except that a create under way is given time to end.
    """

    def __init__(self) -> None:
        import anyio  # noqa: PLC0415 - only the async runner needs it

        self._anyio: Any = anyio
        #: There for the blocking twin, whose threads need a lock.
        self.turn = contextlib.nullcontext()
        self._wakeup = anyio.Event()
        self._group: Any = None
        #: The cancel scopes of what should not be left, each with the seconds that it is given.
        self._shields: dict[Any, float] = {}
        #: How many threads work, and what to call when the last one has ended.
        self._lock = threading.Lock()
        self._threads = 0
        self._at_end: Callable[[], object] | None = None
        #: The first error that a worker raised.
        self.error: BaseException | None = None
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
        for shield, grace in self._shields.items():
            shield.deadline = self.now() + grace
        # The group is not told of the error, which it would wrap in an exception group.
        await self._group.__aexit__(None, None, None)

    def start(self, work: Callable[[], Awaitable[None]], *, must_end: bool) -> None:
        """Run work in a task of its own. If it `must_end`, a run that is stopped waits for it.

        The first error of any worker is kept as `error`.
        """

        async def run() -> None:
            try:
                if must_end:
                    with self._shield(_CREATE_GRACE):
                        await work()
                else:
                    await work()
            except self._anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - the main task raises it
                self.error = self.error or error
            finally:
                self.wake()

        self._group.start_soon(run)

    @contextlib.contextmanager
    def _shield(self, grace: float) -> Iterator[Any]:
        """Keep a cancellation away, for some seconds after the workers have been stopped."""
        deadline = self.now() + grace if self.is_stopping else math.inf
        with self._anyio.CancelScope(shield=True, deadline=deadline) as scope:
            self._shields[scope] = grace
            try:
                yield scope
            finally:
                del self._shields[scope]

    def finish(self, close: Callable[[], object]) -> None:
        """Call `close` when no thread works any more: now, or at the end of the last one.

        No task runs any more when the workers have been left, but a thread that waits for the input
        can go on.
        """
        with self._lock:
            self._at_end = close
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            close = None if self._threads else self._at_end
            if close is not None:
                self._at_end = None
        if close is not None:
            close()

    def wake(self) -> None:
        """End the wait of the main task."""
        self._wakeup.set()

    async def wait(self, deadline: float | None) -> None:
        """Wait until a worker has ended or called `wake`, or until the deadline."""
        left = None if deadline is None else max(0.0, deadline - self.now())
        with self._anyio.move_on_after(left):
            await self._wakeup.wait()
        self._wakeup = self._anyio.Event()

    def checkpoint(self) -> None:
        """Do nothing: an interruption of a task is a cancellation."""

    def now(self) -> float:
        """Read the event loop's clock, in seconds."""
        return float(self._anyio.current_time())

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work beside the event loop, to its end.

        Raises:
            StoppedError: the workers were stopped, and the work had not ended after a grace.
        """

        def run() -> T:
            try:
                return work()
            finally:
                with self._lock:
                    self._threads -= 1
                self._finish()

        with self._lock:
            self._threads += 1
        with self._shield(_GRACE):
            result: T = await self._anyio.to_thread.run_sync(run, abandon_on_cancel=True)
            return result
        raise StoppedError
