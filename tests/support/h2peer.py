"""A server that speaks HTTP/2 without TLS, and can refuse to process requests with GOAWAY."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions


@dataclass
class ServedOverH2:
    """A running server: its settings, and what it has received."""

    base_url: str
    #: The body of the response to a POST.
    response: bytes
    #: How many POSTs it refuses with a GOAWAY, which says that they were not processed.
    goaways: int
    #: The bodies of all POSTs, in the order in which they were complete.
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0


class _Connection:
    """One connection: the response to a GET is an empty list, the one to a POST is `served`'s."""

    def __init__(self, served: ServedOverH2) -> None:
        config = h2.config.H2Configuration(client_side=False)
        self.peer = h2.connection.H2Connection(config=config)
        self.peer.initiate_connection()
        self._served = served
        self._methods: dict[int, bytes] = {}
        self._bodies: dict[int, bytearray] = {}
        self._last_processed = 0

    def handle(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._methods[event.stream_id] = dict(event.headers)[b":method"]
            self._bodies[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] += event.data
            self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._respond(event.stream_id)

    def _respond(self, stream: int) -> None:
        body = b'{"data":[]}'
        if self._methods[stream] == b"POST":
            body = self._served.response
            self._served.bodies.append(bytes(self._bodies[stream]))
            if len(self._served.bodies) <= self._served.goaways:
                self.peer.close_connection(last_stream_id=self._last_processed)
                return
        self._last_processed = stream
        self.peer.send_headers(stream, [(":status", "200")])
        self.peer.send_data(stream, body, end_stream=True)


def _serve(sock: socket.socket, served: ServedOverH2) -> None:
    connection = _Connection(served)
    with sock, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        sock.sendall(connection.peer.data_to_send())
        while data := sock.recv(65536):
            for event in connection.peer.receive_data(data):
                connection.handle(event)
            sock.sendall(connection.peer.data_to_send())


@contextlib.contextmanager
def h2_server(response: bytes, *, goaways: int) -> Iterator[ServedOverH2]:
    """Serve on loopback until the end of the ``with``."""
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served = ServedOverH2(base_url, response, goaways)
    live: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                served.connections += 1
                live.append(sock)
                threads.append(threading.Thread(target=_serve, args=(sock, served), daemon=True))
                threads[-1].start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield served
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for sock in live:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
