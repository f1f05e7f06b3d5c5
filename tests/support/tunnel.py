"""A proxy that opens tunnels, for a scripted server."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any


def tunnel_to(address: tuple[str, int], asked: list[bytes], answer: bytes) -> Any:
    """What a proxy does to a new connection: read the CONNECT, answer, and pass bytes on."""

    def prepare(connection: socket.socket) -> socket.socket:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        asked.append(head)
        connection.sendall(answer)
        if b" 200 " not in answer:
            connection.shutdown(socket.SHUT_WR)
            return connection
        behind = socket.create_connection(address)

        def pass_on(source: socket.socket, sink: socket.socket) -> None:
            with source, sink, contextlib.suppress(OSError):  # a client may go without a goodbye
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=pass_on, args=(behind, connection.dup()), daemon=True)
        back.start()
        try:
            while data := connection.recv(65536):
                behind.sendall(data)
        finally:
            with contextlib.suppress(OSError):
                behind.shutdown(socket.SHUT_RDWR)
            back.join()
        return connection

    return prepare
