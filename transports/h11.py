"""A blocking client on bare sockets and h11: `BatchesClient`.

Knows how bytes go over a socket; how one is opened is `sockets`'s, HTTP/1.1 is `http11`'s, and
the methods are `sync_client`'s. A client is for
one thread; give each thread its own.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Unpack

from batches_core import RawHeaders, Request, TransportError
from batches_core.api import check_seconds

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
from .sockets import Connect, Dialer, unix_socket
from .sync_client import BlockingBatchesClient

__all__ = ["BatchesClient", "unix_socket"]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Connection:
    """A connected socket and the HTTP/1.1 on it."""

    def __init__(self, sock: socket.socket, timeout: float, pool: Pool[_Connection]) -> None:
        self.wire = Wire()
        self._sock = sock
        self._timeout = timeout
        self._pool = pool
        #: A head that came while the body was being sent.
        self._early: Head | None = None

    def close(self) -> None:
        self._pool.forget(self)
        self._sock.close()

    def has_something(self) -> bool:
        """Look, without waiting, whether bytes have come, or the end."""
        try:
            self._sock.settimeout(0)
            data = self._sock.recv(READ)
        except _WOULD_BLOCK:
            return False
        except OSError:
            data = b""
        self.wire.receive(data)
        return True

    def send(self, request: Request) -> None:
        """Send a request, or as much of it as the peer wants before it refuses."""
        for piece in self.wire.request(request):
            left = memoryview(piece)
            while left:
                try:
                    self._sock.settimeout(0)
                    left = left[self._sock.send(left) :]
                except _WOULD_BLOCK as error:
                    self._wait(error)
                    if self._is_refused():
                        return
                except OSError:
                    return  # it may have answered before it closed: reading tells
            if request.body is not None and self._is_refused():
                return

    def _is_refused(self) -> bool:
        # A refusal of a large body comes while it is under way; so may a head that is none.
        if self.has_something() and self._early is None:
            item = self.wire.next()
            self._early = item if isinstance(item, Head) else None
        return self._early is not None and refuses(self._early)

    def _wait(self, error: Exception) -> None:
        writes = 0 if isinstance(error, ssl.SSLWantReadError) else selectors.EVENT_WRITE
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._sock, selectors.EVENT_READ | writes)
                ready = selector.select(self._timeout)
        except OSError as failure:
            raise TransportError(f"cannot wait for the socket: {failure}", sent=True) from None
        if not ready:
            raise _timed_out()

    def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it."""
        if self._early is not None:
            early, self._early = self._early, None
            return early
        while (item := self.wire.next()) is Signal.NEED_DATA:
            try:
                self._sock.settimeout(self._timeout)
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
    def __init__(self, dialer: Dialer, timeout: float) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._dialer = dialer
        self._timeout = min(timeout, LONGEST_TIMEOUT)
        self._pool: Pool[_Connection] = Pool()

    def send(self, request: Request) -> _Response:
        self._pool.check_open()
        while True:
            kept = self._kept(request)
            connection = kept or self._connect(request)
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
                try:
                    if not connection.has_something():
                        return connection
                except BaseException:
                    connection.close()
                    raise
                connection.close()
        return None

    def _connect(self, request: Request) -> _Connection:
        sock = self._dialer.dial(request.origin)
        return self._pool.add(_Connection(sock, self._timeout, self._pool))


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
        transport = _Transport(Dialer(ssl_context, proxy, connect), timeout)
        super().__init__(make_api(settings), transport, on_event)
