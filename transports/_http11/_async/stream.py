"""The stream protocol: what the raw transport needs of a library for sockets.

One backend implements it for each library: `sockets`, `trio` and `asyncio`. A backend knows how to
connect and how to wait; nothing of HTTP. Every wait has an end: a stream on which nothing moves for
its timeout raises `StalledError`, and so does a wait whose deadline passes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from transports._http11.connection import HTTP11Connection

T = TypeVar("T")
ConnectT_contra = TypeVar("ConnectT_contra", contravariant=True)


class AsyncStream(Protocol):
    """A connected stream. Times are those of the backend's clock, in seconds."""

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes; return none at the end.

        Raises:
            StreamError: the stream broke.
            StalledError: nothing arrived in time.
        """
        ...

    async def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes.

        Raises:
            StreamError: the stream broke.
            StalledError: they could not be sent in time.
        """
        ...

    async def upload(
        self,
        next_piece: Callable[[], Awaitable[bytes | memoryview | None]],
        http: HTTP11Connection,
        deadline: float | None,
        *,
        until_refused: bool,
    ) -> None:
        """Send pieces until there are no more, and pass bytes that arrive meanwhile to `http`.

        Reports accepted bytes to `http` too. Stops without an error if the stream breaks, since the
        peer may have responded before. With `until_refused` it also stops once a response refuses
        the upload; then as much of that response as is wanted has been received.

        Raises:
            StalledError: nothing moved in time.
            TransportError: the bytes that arrived are not a response.
        """
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run, and be cancelled; for a caller that had no reason to wait."""
        ...

    async def is_idle(self) -> bool:
        """Whether nothing has arrived on a stream that was kept, not even its end."""
        ...

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> AsyncStream:
        """Return this stream with TLS on it.

        Raises:
            StreamError: there is no TLS with this peer.
            StalledError: the handshake did not end in time.
        """
        ...

    async def aclose(self) -> None:
        """Close the stream at once, also in a cancelled task; harmless when repeated."""
        ...


class AsyncBackend(Protocol[ConnectT_contra]):
    """A library for sockets: it connects, has a clock, and can run blocking work."""

    #: The name of its transport, in the log.
    name: str

    async def connect(
        self,
        host: str,
        port: int,
        *,
        connect: ConnectT_contra | None,
        deadline: float,
        stream_timeout: float,
    ) -> AsyncStream:
        """Connect to a host, by the caller's own `connect` if there is one.

        `stream_timeout` is how long the stream may stand still later, in seconds.

        Raises:
            StreamError: there is no connection.
            StalledError: there was none in time.
        """
        ...

    def enter(self) -> None:
        """Check that the caller's event loop is the one that the connections belong to.

        Raises:
            LocalProtocolError: it is another one.
        """
        ...

    def can_close(self) -> bool:
        """Whether connections can still be closed: their event loop has not ended."""
        ...

    def now(self) -> float:
        """Read a monotonic clock, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end; a cancellation is raised only afterwards."""
        ...
