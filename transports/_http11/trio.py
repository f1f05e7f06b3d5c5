"""The backend on trio. `stream` documents the methods."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from transports._client.extras import explain

try:
    import trio
except ModuleNotFoundError as error:
    explain(error, "trio")
    raise

from batches_core import TransportError

from .connection import READ, HTTP11Connection, StalledError, StreamError

T = TypeVar("T")

#: A function that returns a stream connected to a host and port. For https, TLS is started on it.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

#: The errors of a stream that broke, or that another task closed.
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
#: How long TLS may process bytes that arrived while a connection was idle, in seconds.
_IDLE_READ_TIME = 0.05
#: How long a refusal is received before the upload is stopped, in seconds.
_REFUSAL_TIME = 2.0


class TrioStream:
    """A connected stream. Each wait ends if nothing moves for `timeout` seconds."""

    def __init__(self, stream: trio.abc.Stream, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        #: How many bytes were sent. While it grows, a parallel `receive` does not time out.
        self._sent = 0

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes and return them; return empty bytes at the end of the stream."""
        while True:
            sent = self._sent
            try:
                with trio.move_on_at(self._end_of_wait(deadline)):
                    return bytes(await self._stream.receive_some(READ))
            except _BROKEN as error:
                raise StreamError from error
            if sent == self._sent or (deadline is not None and trio.current_time() >= deadline):
                raise StalledError(self._timeout)

    async def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes."""
        with trio.move_on_at(self._end_of_wait(deadline)):
            try:
                await self._stream.send_all(data)
            except _BROKEN as error:
                raise StreamError from error
            self._sent += len(data)
            return
        raise StalledError(self._timeout)

    async def upload(
        self,
        next_piece: Callable[[], Awaitable[bytes | memoryview | None]],
        http: HTTP11Connection,
        deadline: float | None,
        *,
        until_refused: bool,
    ) -> None:
        """Send the pieces of a request, and pass received bytes to `http` meanwhile."""
        upload = _Upload(self, next_piece, http, deadline)
        if until_refused:
            await upload.run_until_refused()
        else:
            await upload.send_all()

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()

    async def is_idle(self) -> bool:
        """Whether nothing has arrived on an idle stream."""
        plain = getattr(self._stream, "transport_stream", self._stream)
        if not isinstance(plain, trio.SocketStream) or not plain.socket.is_readable():
            return True
        with trio.move_on_after(_IDLE_READ_TIME) as limit:
            # TLS reads messages of its own here, such as session tickets. It returns no bytes for
            # them, and keeps waiting.
            with suppress(*_BROKEN):
                await self._stream.receive_some(READ)
        return limit.cancelled_caught

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> TrioStream:
        """Start TLS on this stream, and return the stream to use from now on."""
        began = trio.current_time()
        try:
            tls = trio.SSLStream(
                self._stream, context, server_hostname=hostname, https_compatible=True
            )
            with trio.fail_at(deadline):
                await tls.do_handshake()
        except trio.TooSlowError as error:
            raise StalledError(deadline - began) from error
        except (UnicodeError, *_BROKEN) as error:
            raise StreamError from error
        return TrioStream(tls, self._timeout)

    async def aclose(self) -> None:
        """Close the stream at once."""
        # Forceful closing does not wait, but it is a checkpoint, where a cancelled task would stop.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _end_of_wait(self, deadline: float | None) -> float:
        end = trio.current_time() + self._timeout
        return end if deadline is None else min(end, deadline)


class _Upload:
    """The upload of a request in one task, while another task receives the response."""

    def __init__(
        self,
        stream: TrioStream,
        next_piece: Callable[[], Awaitable[bytes | memoryview | None]],
        http: HTTP11Connection,
        deadline: float | None,
    ) -> None:
        self._stream = stream
        self._next_piece = next_piece
        self._http = http
        self._deadline = deadline
        #: Whether receiving failed. The error says whether the request was sent, so after it no
        #: more bytes may be sent.
        self._has_failed = False

    async def send_all(self) -> None:
        while (piece := await self._next_piece()) is not None:
            if self._has_failed:
                return
            # Record the piece before it is sent. If sending fails, it is unknown how much was sent.
            self._http.record_accepted(len(piece))
            try:
                await self._stream.send(piece, self._deadline)
            except (StreamError, StalledError):
                return  # the peer may have responded before: `receive` returns that response

    async def run_until_refused(self) -> None:
        """Send and receive at the same time; stop sending if `_receive` returns True or fails."""
        failure: TransportError | StalledError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send_all)
                try:
                    is_refused = await self._receive()
                except (TransportError, StalledError, StreamError) as error:
                    self._has_failed = True
                    # It is raised below, because the nursery would wrap it in a group.
                    failure = (
                        self._http.broken_error(error) if isinstance(error, StreamError) else error
                    )
                if failure is not None or is_refused:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The two tasks are an implementation detail: raise a single error without the group.
            are_cancelled = all(isinstance(each, trio.Cancelled) for each in group.exceptions)
            if len(group.exceptions) > 1 and not are_cancelled:
                raise
            raise group.exceptions[0] from None
        if failure is not None:
            raise failure from failure.__cause__

    async def _receive(self) -> bool:
        """Receive the head of the response. If it refuses the upload, receive more; return True."""
        while not self._http.has_head():
            self._http.receive(await self._stream.receive(self._deadline))
        if not self._http.is_refused():
            return False
        # Stopping an upload in the middle breaks a TLS stream in both directions, so receive the
        # refusal first.
        with trio.move_on_after(_REFUSAL_TIME):
            while self._http.wants_more():
                self._http.receive(await self._stream.receive(self._deadline))
        return True


class TrioBackend:
    """trio's streams, for any number of tasks of one ``trio.run``."""

    name = "trio"

    async def connect(
        self,
        host: str,
        port: int,
        *,
        connect: Connect | None,
        deadline: float,
        stream_timeout: float,
    ) -> TrioStream:
        """Connect to a host."""
        began = trio.current_time()
        try:
            with trio.fail_at(deadline):
                if connect is None:
                    stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
                else:
                    stream = await connect(host, port)
        except trio.TooSlowError as error:
            raise StalledError(deadline - began) from error
        except (OSError, UnicodeError, *_BROKEN) as error:
            raise StreamError from error
        return TrioStream(stream, stream_timeout)

    def enter(self) -> None:
        """Do nothing. trio itself raises an error if a stream belongs to another run."""

    def can_close(self) -> bool:
        """Return True. Sockets can be closed in any run."""
        return True

    def now(self) -> float:
        """Return the time of trio's clock, in seconds."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await trio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end. A cancellation is raised only afterwards."""
        with trio.CancelScope(shield=True):
            result = await trio.to_thread.run_sync(work)
        return result  # noqa: RET504 - to mypy, a scope can suppress an error


def unix_socket(path: str) -> Connect:
    """Return a `connect` that connects to a Unix socket, whatever the host and port."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        del host, port
        return await trio.open_unix_socket(path)

    return connect
