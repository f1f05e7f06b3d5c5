"""Blocking sockets for `transports.h11`: TCP or Unix, through a proxy or not, TLS or plain.

Knows how a connection comes about and how to wait on it; nothing of what goes over it.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterator

from batches_core import TransportError
from batches_core.lowlevel import check_seconds

from . import wording
from .http11 import (
    LONGEST_TIMEOUT,
    READ,
    Origin,
    Proxy,
    Stalled,
    Tunnel,
    TunnelError,
    tls_context,
)
from .settings import CONNECT_TIMEOUT

#: Gives a connected socket to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], socket.socket]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TimedSocket:
    """A connected socket on which every wait has its end. One that broke raises `OSError`."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout
        #: Why it broke, if that was seen where nobody waited for it: the system tells it once.
        self._failure: OSError | None = None

    def receive(self, deadline: float | None) -> bytes:
        """Wait for bytes; none at the end.

        Raises:
            Stalled: nothing came in time, or the deadline has passed.
        """
        if self._failure is not None:
            raise self._failure
        seconds = self._seconds(deadline)
        self._sock.settimeout(seconds)
        try:
            return self._sock.recv(READ)
        except TimeoutError:
            raise Stalled(seconds) from None

    def receive_now(self) -> bytes | None:
        """Take what has come, without waiting: none at the end, None where nothing has.

        That the connection broke is for `receive` to raise.
        """
        try:
            self._sock.settimeout(0)
            return self._sock.recv(READ)
        except _WOULD_BLOCK:
            return None
        except OSError as error:
            self._failure = error
            return None

    def send_some(self, data: memoryview, deadline: float | None) -> int:
        """Send what can be sent; 0 after a wait, for then something may have come.

        Raises:
            Stalled: nothing came or went in time, or the deadline has passed.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.send(data)
        except _WOULD_BLOCK as error:
            writes = 0 if isinstance(error, ssl.SSLWantReadError) else selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | writes)
            seconds = self._seconds(deadline)
            if not selector.select(seconds):
                raise Stalled(seconds)
        return 0

    def _seconds(self, deadline: float | None) -> float:
        """Give the seconds to wait at most, which are more than none."""
        if deadline is None:
            return self._timeout
        left = deadline - time.monotonic()
        if left <= 0:
            # However much may be there to be read: a peer that drips is never waited for.
            raise Stalled(0)
        return min(self._timeout, left)

    def close(self) -> None:
        """Close it; again is harmless."""
        self._sock.close()


class Dialer:
    """Opens connections, with what a client was told of TLS, proxies and sockets of its own."""

    def __init__(
        self,
        ssl_context: ssl.SSLContext | None,
        proxy: str | None,
        connect: Connect | None,
        timeout: float,
    ) -> None:
        check_seconds("timeout", timeout, positive=True)
        self._timeout = min(timeout, LONGEST_TIMEOUT)
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy(proxy)
        self._connect_to = connect

    def dial(self, origin: Origin, deadline: float | None) -> TimedSocket:
        """Open a connection to an origin by a deadline.

        Looking up its name can overshoot, and a `connect` of the caller's own: neither can be told
        when to end.

        Raises:
            TransportError: it could not be opened; nothing was sent.
        """
        scheme, host, port = origin
        seconds = min(self._timeout, CONNECT_TIMEOUT)
        if deadline is not None:
            seconds = min(seconds, _left(deadline))
        deadline = time.monotonic() + seconds
        proxy = self._proxy if scheme == "https" else None
        try:
            if proxy is None:
                sock = self._connect(host, port, deadline)
            else:
                sock = self._connect(proxy.host, proxy.port, deadline)
                with _closed_on_error(sock):
                    _ask_for_tunnel(sock, proxy.tunnel(origin), deadline)
            if scheme == "https":
                self._ssl_context = self._ssl_context or tls_context()
                with _closed_on_error(sock):
                    sock.settimeout(_left(deadline))
                    sock = self._ssl_context.wrap_socket(sock, server_hostname=host)
        except (OSError, UnicodeError, TunnelError) as error:
            # Timeouts, TLS and name look-ups are OSErrors all; a name can also be unwritable.
            late = isinstance(error, TimeoutError) and error.errno is None
            why = wording.no_answer(seconds) if late else wording.why(error)
            via = None if proxy is None else proxy.peer
            what = wording.cannot_connect(wording.peer_of(host, port), why, via)
            raise TransportError(what, sent=False) from wording.cause_of(error)
        return TimedSocket(sock, self._timeout)

    def _connect(self, host: str, port: int, deadline: float) -> socket.socket:
        if self._connect_to is None:
            return _connect_tcp(host, port, deadline)
        if isinstance(self._connect_to, _UnixSocket):
            return self._connect_to(host, port, _left(deadline))
        return self._connect_to(host, port)


def _connect_tcp(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first of a host's addresses that can be reached; none uses up all the time."""
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


class _UnixSocket:
    """Connects to a Unix socket in the seconds that a client allows."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, host: str, port: int, seconds: float = CONNECT_TIMEOUT) -> socket.socket:
        del host, port
        sock = socket.socket(socket.AF_UNIX)
        with _closed_on_error(sock):
            sock.settimeout(seconds)
            sock.connect(self._path)
        return sock


def unix_socket(path: str) -> Connect:
    """Give a `connect` that leads every connection to a Unix socket."""
    return _UnixSocket(path)


def _ask_for_tunnel(sock: socket.socket, tunnel: Tunnel, deadline: float) -> None:
    sock.settimeout(_left(deadline))
    sock.sendall(tunnel.request)
    while not tunnel.receive(sock.recv(READ)):
        sock.settimeout(_left(deadline))


def _left(deadline: float) -> float:
    """Give the seconds until a deadline, and a little where it has passed, which times out."""
    return max(0.001, deadline - time.monotonic())


@contextlib.contextmanager
def _closed_on_error(sock: socket.socket) -> Iterator[None]:
    try:
        yield
    except BaseException:
        sock.close()
        raise
