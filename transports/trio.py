"""An async client on trio streams and h11: `BatchesClient`.

Knows how bytes go over a stream; how one is opened is `streams`'s, HTTP/1.1 is `http11`'s, and
the methods are `async_client`'s. Any number of tasks of one `trio.run` can use a client at once. A
cancellation closes what it interrupts, at once and without waiting.
"""

from __future__ import annotations

import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Self, TypeVar, Unpack

from .extras import explain

try:
    import trio
except ModuleNotFoundError as error:
    explain(error, "trio")
    raise

from batches_core import BatchesAPI, RawHeaders, Request, TransportError

from .async_client import AsyncBatchesClientBase
from .http11 import ConnectionClosedError, Head, Origin, Pool, Signal, Stalled, Wire
from .logs import log_exchange, log_reconnect
from .read_ahead import ReadAhead
from .settings import TIMEOUT, OnEvent, Settings, check_names, make_api, settings_from_env, shows
from .streams import BROKEN, Connect, Dialer, TimedStream, together, unix_socket
from .wording import TOO_LATE, cause_of, peer_of

__all__ = ["BatchesClient", "unix_socket"]

_logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds to read what comes with a refusal before the upload that it refuses is stopped.
_A_REFUSAL = 2.0


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work beside the event loop, to its end."""
    with trio.CancelScope(shield=True):
        result = await trio.to_thread.run_sync(work)
    return result  # noqa: RET504 - mypy takes a scope for one that may swallow what is in it


class _Connection:
    """A connected stream and the HTTP/1.1 on it."""

    def __init__(self, stream: TimedStream, origin: Origin) -> None:
        self.origin = origin
        self.wire = Wire(peer_of(*origin[1:]))
        self.aclose = stream.aclose
        self._stream = stream
        #: Set with what was said of `sent`: no byte may leave after that.
        self._is_lost = False

    async def check_quiet(self) -> None:
        """See that neither bytes came that nobody asked for, nor the end.

        Raises:
            ConnectionClosedError: they did.
        """
        if not await self._stream.is_quiet():
            raise self.wire.ended_idle()

    async def send(self, request: Request) -> None:
        """Send a request, or as much of it as the peer wants before it refuses."""
        if request.body is None:
            # To its end before anything else, so that the connection can be used again.
            await self._upload(self.wire.request(request))
        else:
            body = ReadAhead(request.body, in_thread)
            # Begun before both run, for an answer may be there already.
            pieces = self.wire.request(replace(request, body=body))
            await together(partial(self._upload, pieces, body), self._is_refused)

    async def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response; waits for it, and lets others have their turn."""
        if (item := self.wire.next()) is not Signal.NEED_DATA:
            await trio.lowlevel.checkpoint()
        while item is Signal.NEED_DATA:
            await self._receive()
            item = self.wire.next()
        return item

    async def _upload(
        self, pieces: Iterator[bytes | memoryview], body: ReadAhead | None = None
    ) -> None:
        for piece in pieces:
            if self._is_lost:
                return
            # Before it goes: of a piece that breaks, nobody can tell how much has left.
            self.wire.took(len(piece))
            if not await self._stream.send(piece):
                return  # it may have answered before it closed: reading tells
            if body is not None:
                await body.fetch()

    async def _is_refused(self) -> bool:
        try:
            while not self.wire.has_head():
                await self._receive()
        except TransportError:
            self._is_lost = True
            raise
        if not self.wire.is_refused():
            return False
        # To stop an upload in the middle breaks a TLS stream in both directions. So what the peer
        # says of its refusal is read before.
        with trio.move_on_after(_A_REFUSAL):
            while self.wire.read_ahead():
                await self._receive()
        return True

    async def _receive(self) -> None:
        try:
            self.wire.receive(await self._stream.receive())
        except Stalled as error:
            raise self.wire.stalled(error) from None
        except BROKEN as error:
            raise self.wire.lost(error) from cause_of(error)


async def _by(deadline: float | None, work: Callable[[], Awaitable[T]]) -> T:
    """Do something by a deadline.

    Raises:
        TransportError: it was not done by then, and was cancelled.
    """
    if deadline is None:
        return await work()
    with trio.move_on_at(deadline):
        return await work()
    raise TransportError(TOO_LATE, sent=True)


class _Response:
    def __init__(self, connection: _Connection, head: Head, pool: Pool[_Connection]) -> None:
        self.status: int = head.status
        self.headers: RawHeaders = head.headers
        self._connection: _Connection | None = connection
        self._pool = pool

    async def read(self, deadline: float | None) -> bytes:
        return await _by(deadline, self._read)

    async def _read(self) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        item = await connection.next()
        if isinstance(item, bytes):
            return item
        if self._connection is connection and self._pool.keep(connection):
            self._connection = None
        await self.aclose()
        return b""

    async def aclose(self) -> None:
        # In the middle of a body the connection is good for nothing else.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.forget(connection)
            await connection.aclose()


class _Transport:
    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer
        self._pool: Pool[_Connection] = Pool()

    async def send(self, request: Request, deadline: float | None) -> _Response:
        return await _by(deadline, partial(self._send, request))

    async def _send(self, request: Request) -> _Response:
        self._pool.check_open()
        while True:
            kept = self._pool.take(request)
            connection = kept or await self._connect(request.origin)
            try:
                if kept:
                    await kept.check_quiet()
                await connection.send(request)
                head = await connection.next()
            except BaseException as error:
                self._pool.forget(connection)
                await connection.aclose()
                if kept is None or not isinstance(error, ConnectionClosedError):
                    raise
                log_reconnect(_logger, request, error)
                continue  # it had died meanwhile; another connection will tell
            assert isinstance(head, Head), "a response begins with its head"  # noqa: S101
            log_exchange(_logger, request, head.status)
            return _Response(connection, head, self._pool)

    def now(self) -> float:
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await in_thread(work)

    async def aclose(self) -> None:
        for connection in self._pool.close():
            await connection.aclose()

    async def _connect(self, origin: Origin) -> _Connection:
        return self._pool.add(_Connection(await self._dialer.dial(origin), origin))


class Arguments(Settings, total=False):
    """What `BatchesClient` and its ``from_env`` take; every one is optional."""

    timeout: float
    ssl_context: ssl.SSLContext | None
    proxy: str | None
    connect: Connect | None
    on_event: OnEvent | None


class BatchesClient(AsyncBatchesClientBase):
    """An async client on trio streams.

    `timeout` is the seconds without a byte in either direction before an exchange is given up;
    making a connection may take as long, and 15 s at most.
    `ssl_context` replaces the verifying default. `proxy` is an ``http://[user:password@]host:port``
    that https goes through. `connect` gives the connected streams, for tunnels of one's own;
    `unix_socket` makes one. The other parameters are those of `BatchesAPI`.
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
