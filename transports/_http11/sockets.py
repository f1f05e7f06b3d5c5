"""The backend on blocking sockets. `stream` documents the methods."""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from transports._client.settings import CONNECT_TIMEOUT

from .connection import READ, HTTP11Connection, StalledError, StreamError

T = TypeVar("T")

#: A function that returns a socket connected to a host and port. For https, TLS is started on it.
Connect = Callable[[str, int], socket.socket]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class SocketStream:
    """A connected socket. Each wait ends after `timeout` seconds at the latest."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        #: The error that `_receive_now` found. The operating system reports an error only once, so
        #: it is kept for `receive`.
        self._error: OSError | None = None

    def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes and return them; return empty bytes at the end of the stream."""
        if self._error is not None:
            raise StreamError from self._error
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            return self._sock.recv(READ)
        except TimeoutError as error:
            raise _timeout_error(error, seconds) from error
        except OSError as error:
            raise StreamError from error

    def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes."""
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            self._sock.sendall(data)
        except TimeoutError as error:
            raise _timeout_error(error, seconds) from error
        except OSError as error:
            raise StreamError from error

    def upload(
        self,
        next_piece: Callable[[], bytes | memoryview | None],
        http: HTTP11Connection,
        deadline: float | None,
        *,
        until_refused: bool,
    ) -> None:
        """Send the pieces of a request, and pass received bytes to `http` meanwhile."""
        while (piece := next_piece()) is not None:
            left = memoryview(piece)
            del piece  # a traceback can show local variables, and the head holds the credential
            while left:
                # What `http` does not want yet stays in the socket.
                receives = http.has_room()
                try:
                    accepted = self._send_some(left, deadline, until_readable=receives)
                except OSError:
                    return  # the peer may have responded before: `receive` returns that response
                http.record_accepted(accepted)
                left = left[accepted:]
                if receives and (data := self._receive_now()) is not None:
                    http.receive(data)
                    # After the end of the response the peer can be expected to read no more.
                    if not data or (until_refused and http.is_refused()):
                        return

    def checkpoint(self) -> None:
        """Do nothing. There are no other tasks."""

    def is_idle(self) -> bool:
        """Whether nothing has arrived on an idle stream."""
        return self._error is None and self._receive_now() is None

    def start_tls(self, context: ssl.SSLContext, hostname: str, deadline: float) -> SocketStream:
        """Start TLS on this stream, and return the stream to use from now on."""
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            tls = context.wrap_socket(self._sock, server_hostname=hostname)
        except TimeoutError as error:
            raise _timeout_error(error, seconds) from error
        except (OSError, UnicodeError) as error:
            raise StreamError from error
        return SocketStream(tls, self._timeout)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _receive_now(self) -> bytes | None:
        """Return received bytes without waiting: empty at the end, None if there are none yet."""
        try:
            self._sock.settimeout(0)
            return self._sock.recv(READ)
        except _WOULD_BLOCK:
            return None
        except OSError as error:
            self._error = error
            return None

    def _send_some(self, data: memoryview, deadline: float | None, *, until_readable: bool) -> int:
        """Send as many bytes as the system accepts, and return their number.

        If it accepts none, wait until it may accept some; or, if `until_readable`, until bytes have
        arrived. Then return 0.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.send(data)
        except _WOULD_BLOCK as error:
            wants_read = isinstance(error, ssl.SSLWantReadError)
            wanted = selectors.EVENT_READ if wants_read or until_readable else 0
            wanted |= 0 if wants_read else selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, wanted)
            seconds = self._seconds(deadline)
            if not selector.select(seconds):
                raise StalledError(seconds)
        return 0

    def _seconds(self, deadline: float | None) -> float:
        """Return how long a wait may last, in seconds. It is never 0, which would be no wait.

        Raises:
            StalledError: the deadline has passed.
        """
        if deadline is None:
            return self._timeout
        left = deadline - time.monotonic()
        if left <= 0:
            # Raise even if bytes have arrived: otherwise a peer that sends them one by one could
            # extend the wait beyond the deadline.
            raise StalledError(0)
        return min(self._timeout, left)


class SocketBackend:
    """Blocking sockets, for a client that is used in one thread."""

    name = "h11"

    def connect(
        self,
        host: str,
        port: int,
        *,
        connect: Connect | None,
        deadline: float,
        stream_timeout: float,
    ) -> SocketStream:
        """Connect to a host.

        Name resolution and the caller's `connect` can exceed the deadline, because neither accepts
        one.
        """
        try:
            if connect is None:
                sock = _connect_tcp(host, port, deadline)
            elif isinstance(connect, _UnixSocket):
                sock = connect.connect(_left(deadline))
            else:
                sock = connect(host, port)
        except (OSError, UnicodeError) as error:
            if isinstance(error, TimeoutError):
                raise _timeout_error(error, 0) from error
            raise StreamError from error
        return SocketStream(sock, stream_timeout)

    def enter(self) -> None:
        """Do nothing. Sockets do not belong to an event loop."""

    def can_close(self) -> bool:
        """Return True. Sockets can always be closed."""
        return True

    def now(self) -> float:
        """Return the time of the monotonic clock, in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in this thread, because a blocking client may block."""
        return work()


def unix_socket(path: str) -> Connect:
    """Return a `connect` that connects to a Unix socket, whatever the host and port."""
    return _UnixSocket(path)


class _UnixSocket:
    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, host: str, port: int) -> socket.socket:
        del host, port
        return self.connect(CONNECT_TIMEOUT)

    def connect(self, seconds: float) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        with _closed_on_error(sock):
            sock.settimeout(seconds)
            sock.connect(self._path)
        return sock


def _connect_tcp(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of a host that can be reached.

    Each address may use an equal share of the remaining time.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("the host name has no address")
    for at, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            sock = socket.socket(family, kind, protocol)
            with _closed_on_error(sock):
                sock.settimeout(_left(deadline) / (len(addresses) - at))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            failure = error
        else:
            return sock
    raise failure


def _timeout_error(error: TimeoutError, seconds: float) -> StalledError | StreamError:
    """Return the error for our own timeout, or for the system's ``ETIMEDOUT``."""
    return StalledError(seconds) if error.errno is None else StreamError()


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; 1 ms if it has passed, so that the next wait fails."""
    return max(0.001, deadline - time.monotonic())


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
