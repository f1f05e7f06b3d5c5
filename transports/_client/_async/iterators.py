"""The iterators that the client returns: over the results of a batch, and over the list.

They are not generators, for two reasons. A generator cannot continue after an error, such as a
cancellation, has passed through it: the next call ends the iteration as if it were complete. And
unfinished async generators are closed by the event loop, at a time that nobody controls.

`AsyncDriver` runs the operation. The client chooses the iterator.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from batches_core import (
    Done,
    LocalProtocolError,
    MalformedResultError,
    MessageBatch,
    Operation,
    PageReceived,
    ResultItem,
    ResultsReceived,
)
from transports._client.differences import AsyncDroppedStream
from transports._client.events import OnEvent

from .driver import AsyncDriver

M = TypeVar("M")


class AsyncResultsStream(AsyncDroppedStream, Generic[M]):
    """An iterator over the results of a batch as they arrive, and a context manager.

    Leaving the ``async with``, or calling `aclose`, closes the connection. Before that, iteration
    can continue after a ``break`` or an interruption, unless the interruption lost results. Then it
    raises `LocalProtocolError`.
    """

    def __init__(
        self, driver: AsyncDriver[None], operation: Operation[None], on_event: OnEvent
    ) -> None:
        self._driver = driver
        self._operation = operation
        self._on_event = on_event
        #: How many events this stream has received. If `Operation.handed_over` is higher, an
        #: interruption lost an event on its way here.
        self._received = 0
        self._block: Iterator[ResultItem[M] | MalformedResultError] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResultItem[M] | MalformedResultError:
        while True:
            for item in self._block:
                return item
            self._check_no_event_was_lost()
            event = await self._driver.next_event()
            if isinstance(event, Done):
                raise StopAsyncIteration
            if isinstance(event, ResultsReceived):
                self._block = iter(event.items)
                self._received += 1
            else:
                self._received += 1
                self._on_event(event)

    async def aclose(self) -> None:
        """Close the connection. Reading on raises `LocalProtocolError`."""
        self._block = iter(())
        await self._driver.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _check_no_event_was_lost(self) -> None:
        if self._operation.handed_over != self._received:
            raise LocalProtocolError(
                "this stream was interrupted while it received results, and some are missing: "
                "start it again"
            )


class AsyncBatchIterator:
    """An iterator over all batches. It requests each page when it is needed.

    No connection is in use between two pages.
    """

    def __init__(self, driver: AsyncDriver[None], on_event: OnEvent) -> None:
        self._driver = driver
        self._on_event = on_event
        self._page: Iterator[MessageBatch] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MessageBatch:
        while True:
            for batch in self._page:
                return batch
            event = await self._driver.next_event()
            if isinstance(event, Done):
                raise StopAsyncIteration
            if isinstance(event, PageReceived):
                self._page = iter(event.page.data)
            self._on_event(event)
