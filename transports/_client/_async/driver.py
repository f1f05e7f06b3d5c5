"""The driver: it runs one operation with a transport and its clock.

The operation decides what to do next. `Operation` documents what a driver must report to it. The
transport sends requests and receives responses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from batches_core import (
    Done,
    Event,
    LocalProtocolError,
    Need,
    Operation,
    RawHeaders,
    Request,
    SendRequest,
    TransportError,
    WaitUntil,
)

T = TypeVar("T")


class AsyncResponse(Protocol):
    """A response. Its head has arrived; its body is read piece by piece."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> RawHeaders:
        """The header fields."""
        ...

    async def read(self, deadline: float | None) -> bytes:
        """Return the next piece of the decoded body; empty bytes at its end.

        Raises:
            TransportError: the body is incomplete or cannot be decoded, or no piece arrived by the
                deadline.
        """
        ...

    async def aclose(self) -> None:
        """Release the connection, or close it if the body was not read to its end.

        Further calls do nothing.
        """
        ...


class AsyncTransport(Protocol):
    """Carry HTTP exchanges, and provide a clock. A deadline is a time of that clock, or None."""

    async def send(self, request: Request, deadline: float | None) -> AsyncResponse:
        """Send a request, and wait for the head of its response.

        Raises:
            TransportError: no head arrived, for example because the deadline passed.
                `TransportError.sent` says whether the whole request may have left.
            LocalProtocolError: the transport was closed, or belongs to another event loop.
        """
        ...

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end, without blocking the event loop.

        A cancellation is raised only after the work has ended, so that nothing is closed while the
        work still uses it.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Further calls do nothing."""
        ...


class AsyncDriver(Generic[T]):
    """Run one operation, and return its events one by one.

    Close it after use, because `next_event` can return or raise while a response is open.
    """

    def __init__(self, transport: AsyncTransport, operation: Operation[T]) -> None:
        self._transport = transport
        self._operation = operation
        self._response: AsyncResponse | None = None
        #: The number of the latest `SendRequest`, or 0 before the first one.
        self._exchange = 0
        self._closed = False

    async def next_event(self) -> Event | Done[T]:
        """Return the next event, or `Done` at the end. An error closes the response.

        Raises:
            BatchesError: the operation failed.
            LocalProtocolError: the driver was closed.
        """
        self._check_open()
        if not self._exchange:
            # Timeouts count from the first call, not from the construction.
            self._operation.handle_timeout(self._transport.now())
        try:
            while True:
                match self._operation.next_event():
                    case Need.DATA:
                        await self._read()
                    case SendRequest(exchange=exchange, request=request):
                        await self._close_response()
                        await self._send(exchange, request)
                    case WaitUntil(deadline=deadline):
                        await self._close_response()
                        await self._transport.sleep(max(0.0, deadline - self._transport.now()))
                        self._operation.handle_timeout(self._transport.now())
                    case Done() as done:
                        await self._close_response()
                        return done
                    case event:
                        return event
                # Another task may have closed this driver while this one waited.
                self._check_open()
        except BaseException:
            # Report the interruption as a lost connection, so that the operation can continue. Then
            # a time limit on one item need not end the caller's iteration. Close afterwards,
            # because closing can be interrupted too.
            if self._exchange:
                now = self._transport.now()
                self._operation.connection_lost(self._exchange, "interrupted", now, sent=True)
            await self._close_response()
            raise

    async def aclose(self) -> None:
        """Stop, and close the open response if there is one. Further calls do nothing."""
        self._closed = True
        await self._close_response()

    def _check_open(self) -> None:
        if self._closed:
            raise LocalProtocolError("this stream was closed before its end: start it again")

    async def _close_response(self) -> None:
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
            self._report_lost(error)
        else:
            now = self._transport.now()
            self._operation.receive_head(exchange, response.status, response.headers, now)

    async def _read(self) -> None:
        if self._response is None:
            # The driver was interrupted after `SendRequest`, before it sent the request.
            raise LocalProtocolError("this call was interrupted in the middle: start it again")
        try:
            data = await self._response.read(self._operation.deadline)
        except TransportError as error:
            self._report_lost(error)
        else:
            now = self._transport.now()
            if data:
                self._operation.receive_data(self._exchange, data, now)
            else:
                self._operation.receive_eof(self._exchange, now)

    def _report_lost(self, error: TransportError) -> None:
        now, deadline = self._transport.now(), self._operation.deadline
        if deadline is not None and now >= deadline:
            # The deadline is the operation's own. Report only the time, so that the operation
            # abandons the exchange for the reason that it knows.
            self._operation.handle_timeout(now)
        else:
            self._operation.connection_lost(
                self._exchange, error.reason, now, sent=error.sent, cause=error.__cause__
            )
