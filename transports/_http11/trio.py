"""The stream protocol on trio."""

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

#: Returns a stream that is connected to a host and port. TLS is added on it for https.
Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]

#: Raised by a stream that broke, or that another task has closed.
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
#: Seconds for TLS to process what arrived while a kept connection was idle.
_IDLE_READ = 0.05
#: Seconds to receive a refusal before the upload that it refuses is stopped.
_REFUSAL = 2.0


class TrioStream:
    """A connected stream; each wait ends after `timeout` seconds in which nothing moved."""

    def __init__(self, stream: trio.abc.Stream, timeout: float) -> None:
        self._stream = stream
        self._timeout = timeout
        self._sent = 0

    async def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes; return none at the end."""
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
        """Send pieces, and pass bytes that arrive meanwhile to `http`."""
        upload = _Upload(self, next_piece, http, deadline)
        if until_refused:
            await upload.run_until_refused()
        else:
            await upload.send_all()

    async def checkpoint(self) -> None:
        """Let other tasks run."""
        await trio.lowlevel.checkpoint()

    async def is_idle(self) -> bool:
        """Whether nothing has arrived."""
        plain = getattr(self._stream, "transport_stream", self._stream)
        if not isinstance(plain, trio.SocketStream) or not plain.socket.is_readable():
            return True
        with trio.move_on_after(_IDLE_READ) as nothing_came:
            # TLS reads its own messages here (new session tickets), and returns no bytes for them.
            with suppress(*_BROKEN):
                await self._stream.receive_some(READ)
        return nothing_came.cancelled_caught

    async def start_tls(
        self, context: ssl.SSLContext, hostname: str, deadline: float
    ) -> TrioStream:
        """Return this stream with TLS on it."""
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
        # Forceful closing waits for nothing, but a cancelled task cannot even ask for it.
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    def _end_of_wait(self, deadline: float | None) -> float:
        end = trio.current_time() + self._timeout
        return end if deadline is None else min(end, deadline)


class _Upload:
    """Sends a request in one task while another one listens for a response."""

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
        #: Set with an error whose `sent` was computed: no byte may leave after that.
        self._is_over = False

    async def send_all(self) -> None:
        while (piece := await self._next_piece()) is not None:
            if self._is_over:
                return
            # Before it is sent: if a piece breaks off, nobody can tell how much of it has left.
            self._http.record_accepted(len(piece))
            try:
                await self._stream.send(piece, self._deadline)
            except (StreamError, StalledError):
                return  # the peer may have responded before it closed: `receive` tells

    async def run_until_refused(self) -> None:
        """Send and listen at once; stop sending once `_listen` returns True or fails."""
        failure: TransportError | StalledError | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.send_all)
                try:
                    is_refused = await self._listen()
                except (TransportError, StalledError, StreamError) as error:
                    self._is_over = True
                    # Raised below, outside the nursery, which would put it into a group.
                    failure = self._http.broke(error) if isinstance(error, StreamError) else error
                if failure is not None or is_refused:
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # That there are two tasks is a detail: raise their only error without the group.
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from None
        if failure is not None:
            raise failure from failure.__cause__

    async def _listen(self) -> bool:
        while not self._http.has_head():
            self._http.receive(await self._stream.receive(self._deadline))
        if not self._http.is_refused():
            return False
        # To stop an upload in the middle breaks a TLS stream in both directions, so the refusal is
        # received before.
        with trio.move_on_after(_REFUSAL):
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
        """Do nothing: trio says itself that a stream belongs to another run."""

    def can_close(self) -> bool:
        """Return True: sockets can be closed in any run."""
        return True

    def now(self) -> float:
        """Read trio's clock."""
        return trio.current_time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await trio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in a thread, to its end."""
        with trio.CancelScope(shield=True):
            result = await trio.to_thread.run_sync(work)
        return result  # noqa: RET504 - mypy expects that a scope can swallow an error


def unix_socket(path: str) -> Connect:
    """Return a `connect` that leads every connection to a Unix socket."""

    async def connect(host: str, port: int) -> trio.abc.Stream:
        del host, port
        return await trio.open_unix_socket(path)

    return connect
