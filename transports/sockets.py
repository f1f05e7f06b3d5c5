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
from batches_core.api import check_seconds

from .http11 import LONGEST_TIMEOUT, READ, Origin, Proxy, Tunnel, timed_out, tls_context
from .settings import CONNECT_TIMEOUT

#: Gives a connected socket to a host and port; TLS is put on top where the URL is https.
Connect = Callable[[str, int], socket.socket]

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TimedSocket:
    """A connected socket on which every wait has its end. One that broke raises `OSError`."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout

    def receive(self) -> bytes:
        """Wait for bytes; none at the end.

        Raises:
            TransportError: nothing came in time.
        """
        self._sock.settimeout(self._timeout)
        try:
            return self._sock.recv(READ)
        except TimeoutError:
            raise timed_out() from None

    def receive_now(self) -> bytes | None:
        """Take what has come, without waiting: none at the end, None where nothing has."""
        try:
            self._sock.settimeout(0)
            return self._sock.recv(READ)
        except _WOULD_BLOCK:
            return None
        except OSError:
            return b""

    def send_some(self, data: memoryview) -> int:
        """Send what can be sent; 0 after a wait, for then something may have come.

        Raises:
            TransportError: nothing came or went in time.
        """
        self._sock.settimeout(0)
        try:
            return self._sock.send(data)
        except _WOULD_BLOCK as error:
            writes = 0 if isinstance(error, ssl.SSLWantReadError) else selectors.EVENT_WRITE
        with selectors.DefaultSelector() as selector:
            selector.register(self._sock, selectors.EVENT_READ | writes)
            if not selector.select(self._timeout):
                raise timed_out()
        return 0

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
        self._connect_to = connect or _connect_tcp

    def dial(self, origin: Origin) -> TimedSocket:
        """Open a connection to an origin.

        Raises:
            TransportError: it could not be opened; nothing was sent.
        """
        scheme, host, port = origin
        deadline = time.monotonic() + CONNECT_TIMEOUT
        proxy = self._proxy if scheme == "https" else None
        try:
            if proxy is None:
                sock = self._connect_to(host, port)
            else:
                sock = self._connect_to(proxy.host, proxy.port)
                with _closed_on_error(sock):
                    _ask_for_tunnel(sock, proxy.tunnel(origin), deadline)
            if scheme == "https":
                self._ssl_context = self._ssl_context or tls_context()
                with _closed_on_error(sock):
                    sock.settimeout(_left(deadline))
                    sock = self._ssl_context.wrap_socket(sock, server_hostname=host)
        except (OSError, UnicodeError) as error:
            # Timeouts, TLS and name look-ups are OSErrors all; a name can also be unwritable.
            what = f"cannot connect to {host}:{port}: {error}"
            raise TransportError(what, sent=False) from None
        return TimedSocket(sock, self._timeout)


def _connect_tcp(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), CONNECT_TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def unix_socket(path: str) -> Connect:
    """Give a `connect` that leads every connection to a Unix socket."""

    def connect(host: str, port: int) -> socket.socket:
        del host, port
        sock = socket.socket(socket.AF_UNIX)
        with _closed_on_error(sock):
            sock.settimeout(CONNECT_TIMEOUT)
            sock.connect(path)
        return sock

    return connect


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
