"""The methods that all clients share, over any transport.

Each method makes an operation with `BatchesAPI`, and runs it with `driver`. A transport carries the
bytes.
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
    CreateOperation,
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
    """The methods of a client. `BatchesAPI` documents their arguments and errors in detail.

    - `api`: makes the operations.
    - `transport`: carries them out. The client closes it.
    - `on_event`: a function that is called with each event as it happens: polls (`BatchState`),
      pages, retries and interruptions. None to ignore them.

    In all methods, `batch` is a batch's id or a `MessageBatch`. Every method that sends requests
    can raise `TransportError`, `APIStatusError` and `RemoteProtocolError`, and
    `LocalProtocolError` if the client was closed.

    Raises:
        InvalidInputError: `on_event` cannot be called, or would have to be awaited.
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
        """Close every connection. Further calls do nothing."""
        await self._transport.aclose()

    @property
    def api(self) -> BatchesAPI:
        """What builds this client's operations, for use with `run`."""
        return self._api

    async def run(self, operation: Operation[T], on_event: OnEvent | None = None) -> T:
        """Run an operation of `api` and return its value.

        `on_event` is called with each event before the operation goes on, and the client's own
        after it. So what it does with a `CreateMarked` is done before the create can leave. If a
        create is interrupted, the error says what is known of its batch: see
        `CreateOperation.interrupt`.

        Raises:
            BatchesError: the operation failed.
        """
        try:
            return await self._drive(operation, on_event)
        except BaseException as error:
            # Also if closing the driver was interrupted, when the batch is known already.
            if isinstance(operation, CreateOperation):
                operation.interrupt(error, self._transport.now())
            raise

    async def create(
        self,
        requests: Iterable[RequestLike] | RequestsSource | PreparedRequests,
        *,
        if_unknown: IfUnknown = "raise",
        if_unmarked: IfUnmarked = "raise",
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> MessageBatch:
        """Create a batch, and return it. See `BatchesAPI.create` for the arguments.

        A call can be interrupted by a cancellation, by Ctrl-C, or by an `on_event` that raises. The
        error then has an attribute that says what is known: ``created_batch`` is the batch, and
        ``create_outcome`` is an `OutcomeUnknownError` to pass to `settle`. It has neither if
        nothing was created. See `CreateOperation.interrupt`.

        Raises:
            InvalidInputError: the requests have problems, or another argument is invalid.
            OutcomeUnknownError: it is unknown whether the batch exists; pass the error to `settle`.
        """
        return await self.run(
            self._api.create(
                await self._prepare(requests),
                if_unknown=if_unknown,
                if_unmarked=if_unmarked,
                settle_time=settle_time,
                known_ids=known_ids,
            )
        )

    async def settle(
        self,
        outcome: OutcomeUnknownError | CreateMarker,
        *,
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> MessageBatch | None:
        """Find out whether a create whose response was lost made a batch.

        Return the batch, or None if there is none. See `BatchesAPI.settle` for the arguments.

        Raises:
            InvalidInputError: the outcome cannot be settled with this client.
            OutcomeUnknownError: it is still unknown whether the batch exists.
        """
        return await self.run(
            self._api.settle(outcome, settle_time=settle_time, known_ids=known_ids)
        )

    def unfinished_creates(self) -> builtins.list[OutcomeUnknownError | MessageBatch]:
        """Return the batches that `create` has made, or may have made, without returning them.

        Each item is the batch if it is known, or an `OutcomeUnknownError` to settle. They come from
        all clients of this process with the same base URL, credential and workspace. Use this after
        a cancellation, because no caller receives the error of a cancelled call.
        """
        return self._api.ledger.unfinished()

    async def get(self, batch: MessageBatch | str) -> MessageBatch:
        """Read a batch, and return it."""
        return await self.run(self._api.get(batch))

    async def cancel(self, batch: MessageBatch | str) -> MessageBatch:
        """Ask the service to stop processing a batch, and return the batch.

        It may be ``canceling`` for some time; `wait_for` waits until it has ended.
        """
        return await self.run(self._api.cancel(batch))

    async def delete(self, batch: MessageBatch | str) -> DeletedMessageBatch:
        """Delete a batch that has ended, and return the deletion record."""
        return await self.run(self._api.delete(batch))

    async def list(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Page:
        """Read one page of batches, and return it. See `BatchesAPI.list` for the arguments."""
        return await self.run(self._api.list(limit=limit, before_id=before_id, after_id=after_id))

    def list_all(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> AsyncIterator[MessageBatch]:
        """Return an iterator over all batches, which reads each page when it is needed.

        See `BatchesAPI.list_all` for the arguments.
        """
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
        """Poll a batch until it has ended, and return it.

        See `BatchesAPI.wait_for` for the arguments.

        Raises:
            WaitTimeoutError: the batch had not ended after `timeout` seconds.
        """
        return await self.run(
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
        """Return an iterator over the results of a batch, which reads them as they arrive.

        ``async with client.results_stream(id) as stream: async for item in stream: …``

        A line that cannot be read becomes a `MalformedResultError` among the items. See
        `BatchesAPI.results_stream` for the arguments and errors.
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
        """Read all results of a batch, and return them as a list.

        The whole list is in memory; `results_stream` keeps only a few items at a time. See
        `BatchesAPI.results_stream` for the arguments and errors.
        """
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
        on_event: OnEvent | None = None,
    ) -> int:
        """Write the results of a batch to a file, and return the number of its lines.

        Lines are written unchanged, as they are received, to ``path.<batch id>.part``. This part is
        renamed to ``path`` once it holds as many results as the batch's counts say. If the download
        fails, the part stays, and the same call continues it.

        No file is ever replaced. If ``path`` exists already, it is compared with the results, line
        by line. The call succeeds if the file holds exactly the results.

        `on_event` is called with each event, also with each `ResultsReceived` before it is written.
        If it raises, the download ends and the part stays.

        See `BatchesAPI.results_stream` for the other arguments and errors.

        Raises:
            InvalidInputError: ``path`` exists and holds something else, or the part cannot be
                continued.
            MalformedResultError: a line is longer than ``max_line``. The other lines are kept.
            OSError: the file cannot be read or written.
        """
        in_thread = self._transport.in_thread
        with ResultsFile(path, batch, max_line=self._api.max_line) as file:
            # A cancelled call of `in_thread` ends only after its work has ended, so no thread uses
            # the file when the `with` statement closes it.
            await in_thread(file.open)
            operation = self._api.raw_results(
                batch, delivered=file.ids, resume=resume, expected=expected
            )
            driver = AsyncDriver(self._transport, operation)
            try:
                while not isinstance(event := await driver.next_event(), Done):
                    if on_event is not None:
                        on_event(event)
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
            # A source may block, for example to read a file.
            return await self._transport.in_thread(partial(prepare, requests))
        return prepare(requests)

    async def _drive(self, operation: Operation[T], on_event: OnEvent | None) -> T:
        driver = AsyncDriver(self._transport, operation)
        try:
            while not isinstance(event := await driver.next_event(), Done):
                if on_event is not None:
                    on_event(event)
                self._on_event(event)
        finally:
            await driver.aclose()
        return event.value
