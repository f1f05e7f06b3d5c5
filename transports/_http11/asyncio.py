"""The stream protocol on asyncio: a protocol of asyncio's under each stream, without its streams.

asyncio reads as soon as bytes arrive, and copies what is written into a buffer of its own. So this
stream keeps a short queue of received bytes, and waits until most of what it wrote is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from transports._client.asyncio_threads import HomeLoop, run_to_its_end
from transports._client.bodies import SLICE

from .connection import READ, HTTP11Connection, StalledError, StreamError

T = TypeVar("T")

#: Returns a non-blocking socket that is connected to a host and port. TLS is added on it for https.
Connect = Callable[[str, int], Awaitable[socket.socket]]

#: Received bytes that wait here at most, about, before the socket is not read any more.
_MOST_WAITING = 2 * READ


class AsyncioStream(asyncio.Protocol):
    """A connected stream; each wait ends after `timeout` seconds in which nothing moved."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._received: deque[bytes] = deque()
        self._waiting = 0
        self._is_paused = False
        self._is_writable = True
        self._is_ended = False
        self._error: BaseException | None = None
        #: Done when anything happens that a wait can end with.
        self._wakeup: asyncio.Future[None] | None = None
        self._is_lost: asyncio.Future[None] = self._loop.create_future()

    # --- what asyncio calls ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or go on over TLS."""
        self._transport = transport
        self._transport.set_write_buffer_limits(high=SLICE)

    def data_received(self, data: bytes) -> None:
        """Queue bytes; stop reading if they are many."""
        self._received.append(data)
        self._waiting += len(data)
        if self._waiting > _MOST_WAITING and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Record the end; keep the other direction open, which may still be sending."""
        self._is_ended = True
        self._wake()
        # TLS has no half that could stay open, and asyncio warns if it is asked to.
        return self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Record the loss."""
        self._error = self._error or error
        self._is_ended = self._is_writable = True
        if not self._is_lost.done():
            self._is_lost.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """Record that the buffer is full."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Record that the buffer has room."""
        self._is_writable = True
        self._wake()

    # --- the stream protocol -----------------------------------------------------------------

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes; return none at the end."""
        if deadline is not None and self._loop.time() >= deadline:
            # Even if bytes are there: a peer that sends byte after byte is not waited for.
            raise StalledError(self._timeout)
        while (data := self._receive_now()) is None:
            await self._wait(deadline)
        return data

    async def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes."""
        if not self._transport.is_closing():
            self._transport.write(data)
        while not self._is_writable:
            await self._wait(deadline)

    async def upload(
        self,
        next_piece: Callable[[], Awaitable[bytes | memoryview | None]],
        http: HTTP11Connection,
        deadline: float | None,
        *,
        until_refused: bool,
    ) -> None:
        """Send pieces, and pass bytes that arrive meanwhile to `http`."""
        while (piece := await next_piece()) is not None:
            while not self._is_writable or self._received:
                if self._received:
                    http.receive(self._take())
                    if until_refused and http.is_refused():
                        return
                else:
                    await self._wait(deadline)
            if self._transport.is_closing():
                return  # the peer may have responded before it closed: `receive` tells
            # asyncio buffers it, so it may leave from now on.
            http.record_accepted(len(piece))
            self._transport.write(piece)
            # Writing need not wait, and then no other task runs and nothing is received.
            await asyncio.sleep(0)

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def is_idle(self) -> bool:
        """Whether nothing has arrived."""
        # The loop notices what has arrived in its next turn, and reports it in the one after.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return not self._received and not self._is_ended

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> AsyncioStream:
        """Put TLS on this stream, and return it."""
        seconds = deadline - self._loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                self.connection_made(
                    await self._loop.start_tls(  # type: ignore[arg-type]  # None only if it was closed
                        self._transport, self, context, server_hostname=hostname
                    )
                )
        except BaseException as error:
            # asyncio does not report the loss of a connection that it could not put TLS on.
            self._transport.abort()
            self._loop.call_soon(self.connection_lost, None)
            if isinstance(error, TimeoutError) and error.errno is None:
                raise StalledError(seconds) from error
            if isinstance(error, (OSError, UnicodeError)):
                raise StreamError from error
            raise
        return self

    async def aclose(self) -> None:
        """Close the stream at once, and wait until its socket is closed."""
        self._transport.abort()
        cancelled: asyncio.CancelledError | None = None
        while not self._is_lost.done():
            try:
                await asyncio.wait({self._is_lost})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    # --- waiting -----------------------------------------------------------------------------

    def _receive_now(self) -> bytes | None:
        if self._received:
            return self._take()
        if self._error is not None:
            raise StreamError from self._error
        return b"" if self._is_ended else None

    def _take(self) -> bytes:
        data = self._received.popleft()
        self._waiting -= len(data)
        if self._is_paused and self._waiting <= READ:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def _wait(self, deadline: float | None) -> None:
        """Wait until something happens; raise `StalledError` if nothing moves in time."""
        end = self._loop.time() + self._timeout
        unsent = self._transport.get_write_buffer_size()
        self._wakeup = self._loop.create_future()
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)):
                await self._wakeup
        except TimeoutError:
            is_late = deadline is not None and self._loop.time() >= deadline
            if is_late or unsent == self._transport.get_write_buffer_size():
                raise StalledError(self._timeout) from None
        finally:
            self._wakeup = None

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


class AsyncioBackend:
    """asyncio's event loops, for any number of tasks of one loop."""

    name = "asyncio"

    def __init__(self) -> None:
        self._home = HomeLoop()

    async def connect(
        self,
        host: str,
        port: int,
        *,
        connect: Connect | None,
        deadline: float,
        stream_timeout: float,
    ) -> AsyncioStream:
        """Connect to a host."""
        loop = asyncio.get_running_loop()
        stream = AsyncioStream(stream_timeout)
        began = loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                if connect is None:
                    sock = await _connect_tcp(loop, host, port, deadline)
                else:
                    sock = await connect(host, port)
                with _closed_on_error(sock):
                    await loop.create_connection(lambda: stream, sock=sock)
        except TimeoutError as error:
            if error.errno is not None:
                raise StreamError from error
            raise StalledError(deadline - began) from error
        except (OSError, UnicodeError) as error:
            raise StreamError from error
        return stream

    def enter(self) -> None:
        """Check that the running loop is the one of the first exchange."""
        self._home.enter(asyncio.get_running_loop())

    def can_close(self) -> bool:
        """Whether the loop still runs."""
        if self._home.has_ended:
            return False
        self.enter()
        return True

    def now(self) -> float:
        """Read the loop's clock."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end."""
        return await run_to_its_end(work)


def unix_socket(path: str) -> Connect:
    """Return a `connect` that leads every connection to a Unix socket."""

    async def connect(host: str, port: int) -> socket.socket:
        del host, port
        sock = socket.socket(socket.AF_UNIX)
        with _closed_on_error(sock):
            sock.settimeout(0)
            await asyncio.get_running_loop().sock_connect(sock, path)
        return sock

    return connect


async def _connect_tcp(
    loop: asyncio.AbstractEventLoop, host: str, port: int, deadline: float
) -> socket.socket:
    """Connect to the first address that can be reached; each gets its share of the time.

    asyncio's own `create_connection` merges the errors of several addresses into one text.
    """
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("it has no address")
    for at, (family, kind, protocol, _, address) in enumerate(addresses):
        share = (deadline - loop.time()) / (len(addresses) - at)
        try:
            sock = socket.socket(family, kind, protocol)
            with _closed_on_error(sock):
                sock.settimeout(0)
                async with asyncio.timeout(share):
                    await loop.sock_connect(sock, address)
        except OSError as error:
            failure = error
        else:
            return sock
    raise failure


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
