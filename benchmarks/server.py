"""The service's place in a measure: as little of it as the measure needs, as fast as possible.

    python -m benchmarks.server --results FILE

prints its base URL and serves until its input ends. Knows just enough HTTP/1.1 for clients that
behave; checks nothing while a client waits. Results are framed before anyone asks for them, and
sent with few calls. A create's body is received into memory that is there already; only when
asked under ``/check`` does the server look what it was. An id tells how results come:
``msgbatch_chunked``, ``msgbatch_length``, or ``msgbatch_made_1000`` for that many lines made
meanwhile.
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

from .data import Results, chunks

#: The size of a chunk of the transfer-encoding, in bytes.
CHUNK = 64 * 1024
#: How much is handed to a socket at once, in bytes.
_SENT_AT_ONCE = 1024 * 1024
#: Room for the largest create.
_LARGEST = 300_000_000
_BATCHES = "/v1/messages/batches"
_MOMENT = "2024-09-24T18:37:24.100435+00:00"


class _Batch(msgspec.Struct):
    requests: list[msgspec.Raw]


def framed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Put chunked transfer-encoding around a body."""
    for chunk in chunks(pieces, CHUNK):
        yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
    yield b"0\r\n\r\n"


class Server:
    """Serves on a loopback socket, one thread a connection."""

    def __init__(self, results: Path | None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.base_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._results = b"" if results is None else results.read_bytes()
        self._lines = self._results.count(b"\n")
        pieces = [self._results[n : n + CHUNK] for n in range(0, len(self._results), CHUNK)]
        self._framed = b"".join(framed(pieces))
        # Written once, so that the kernel need not find the memory while a client waits.
        self._body = bytearray(b"\1") * _LARGEST
        self._body_length = 0
        self._made: dict[int, Results] = {}

    def serve(self) -> None:
        """Accept connections until the process ends."""
        while True:
            sock, _ = self._listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(sock,), daemon=True).start()

    def _converse(self, sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):
            received = bytearray()
            while True:
                while (end := received.find(b"\r\n\r\n")) < 0:
                    if not (data := sock.recv(CHUNK)):
                        return
                    received += data
                lines = received[:end].decode("latin-1").split("\r\n")
                del received[: end + 4]
                method, target, _ = lines[0].split(" ")
                if method == "POST":
                    pairs = (line.partition(":") for line in lines[1:])
                    headers = {name.lower(): value.strip() for name, _, value in pairs}
                    self._take(sock, received, int(headers["content-length"]))
                for piece in self._answer(method, target):
                    view = memoryview(piece)
                    for start in range(0, len(view), _SENT_AT_ONCE):
                        sock.sendall(view[start : start + _SENT_AT_ONCE])

    def _take(self, sock: socket.socket, received: bytearray, length: int) -> None:
        room = memoryview(self._body)[:length]
        have = len(received)
        room[:have] = received
        received.clear()
        while have < length:
            if not (count := sock.recv_into(room[have:])):
                raise ConnectionError("the body was cut off")
            have += count
        self._body_length = length

    def _answer(self, method: str, target: str) -> Iterator[bytes]:
        if method == "POST":
            return _json(self._describe("msgbatch_new", {"processing": 1}))
        if target == "/check":
            return _json(self._check())
        path, _, _ = target.partition("?")
        if path == _BATCHES:
            return _json({"data": [], "has_more": False, "first_id": None, "last_id": None})
        id_, _, rest = path.removeprefix(_BATCHES + "/").partition("/")
        kind, _, lines = id_.removeprefix("msgbatch_").partition("_")
        if rest == "results":
            return self._send_results(kind, int(lines or 0))
        made = kind == "made"
        counts = self._make(int(lines)).counts() if made else {"succeeded": self._lines}
        return _json(self._describe(id_, counts))

    def _send_results(self, kind: str, lines: int) -> Iterator[bytes]:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\n"
        if kind == "length":
            yield head + b"content-length: %d\r\n\r\n" % len(self._results)
            yield self._results
            return
        yield head + b"transfer-encoding: chunked\r\n\r\n"
        if kind == "made":
            yield from framed(self._make(lines).lines())
        else:
            yield self._framed

    def _make(self, lines: int) -> Results:
        if lines not in self._made:
            self._made[lines] = Results(lines)
        return self._made[lines]

    def _describe(self, id_: str, counts: dict[str, int]) -> dict[str, Any]:
        ended = id_ != "msgbatch_new"
        kinds = ("processing", "succeeded", "errored", "canceled", "expired")
        return {
            "id": id_,
            "type": "message_batch",
            "processing_status": "ended" if ended else "in_progress",
            "request_counts": {kind: counts.get(kind, 0) for kind in kinds},
            "created_at": _MOMENT,
            "expires_at": _MOMENT,
            "ended_at": _MOMENT if ended else None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"{self.base_url}{_BATCHES}/{id_}/results" if ended else None,
        }

    def _check(self) -> dict[str, int]:
        """Tell what the last create was: how many requests, and a checksum of their meaning."""
        body = memoryview(self._body)[: self._body_length]
        checksum = 0
        requests = msgspec.json.decode(body, type=_Batch).requests
        for request in requests:
            # Through msgspec, so that white space and the way of escaping make no difference.
            same = msgspec.json.encode(msgspec.json.decode(request), order="sorted")
            checksum = zlib.crc32(same, checksum)
        return {"requests": len(requests), "checksum": checksum}


def _json(value: dict[str, Any]) -> Iterator[bytes]:
    body = msgspec.json.encode(value)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    yield head % len(body) + body


def main() -> None:
    """Serve until the input ends, which it does when the starting process does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server")
    parser.add_argument("--results", type=Path, help="the file of results")
    server = Server(parser.parse_args().results)
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
