"""The limits: the least that can be done with the same bytes, with nothing of a protocol in it."""

from __future__ import annotations

import http.client
import importlib
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from batches_core import Message, ResultItem
from benchmarks.data import Results
from benchmarks.meter import Meter, Outcome, Task

from .work import Tally, checked, file_chunks, long_line_chunks, read_dicts

_READ = 256 * 1024


def decode(task: Task) -> Outcome:
    """Decode a file's chunks, whatever they hold."""
    return _decode(task, file_chunks(task))


def long_line(task: Task) -> Outcome:
    """Join one long line's chunks and decode it."""
    chunks = long_line_chunks(task)
    decoder = msgspec.json.Decoder(ResultItem[Message])
    tally = Tally(task)
    with Meter() as meter:
        tally.take_one(decoder.decode(b"".join(chunks)))
    return meter.outcome(sum(map(len, chunks)), tally.work())


def _decode(task: Task, chunks: list[bytes]) -> Outcome:
    tally = Tally(task)
    with Meter() as meter:
        _decode_all(chunks, tally)
    return meter.outcome(sum(map(len, chunks)), tally.work())


def _decode_all(chunks: Iterable[bytes], tally: Tally) -> None:
    decode_lines = msgspec.json.Decoder(ResultItem[Message]).decode_lines
    tail = b""
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            tally.take(decode_lines(tail + chunk[:end]))
            tail = chunk[end:]
        else:
            tail += chunk


def over_httpx(task: Task) -> Outcome:
    """Decode what httpx gives, whatever it holds: the least that results can take over httpx."""
    httpx = importlib.import_module(task.text("library"))
    path = f"/v1/messages/batches/{task.text('batch')}/results"
    tally = Tally(task)
    with (
        httpx.Client(base_url=task.text("base_url")) as client,
        Meter() as meter,
        client.stream("GET", path) as response,
    ):
        _decode_all(response.iter_raw(), tally)
    return meter.outcome(task.number("size"), tally.work())


def receive(task: Task) -> Outcome:
    """Receive the results and look at nothing."""
    url = urlsplit(task.text("base_url"))
    target = f"/v1/messages/batches/{task.text('batch')}/results"
    size, expected = 0, task.number("size")
    with Meter() as meter:
        address = (url.hostname or "", url.port or 80)
        with socket.create_connection(address) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nhost: {address[0]}\r\n\r\n".encode())
            room = bytearray(_READ)
            # Head and framing come on top of the body, so this is where it can end at the earliest.
            while size < expected:
                size += sock.recv_into(room)
    return meter.outcome(expected, {})


def create(task: Task) -> Outcome:
    """Encode all requests in one call, and send them."""
    requests = read_dicts(task)
    url = urlsplit(task.text("base_url"))
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    with Meter() as meter:
        body = msgspec.json.encode({"requests": requests})
        connection.request("POST", "/v1/messages/batches", body)
        connection.getresponse().read()
    return meter.outcome(len(body), checked(task))


def ids(task: Task) -> Outcome:
    """Hold the set of a file's ids, which is what reading each result once takes."""
    lines = task.number("lines")
    results = Results(lines)
    with Meter() as meter:
        held = set(results.ids())
    return meter.outcome(0, {}, ids=len(held))
