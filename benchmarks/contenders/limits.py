"""The limits and references: the least possible work on the same bytes, without a protocol."""

from __future__ import annotations

import http.client
import importlib
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from batches_core import Message, ResultItem
from benchmarks.data import GeneratedResults
from benchmarks.meter import ResourceMeter
from benchmarks.task import Sample, Task

from .shared import ResultsDigest, fetch_create_digest, file_chunks, long_line_chunks, read_dicts

_RECEIVE_SIZE = 256 * 1024


def decode(task: Task) -> Sample:
    """Decode the lines of a file without checking anything about them."""
    chunks = file_chunks(task)
    digest = ResultsDigest(task)
    with ResourceMeter() as meter:
        _decode_all(chunks, digest)
    return meter.sample(sum(map(len, chunks)), digest.digest())


def long_line(task: Task) -> Sample:
    """Join the chunks of one long line and decode it."""
    chunks = long_line_chunks(task)
    decoder = msgspec.json.Decoder(ResultItem[Message])
    digest = ResultsDigest(task)
    with ResourceMeter() as meter:
        digest.add(decoder.decode(b"".join(chunks)))
    return meter.sample(sum(map(len, chunks)), digest.digest())


def _decode_all(chunks: Iterable[bytes], digest: ResultsDigest) -> None:
    decode_lines = msgspec.json.Decoder(ResultItem[Message]).decode_lines
    tail = b""
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            digest.update(decode_lines(tail + chunk[:end]))
            tail = chunk[end:]
        else:
            tail += chunk


def decode_over_httpx(task: Task) -> Sample:
    """Decode the results that httpx receives: the least work for any client over httpx."""
    httpx = importlib.import_module(task.text("library"))
    path = f"/v1/messages/batches/{task.text('batch')}/results"
    digest = ResultsDigest(task)
    with (
        httpx.Client(base_url=task.text("base_url")) as client,
        ResourceMeter() as meter,
        client.stream("GET", path) as response,
    ):
        _decode_all(response.iter_raw(), digest)
    return meter.sample(task.number("size"), digest.digest())


def receive(task: Task) -> Sample:
    """Receive the results and discard them."""
    url = urlsplit(task.text("base_url"))
    target = f"/v1/messages/batches/{task.text('batch')}/results"
    received, size = 0, task.number("size")
    with ResourceMeter() as meter:
        address = (url.hostname or "", url.port or 80)
        with socket.create_connection(address) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nhost: {address[0]}\r\n\r\n".encode())
            buffer = bytearray(_RECEIVE_SIZE)
            # The head and the framing count too, so this stops slightly before the end of the body.
            while received < size:
                received += sock.recv_into(buffer)
    return meter.sample(size, {})


def create(task: Task) -> Sample:
    """Encode all requests in one call and send them."""
    requests = read_dicts(task)
    url = urlsplit(task.text("base_url"))
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    with ResourceMeter() as meter:
        body = msgspec.json.encode({"requests": requests})
        connection.request("POST", "/v1/messages/batches", body)
        connection.getresponse().read()
    return meter.sample(len(body), fetch_create_digest(task))


def hold_ids(task: Task) -> Sample:
    """Keep the set of a file's ids, which every client needs to deliver each result once."""
    results = GeneratedResults(task.number("lines"))
    with ResourceMeter() as meter:
        ids = set(results.ids())
    return meter.sample(0, {}, ids=len(ids))
