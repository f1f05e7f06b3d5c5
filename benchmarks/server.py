"""A minimal and fast HTTP/1.1 server that takes the place of the service in a measure.

    python -m benchmarks.server [--results FILE]

It prints its base URL and serves until its stdin closes. It expects well-behaved clients and
validates nothing. To take little time itself, it frames the results in advance, sends them with few
system calls, and receives the body of a create into memory that is allocated in advance. It decodes
that body only for a request to ``/check``, after a measurement.

The id of a batch selects its results: ``msgbatch_chunked`` and ``msgbatch_length`` send FILE with
chunked transfer-encoding and with a content-length. ``msgbatch_generated_1000`` generates 1,000
lines while it sends them.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from .data import GeneratedResults, rechunk

#: The size in bytes of a chunk of chunked transfer-encoding.
_CHUNK = 64 * 1024
#: The most bytes that are passed to a socket in one call.
_SEND_SIZE = 1024 * 1024
#: The size in bytes of the largest create.
_LARGEST_CREATE = 300_000_000
BATCHES = "/v1/messages/batches"
_TIMESTAMP = "2024-09-24T18:37:24.100435+00:00"


class _Create(msgspec.Struct):
    requests: list[msgspec.Raw]


def encode_chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Encode a body with chunked transfer-encoding."""
    for chunk in rechunk(pieces, _CHUNK):
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


class Server:
    """Listens on a loopback socket and serves each connection in its own thread."""

    def __init__(self, results: Path | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._results = b"" if results is None else results.read_bytes()
        self._lines = self._results.count(b"\n")
        pieces = [self._results[n : n + _CHUNK] for n in range(0, len(self._results), _CHUNK)]
        self._chunked_results = b"".join(encode_chunked(pieces))
        # Write to all of it, or the kernel would only allocate the memory during a measurement.
        self._body = bytearray(b"\1") * _LARGEST_CREATE
        self._body_length = 0
        self._generated: dict[int, GeneratedResults] = {}

    def serve(self) -> None:
        """Accept connections until the process ends."""
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve_connection, args=(sock,), daemon=True).start()

    def _serve_connection(self, sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):
            received = bytearray()
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    if not (data := sock.recv(_CHUNK)):
                        return
                    received += data
                lines = received[:end].decode("latin-1").split("\r\n")
                del received[: end + 4]
                method, target, _ = lines[0].split(" ")
                if method == "POST":
                    pairs = (line.partition(":") for line in lines[1:])
                    headers = {name.lower(): value.strip() for name, _, value in pairs}
                    self.receive_body(sock, received, int(headers["content-length"]))
                for piece in self.respond(method, target):
                    view = memoryview(piece)
                    for start in range(0, len(view), _SEND_SIZE):
                        sock.sendall(view[start : start + _SEND_SIZE])

    def receive_body(self, sock: socket.socket, received: bytearray, length: int) -> None:
        """Receive a body of `length` bytes, whose beginning may be in `received`."""
        body = memoryview(self._body)[:length]
        position = len(received)
        body[:position] = received
        received.clear()
        while position < length:
            if not (count := sock.recv_into(body[position:])):
                raise ConnectionError("the connection closed within a body")
            position += count
        self._body_length = length

    @property
    def body(self) -> memoryview:
        """The body of the last create."""
        return memoryview(self._body)[: self._body_length]

    def respond(self, method: str, target: str) -> Iterator[bytes]:
        """Respond to a request whose body was received."""
        if method == "POST":
            return respond_json(self.batch("msgbatch_new", {"processing": 1}, ended=False))
        if target == "/check":
            return respond_json(self._check())
        path, _, _ = target.partition("?")
        if path == BATCHES:
            return respond_json({"data": [], "has_more": False, "first_id": None, "last_id": None})
        id_, _, rest = path.removeprefix(BATCHES + "/").partition("/")
        kind, _, lines = id_.removeprefix("msgbatch_").partition("_")
        if rest == "results":
            return self._send_results(kind, int(lines or 0))
        if kind == "generated":
            return respond_json(self.batch(id_, self._generate(int(lines)).counts()))
        return respond_json(self.batch(id_, {"succeeded": self._lines}))

    def _send_results(self, kind: str, lines: int) -> Iterator[bytes]:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\n"
        if kind == "length":
            yield head + b"content-length: %d\r\n\r\n" % len(self._results)
            yield self._results
            return
        yield head + b"transfer-encoding: chunked\r\n\r\n"
        if kind == "generated":
            yield from encode_chunked(self._generate(lines).lines())
        else:
            yield self._chunked_results

    def _generate(self, lines: int) -> GeneratedResults:
        if lines not in self._generated:
            self._generated[lines] = GeneratedResults(lines)
        return self._generated[lines]

    def batch(self, id_: str, counts: dict[str, int], *, ended: bool = True) -> dict[str, Any]:
        """Return a batch as the service would describe it."""
        types = ("processing", "succeeded", "errored", "canceled", "expired")
        return {
            "id": id_,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {type_: counts.get(type_, 0) for type_ in types},
            "created_at": _TIMESTAMP,
            "expires_at": _TIMESTAMP,
            "ended_at": _TIMESTAMP if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.base_url}{BATCHES}/{id_}/results" if ended else None,
        }

    def _check(self) -> dict[str, int]:
        """Return the number of requests in the last create, and a checksum of their values."""
        body = self.body
        checksum = 0
        requests = msgspec.json.decode(body, type=_Create).requests
        for request in requests:
            # Encode anew, because clients differ in white space, escapes and the order of keys.
            normalized = msgspec.json.encode(msgspec.json.decode(request), order="sorted")
            checksum = zlib.crc32(normalized, checksum)
        return {"requests": len(requests), "checksum": checksum}


def respond_json(value: dict[str, Any]) -> Iterator[bytes]:
    """Respond with a value as JSON."""
    body = msgspec.json.encode(value)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    yield head % len(body) + body


def main() -> None:
    """Serve until stdin closes. It also closes when the process that started this one ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--results", type=Path, help="the results file to send")
    server = Server(parser.parse_args().results)
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
