"""The methods of every client, whatever transport carries it.

Each method builds an operation with `BatchesAPI`, and drives it. `driver` knows how.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from batches_core import (
    BatchesAPI,
    CreateMarker,
    DeletedMessageBatch,
    Done,
    MalformedResultError,
    Message,
    MessageBatch,
    Operation,
    OutcomeUnknownError,
    Page,
    PreparedRequests,
    RequestLike,
    RequestsSource,
    ResultItem,
    ResultsReceived,
)
from batches_core.lowlevel import IfUnknown, IfUnmarked, prepare
from transports._client.events import OnEvent, check_on_event
from transports._client.logs import logged
from transports._files.results_file import ResultsFile

from .driver import AsyncDriver, AsyncTransport
from .iterators import AsyncBatchIterator, AsyncResultsStream

T = TypeVar("T")
M = TypeVar("M")


class AsyncBatchesClientBase:
    """The methods of a client.

    `on_event` is called with each event as it happens: polls (`BatchState`), pages, retries and
    interruptions. Values are returned by the methods themselves.
    """

    def __init__(
        self,
        api: BatchesAPI,
        transport: AsyncTransport,
        on_event: OnEvent | None,
    ) -> None:
        self._api = api
        self._transport = transport
        self._on_event: OnEvent = logged(check_on_event(on_event))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._api.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def create(
        self,
        requests: Iterable[RequestLike] | RequestsSource | PreparedRequests,
        *,
        if_unknown: IfUnknown = "raise",
        if_unmarked: IfUnmarked = "raise",
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> MessageBatch:
        """Create a batch; see `BatchesAPI.create`.

        If it is interrupted (by a cancellation, Ctrl-C, or an `on_event` that raised), the error
        has ``created_batch`` or ``create_outcome``: see `CreateOperation.interrupt`.
        """
        operation = self._api.create(
            await self._prepare(requests),
            if_unknown=if_unknown,
            if_unmarked=if_unmarked,
            settle_time=settle_time,
            known_ids=known_ids,
        )
        try:
            return await self._run(operation)
        except BaseException as error:
            operation.interrupt(error, self._transport.now())
            raise

    async def settle(
        self,
        outcome: OutcomeUnknownError | CreateMarker,
        *,
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> MessageBatch | None:
        """Find out the outcome of a create whose response was lost; see `BatchesAPI.settle`."""
        return await self._run(
            self._api.settle(outcome, settle_time=settle_time, known_ids=known_ids)
        )

    def unfinished_creates(self) -> builtins.list[OutcomeUnknownError | MessageBatch]:
        """Return the outcomes of creates of this process whose call returned no batch.

        Each is an `OutcomeUnknownError` to settle, or the batch itself. Covers all clients of the
        same base URL, credential and workspace. Use it after a cancellation, whose error no caller
        sees.
        """
        return self._api.ledger.unfinished()

    async def get(self, batch: MessageBatch | str) -> MessageBatch:
        """Read a batch."""
        return await self._run(self._api.get(batch))

    async def cancel(self, batch: MessageBatch | str) -> MessageBatch:
        """Cancel a batch: ask the service to stop processing it."""
        return await self._run(self._api.cancel(batch))

    async def delete(self, batch: MessageBatch | str) -> DeletedMessageBatch:
        """Delete a batch that has ended."""
        return await self._run(self._api.delete(batch))

    async def list(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Page:
        """Read one page of batches; see `BatchesAPI.list`."""
        return await self._run(self._api.list(limit=limit, before_id=before_id, after_id=after_id))

    def list_all(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> AsyncIterator[MessageBatch]:
        """Iterate over all batches; each page is read when needed; see `BatchesAPI.list_all`."""
        operation = self._api.list_all(limit=limit, before_id=before_id, after_id=after_id)
        return AsyncBatchIterator(AsyncDriver(self._transport, operation), self._on_event)

    async def wait_for(
        self,
        batch: MessageBatch | str,
        *,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        max_outage: float = 600.0,
        until: Callable[[MessageBatch], bool] | None = None,
    ) -> MessageBatch:
        """Wait until a batch has ended; see `BatchesAPI.wait_for`."""
        return await self._run(
            self._api.wait_for(
                batch,
                poll_interval=poll_interval,
                timeout=timeout,
                max_outage=max_outage,
                until=until,
            )
        )

    @overload
    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> AsyncResultsStream[Message]: ...
    @overload
    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[M],
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> AsyncResultsStream[M]: ...
    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[Any] = Message,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> AsyncResultsStream[Any]:
        """Read the results as they arrive; see `BatchesAPI.results_stream`.

        ``async with client.results_stream(id) as stream: async for item in stream: …``. A line
        that cannot be read becomes a `MalformedResultError` among the items.
        """
        operation = self._api.results_stream(
            batch, message_type=message_type, resume=resume, expected=expected
        )
        driver = AsyncDriver(self._transport, operation)
        return AsyncResultsStream(driver, operation, self._on_event)

    @overload
    async def results(
        self,
        batch: MessageBatch | str,
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[Message] | MalformedResultError]: ...
    @overload
    async def results(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[M],
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[M] | MalformedResultError]: ...
    async def results(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[Any] = Message,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[Any] | MalformedResultError]:
        """Read all results into a list. `results_stream` holds only a few at a time."""
        async with self.results_stream(
            batch, message_type=message_type, resume=resume, expected=expected
        ) as stream:
            return [item async for item in stream]

    async def download(
        self,
        batch: MessageBatch | str,
        path: str | os.PathLike[str],
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> int:
        """Write the results to a file, line by line as they were received; return their number.

        They are in ``path.<batch id>.part`` until they are complete by the batch's counts; then the
        part is renamed. If the download fails, the part stays, and the same call continues there.
        No file is ever replaced: one that exists already is compared with the batch's results, line
        by line, and the call succeeds if it holds them all.

        Raises:
            InvalidInputError: the file exists and holds something else, or the part cannot be
                continued.
            OSError: the file cannot be written.
        """
        in_thread = self._transport.in_thread
        with ResultsFile(path, batch, max_line=self._api.max_line) as file:
            # A cancelled step still runs to its end, so the file is idle when the `with` closes it.
            await in_thread(file.open)
            operation = self._api.raw_results(
                batch, delivered=file.ids, resume=resume, expected=expected
            )
            driver = AsyncDriver(self._transport, operation)
            try:
                while not isinstance(event := await driver.next_event(), Done):
                    if isinstance(event, ResultsReceived):
                        await in_thread(partial(file.write, event.items))
                    else:
                        self._on_event(event)
            finally:
                await driver.aclose()
            return await in_thread(file.finish)

    async def _prepare(
        self, requests: Iterable[RequestLike] | RequestsSource | PreparedRequests
    ) -> PreparedRequests:
        if isinstance(requests, RequestsSource):
            # A source can block, as a file does.
            return await self._transport.in_thread(partial(prepare, requests))
        return prepare(requests)

    async def _run(self, operation: Operation[T]) -> T:
        driver = AsyncDriver(self._transport, operation)
        try:
            while not isinstance(event := await driver.next_event(), Done):
                self._on_event(event)
        finally:
            await driver.aclose()
        return event.value
