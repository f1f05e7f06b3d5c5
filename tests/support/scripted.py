"""A server on loopback whose behavior is a list of handlers, one for each request."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Responds to one request on its connection; returns whether to keep the connection.
Handler = Callable[[socket.socket], bool]
#: Is called with the connection of a POST and a buffer of what was read so far: the head, and
#: perhaps the start of the body. It may read more into the buffer. Returns whether to read the rest
#: and respond.
Upload = Callable[[socket.socket, bytearray], bool]


def raw(*pieces: bytes, keep: bool = True) -> Handler:
    """Return a handler that sends these bytes, each piece with a write of its own."""

    def handle(connection: socket.socket) -> bool:
        for piece in pieces:
            connection.sendall(piece)
        return keep

    return handle


def reply(
    body: bytes,
    status: int = 200,
    headers: bytes = b"",
    *,
    keep: bool = True,
    cut: int | None = None,
) -> Handler:
    """Return a handler that sends a response with a content-length.

    With `cut`, it closes the connection after that many bytes of the body.
    """
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%s\r\n" % (status, len(body), headers)
    if cut is not None:
        return raw(head + body[:cut], keep=False)
    return raw(head + body, keep=keep)


def reset(connection: socket.socket) -> bool:
    """Close the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def close(connection: socket.socket) -> bool:
    """Close the connection without a response."""
    del connection
    return False


@contextlib.contextmanager
def unreachable() -> Iterator[tuple[str, int]]:
    """Yield an address where a connection attempt gets no response, as behind a firewall.

    Its queue of connections is full, so the system drops every further attempt.
    """
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - as in socket
            waiting.connect_ex(address)
        yield address


@dataclass
class Served:
    """A running server, and what it has received."""

    base_url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    #: Set when a client has closed a connection that the server kept open.
    client_closed: threading.Event = field(default_factory=threading.Event)

    def live(self) -> bool:
        """Whether the server still has an open connection."""
        return any(thread.ident is None or thread.is_alive() for thread in self.threads)


def _read_request(
    connection: socket.socket, buffer: bytearray, upload: Upload | None
) -> bytes | None:
    while b"\r\n\r\n" not in buffer:
        if not (data := connection.recv(65536)):
            return None
        buffer += data
    head, _, _ = bytes(buffer).partition(b"\r\n\r\n")
    if upload is not None and head.startswith(b"POST ") and not upload(connection, buffer):
        return None
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    end = len(head) + 4 + length
    while len(buffer) < end:
        if not (data := connection.recv(1 << 20)):
            return None
        buffer += data
    request = bytes(buffer[:end])
    del buffer[:end]
    return request


def _unchanged(connection: socket.socket) -> socket.socket:
    return connection


@contextlib.contextmanager
def scripted(
    *handlers: Handler,
    prepare: Callable[[socket.socket], socket.socket] | None = None,
    upload: Upload | None = None,
) -> Iterator[Served]:
    """Serve requests with these handlers, one after the other; after the last, close connections.

    A GET of the newest batches, with which every create begins, gets an empty list without a
    handler. `prepare` wraps each new connection, for example in TLS. `upload` is called for each
    POST before its body is read.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}")
    responses = iter(handlers)
    live: list[socket.socket] = []

    def serve(accepted: socket.socket) -> None:
        buffer = bytearray()
        with (
            accepted,
            contextlib.suppress(OSError),
            (prepare or _unchanged)(accepted) as connection,
        ):
            live.append(connection)
            while (request := _read_request(connection, buffer, upload)) is not None:
                if request.startswith(b"GET /v1/messages/batches?limit=100 "):
                    reply(b'{"data":[]}')(connection)
                    continue
                served.requests.append(request)
                if not next(responses, close)(connection):
                    return
            served.client_closed.set()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                served.connections += 1
                live.append(connection)
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                served.threads.append(thread)
                thread.start()
        for thread in served.threads:
            thread.join()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield served
    finally:
        # A close does not wake a blocked accept(), a shutdown does.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in live:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        acceptor.join()
