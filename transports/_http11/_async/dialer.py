"""Open connections: TCP or the caller's own, directly or through a proxy, with or without TLS.

A backend connects and starts TLS. `proxy` defines the exchange that opens a tunnel.
"""

from __future__ import annotations

import ssl
from typing import Generic, TypeVar

from batches_core import TransportError
from batches_core.lowlevel import check_seconds
from transports._client import failures
from transports._client.settings import CONNECT_TIMEOUT
from transports._http11.connection import StalledError, StreamError
from transports._http11.pool import Origin
from transports._http11.proxy import Proxy, Tunnel, TunnelError
from transports._http11.tls import tls_context

from .stream import AsyncBackend, AsyncStream

ConnectT = TypeVar("ConnectT")

#: The longest timeout, in seconds. Longer ones are shortened, because the operating system accepts
#: only numbers of limited size.
_LONGEST_TIMEOUT = 7 * 24 * 3600.0


class AsyncDialer(Generic[ConnectT]):
    """Open the connections of one client, as its settings for TLS, proxy and sockets say.

    `timeout` is in seconds. The other parameters are those of the client.

    Raises:
        InvalidInputError: `timeout` or `proxy` cannot be used.
    """

    def __init__(
        self,
        backend: AsyncBackend[ConnectT],
        *,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        connect: ConnectT | None,
        timeout: float,
    ) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._backend = backend
        self._timeout = min(timeout, _LONGEST_TIMEOUT)
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy(proxy)
        self._connect = connect

    async def dial(self, origin: Origin, deadline: float | None) -> AsyncStream:
        """Open a connection to an origin.

        The time ends at `deadline`, after the client's timeout, or after 15 s, whichever is first.

        Raises:
            TransportError: the connection could not be opened. Nothing was sent.
        """
        scheme, host, port = origin
        now = self._backend.now()
        seconds = min(self._timeout, CONNECT_TIMEOUT)
        if deadline is not None:
            seconds = min(seconds, max(0.001, deadline - now))
        proxy = self._proxy if scheme == "https" else None
        try:
            return await self._open(origin, proxy, now + seconds)
        except (StreamError, StalledError, TunnelError) as error:
            is_late = isinstance(error, StalledError)
            cause = None if is_late else error.__cause__
            why = failures.no_response(seconds) if is_late else failures.describe(cause or error)
            via = None if proxy is None else proxy.peer
            reason = failures.cannot_connect(failures.peer_name(host, port), why, via)
            raise TransportError(reason, sent=False) from cause and failures.cause_of(cause)

    async def _open(self, origin: Origin, proxy: Proxy | None, deadline: float) -> AsyncStream:
        scheme, host, port = origin
        to = (host, port) if proxy is None else (proxy.host, proxy.port)
        stream = await self._backend.connect(
            *to, connect=self._connect, deadline=deadline, stream_timeout=self._timeout
        )
        try:
            if proxy is not None:
                await _open_tunnel(stream, proxy.tunnel(origin), deadline)
            if scheme == "https":
                self._ssl_context = self._ssl_context or tls_context()
                stream = await stream.start_tls(self._ssl_context, host, deadline)
        except BaseException:
            await stream.aclose()
            raise
        return stream


async def _open_tunnel(stream: AsyncStream, tunnel: Tunnel, deadline: float) -> None:
    await stream.send(tunnel.request, deadline)
    while not tunnel.receive(await stream.receive(deadline)):
        pass
