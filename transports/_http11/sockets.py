"""The stream protocol on blocking sockets."""

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

#: Returns a socket that is connected to a host and port. TLS is added on it for https.
Connect = Callable[[str, int], socket.socket]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class SocketStream:
    """A connected socket; each wait ends after `timeout` seconds."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        #: The error of a stream that was found broken by a call that does not raise it: the system
        #: reports it once.
        self._error: OSError | None = None

    def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes; return none at the end."""
        if self._error is not None:
            raise StreamError from self._error
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            return self._sock.recv(READ)
        except TimeoutError as error:
            raise _late(error, seconds) from error
        except OSError as error:
            raise StreamError from error

    def send(self, data: bytes | memoryview, deadline: float | None) -> None:
        """Send bytes."""
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            self._sock.sendall(data)
        except TimeoutError as error:
            raise _late(error, seconds) from error
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
        """Send pieces, and pass bytes that arrive meanwhile to `http`."""
        while (piece := next_piece()) is not None:
            left = memoryview(piece)
            while left:
                try:
                    accepted = self._send_some(left, deadline)
                except OSError:
                    return  # the peer may have responded before it closed: `receive` tells
                http.record_accepted(accepted)
                left = left[accepted:]
                if (data := self._receive_now()) is not None:
                    http.receive(data)
                    if until_refused and http.is_refused():
                        return

    def checkpoint(self) -> None:
        """Do nothing: no other task waits."""

    def is_idle(self) -> bool:
        """Whether nothing has arrived."""
        return self._error is None and self._receive_now() is None

    def start_tls(self, context: ssl.SSLContext, hostname: str, deadline: float) -> SocketStream:
        """Return this stream with TLS on it."""
        seconds = self._seconds(deadline)
        try:
            self._sock.settimeout(seconds)
            tls = context.wrap_socket(self._sock, server_hostname=hostname)
        except TimeoutError as error:
            raise _late(error, seconds) from error
        except (OSError, UnicodeError) as error:
            raise StreamError from error
        return SocketStream(tls, self._timeout)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    def _receive_now(self) -> bytes | None:
        """Return what has arrived, without waiting: none at the end, None if there is nothing."""
        try:
            self._sock.settimeout(0)
            return self._sock.recv(READ)
        except _WOULD_BLOCK:
            return None
        except OSError as error:
            self._error = error
            return None

    def _send_some(self, data: memoryview, deadline: float | None) -> int:
        """Send what the system accepts; return 0 after a wait, when bytes may have arrived."""
        self._sock.settimeout(0)
        try:
            return self._sock.send(data)
        except _WOULD_BLOCK as error:
            writes = 0 if isinstance(error, ssl.SSLWantReadError) else selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | writes)
            seconds = self._seconds(deadline)
            if not selector.select(seconds):
                raise StalledError(seconds)
        return 0

    def _seconds(self, deadline: float | None) -> float:
        """Return the seconds to wait at most: more than 0, which would not wait at all."""
        if deadline is None:
            return self._timeout
        left = deadline - time.monotonic()
        if left <= 0:
            # Even if bytes are there: a peer that sends byte after byte is not waited for.
            raise StalledError(0)
        return min(self._timeout, left)


class SocketBackend:
    """Blocking sockets, for one thread."""

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

        Looking up its name can overshoot the deadline, and so can a caller's `connect`: neither can
        be told when to end.
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
                raise _late(error, 0) from error
            raise StreamError from error
        return SocketStream(sock, stream_timeout)

    def enter(self) -> None:
        """Do nothing: sockets belong to no event loop."""

    def can_close(self) -> bool:
        """Return True: sockets can always be closed."""
        return True

    def now(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run work in this very thread, which may block."""
        return work()


def unix_socket(path: str) -> Connect:
    """Return a `connect` that leads every connection to a Unix socket."""
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
    """Connect to the first address that can be reached; each gets its share of the time."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure: OSError = OSError("it has no address")
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


def _late(error: TimeoutError, seconds: float) -> StalledError | StreamError:
    """Tell our own time limit from the system's ``ETIMEDOUT``."""
    return StalledError(seconds) if error.errno is None else StreamError()


def _left(deadline: float) -> float:
    """Return the seconds until a deadline; a little if it has passed, which then times out."""
    return max(0.001, deadline - time.monotonic())


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
