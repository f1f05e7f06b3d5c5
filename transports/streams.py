"""Opens streams for `transports.trio`: TCP or Unix, through a proxy or not, TLS or plain.

Knows how a connection comes about; nothing of what goes over it afterwards.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from batches_core import TransportError

from .http11 import READ, Origin, Proxy, Tunnel, tls_context
from .settings import CONNECT_TIMEOUT

#: Gives a connected stream to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

#: What a stream raises that broke, or that somebody else has closed.
BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)


class Dialer:
    """Opens connections, with what a client was told of TLS, proxies and streams of its own."""

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        connect: Connect | None,
    ) -> None:
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy(proxy)
        self._connect_to = connect or _connect_tcp

    async def dial(self, origin: Origin) -> trio.abc.Stream:
        """Open a connection to an origin.

        Raises:
            TransportError: it could not be opened; nothing was sent.
        """
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
        except (OSError, UnicodeError, trio.TooSlowError, *BROKEN) as error:
            why = error.__cause__ or error
            while isinstance(why, BaseExceptionGroup):
                why = why.exceptions[0]  # one attempt of several, each with the like to say
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
