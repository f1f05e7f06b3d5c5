"""The driver: carries out one operation's directives with a transport's calls and a clock.

Knows the contract of an operation, and nothing of the protocol. How bytes are carried is decided by
each `AsyncTransport`.
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
    """A response whose head has arrived."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> RawHeaders:
        """The header fields."""
        ...

    async def read(self, deadline: float | None) -> bytes:
        """Return the next bytes of the body, decoded; empty at its end.

        Raises:
            TransportError: the body broke off, or nothing arrived by the deadline.
        """
        ...

    async def aclose(self) -> None:
        """Release the connection, whether the body was read or not; harmless when repeated."""
        ...


class AsyncTransport(Protocol):
    """Carries HTTP exchanges, and has a clock. A deadline is a time of that clock, or None."""

    async def send(self, request: Request, deadline: float | None) -> AsyncResponse:
        """Send a request and wait for the head of its response.

        Raises:
            TransportError: there is no response, or none by the deadline; its `sent` says whether
                the whole request may have left.
        """
        ...

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end without blocking an event loop.

        A cancellation meanwhile is raised only afterwards, so that nothing the work uses is closed
        under it.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; harmless when repeated."""
        ...


class AsyncDriver(Generic[T]):
    """Drives one operation, and returns its events one by one.

    Close it when you are done: an event can be returned, or an error raised, while a response is
    still open.
    """

    def __init__(self, transport: AsyncTransport, operation: Operation[T]) -> None:
        self._transport = transport
        self._operation = operation
        self._response: AsyncResponse | None = None
        self._exchange = 0
        self._closed = False

    async def next_event(self) -> Event | Done[T]:
        """Return the next event, or `Done`. Any error closes the response.

        Raises:
            BatchesError: the operation failed.
            LocalProtocolError: the driver was closed.
        """
        self._check_open()
        if not self._exchange:
            # Timeouts count from the first use, not from the construction.
            self._operation.handle_timeout(self._transport.now())
        try:
            while True:
                match self._operation.next_event():
                    case Need.DATA:
                        await self._read()
                    case SendRequest(exchange=exchange, request=request):
                        await self._release()
                        await self._send(exchange, request)
                    case WaitUntil(deadline=deadline):
                        await self._release()
                        await self._transport.sleep(max(0.0, deadline - self._transport.now()))
                        self._operation.handle_timeout(self._transport.now())
                    case Done() as done:
                        await self._release()
                        return done
                    case event:
                        return event
                # Another task can have closed this driver while it waited.
                self._check_open()
        except BaseException:
            # First the report, since closing can be interrupted too. The operation can go on after
            # it: a time limit on one item need not end the iteration.
            if self._exchange:
                now = self._transport.now()
                self._operation.connection_lost(self._exchange, "interrupted", now, sent=True)
            await self._release()
            raise

    async def aclose(self) -> None:
        """Stop, and close the response if one is open."""
        self._closed = True
        await self._release()

    def _check_open(self) -> None:
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
            self._report_lost(error)
        else:
            now = self._transport.now()
            self._operation.receive_head(exchange, response.status, response.headers, now)

    async def _read(self) -> None:
        if self._response is None:
            # The caller was interrupted after `SendRequest` and before the request was sent.
            raise LocalProtocolError("this was interrupted in the middle: start it again")
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
            # The operation abandons the exchange, and its error says why.
            self._operation.handle_timeout(now)
        else:
            self._operation.connection_lost(
                self._exchange, error.reason, now, sent=error.sent, cause=error.__cause__
            )
