"""An async client on trio streams and h11: `BatchesClient`.

Knows how bytes go over a stream; how one is opened is `streams`'s, HTTP/1.1 is `http11`'s, and
the methods are `async_client`'s. Any number of tasks of one `trio.run` can use a client at once. A
cancellation closes what it interrupts, at once and without waiting.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Unpack

import trio

from batches_core import RawHeaders, Request, TransportError
from batches_core.api import check_seconds

from .async_client import AsyncBatchesClientBase
from .http11 import (
    LONGEST_TIMEOUT,
    READ,
    ConnectionClosed,
    Head,
    Pool,
    Signal,
    Wire,
    may_use_kept,
    refuses,
)
from .settings import TIMEOUT, OnEvent, Settings, make_api
from .streams import BROKEN, Connect, Dialer, unix_socket

__all__ = ["BatchesClient", "unix_socket"]

#: Seconds to let TLS take in what came while a kept connection had nothing to do.
_A_MOMENT = 0.05
#: Seconds to read what comes with a refusal before the upload that it refuses is stopped.
_A_REFUSAL = 2.0


class _Connection:
    """A connected stream and the HTTP/1.1 on it."""

    def __init__(self, stream: trio.abc.Stream, timeout: float, pool: Pool[_Connection]) -> None:
        self.wire = Wire()
        self._stream = stream
        self._timeout = timeout
        self._pool = pool
        self._sent = 0
        #: What came while the body was being sent.
        self._early: deque[Head | bytes | Signal] = deque()

    async def aclose(self) -> None:
        self._pool.forget(self)
        # Forceful closing waits for nothing, but a cancelled task may not even ask for it.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def is_alive(self) -> bool:
        """Look whether a kept connection has neither ended nor got bytes that nobody asked for."""
        outer = self._stream
        plain = outer.transport_stream if isinstance(outer, trio.SSLStream) else outer
        if not isinstance(plain, trio.SocketStream) or not plain.socket.is_readable():
            return True
        try:
            with trio.move_on_after(_A_MOMENT):
                # What TLS says for itself (new session tickets) is taken in and gives no bytes.
                await self._receive()
                return False
        except TransportError:
            return False
        return True

    async def exchange(self, request: Request) -> Head:
        """Send a request, or as much of it as the peer wants, and wait for the answer's head."""
        pieces = self.wire.request(request)
        if request.body is None:
            # Sent to its end before anything else, so that the connection can be used again.
            await self._upload(pieces)
            item = await self.next()
        else:
            item = await self._exchange_both_ways(pieces)
        assert isinstance(item, Head), "a response begins with its head"  # noqa: S101
        return item

    async def _exchange_both_ways(self, pieces: Iterator[bytes]) -> Head | bytes | Signal:
        """Send while reading: a refusal of a large body comes while it is under way."""
        item: Head | bytes | Signal | TransportError
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._upload, pieces)
                try:
                    item = await self.next()
                    if not isinstance(item, Head) or refuses(item):
                        await self._read_ahead()
                        nursery.cancel_scope.cancel()
                except TransportError as error:
                    item = error  # raised outside, where no group is put around it
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) == 1:
                raise group.exceptions[0] from None
            raise
        if isinstance(item, TransportError):
            raise item
        return item

    async def _read_ahead(self) -> None:
        # To stop an upload in the middle breaks a TLS stream in both directions. So what the peer
        # says of its refusal is read before.
        size = 0
        with trio.move_on_after(_A_REFUSAL):
            while size < READ:
                item = await self._next()
                self._early.append(item)
                if not isinstance(item, bytes):
                    return
                size += len(item)

    async def _upload(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            with trio.move_on_after(self._timeout) as time_limit:
                try:
                    await self._stream.send_all(piece)
                except BROKEN:
                    return  # it may have answered before it closed: reading tells
            if time_limit.cancelled_caught:
                return  # likewise
            self._sent += len(piece)

    async def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it, and lets others have their turn."""
        if self._early:
            return self._early.popleft()
        return await self._next()

    async def _next(self) -> Head | bytes | Signal:
        item = self.wire.next()
        if item is not Signal.NEED_DATA:
            await trio.lowlevel.checkpoint()
        while item is Signal.NEED_DATA:
            await self._receive()
            item = self.wire.next()
        return item

    async def _receive(self) -> None:
        while True:
            sent = self._sent
            with trio.move_on_after(self._timeout):
                try:
                    data = await self._stream.receive_some(READ)
                except BROKEN as error:
                    what = f"the connection broke: {error.__cause__ or error}"
                    kind = TransportError if self.wire.answered else ConnectionClosed
                    raise kind(what, sent=True) from None
                self.wire.receive(bytes(data))
                return
            if sent == self._sent:
                raise TransportError("no byte came or went in time (Timeout)", sent=True)


class _Response:
    def __init__(self, connection: _Connection, head: Head, keep: Callable[[], bool]) -> None:
        self.status: int = head.status
        self.headers: RawHeaders = head.headers
        self._connection: _Connection | None = connection
        self._keep = keep

    async def read(self) -> bytes:
        if self._connection is None:
            return b""
        item = await self._connection.next()
        if isinstance(item, bytes):
            return item
        connection, self._connection = self._connection, None
        if not connection.wire.start_over() or not self._keep():
            await connection.aclose()
        return b""

    async def aclose(self) -> None:
        # In the middle of a body the connection is good for nothing else.
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()


class _Transport:
    def __init__(self, dialer: Dialer, timeout: float) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._dialer = dialer
        self._timeout = min(timeout, LONGEST_TIMEOUT)
        self._pool: Pool[_Connection] = Pool()

    async def send(self, request: Request) -> _Response:
        self._pool.check_open()
        while True:
            kept = await self._kept(request)
            connection = kept or await self._connect(request)
            try:
                head = await connection.exchange(request)
            except ConnectionClosed:
                await connection.aclose()
                if kept is None:
                    raise
                continue  # it had died meanwhile; another connection will tell
            except BaseException:
                await connection.aclose()
                raise
            return _Response(connection, head, partial(self._pool.put, request.origin, connection))

    def now(self) -> float:
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def aclose(self) -> None:
        for connection in self._pool.close():
            await connection.aclose()

    async def _kept(self, request: Request) -> _Connection | None:
        if may_use_kept(request):
            while (connection := self._pool.take(request.origin)) is not None:
                try:
                    if await connection.is_alive():
                        return connection
                except BaseException:
                    await connection.aclose()
                    raise
                await connection.aclose()
        return None

    async def _connect(self, request: Request) -> _Connection:
        stream = await self._dialer.dial(request.origin)
        return self._pool.add(_Connection(stream, self._timeout, self._pool))


class BatchesClient(AsyncBatchesClientBase):
    """An async client on trio streams.

    `timeout` is the seconds without a byte in either direction before an exchange is given up.
    `ssl_context` replaces the verifying default. `proxy` is an ``http://[user:password@]host:port``
    that https goes through. `connect` gives the connected streams, for tunnels of one's own;
    `unix_socket` makes one. The other parameters are those of `BatchesAPI`.
    """

    _reads_proxy = True

    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        connect: Connect | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        transport = _Transport(Dialer(ssl_context, proxy, connect), timeout)
        super().__init__(make_api(settings), transport, on_event)
