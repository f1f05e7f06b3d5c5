"""A proxy that opens tunnels, as the `prepare` function of a scripted server."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any


def tunnel_to(address: tuple[str, int], requests: list[bytes], response: bytes) -> Any:
    """Return a function that reads a CONNECT request, responds, and forwards bytes to `address`.

    The heads of the requests are added to `requests`. A response without status 200 opens no
    tunnel, and ends the connection.
    """

    def prepare(connection: socket.socket) -> socket.socket:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        requests.append(head)
        connection.sendall(response)
        if b" 200 " not in response:
            connection.shutdown(socket.SHUT_WR)
            return connection
        target = socket.create_connection(address)

        def forward(source: socket.socket, sink: socket.socket) -> None:
            with source, sink, contextlib.suppress(OSError):  # a client may reset it
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_RDWR)

        back = threading.Thread(target=forward, args=(target, connection.dup()), daemon=True)
        back.start()
        try:
            while data := connection.recv(65536):
                target.sendall(data)
        finally:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            back.join()
        return connection

    return prepare
