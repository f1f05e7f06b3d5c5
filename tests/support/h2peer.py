"""A server that speaks HTTP/2 in the clear, and can say that it did not process a request."""

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
    """What the server answers, and what it has seen."""

    base_url: str
    answer: bytes
    #: How many POSTs get a GOAWAY, which says that they were not processed.
    goaways: int
    #: The bodies of the POSTs, in the order of their ends.
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0


class _Talk:
    """One connection: GETs are answered with an empty list, POSTs as `served` says."""

    def __init__(self, served: ServedOverH2) -> None:
        config = h2.config.H2Configuration(client_side=False)
        self.peer = h2.connection.H2Connection(config=config)
        self.peer.initiate_connection()
        self._served = served
        self._methods: dict[int, bytes] = {}
        self._bodies: dict[int, bytearray] = {}
        self._last = 0

    def take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            self._methods[event.stream_id] = dict(event.headers)[b":method"]
            self._bodies[event.stream_id] = bytearray()
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[event.stream_id] += event.data
            self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._answer(event.stream_id)

    def _answer(self, stream: int) -> None:
        reply = b'{"data":[]}'
        if self._methods[stream] == b"POST":
            reply = self._served.answer
            self._served.bodies.append(bytes(self._bodies[stream]))
            if len(self._served.bodies) <= self._served.goaways:
                self.peer.close_connection(last_stream_id=self._last)
                return
        self._last = stream
        self.peer.send_headers(stream, [(":status", "200")])
        self.peer.send_data(stream, reply, end_stream=True)


def _talk(sock: socket.socket, served: ServedOverH2) -> None:
    talk = _Talk(served)
    with sock, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
        sock.sendall(talk.peer.data_to_send())
        while data := sock.recv(65536):
            for event in talk.peer.receive_data(data):
                talk.take(event)
            sock.sendall(talk.peer.data_to_send())


@contextlib.contextmanager
def h2_server(answer: bytes, *, goaways: int) -> Iterator[ServedOverH2]:
    """Serve until the end of the block."""
    listener = socket.create_server(("127.0.0.1", 0))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served = ServedOverH2(base_url, answer, goaways)
    live: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                served.connections += 1
                live.append(sock)
                threads.append(threading.Thread(target=_talk, args=(sock, served), daemon=True))
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
