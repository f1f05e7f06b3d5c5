"""Streams for `transports.trio`: TCP or Unix, through a proxy or not, TLS or plain.

Knows how a connection comes about and how to wait on it; nothing of what goes over it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import trio

from batches_core import TransportError
from batches_core.lowlevel import check_seconds

from . import wording
from .http11 import (
    LONGEST_TIMEOUT,
    READ,
    Origin,
    Proxy,
    Stalled,
    Tunnel,
    TunnelError,
    tls_context,
)
from .settings import CONNECT_TIMEOUT

#: Gives a connected stream to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

#: What a stream raises that broke, or that somebody else has closed.
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)

#: Seconds to let TLS take in what came while a kept connection had nothing to do.
_A_MOMENT = 0.05


class TimedStream:
    """A connected stream on which every wait has its end. One that broke raises of `BROKEN`."""

    def __init__(self, stream: trio.abc.Stream, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        self._sent = 0

    async def receive(self) -> bytes:
        """Wait for bytes; none at the end.

        Raises:
            Stalled: nothing came in time, and nothing went.
        """
        while True:
            sent = self._sent
            with trio.move_on_after(self._timeout):
                return bytes(await self._stream.receive_some(READ))
            if sent == self._sent:
                raise Stalled(self._timeout)

    async def send(self, data: bytes | memoryview) -> bool:
        """Send bytes; False where they did not go, in time or at all."""
        with trio.move_on_after(self._timeout):
            try:
                await self._stream.send_all(data)
            except BROKEN:
                return False
            self._sent += len(data)
            return True
        return False

    async def is_quiet(self) -> bool:
        """Look whether neither bytes came that nobody asked for, nor the end."""
        plain = getattr(self._stream, "transport_stream", self._stream)
        if not isinstance(plain, trio.SocketStream) or not plain.socket.is_readable():
            return True
        with trio.move_on_after(_A_MOMENT) as nothing_came:
            # What TLS says for itself (new session tickets) is taken in and gives no bytes.
            with suppress(*BROKEN):
                await self._stream.receive_some(READ)
        return nothing_came.cancelled_caught

    async def aclose(self) -> None:
        """Close it, at once and also where the task is cancelled; again is harmless."""
        # Forceful closing waits for nothing, but a cancelled task may not even ask for it.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)


async def together(
    upload: Callable[[], Awaitable[None]], listen: Callable[[], Awaitable[bool]]
) -> None:
    """Upload and listen at once; the upload is stopped where `listen` gives True or fails.

    What either raises comes out bare: that there were two tasks is nobody's concern.
    """
    failure: TransportError | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            try:
                is_enough = await listen()
            except TransportError as error:
                failure = error  # raised outside, where no group is put around it
            if failure is not None or is_enough:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    if failure is not None:
        raise failure


class Dialer:
    """Opens connections, with what a client was told of TLS, proxies and streams of its own."""

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        connect: Connect | None,
        timeout: float,
    ) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._timeout = min(timeout, LONGEST_TIMEOUT)
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy(proxy)
        self._connect_to = connect or _connect_tcp

    async def dial(self, origin: Origin) -> TimedStream:
        """Open a connection to an origin.

        Raises:
            TransportError: it could not be opened; nothing was sent.
        """
        scheme, host, port = origin
        seconds = min(self._timeout, CONNECT_TIMEOUT)
        proxy = self._proxy if scheme == "https" else None
        try:
            with trio.fail_after(seconds):
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
        except (OSError, UnicodeError, trio.TooSlowError, TunnelError, *BROKEN) as error:
            late = isinstance(error, trio.TooSlowError)
            why = wording.no_answer(seconds) if late else wording.why(error)
            via = None if proxy is None else proxy.peer
            what = wording.cannot_connect(wording.peer_of(host, port), why, via)
            raise TransportError(what, sent=False) from wording.cause_of(error)
        return TimedStream(stream, self._timeout)


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
