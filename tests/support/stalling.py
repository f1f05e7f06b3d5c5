"""Handlers of a scripted server that never finish their response by themselves."""

from __future__ import annotations

import socket
import threading
import time

from tests.support.scripted import Handler

#: The head of a chunked response, to be formatted with a status.
CHUNKED_HEAD = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n"
#: The handlers stop after this many seconds, many times any timeout of the tests that use them.
LONG = 30.0


class StallingPeer:
    """Makes handlers that drip or send nothing until the client closes the connection."""

    def __init__(self) -> None:
        #: How many pieces were sent.
        self.sent = 0
        #: Set when a client has closed the connection in the middle of a response.
        self.client_left = threading.Event()

    def drip(self, head: bytes, piece: bytes = b"1\r\n \r\n") -> Handler:
        """Return a handler that sends a head, and then a piece again and again."""

        def handle(connection: socket.socket) -> bool:
            connection.sendall(head)
            end = time.monotonic() + LONG
            try:
                while time.monotonic() < end:
                    connection.sendall(piece)
                    self.sent += 1
                    time.sleep(0.02)
            except OSError:
                self.client_left.set()
            return False

        return handle

    def silence(self, head: bytes = b"") -> Handler:
        """Return a handler that sends a head or nothing, and then no more."""

        def handle(connection: socket.socket) -> bool:
            connection.sendall(head)
            connection.settimeout(LONG)
            try:
                if not connection.recv(1):
                    self.client_left.set()
            except TimeoutError:
                pass
            except OSError:
                self.client_left.set()
            return False

        return handle
