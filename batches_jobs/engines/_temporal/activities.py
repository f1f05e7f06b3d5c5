"""The activities of a worker: each runs one operation in a thread, and sends heartbeats meanwhile.

A heartbeat is a question to the server. Its answer says that the server still counts on this
attempt, which opens the fence for a while. `operations` carries out the operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import AsyncActivityCancelledError
from temporalio.service import RPCError, RPCStatusCode

from batches_core.jobs import Failure

from .fence import Fence, now
from .messages import Ran, Work, WriteWork
from .operations import Operations
from .payloads import pack, unpack

T = TypeVar("T")

#: How many heartbeats fit into the time for which one opens the fence.
_BEATS = 4
#: Seconds for which a create under way may end after its activity was canceled.
_GRACE = 90.0


class Activities:
    """The activities of one worker."""

    def __init__(self, operations: Callable[[], Operations]) -> None:
        self._make = operations
        self._made: Operations | None = None
        self._lock = threading.Lock()

    @property
    def all(self) -> list[Callable[..., Any]]:
        """What a worker is to be made with."""
        return [self.mark, self.create, self.operate, self.write]

    @activity.defn(name="batches.mark")
    async def mark(self, packed: Any) -> Any:
        """Read the marker of a create: nothing is sent before the workflow knows it."""
        work = unpack(packed, Work)
        return await self._run(lambda each, fence: each.mark(work, fence))

    @activity.defn(name="batches.create")
    async def create(self, packed: Any) -> Any:
        """Send a create once. The engine must never run this a second time."""
        work = unpack(packed, Work)
        return await self._run(lambda each, fence: each.create(work, fence), grace=_GRACE)

    @activity.defn(name="batches.operate")
    async def operate(self, packed: Any) -> Any:
        """Carry out any other operation. Each can be repeated."""
        work = unpack(packed, Work)
        return await self._run(lambda each, fence: each.run(work, fence))

    @activity.defn(name="batches.write")
    async def write(self, packed: Any) -> Any:
        """Write the output."""
        work = unpack(packed, WriteWork)
        return await self._run(lambda each, fence: each.write(work, fence))

    async def _run(self, work: Callable[[Operations, Fence], Any], *, grace: float = 0.0) -> Any:
        timeout = activity.info().heartbeat_timeout or timedelta(minutes=1)
        fence = Fence(timeout.total_seconds())
        async with _heartbeats(fence, timeout.total_seconds()):
            value = await _in_thread(lambda: work(self._operations(), fence), fence, grace)
        is_failure = isinstance(value, Failure)
        ran = Ran(failure=pack(value)) if is_failure else Ran(value=pack(value))
        return pack(ran)

    def _operations(self) -> Operations:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


@contextlib.asynccontextmanager
async def _heartbeats(fence: Fence, lasts: float) -> AsyncIterator[None]:
    """Confirm once that the server counts on this attempt, and keep on asking."""
    handle = activity.client().get_async_activity_handle(task_token=activity.info().task_token)
    interval = lasts / 2 / _BEATS

    async def beat() -> None:
        asked_at = now()
        try:
            await handle.heartbeat(rpc_timeout=timedelta(seconds=lasts / 2))
        except AsyncActivityCancelledError:
            fence.close()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                fence.close()
        else:
            fence.confirm(asked_at)

    async def keep_beating() -> None:
        while True:
            await asyncio.sleep(interval)
            await beat()

    await beat()
    task = asyncio.create_task(keep_beating())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _in_thread(work: Callable[[], T], fence: Fence, grace: float) -> T:
    """Run blocking work in a thread of its own.

    If the activity is canceled, the fence is closed, and work that may have an effect has time to
    end: its outcome is worth more than none.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            future.set_exception(error)

    threading.Thread(target=run, name="batches-activity", daemon=True).start()
    waiting = asyncio.wrap_future(future)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        fence.close()
        if not grace:
            waiting.add_done_callback(_ignore)
            raise
        done, _ = await asyncio.wait({waiting}, timeout=grace)
        if not done:
            raise
        return waiting.result()


def _ignore(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
