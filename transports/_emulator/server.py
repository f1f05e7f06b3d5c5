"""The listening socket, the loop over all connections, and the thread that runs it.

One thread serves any number of connections with a selector. `Connection` speaks HTTP on each.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator

from batches_core.emulator import Emulator

from .connection import Connection
from .settings import Settings
from .targets import check_public_url

#: How often the server closes connections that lingered too long, in seconds. It accepts no
#: connections for this time if the process has run out of file descriptors.
_CHECK_INTERVAL = 0.25
#: The most connections that are accepted before the earlier ones are served again.
_ACCEPTS = 100
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class EmulatorServer:
    """Serves an emulator on a TCP address until it is stopped.

    - `host`, `port`: the address to listen on, by default a free port of the loopback address.
    - `clock`: a function that returns the emulator's time in seconds since the epoch, by default
      the wall clock.
    - `public_url`: the origin that clients use, such as that of a proxy; ``results_url`` starts
      with it. By default it is read from each request: from the headers ``X-Forwarded-Proto`` and
      ``X-Forwarded-Host`` if it has them, else from its target and its ``Host`` header.
    - `log`: a function that is called with one line after each request: its method and target, and
      the status, body bytes and seconds of its response. No line contains a credential.

    The constructor binds the address, so `base_url` is known before `serve` runs.

    Raises:
        ValueError: `public_url` is not an origin.
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
        public_url: str | None = None,
        log: Callable[[str], object] | None = None,
    ) -> None:
        public = None if public_url is None else check_public_url(public_url)
        self._settings = Settings(emulator=emulator, clock=clock, public_url=public, log=log)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        self._listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        bound_host, bound_port = self._listener.getsockname()[:2]
        shown = f"[{bound_host}]" if family == socket.AF_INET6 else bound_host
        self.base_url = f"http://{shown}:{bound_port}"
        self._waker, self._woken = socket.socketpair()
        # Created here and not in `serve`: clients can use up all file descriptors before the
        # server's thread begins.
        self._selector = selectors.DefaultSelector()
        self._accepts_again_at: float | None = None

    def serve(self) -> None:
        """Serve in the calling thread until `stop` is called, then close every connection."""
        connections: set[Connection] = set()
        with self._selector as selector, self._listener, self._woken:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in selector.select(_time_to_wait(connections)):
                        if key.fileobj is self._woken:
                            return
                        if key.fileobj is self._listener:
                            self._accept(selector, connections)
                        else:
                            self._step(selector, connections, key.data)
                    self._check_times(selector, connections)
            finally:
                for connection in connections:
                    connection.close()

    def stop(self) -> None:
        """End `serve`, from any thread; calling it again has no effect."""
        self._waker.close()

    def _check_times(self, selector: selectors.BaseSelector, connections: set[Connection]) -> None:
        now = time.monotonic()
        for connection in [c for c in connections if c.delayed_until and c.delayed_until <= now]:
            self._step(selector, connections, connection)
        for connection in [c for c in connections if c.lingers_until and c.lingers_until < now]:
            self._drop(selector, connections, connection)
        if self._accepts_again_at is not None and self._accepts_again_at < now:
            self._accepts_again_at = None
            selector.register(self._listener, selectors.EVENT_READ)

    def _accept(self, selector: selectors.BaseSelector, connections: set[Connection]) -> None:
        # Accept many at a time. Accepting one in each round would make the last of many clients
        # wait while all others are served again and again.
        for _ in range(_ACCEPTS):
            try:
                sock, _address = self._listener.accept()
            except ConnectionAbortedError:
                continue  # the client has closed the connection already
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    # The client stays in the queue and the listener stays readable: stop watching
                    # it for a while.
                    selector.unregister(self._listener)
                    self._accepts_again_at = time.monotonic() + _CHECK_INTERVAL
                return  # otherwise the queue is empty
            sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, self._settings)
            connections.add(connection)
            selector.register(sock, selectors.EVENT_READ, connection)

    def _drop(
        self,
        selector: selectors.BaseSelector,
        connections: set[Connection],
        connection: Connection,
    ) -> None:
        selector.unregister(connection.sock)
        connections.discard(connection)
        connection.close()

    def _step(
        self,
        selector: selectors.BaseSelector,
        connections: set[Connection],
        connection: Connection,
    ) -> None:
        # Read the descriptor now: a closed socket has none, but the selector needs it.
        sock, descriptor = connection.sock, connection.sock.fileno()
        try:
            connection.on_ready()
        except Exception:  # noqa: BLE001 - an error on one connection must not end the others
            traceback.print_exc()
            connection.close()
        if connection.closed:
            connections.discard(connection)
        watched, connection.watched = connection.watched, connection.wanted_events()
        if watched and not connection.watched:
            selector.unregister(descriptor)
        elif connection.watched and not watched:
            selector.register(sock, connection.watched, connection)
        elif watched != connection.watched:
            selector.modify(sock, connection.watched, connection)


def _time_to_wait(connections: set[Connection]) -> float:
    """Return the seconds until the next delay ends or the next check is due."""
    now = time.monotonic()
    delays = (c.delayed_until - now for c in connections if c.delayed_until is not None)
    return max(0.0, min([_CHECK_INTERVAL, *delays]))


@contextlib.contextmanager
def running_emulator(
    emulator: Emulator | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], float] = time.time,
    public_url: str | None = None,
    log: Callable[[str], object] | None = None,
) -> Iterator[str]:
    """Serve an emulator in a thread during a ``with`` block, which receives the base URL.

    `emulator` is by default a new one. The other arguments are those of `EmulatorServer`; `log` is
    called in the server's thread.

    Raises:
        ValueError: `public_url` is not an origin.
        OSError: the address cannot be bound.
    """
    server = EmulatorServer(
        emulator or Emulator(), host=host, port=port, clock=clock, public_url=public_url, log=log
    )
    thread = threading.Thread(target=server.serve, name="batches-emulator", daemon=True)
    thread.start()
    try:
        yield server.base_url
    finally:
        server.stop()
        thread.join()
