"""What the client's iterating methods return: the results of a batch, and the batches of a list.

Neither is an async generator: an interrupted generator ends without an error when it is asked for
the next item, and one that is dropped is left to the event loop's garbage collection.
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
    """The results of a batch, one by one as they arrive: an iterator and a context manager.

    Leaving the ``async with``, or `aclose`, closes its connection. A loop that was left can be
    continued, also after an interruption.
    """

    def __init__(
        self, driver: AsyncDriver[None], operation: Operation[None], on_event: OnEvent
    ) -> None:
        self._driver = driver
        self._operation = operation
        self._on_event = on_event
        #: How many events have arrived here, of those that the operation handed over.
        self._arrived = 0
        self._block: Iterator[ResultItem[M] | MalformedResultError] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ResultItem[M] | MalformedResultError:
        while True:
            for item in self._block:
                return item
            self._check_arrived()
            event = await self._driver.next_event()
            if isinstance(event, Done):
                raise StopAsyncIteration
            if isinstance(event, ResultsReceived):
                self._block = iter(event.items)
                self._arrived += 1
            else:
                self._arrived += 1
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

    def _check_arrived(self) -> None:
        if self._operation.handed_over != self._arrived:
            raise LocalProtocolError(
                "this was interrupted while it passed results on, and some are missing: start it "
                "again"
            )


class AsyncBatchIterator:
    """The batches of all pages, each page requested when it is needed.

    Nothing is open between two pages.
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
