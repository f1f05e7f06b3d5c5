"""The backend on asyncio. `stream` documents the methods.

Each stream is an `asyncio.Protocol`, without asyncio's own streams. asyncio reads bytes as soon as
they arrive, so the stream queues them, and pauses reading if there are many. asyncio copies written
bytes to a buffer, so the stream waits until most of them have left.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from transports._client.asyncio_threads import HomeLoop, run_to_completion
from transports._client.bodies import SLICE

from .connection import READ, HTTP11Connection, StalledError, StreamError

T = TypeVar("T")

#: A function that returns a non-blocking socket connected to a host and port. For https, TLS is
#: started on it.
Connect = Callable[[str, int], Awaitable[socket.socket]]

#: How many received bytes may be queued before reading is paused.
_MAX_QUEUED = 2 * READ


class AsyncioStream(asyncio.Protocol):
    """A connected stream. Each wait ends if nothing moves for `timeout` seconds."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        #: The transport in use, and that of the socket, which differs under TLS.
        self._transport: Any = None
        self._plain: Any = None
        #: The queue of received bytes, and its size in bytes.
        self._received: deque[bytes] = deque()
        self._queued = 0
        self._is_paused = False
        self._is_writable = True
        self._is_ended = False
        self._error: BaseException | None = None
        #: Set by `_wait`, and done when something happens that can end the wait.
        self._wakeup: asyncio.Future[None] | None = None
        #: Done when asyncio has closed the socket.
        self._socket_closed: asyncio.Future[None] = self._loop.create_future()

    # --- callbacks of asyncio ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport: at the beginning, and again when TLS has started."""
        self._plain = self._plain or transport
        self._transport = transport
        self._transport.set_write_buffer_limits(high=SLICE)

    def data_received(self, data: bytes) -> None:
        """Queue received bytes, and pause reading if the queue is long."""
        self._received.append(data)
        self._queued += len(data)
        if self._queued > _MAX_QUEUED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Record the end. Return whether the other direction stays open, to finish sending."""
        self._is_ended = True
        self._wake()
        # With TLS, asyncio cannot keep one direction open, and warns about True.
        return self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Record that asyncio closed the socket, and the error if there was one."""
        self._error = self._error or error
        self._is_ended = self._is_writable = True
        if not self._socket_closed.done():
            self._socket_closed.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        """Record that asyncio's write buffer is full."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Record that asyncio's write buffer has room again."""
        self._is_writable = True
        self._wake()

    # --- the stream protocol -----------------------------------------------------------------

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes and return them; return empty bytes at the end of the stream."""
        if deadline is not None and self._loop.time() >= deadline:
            # Raise even if bytes have arrived: otherwise a peer that sends them one by one could
            # extend the wait beyond the deadline.
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
        """Send the pieces of a request, and pass received bytes to `http` meanwhile."""
        while (piece := await next_piece()) is not None:
            data = memoryview(piece)
            del piece  # a traceback can show local variables, and the head holds the credential
            while (
                self._has_wanted(http)
                or not (self._is_writable or self._is_ended)
                or self._is_readable()
            ):
                if self._has_wanted(http):
                    http.receive(self._dequeue())
                    if until_refused and http.is_refused():
                        return
                elif not self._is_writable:
                    await self._wait(deadline)
                else:
                    await asyncio.sleep(0)
            if self._is_ended or self._transport.is_closing():
                return  # the peer may have responded before: `receive` returns that response
            # asyncio buffers the piece, so all of it may leave from now on.
            http.record_accepted(len(data))
            self._transport.write(data)
            # If no write has to wait, no other task would run, and nothing would be received.
            await asyncio.sleep(0)

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await asyncio.sleep(0)

    async def is_idle(self) -> bool:
        """Whether nothing has arrived on an idle stream."""
        # The loop polls the socket in its next iteration, and calls back in the one after that.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return not self._received and not self._is_ended

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> AsyncioStream:
        """Start TLS on this stream, and return it."""
        if self._received:
            # They would be read later as if they had arrived through TLS.
            raise StreamError from OSError("bytes arrived before the TLS handshake")
        seconds = deadline - self._loop.time()
        try:
            async with asyncio.timeout_at(deadline):
                self.connection_made(
                    await self._loop.start_tls(  # type: ignore[arg-type]  # None only if it was closed
                        self._transport, self, context, server_hostname=hostname
                    )
                )
        except BaseException as error:
            # If starting TLS fails, asyncio does not call `connection_lost`.
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
        while not self._socket_closed.done():
            try:
                await asyncio.wait({self._socket_closed})
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    # --- waiting -----------------------------------------------------------------------------

    def _receive_now(self) -> bytes | None:
        """Return received bytes without waiting: empty at the end, None if there are none yet."""
        if self._received:
            return self._dequeue()
        if self._error is not None:
            raise StreamError from self._error
        return b"" if self._is_ended else None

    def _has_wanted(self, http: HTTP11Connection) -> bool:
        # What `http` does not want yet stays in the queue, and then in the socket.
        return bool(self._received) and http.has_room()

    def _is_readable(self) -> bool:
        """Whether the socket has bytes that asyncio will read in its next turns.

        If a peer refuses an upload and closes, the next write fails. asyncio then closes the socket
        at once, and a refusal that it has not read is lost.
        """
        if self._is_ended or self._is_paused or self._transport.is_closing():
            return False
        with selectors.DefaultSelector() as selector:
            selector.register(self._transport.get_extra_info("socket"), selectors.EVENT_READ)
            return bool(selector.select(0))

    def _dequeue(self) -> bytes:
        data = self._received.popleft()
        self._queued -= len(data)
        if self._is_paused and self._queued <= READ:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def _wait(self, deadline: float | None) -> None:
        """Wait until something happens.

        Raises:
            StalledError: nothing moved for the timeout, or the deadline passed.
        """
        end = self._loop.time() + self._timeout
        unsent = self._unsent()
        wakeup = self._wakeup = self._loop.create_future()
        try:
            async with asyncio.timeout_at(end if deadline is None else min(end, deadline)):
                await wakeup
        except TimeoutError:
            is_late = deadline is not None and self._loop.time() >= deadline
            # If the loop was blocked, it sees the received bytes and the timeout in the same turn.
            has_moved = unsent != self._unsent() or not wakeup.cancelled()
            if is_late or not has_moved:
                raise StalledError(self._timeout) from None
        finally:
            self._wakeup = None

    def _unsent(self) -> int:
        """Return how many bytes asyncio holds. The size of TLS excludes that of its socket."""
        size: int = self._transport.get_write_buffer_size()
        if self._plain is not self._transport:
            size += self._plain.get_write_buffer_size()
        return size

    def _wake(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)


class AsyncioBackend:
    """Sockets on asyncio, for any number of tasks of one event loop."""

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
        """Check that the running event loop is the loop of the first exchange."""
        self._home.enter(asyncio.get_running_loop())

    def can_close(self) -> bool:
        """Whether connections can still be closed: their event loop was not closed."""
        if self._home.has_ended:
            return False
        self.enter()
        return True

    def now(self) -> float:
        """Return the time of the event loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end. A cancellation is raised only afterwards."""
        return await run_to_completion(work)


def unix_socket(path: str) -> Connect:
    """Return a `connect` that connects to a Unix socket, whatever the host and port."""

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
    """Connect to the first address of a host that can be reached.

    Each address may use an equal share of the remaining time. asyncio's own `create_connection` is
    not used, because it merges the errors of several addresses into one text.
    """
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("the host name has no address")
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
