"""Blocking work beside an asyncio event loop, and the loop that a client belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from batches_core import LocalProtocolError

from .settings import OTHER_LOOP

T = TypeVar("T")


async def run_to_its_end(work: Callable[[], T]) -> T:
    """Run work in a thread of asyncio's executor; a cancellation waits until the work has ended."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # retrieved, or asyncio reports it as lost
        raise cancelled
    return future.result()


class HomeLoop:
    """The event loop that a client's connections belong to: that of its first exchange."""

    def __init__(self) -> None:
        self._loop: object | None = None

    def enter(self, loop: object) -> None:
        """Check that the running loop is this one; the first call makes it so.

        Raises:
            LocalProtocolError: it is another loop.
        """
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise LocalProtocolError(OTHER_LOOP)

    @property
    def has_ended(self) -> bool:
        """Whether the loop was closed, so that no connection can be closed any more."""
        return isinstance(self._loop, asyncio.AbstractEventLoop) and self._loop.is_closed()
