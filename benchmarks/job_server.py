"""A minimal and fast HTTP/1.1 server for whole jobs: it lists the batches that it has created.

    python -m benchmarks.job_server

It prints its base URL and serves until its stdin closes. A batch has ended when it is first listed,
and every request has succeeded. The requests of a batch must be consecutive ones of
`benchmarks.data.request_lines`, because only the first custom_id is read.
"""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from .data import GeneratedResults
from .server import BATCHES, Server, encode_chunked, respond_json

_CUSTOM_ID = re.compile(rb'"custom_id":"request-(\d+)"')
_RESULTS_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\ntransfer-encoding: chunked\r\n\r\n"
)
_DEFAULT_PAGE = 20


class _Sold(NamedTuple):
    """A batch: the number of its first request, how many there are, and when it was created."""

    first: int
    requests: int
    created_at: str


class JobServer(Server):
    """Serves creates, the list and results of batches that end at once."""

    def __init__(self) -> None:
        super().__init__(None)
        self._sold: list[_Sold] = []
        self._all_results = GeneratedResults(1_000_000_000, only_succeeded=True)

    def receive_body(self, sock: socket.socket, received: bytearray, length: int) -> None:
        """Receive the body of a create, and keep what the batch is known by."""
        super().receive_body(sock, received, length)
        match = _CUSTOM_ID.search(self.body)
        assert match is not None, "a create has requests"  # noqa: S101
        count = bytes(self.body).count(b'"custom_id":"request-')
        self._sold.append(_Sold(int(match[1]), count, datetime.now(UTC).isoformat()))

    def respond(self, method: str, target: str) -> Iterator[bytes]:
        """Respond to a request whose body was received."""
        if method == "POST":
            return respond_json(self._batch_of(len(self._sold) - 1, ended=False))
        path, _, query = target.partition("?")
        if path == BATCHES:
            return respond_json(self._page(parse_qs(query)))
        number, _, rest = path.removeprefix(f"{BATCHES}/msgbatch_").partition("/")
        if rest == "results":
            return self._send(int(number))
        return respond_json(self._batch_of(int(number)))

    def _page(self, query: dict[str, list[str]]) -> dict[str, Any]:
        """Return a page of the list, newest first."""
        limit = int(query.get("limit", [str(_DEFAULT_PAGE)])[0])
        end = len(self._sold)
        if after := query.get("after_id"):
            end = int(after[0].removeprefix("msgbatch_"))
        numbers = range(max(end - limit, 0), end)[::-1]
        data = [self._batch_of(number) for number in numbers]
        return {
            "data": data,
            "has_more": end > limit,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    def _send(self, number: int) -> Iterator[bytes]:
        sold = self._sold[number]
        yield _RESULTS_HEAD
        yield from encode_chunked(self._all_results.lines(sold.first, sold.requests))

    def _batch_of(self, number: int, *, ended: bool = True) -> dict[str, Any]:
        sold = self._sold[number]
        counts = {"succeeded" if ended else "processing": sold.requests}
        batch = self.batch(f"msgbatch_{number:06}", counts, ended=ended)
        return {**batch, "created_at": sold.created_at, "expires_at": sold.created_at}


def main() -> None:
    """Serve until stdin closes. It also closes when the process that started this one ends."""
    server = JobServer()
    threading.Thread(target=server.serve, daemon=True).start()
    sys.stdout.write(server.base_url + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
