"""A blocking client on bare sockets and h11: `BatchesClient`.

Knows sockets and TLS; HTTP/1.1 is `http11`'s and the methods are `sync_client`'s. A client is for
one thread; give each thread its own.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Unpack

from batches_core import RawHeaders, Request, TransportError
from batches_core.api import check_seconds

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
from .sync_client import BlockingBatchesClient

#: Gives a connected socket to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], socket.socket]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Connection:
    """A connected socket and the HTTP/1.1 on it."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.wire = Wire()
        self._sock = sock
        self._timeout = timeout

    def close(self) -> None:
        self._sock.close()

    def has_something(self) -> bool:
        """Look, without waiting, whether bytes have come, or the end."""
        self._sock.settimeout(0)
        try:
            data = self._sock.recv(READ)
        except _WOULD_BLOCK:
            return False
        except OSError:
            data = b""
        self.wire.receive(data)
        return True

    def send(self, request: Request) -> None:
        """Send a request, or as much of it as the peer wants before it answers."""
        self._sock.settimeout(0)
        for piece in self.wire.request(request):
            left = memoryview(piece)
            while left:
                try:
                    left = left[self._sock.send(left) :]
                except _WOULD_BLOCK:
                    self._wait()
                    if self.has_something():
                        return
                except OSError:
                    # It may have answered before it closed: reading tells.
                    return
            # A refusal of a large body comes while it is under way.
            if request.body is not None and self.has_something():
                return

    def _wait(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            if not selector.select(self._timeout):
                raise _timed_out()

    def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it."""
        while (item := self.wire.next()) is Signal.NEED_DATA:
            self._sock.settimeout(self._timeout)
            try:
                data = self._sock.recv(READ)
            except TimeoutError:
                raise _timed_out() from None
            except OSError as error:
                if self.wire.answered:
                    raise TransportError(f"the connection broke: {error}", sent=True) from None
                raise ConnectionClosed(f"the connection broke: {error}", sent=True) from None
            self.wire.receive(data)
        return item


def _timed_out() -> TransportError:
    return TransportError("no byte came or went in time (Timeout)", sent=True)


class _Response:
    def __init__(self, connection: _Connection, head: Head, keep: Callable[[], bool]) -> None:
        self.status: int = head.status
        self.headers: RawHeaders = head.headers
        self._connection: _Connection | None = connection
        self._keep = keep

    def read(self) -> bytes:
        if self._connection is None:
            return b""
        item = self._connection.next()
        if isinstance(item, bytes):
            return item
        connection, self._connection = self._connection, None
        if not connection.wire.start_over() or not self._keep():
            connection.close()
        return b""

    def close(self) -> None:
        # In the middle of a body the connection is good for nothing else.
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


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

    def send(self, request: Request) -> _Response:
        self._pool.check_open()
        while True:
            kept = self._kept(request)
            connection = kept or _Connection(self._connect(request.origin), self._timeout)
            try:
                connection.send(request)
                head = connection.next()
            except ConnectionClosed:
                connection.close()
                if kept is None:
                    raise
                continue  # it had died meanwhile; another connection will tell
            except BaseException:
                connection.close()
                raise
            assert isinstance(head, Head), "a response begins with its head"  # noqa: S101
            return _Response(connection, head, partial(self._pool.put, request.origin, connection))

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        for connection in self._pool.close():
            connection.close()

    def _kept(self, request: Request) -> _Connection | None:
        if may_use_kept(request):
            while (connection := self._pool.take(request.origin)) is not None:
                if not connection.has_something():
                    return connection
                connection.close()
        return None

    def _connect(self, origin: Origin) -> socket.socket:
        scheme, host, port = origin
        proxy = self._proxy if scheme == "https" else None
        try:
            if proxy is None:
                sock = self._connect_to(host, port)
            else:
                sock = self._connect_to(proxy.host, proxy.port)
                with _closed_on_error(sock):
                    _ask_for_tunnel(sock, proxy.tunnel(origin))
            if scheme == "https":
                self._ssl_context = self._ssl_context or tls_context()
                with _closed_on_error(sock):
                    sock.settimeout(CONNECT_TIMEOUT)
                    sock = self._ssl_context.wrap_socket(sock, server_hostname=host)
        except OSError as error:
            # Timeouts, TLS and name look-ups are OSErrors all.
            what = f"cannot connect to {host}:{port}: {error}"
            raise TransportError(what, sent=False) from None
        return sock


def _connect_tcp(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), CONNECT_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def unix_socket(path: str) -> Connect:
    """Give a `connect` that leads every connection to a Unix socket."""

    def connect(host: str, port: int) -> socket.socket:
        del host, port
        sock = socket.socket(socket.AF_UNIX)
        with _closed_on_error(sock):
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(path)
        return sock

    return connect


def _ask_for_tunnel(sock: socket.socket, tunnel: Tunnel) -> None:
    sock.settimeout(CONNECT_TIMEOUT)
    sock.sendall(tunnel.request)
    while not tunnel.receive(sock.recv(READ)):
        pass


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise


class BatchesClient(BlockingBatchesClient):
    """A blocking client on bare sockets.

    `timeout` bounds each read and write, in seconds. `ssl_context` replaces the verifying default.
    `proxy` is an ``http://[user:password@]host:port`` that https goes through. `connect` gives the
    connected sockets, for tunnels of one's own; `unix_socket` makes one. The other parameters are
    those of `BatchesAPI`.
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
