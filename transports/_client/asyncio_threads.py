"""Run blocking work in asyncio's threads, and bind a client to one event loop.

On trio, the transports use trio's threads instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from batches_core import LocalProtocolError

from .settings import OTHER_LOOP

T = TypeVar("T")


async def run_to_completion(work: Callable[[], T]) -> T:
    """Run work in a thread of asyncio's executor. A cancellation is raised after the work ends."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # marks it as retrieved; otherwise asyncio logs an error of the work
        raise cancelled
    return future.result()


class HomeLoop:
    """The event loop of a client's first exchange, to which its connections belong."""

    def __init__(self) -> None:
        self._loop: object | None = None

    def enter(self, loop: object) -> None:
        """Check that `loop` is this one. The first call sets it.

        Raises:
            LocalProtocolError: it is another loop.
        """
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise LocalProtocolError(OTHER_LOOP)

    @property
    def has_ended(self) -> bool:
        """Whether the loop was closed. Its connections can no longer be closed then."""
        return isinstance(self._loop, asyncio.AbstractEventLoop) and self._loop.is_closed()
