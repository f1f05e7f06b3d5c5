"""The async client: the drive loop and the methods, once for every async transport.

The awaited twin of `sync_client`, on any event loop: loop, sleep and clock are the transport's.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from batches_core import (
    BatchesAPI,
    CreateMarker,
    DeletedMessageBatch,
    Done,
    Event,
    LocalProtocolError,
    MalformedResultError,
    Message,
    MessageBatch,
    Need,
    Operation,
    OutcomeUnknownError,
    Page,
    PageReceived,
    PreparedRequests,
    RawHeaders,
    Request,
    RequestLike,
    RequestsSource,
    ResultItem,
    ResultsReceived,
    SendRequest,
    TransportError,
    WaitUntil,
)
from batches_core.lowlevel import IfUnknown, IfUnmarked, prepare

from .logs import logged
from .results_file import ResultsFile
from .settings import (
    OnEvent,
    check_arrived,
    check_on_event,
)

T = TypeVar("T")
M = TypeVar("M")


class AsyncResponse(Protocol):
    """A response that has begun: its head, and its body as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> RawHeaders:
        """The header pairs."""
        ...

    async def read(self, deadline: float | None) -> bytes:
        """Give the next bytes of the body, decoded; none at its end.

        Raises:
            TransportError: the body broke off, or nothing came by the deadline.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the connection, whether the body was read or not; again is harmless."""
        ...


class AsyncTransport(Protocol):
    """What carries an exchange, with a clock; a deadline is a time of that clock, or None."""

    async def send(self, request: Request, deadline: float | None) -> AsyncResponse:
        """Send a request and wait for the head of its response.

        Raises:
            TransportError: there is no response, or none by the deadline; its `sent` tells whether
                there could have been.
        """
        ...

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work beside the event loop, to its end.

        A cancellation meanwhile is raised only afterwards, so that nothing that the work uses is
        closed under it.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; again is harmless."""
        ...


class AsyncDriver(Generic[T]):
    """Carries out one operation's directives, and hands out its events."""

    def __init__(self, transport: AsyncTransport, operation: Operation[T]) -> None:
        self._transport = transport
        self._operation = operation
        self._response: AsyncResponse | None = None
        self._exchange = 0
        self._closed = False

    async def next_event(self) -> Event | Done[T]:
        """Go on to the next event or the end; whatever goes wrong closes the response.

        Raises:
            LocalProtocolError: the drive was closed.
        """
        self._check_open()
        if not self._exchange:
            # Timeouts count from the first use, not from when it was made.
            self._operation.handle_timeout(self._transport.now())
        try:
            while True:
                match self._operation.next_event():
                    case Need.DATA:
                        await self._read()
                        self._check_open()
                    case SendRequest(exchange=exchange, request=request):
                        await self._release()
                        await self._send(exchange, request)
                        self._check_open()
                    case WaitUntil(deadline=deadline):
                        await self._release()
                        await self._transport.sleep(max(0.0, deadline - self._transport.now()))
                        self._operation.handle_timeout(self._transport.now())
                    case Done() as done:
                        await self._release()
                        return done
                    case event:
                        return event
        except BaseException:
            # The operation may be asked to go on: a time limit on one item is no end.
            if self._exchange:
                now = self._transport.now()
                self._operation.connection_lost(self._exchange, "interrupted", now, sent=True)
            await self._release()
            raise

    async def aclose(self) -> None:
        """Stop where it is; close the response that is under way, if one is."""
        self._closed = True
        await self._release()

    def _check_open(self) -> None:
        # Also after each await: another task may have closed this meanwhile.
        if self._closed:
            raise LocalProtocolError("this was closed before its end: start it again")

    async def _release(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.aclose()

    async def _send(self, exchange: int, request: Request) -> None:
        self._exchange = exchange
        try:
            self._response = response = await self._transport.send(
                request, self._operation.deadline
            )
        except TransportError as error:
            self._lost(error)
        else:
            now = self._transport.now()
            self._operation.receive_head(exchange, response.status, response.headers, now)

    async def _read(self) -> None:
        if self._response is None:
            # An interruption came between a request that was to be sent and its sending.
            raise LocalProtocolError("this was interrupted in the middle: start it again")
        try:
            data = await self._response.read(self._operation.deadline)
        except TransportError as error:
            self._lost(error)
        else:
            now = self._transport.now()
            if data:
                self._operation.receive_data(self._exchange, data, now)
            else:
                self._operation.receive_eof(self._exchange, now)

    def _lost(self, error: TransportError) -> None:
        now, deadline = self._transport.now(), self._operation.deadline
        if deadline is not None and now >= deadline:
            self._operation.handle_timeout(now)  # which gives the exchange up in its own words
        else:
            self._operation.connection_lost(self._exchange, error.reason, now, sent=error.sent)


class AsyncResultsStream(Generic[M]):
    """The results of a batch, one by one as they arrive: an iterator and a context manager.

    Leaving the ``async with``, or `aclose`, closes its connection. It is no async generator, so
    nothing is left to the event loop's garbage collection; but a stream that is dropped unread
    keeps its connection busy until the client is closed.
    """

    def __init__(
        self, drive: AsyncDriver[None], operation: Operation[None], on_event: OnEvent
    ) -> None:
        self._drive = drive
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
            check_arrived(self._operation, self._arrived)
            event = await self._drive.next_event()
            if isinstance(event, Done):
                raise StopAsyncIteration
            if isinstance(event, ResultsReceived):
                self._block = iter(event.items)
                self._arrived += 1
            else:
                self._arrived += 1
                self._on_event(event)

    async def aclose(self) -> None:
        """Close the connection; nothing more comes, and to go on reading is an error."""
        self._block = iter(())
        await self._drive.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


class _Walk:
    """The batches of all pages; between two pages nothing is open."""

    def __init__(self, drive: AsyncDriver[None], on_event: OnEvent) -> None:
        self._drive = drive
        self._on_event = on_event
        self._page: Iterator[MessageBatch] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> MessageBatch:
        while True:
            for batch in self._page:
                return batch
            event = await self._drive.next_event()
            if isinstance(event, Done):
                raise StopAsyncIteration
            self._on_event(event)
            if isinstance(event, PageReceived):
                self._page = iter(event.page.data)


class AsyncBatchesClientBase:
    """The methods of every async client; a transport's own client class adds its carriage.

    Any number of tasks of one event loop can use it at once. `on_event` is called with polls
    (`BatchState`), pages, retries and interruptions as they happen; the calls themselves return
    the values.
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
        requests: Iterable[RequestLike] | RequestsSource,
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
            await self._prepared(requests),
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
        """Find out what became of a create whose answer was lost; see `BatchesAPI.settle`."""
        return await self._run(
            self._api.settle(outcome, settle_time=settle_time, known_ids=known_ids)
        )

    def unfinished_creates(self) -> builtins.list[OutcomeUnknownError | MessageBatch]:
        """Return what became of creates of this process whose call returned no batch.

        Of all clients of the same base URL, credential and workspace: an `OutcomeUnknownError` to
        settle, or the batch itself. For a cancellation, whose error nobody sees.
        """
        return self._api.ledger.unfinished()

    async def get(self, batch: MessageBatch | str) -> MessageBatch:
        """Read a batch."""
        return await self._run(self._api.get(batch))

    async def cancel(self, batch: MessageBatch | str) -> MessageBatch:
        """Ask for the end of a batch's processing."""
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
        """Iterate over all batches, page by page as they are used; see `BatchesAPI.list_all`."""
        operation = self._api.list_all(limit=limit, before_id=before_id, after_id=after_id)
        return _Walk(AsyncDriver(self._transport, operation), self._on_event)

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
        that cannot be read is a `MalformedResultError` among the items.
        """
        operation = self._api.results_stream(
            batch, message_type=message_type, resume=resume, expected=expected
        )
        drive = AsyncDriver(self._transport, operation)
        return AsyncResultsStream(drive, operation, self._on_event)

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
        """Read all results into a list; `results_stream` holds one piece of them at a time."""
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
        """Write the results to a file, line by line as they came; give their number.

        They are in ``path.<batch id>.part`` until the file is complete against the batch's counts.
        If that fails the part stays, and the same call continues from there. No file is ever
        replaced. One that is there already is read and compared with the batch's results: if it is
        complete and equal, line by line, this is a success.

        Raises:
            InvalidInputError: the file is there already and is something else, or the part cannot
                be continued.
            OSError: the file cannot be written.
        """
        in_thread = self._transport.in_thread
        with ResultsFile(path, batch, max_line=self._api.max_line) as file:
            # Each step runs to its end also where this is cancelled, so the file is idle when the
            # `with` closes it.
            await in_thread(file.open)
            operation = self._api.raw_results(
                batch, delivered=file.ids, resume=resume, expected=expected
            )
            drive = AsyncDriver(self._transport, operation)
            try:
                while not isinstance(event := await drive.next_event(), Done):
                    if isinstance(event, ResultsReceived):
                        await in_thread(partial(file.write, event.items))
                    else:
                        self._on_event(event)
            finally:
                await drive.aclose()
            return await in_thread(file.finish)

    async def _prepared(self, requests: Iterable[RequestLike] | RequestsSource) -> PreparedRequests:
        if isinstance(requests, RequestsSource):
            return await self._transport.in_thread(requests.prepare)
        return prepare(requests)

    async def _run(self, operation: Operation[T]) -> T:
        drive = AsyncDriver(self._transport, operation)
        try:
            while not isinstance(event := await drive.next_event(), Done):
                self._on_event(event)
        finally:
            await drive.aclose()
        return event.value
