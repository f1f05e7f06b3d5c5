"""A blocking client on bare sockets and h11: `BatchesClient`.

Knows how bytes go over a socket; how one is opened is `sockets`'s, HTTP/1.1 is `http11`'s, and
the methods are `sync_client`'s. A client is for
one thread; give each thread its own.
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from typing import Self, Unpack

from batches_core import BatchesAPI, RawHeaders, Request

from .http11 import ConnectionClosedError, Head, Origin, Pool, Signal, Stalled, Wire
from .logs import log_exchange, log_reconnect
from .settings import TIMEOUT, OnEvent, Settings, check_names, make_api, settings_from_env, shows
from .sockets import Connect, Dialer, TimedSocket, unix_socket
from .sync_client import BlockingBatchesClient
from .wording import cause_of, peer_of

__all__ = ["BatchesClient", "unix_socket"]

_logger = logging.getLogger(__name__)


class _Connection:
    """A connected socket and the HTTP/1.1 on it."""

    def __init__(self, sock: TimedSocket, origin: Origin) -> None:
        self.origin = origin
        self.wire = Wire(peer_of(*origin[1:]))
        self.close = sock.close
        self._sock = sock

    def check_quiet(self) -> None:
        """See that neither bytes came that nobody asked for, nor the end.

        Raises:
            ConnectionClosedError: they did.
        """
        if self._has_something():
            raise self.wire.ended_idle()

    def send(self, request: Request, deadline: float | None) -> None:
        """Send a request, or as much of it as the peer wants before it refuses."""
        has_body = request.body is not None
        for piece in self.wire.request(request):
            left = memoryview(piece)
            while left:
                try:
                    accepted = self._sock.send_some(left, deadline)
                except Stalled as error:
                    raise self.wire.stalled(error) from None
                except OSError:
                    return  # it may have answered before it closed: reading tells
                self.wire.took(accepted)
                left = left[accepted:]
                # A request without a body is sent to its end, to keep its connection.
                if self._has_something() and has_body and self.wire.is_refused():
                    return

    def next(self, deadline: float | None) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it."""
        while (item := self.wire.next()) is Signal.NEED_DATA:
            try:
                self.wire.receive(self._sock.receive(deadline))
            except Stalled as error:
                raise self.wire.stalled(error) from None
            except OSError as error:
                raise self.wire.lost(error) from cause_of(error)
        return item

    def _has_something(self) -> bool:
        data = self._sock.receive_now()
        if data is not None:
            self.wire.receive(data)
        return data is not None


class _Response:
    def __init__(self, connection: _Connection, head: Head, pool: Pool[_Connection]) -> None:
        self.status: int = head.status
        self.headers: RawHeaders = head.headers
        self._connection: _Connection | None = connection
        self._pool = pool

    def read(self, deadline: float | None) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        item = connection.next(deadline)
        if isinstance(item, bytes):
            return item
        if self._pool.keep(connection):
            self._connection = None
        self.close()
        return b""

    def close(self) -> None:
        # In the middle of a body the connection is good for nothing else.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.forget(connection)
            connection.close()


class _Transport:
    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._pool: Pool[_Connection] = Pool()

    def send(self, request: Request, deadline: float | None) -> _Response:
        self._pool.check_open()
        while True:
            kept = self._pool.take(request)
            connection = kept or self._connect(request.origin, deadline)
            try:
                if kept:
                    kept.check_quiet()
                connection.send(request, deadline)
                head = connection.next(deadline)
            except BaseException as error:
                self._pool.forget(connection)
                connection.close()
                if kept is None or not isinstance(error, ConnectionClosedError):
                    raise
                log_reconnect(_logger, request, error)
                continue  # it had died meanwhile; another connection will tell
            assert isinstance(head, Head), "a response begins with its head"  # noqa: S101
            log_exchange(_logger, request, head.status)
            return _Response(connection, head, self._pool)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        for connection in self._pool.close():
            connection.close()

    def _connect(self, origin: Origin, deadline: float | None) -> _Connection:
        return self._pool.add(_Connection(self._dialer.dial(origin, deadline), origin))


class Arguments(Settings, total=False):
    """What `BatchesClient` and its ``from_env`` take; every one is optional."""

    timeout: float
    ssl_context: ssl.SSLContext | None
    proxy: str | None
    connect: Connect | None
    on_event: OnEvent | None


class BatchesClient(BlockingBatchesClient):
    """A blocking client on bare sockets.

    `timeout` bounds each read and write in seconds, and the making of a connection if that is
    shorter than the 15 s that it may take otherwise. `ssl_context` replaces the verifying default.
    `proxy` is an ``http://[user:password@]host:port`` that https goes through. `connect` gives the
    connected sockets, for tunnels of one's own; `unix_socket` makes one. The other parameters are
    those of `BatchesAPI`.
    """

    @shows(BatchesAPI, jitter=random.random)
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
        api = make_api(settings, BatchesClient)
        transport = _Transport(Dialer(ssl_context, proxy, connect, timeout))
        super().__init__(api, transport, on_event)

    @classmethod
    @shows(__init__)
    def from_env(cls, **arguments: Unpack[Arguments]) -> Self:
        """Build a client with the credential and base URL of the environment.

        ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_BASE_URL``; and
        the usual ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. What is given as an argument
        wins.

        Raises:
            InvalidInputError: there is no credential.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=True))
