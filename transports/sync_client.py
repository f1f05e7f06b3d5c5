"""The blocking client: the drive loop and the methods, once for every blocking transport.

Knows how to carry out an operation's directives with a transport's four calls and a clock;
nothing of the protocol, and nothing of how bytes are carried.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
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
from batches_core.lowlevel import IfUnknown, IfUnmarked

from .logs import logged
from .results_file import ResultsFile
from .settings import (
    OnEvent,
    check_arrived,
    check_on_event,
)

T = TypeVar("T")
M = TypeVar("M")


class Response(Protocol):
    """A response that has begun: its head, and its body as it comes."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> RawHeaders:
        """The header pairs."""
        ...

    def read(self, deadline: float | None) -> bytes:
        """Give the next bytes of the body, decoded; none at its end.

        Raises:
            TransportError: the body broke off, or nothing came by the deadline.
        """
        ...

    def close(self) -> None:
        """Let go of the connection, whether the body was read or not; again is harmless."""
        ...


class Transport(Protocol):
    """What carries an exchange, with a clock; a deadline is a time of that clock, or None."""

    def send(self, request: Request, deadline: float | None) -> Response:
        """Send a request and wait for the head of its response.

        Raises:
            TransportError: there is no response, or none by the deadline; its `sent` tells whether
                there could have been.
        """
        ...

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def close(self) -> None:
        """Close every connection; again is harmless."""
        ...


class Driver(Generic[T]):
    """Carries out one operation's directives, and hands out its events.

    To be closed by whoever made it, as with ``contextlib.closing``: an event can be handed out,
    or an error raised, with a response under way.
    """

    def __init__(self, transport: Transport, operation: Operation[T]) -> None:
        self._transport = transport
        self._operation = operation
        self._response: Response | None = None
        self._exchange = 0
        self._closed = False

    def next_event(self) -> Event | Done[T]:
        """Go on to the next event or the end.

        Raises:
            LocalProtocolError: the drive was closed.
        """
        if self._closed:
            raise LocalProtocolError("this was closed before its end: start it again")
        if not self._exchange:
            # Timeouts count from the first use, not from when it was made.
            self._operation.handle_timeout(self._transport.now())
        try:
            while True:
                match self._operation.next_event():
                    case Need.DATA:
                        self._read()
                    case SendRequest(exchange=exchange, request=request):
                        self._release()
                        self._send(exchange, request)
                    case WaitUntil(deadline=deadline):
                        self._release()
                        self._transport.sleep(max(0.0, deadline - self._transport.now()))
                        self._operation.handle_timeout(self._transport.now())
                    case Done() as done:
                        self._release()
                        return done
                    case event:
                        return event
        except BaseException:
            self._give_up("interrupted")
            raise

    def close(self) -> None:
        """Stop where it is; close the response that is under way, if one is."""
        self._closed = True
        self._release()

    def _release(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _give_up(self, reason: str) -> None:
        """Close the response, and tell the operation, which may be asked to go on."""
        self._release()
        if self._exchange:
            now = self._transport.now()
            self._operation.connection_lost(self._exchange, reason, now, sent=True)

    def _send(self, exchange: int, request: Request) -> None:
        self._exchange = exchange
        try:
            self._response = response = self._transport.send(request, self._operation.deadline)
        except TransportError as error:
            self._lost(error)
        else:
            now = self._transport.now()
            self._operation.receive_head(exchange, response.status, response.headers, now)

    def _read(self) -> None:
        if self._response is None:
            # An interruption came between a request that was to be sent and its sending.
            raise LocalProtocolError("this was interrupted in the middle: start it again")
        try:
            data = self._response.read(self._operation.deadline)
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


class ResultsStream(Generic[M]):
    """The results of a batch, one by one as they arrive: an iterator and a context manager.

    Leaving the ``with``, `close`, or dropping the stream closes its connection. A loop that was
    left can be gone on with, also after an interruption.
    """

    def __init__(self, drive: Driver[None], operation: Operation[None], on_event: OnEvent) -> None:
        self._drive = drive
        self._operation = operation
        self._on_event = on_event
        self._block: Iterator[ResultItem[M] | MalformedResultError] = iter(())
        #: How many events have arrived here, of those that the operation handed over.
        self._arrived = 0

    # No generator, though that costs less for each item: one that was interrupted would end without
    # an error where it is asked for the next item.
    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ResultItem[M] | MalformedResultError:
        while True:
            for item in self._block:
                return item
            if not self._next_block():
                raise StopIteration

    def _next_block(self) -> bool:
        check_arrived(self._operation, self._arrived)
        while not isinstance(event := self._drive.next_event(), Done):
            if isinstance(event, ResultsReceived):
                self._block = iter(event.items)
                self._arrived += 1
                return True
            self._arrived += 1
            self._on_event(event)
        return False

    def close(self) -> None:
        """Close the connection; nothing more comes, and to go on reading is an error."""
        self._block = iter(())
        self._drive.close()

    def __del__(self) -> None:
        self._drive.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class BlockingBatchesClient:
    """The methods of every blocking client; a transport's own `BatchesClient` adds its carriage.

    One thread at a time. `on_event` is called with polls (`BatchState`), pages, retries and
    interruptions as they happen; the calls themselves return the values.
    """

    def __init__(
        self,
        api: BatchesAPI,
        transport: Transport,
        on_event: OnEvent | None,
    ) -> None:
        self._api = api
        self._transport = transport
        self._on_event: OnEvent = logged(check_on_event(on_event))

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__} of {self._api.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def create(
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
            requests,
            if_unknown=if_unknown,
            if_unmarked=if_unmarked,
            settle_time=settle_time,
            known_ids=known_ids,
        )
        try:
            return self._run(operation)
        except BaseException as error:
            operation.interrupt(error, self._transport.now())
            raise

    def settle(
        self,
        outcome: OutcomeUnknownError | CreateMarker,
        *,
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> MessageBatch | None:
        """Find out what became of a create whose answer was lost; see `BatchesAPI.settle`."""
        return self._run(self._api.settle(outcome, settle_time=settle_time, known_ids=known_ids))

    def unfinished_creates(self) -> builtins.list[OutcomeUnknownError | MessageBatch]:
        """Return what became of creates of this process whose call returned no batch.

        Of all clients of the same base URL, credential and workspace: an `OutcomeUnknownError` to
        settle, or the batch itself. For a cancellation, whose error nobody sees.
        """
        return self._api.ledger.unfinished()

    def get(self, batch: MessageBatch | str) -> MessageBatch:
        """Read a batch."""
        return self._run(self._api.get(batch))

    def cancel(self, batch: MessageBatch | str) -> MessageBatch:
        """Ask for the end of a batch's processing."""
        return self._run(self._api.cancel(batch))

    def delete(self, batch: MessageBatch | str) -> DeletedMessageBatch:
        """Delete a batch that has ended."""
        return self._run(self._api.delete(batch))

    def list(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Page:
        """Read one page of batches; see `BatchesAPI.list`."""
        return self._run(self._api.list(limit=limit, before_id=before_id, after_id=after_id))

    def list_all(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Iterator[MessageBatch]:
        """Iterate over all batches, page by page as they are used; see `BatchesAPI.list_all`."""
        operation = self._api.list_all(limit=limit, before_id=before_id, after_id=after_id)
        return self._walk(Driver(self._transport, operation))

    def wait_for(
        self,
        batch: MessageBatch | str,
        *,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        max_outage: float = 600.0,
        until: Callable[[MessageBatch], bool] | None = None,
    ) -> MessageBatch:
        """Wait until a batch has ended; see `BatchesAPI.wait_for`."""
        return self._run(
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
    ) -> ResultsStream[Message]: ...
    @overload
    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[M],
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> ResultsStream[M]: ...
    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[Any] = Message,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> ResultsStream[Any]:
        """Read the results as they arrive; see `BatchesAPI.results_stream`.

        ``with client.results_stream(id) as stream: for item in stream: …``. A line that cannot
        be read is a `MalformedResultError` among the items.
        """
        operation = self._api.results_stream(
            batch, message_type=message_type, resume=resume, expected=expected
        )
        return ResultsStream(Driver(self._transport, operation), operation, self._on_event)

    @overload
    def results(
        self,
        batch: MessageBatch | str,
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[Message] | MalformedResultError]: ...
    @overload
    def results(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[M],
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[M] | MalformedResultError]: ...
    def results(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[Any] = Message,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> builtins.list[ResultItem[Any] | MalformedResultError]:
        """Read all results into a list; `results_stream` holds one piece of them at a time."""
        with self.results_stream(
            batch, message_type=message_type, resume=resume, expected=expected
        ) as stream:
            return [*stream]

    def download(
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
        with ResultsFile(path, batch, max_line=self._api.max_line) as file:
            file.open()
            operation = self._api.raw_results(
                batch, delivered=file.ids, resume=resume, expected=expected
            )
            with closing(Driver(self._transport, operation)) as drive:
                while not isinstance(event := drive.next_event(), Done):
                    if isinstance(event, ResultsReceived):
                        file.write(event.items)
                    else:
                        self._on_event(event)
            return file.finish()

    def _run(self, operation: Operation[T]) -> T:
        with closing(Driver(self._transport, operation)) as drive:
            while not isinstance(event := drive.next_event(), Done):
                self._on_event(event)
            return event.value

    def _walk(self, drive: Driver[None]) -> Iterator[MessageBatch]:
        with closing(drive):
            while not isinstance(event := drive.next_event(), Done):
                self._on_event(event)
                if isinstance(event, PageReceived):
                    yield from event.page.data
