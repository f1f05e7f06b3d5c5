"""An async client on trio streams and h11: `BatchesClient`.

Knows trio and TLS; HTTP/1.1 is `http11`'s and the methods are `async_client`'s. Any number of
tasks of one `trio.run` can use a client at once. A cancellation closes what it interrupts, at
once and without waiting.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Unpack

import trio

from batches_core import RawHeaders, Request, TransportError
from batches_core.api import check_seconds

from .async_client import AsyncBatchesClientBase
from .http11 import (
    CONNECT_TIMEOUT,
    READ,
    TIMEOUT,
    ConnectionClosed,
    Head,
    Origin,
    Pool,
    Proxy,
    Signal,
    Tunnel,
    Wire,
    may_use_kept,
    tls_context,
)
from .settings import OnEvent, Settings, make_api

#: Gives a connected stream to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
#: Seconds to let TLS take in what came while a kept connection had nothing to do.
_A_MOMENT = 0.05


class _Connection:
    """A connected stream and the HTTP/1.1 on it."""

    def __init__(self, stream: trio.abc.Stream, timeout: float) -> None:
        self.wire = Wire()
        self._stream = stream
        self._timeout = timeout
        self._sent = 0

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def is_alive(self) -> bool:
        """Look whether a kept connection has neither ended nor got bytes that nobody asked for."""
        outer = self._stream
        plain = outer.transport_stream if isinstance(outer, trio.SSLStream) else outer
        if not isinstance(plain, trio.SocketStream) or not plain.socket.is_readable():
            return True
        with trio.move_on_after(_A_MOMENT):
            # What TLS says for itself (new session tickets) is taken in and gives no bytes.
            await self._receive()
            return False
        return True

    async def exchange(self, request: Request) -> Head:
        """Send a request, or as much of it as the peer wants, and wait for the answer's head."""
        pieces = self.wire.request(request)
        failure: TransportError | None = None
        item: Head | bytes | Signal = Signal.END
        # A refusal of a large body comes while it is under way, so both go on at once.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, pieces)
            try:
                item = await self.next()
            except TransportError as error:
                failure = error  # raised outside, where no group is put around it
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        assert isinstance(item, Head), "a response begins with its head"  # noqa: S101
        return item

    async def _upload(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            try:
                await self._stream.send_all(piece)
            except _BROKEN:
                return  # it may have answered before it closed: reading tells
            self._sent += len(piece)

    async def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it."""
        while (item := self.wire.next()) is Signal.NEED_DATA:
            await self._receive()
        return item

    async def _receive(self) -> None:
        while True:
            sent = self._sent
            with trio.move_on_after(self._timeout):
                try:
                    data = await self._stream.receive_some(READ)
                except _BROKEN as error:
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
    def __init__(
        self,
        *,
        timeout: float,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        connect: Connect | None,
    ) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._timeout = timeout
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy(proxy)
        self._connect_to = connect or _connect_tcp
        self._pool: Pool[_Connection] = Pool()

    async def send(self, request: Request) -> _Response:
        self._pool.check_open()
        while True:
            kept = await self._kept(request)
            connection = kept or _Connection(await self._connect(request.origin), self._timeout)
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
                if await connection.is_alive():
                    return connection
                await connection.aclose()
        return None

    async def _connect(self, origin: Origin) -> trio.abc.Stream:
        scheme, host, port = origin
        proxy = self._proxy if scheme == "https" else None
        try:
            with trio.fail_after(CONNECT_TIMEOUT):
                if proxy is None:
                    stream = await self._connect_to(host, port)
                else:
                    stream = await self._connect_to(proxy.host, proxy.port)
                    async with _closed_on_error(stream):
                        await _ask_for_tunnel(stream, proxy.tunnel(origin))
                if scheme == "https":
                    self._ssl_context = self._ssl_context or tls_context()
                    async with _closed_on_error(stream):
                        tls = trio.SSLStream(
                            stream, self._ssl_context, server_hostname=host, https_compatible=True
                        )
                        await tls.do_handshake()
                        stream = tls
        except (OSError, trio.TooSlowError, *_BROKEN) as error:
            why = error.__cause__ or error
            what = f"cannot connect to {host}:{port}: {str(why) or 'no answer in time'}"
            raise TransportError(what, sent=False) from None
        return stream


async def _connect_tcp(host: str, port: int) -> trio.abc.Stream:
    return await trio.open_tcp_stream(host, port)


def unix_socket(path: str) -> Connect:
    """Give a `connect` that leads every connection to a Unix socket."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        del host, port
        return await trio.open_unix_socket(path)

    return connect


async def _ask_for_tunnel(stream: trio.abc.Stream, tunnel: Tunnel) -> None:
    await stream.send_all(tunnel.request)
    while not tunnel.receive(bytes(await stream.receive_some(READ))):
        pass


@asynccontextmanager
async def _closed_on_error(stream: trio.abc.Stream) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


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
        transport = _Transport(
            timeout=timeout, ssl_context=ssl_context, proxy=proxy, connect=connect
        )
        super().__init__(make_api(settings), transport, on_event)
