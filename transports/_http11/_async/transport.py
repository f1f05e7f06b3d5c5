"""The HTTP/1.1 transport: exchanges over the streams of any backend.

It decides which connection an exchange uses, and when a connection is closed. `HTTP11Connection`
encodes requests and parses responses. The backends send and receive the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from batches_core import RawHeaders, Request
from transports._client.bodies import is_blocking, slices
from transports._client.failures import peer_name
from transports._client.logs import log_exchange, log_reconnect
from transports._http11.connection import (
    ConnectionClosedError,
    Head,
    HTTP11Connection,
    StalledError,
    StreamError,
)
from transports._http11.pool import Origin, Pool

from .dialer import AsyncDialer
from .stream import AsyncBackend, AsyncStream

T = TypeVar("T")
ConnectT = TypeVar("ConnectT")


class _Upload(Generic[ConnectT]):
    """The encoded request, piece by piece. A body that blocks is read in a thread."""

    def __init__(
        self, http: HTTP11Connection, request: Request, backend: AsyncBackend[ConnectT]
    ) -> None:
        self._http = http
        self._pieces: list[bytes | memoryview] = [http.start_request(request)]
        self._body = iter(()) if request.body is None else slices(request.body)
        self._blocks = request.body is not None and is_blocking(request.body)
        self._backend = backend
        self._ended = False

    async def next_piece(self) -> bytes | memoryview | None:
        """Return the next bytes to send, or None after the last ones."""
        while not self._pieces and not self._ended:
            await self._encode_next()
        return self._pieces.pop(0) if self._pieces else None

    async def _encode_next(self) -> None:
        read: Callable[[], bytes | memoryview | None] = partial(next, self._body, None)
        data = await self._backend.in_thread(read) if self._blocks else read()
        if data is None:
            self._http.finish_request()
            self._ended = True
        else:
            self._pieces += self._http.encode(data)


class _Connection:
    """A stream with its HTTP/1.1 state."""

    def __init__(self, stream: AsyncStream, origin: Origin) -> None:
        self.origin = origin
        self.http = HTTP11Connection(peer_name(*origin[1:]))
        self.aclose = stream.aclose
        self._stream = stream

    async def check_idle(self) -> None:
        """Check that an idle connection can be used: no unsolicited bytes, no end of the stream.

        Raises:
            ConnectionClosedError: it cannot be used.
        """
        if not await self._stream.is_idle():
            raise self.http.idle_error()

    async def send(
        self, request: Request, backend: AsyncBackend[ConnectT], deadline: float | None
    ) -> None:
        """Send a request, or as much of it as the peer accepts before it refuses the request."""
        upload = _Upload(self.http, request, backend)
        try:
            # A request without a body is sent to its end, so that the connection can be reused.
            await self._stream.upload(
                upload.next_piece, self.http, deadline, until_refused=request.body is not None
            )
        except StalledError as error:
            # A peer that has responded need not read the rest: `next_event` returns its response.
            if not self.http.has_head():
                raise self.http.stalled_error(error) from None

    async def next_event(self, deadline: float | None) -> Head | bytes:
        """Wait for the next part of the response: its head, or a piece of its body."""
        if (event := self.http.next_event()) is not None:
            await self._stream.checkpoint()
            return event
        while event is None:
            try:
                self.http.receive(await self._stream.receive(deadline))
            except StalledError as error:
                raise self.http.stalled_error(error) from None
            except StreamError as error:
                failure = self.http.broken_error(error)
                raise failure from failure.__cause__
            event = self.http.next_event()
        return event


class _Response:
    def __init__(
        self,
        connection: _Connection,
        head: Head,
        pool: Pool[_Connection],
        backend: AsyncBackend[Any],
    ) -> None:
        self.status: int = head.status
        self.headers: RawHeaders = head.headers
        self._connection: _Connection | None = connection
        self._pool = pool
        self._backend = backend

    async def read(self, deadline: float | None) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        self._backend.enter()
        data = await connection.next_event(deadline)
        assert isinstance(data, bytes), "a body follows the head"  # noqa: S101 - for mypy
        if not data:
            # Another task may have closed this response meanwhile.
            if self._connection is connection and self._pool.release(connection):
                self._connection = None
            await self.aclose()
        return data

    async def aclose(self) -> None:
        # A connection cannot be reused if its body was not read to the end.
        connection, self._connection = self._connection, None
        if connection is not None and self._backend.can_close():
            self._pool.discard(connection)
            await connection.aclose()


class AsyncHTTP11Transport(Generic[ConnectT]):
    """Carry exchanges over the streams of one backend, and keep connections for reuse."""

    def __init__(self, backend: AsyncBackend[ConnectT], dialer: AsyncDialer[ConnectT]) -> None:
        self._backend = backend
        self._dialer = dialer
        self._pool: Pool[_Connection] = Pool()
        self._logger = logging.getLogger(f"transports.{backend.name}")

    async def send(self, request: Request, deadline: float | None) -> _Response:
        """Send a request, and wait for the head of its response."""
        self._pool.check_open()
        self._backend.enter()
        while True:
            idle = self._pool.acquire(request)
            connection = idle or await self._connect(request.origin, deadline)
            try:
                # The client may have been closed while this connected.
                self._pool.check_open()
                if idle:
                    await idle.check_idle()
                await connection.send(request, self._backend, deadline)
                head = await connection.next_event(deadline)
            except BaseException as error:
                self._pool.discard(connection)
                await connection.aclose()
                if idle is None or not isinstance(error, ConnectionClosedError):
                    raise
                log_reconnect(self._logger, request, error)
                # The idle connection was closed. Repeating is safe: `acquire` returns a connection
                # only for a GET.
                continue
            assert isinstance(head, Head), "a response begins with its head"  # noqa: S101 - for mypy
            log_exchange(self._logger, request, head.status)
            return _Response(connection, head, self._pool, self._backend)

    def now(self) -> float:
        """Return the time of the backend's clock, in seconds."""
        return self._backend.now()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._backend.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end."""
        return await self._backend.in_thread(work)

    async def aclose(self) -> None:
        """Close every connection.

        Raises:
            LocalProtocolError: the caller's event loop is another one; nothing was closed.
        """
        can_close = self._backend.can_close()
        connections = self._pool.close()
        if can_close:
            await _close_all(connections)

    async def _connect(self, origin: Origin, deadline: float | None) -> _Connection:
        return self._pool.add(_Connection(await self._dialer.dial(origin, deadline), origin))


async def _close_all(connections: list[_Connection]) -> None:
    """Close connections. If closing one is interrupted, the others are closed all the same."""
    try:
        while connections:
            await connections.pop().aclose()
    finally:
        if connections:
            await _close_all(connections)
