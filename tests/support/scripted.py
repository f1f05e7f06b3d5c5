"""A server on loopback that does just what a test tells it, well-behaved or not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

#: Handles one request: the connection, ready to be written to; True to go on with it.
Handler = Callable[[socket.socket], bool]
#: Handles a POST whose head has come and whose body has not been read: the connection, and what was
#: read of the body, to be added to; True to read the rest and answer.
Upload = Callable[[socket.socket, bytearray], bool]


def raw(*pieces: bytes, keep: bool = True) -> Handler:
    """Send these bytes, each piece in a write of its own."""

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
    """Send a response with a content-length; cut off after so many bytes of its body."""
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n%s\r\n" % (status, len(body), headers)
    if cut is not None:
        return raw(head + body[:cut], keep=False)
    return raw(head + body, keep=keep)


def reset(connection: socket.socket) -> bool:
    """Close with a reset instead of a goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def close(connection: socket.socket) -> bool:
    """Close without an answer."""
    del connection
    return False


@contextlib.contextmanager
def unreachable() -> Iterator[tuple[str, int]]:
    """Give an address at which attempts to connect stay unanswered, as behind a strict firewall.

    Its queue of connections is full, and the system drops what does not fit.
    """
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)  # noqa: FBT003 - the socket's own way
            waiting.connect_ex(address)
        yield address


@dataclass
class Served:
    """What the server has seen."""

    base_url: str
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    #: Set when a client has closed a connection that the server held open.
    client_closed: threading.Event = field(default_factory=threading.Event)

    def live(self) -> bool:
        """Whether any connection is open on the server's side."""
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


def _as_it_is(connection: socket.socket) -> socket.socket:
    return connection


@contextlib.contextmanager
def scripted(
    *handlers: Handler,
    prepare: Callable[[socket.socket], socket.socket] | None = None,
    upload: Upload | None = None,
) -> Iterator[Served]:
    """Answer the requests in turn with these handlers; after the last one, connections close.

    `prepare` is what happens to a new connection first, such as TLS; `upload` is what happens to a
    POST before its body is read.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}")
    script = iter(handlers)
    live: list[socket.socket] = []

    def talk(accepted: socket.socket) -> None:
        buffer = bytearray()
        with accepted, contextlib.suppress(OSError), (prepare or _as_it_is)(accepted) as connection:
            live.append(connection)
            while (request := _read_request(connection, buffer, upload)) is not None:
                if request.startswith(b"GET /v1/messages/batches?limit=100 "):
                    # The look at the list before a create, which has no part in the scripts.
                    reply(b'{"data":[]}')(connection)
                    continue
                served.requests.append(request)
                if not next(script, close)(connection):
                    return
            served.client_closed.set()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                served.connections += 1
                live.append(connection)
                thread = threading.Thread(target=talk, args=(connection,), daemon=True)
                served.threads.append(thread)
                thread.start()
        for thread in served.threads:
            thread.join()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield served
    finally:
        # A blocked accept() notices a shutdown, not a close.
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in live:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        acceptor.join()
