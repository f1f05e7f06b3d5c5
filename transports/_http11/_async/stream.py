"""The stream protocol: the interface between the HTTP/1.1 transport and a socket library.

Three backends implement it: `sockets`, `trio` and `asyncio`. A backend connects, sends, receives
and waits. `HTTP11Connection` speaks HTTP.

Every wait is limited. `StalledError` is raised if nothing moves on a stream for the timeout of the
stream, or if the deadline of a call passes.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from transports._http11.connection import HTTP11Connection

T = TypeVar("T")
ConnectT_contra = TypeVar("ConnectT_contra", contravariant=True)


class AsyncStream(Protocol):
    """A connected stream. A deadline is a time of the backend's clock in seconds, or None."""

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes and return them; return empty bytes at the end of the stream.

        Raises:
            StreamError: the stream broke.
            StalledError: nothing arrived in time.
        """
        ...

    async def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes.

        Raises:
            StreamError: the stream broke.
            StalledError: the bytes could not be sent in time.
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
        """Send the pieces of a request, and pass received bytes to `http` meanwhile.

        `next_piece` returns None after the last piece. Sent bytes are reported to
        `http.record_accepted`.

        Returns early without an error if the stream breaks, because the peer may have responded
        before. With `until_refused`, also returns early if a response refuses the upload. A stream
        that breaks when an upload is stopped receives more of the response first, for as long as
        `http.wants_more` returns True.

        Raises:
            StalledError: nothing moved in time.
            TransportError: the received bytes are not HTTP/1.1.
        """
        ...

    async def checkpoint(self) -> None:
        """Let other tasks run, and let this task be cancelled.

        It is called if nothing else had to be awaited.
        """
        ...

    async def is_idle(self) -> bool:
        """Whether nothing has arrived on an idle stream: no bytes, no end, no error."""
        ...

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> AsyncStream:
        """Start TLS on this stream, and return the stream to use from now on.

        Raises:
            StreamError: the handshake failed.
            StalledError: the handshake did not end in time.
        """
        ...

    async def aclose(self) -> None:
        """Close the stream at once, even in a cancelled task. Further calls do nothing."""
        ...


class AsyncBackend(Protocol[ConnectT_contra]):
    """A library for sockets: it connects, has a clock, sleeps, and runs blocking work."""

    #: The name of the transport, as the logger ``transports.NAME`` shows it.
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
        """Connect to a host, with the caller's `connect` unless that is None.

        `stream_timeout` is the timeout of the returned stream, in seconds.

        Raises:
            StreamError: the connection could not be established.
            StalledError: it was not established in time.
        """
        ...

    def enter(self) -> None:
        """Check that connections can be used in the running event loop.

        Raises:
            LocalProtocolError: they belong to another loop.
        """
        ...

    def can_close(self) -> bool:
        """Whether connections can still be closed: their event loop was not closed.

        Raises:
            LocalProtocolError: the running event loop is another one.
        """
        ...

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end. A cancellation is raised only afterwards."""
        ...
