"""How much work the transports' own code does for bodies: counts of calls and of memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from batches_core import Message, RawHeaders, Request
from batches_core.http import BytesBody
from tests.support.playbook import api, result_line
from tests.support.results_playbook import ended_batch
from tests.support.work import allocated, counted
from transports._client._async.driver import AsyncDriver
from transports._client._async.iterators import AsyncResultsStream
from transports._client._sync.driver import Driver
from transports._client._sync.iterators import ResultsStream
from transports._client.bodies import slices
from transports._client.content_encoding import END
from transports._client.events import ignore
from transports._http11.connection import READ, Head, HTTP11Connection

T = TypeVar("T")

GET = Request(method="GET", url="https://api.test/results", headers=())
CHUNK = 64 * 1024
SIZE = 4 * 1024 * 1024


def awaiting_body(headers: bytes) -> HTTP11Connection:
    """Return a connection that has received these response headers, and waits for the body."""
    connection = HTTP11Connection("api.test:443")
    connection.start_request(GET)
    connection.finish_request()
    connection.receive(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n")
    assert isinstance(connection.next_event(), Head)
    return connection


def chunked(size: int) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK))
    return chunk * (size // CHUNK) + b"0\r\n\r\n"


def split_into_reads(stream: bytes) -> list[bytes]:
    return [stream[at : at + READ] for at in range(0, len(stream), READ)]


def pieces_of(connection: HTTP11Connection, read: bytes) -> list[bytes]:
    """Return the pieces of the body that one read from the socket gives."""
    connection.receive(read)
    pieces = []
    while (piece := connection.next_event()) is not None and piece != END:
        assert isinstance(piece, bytes)
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    ("headers", "stream"),
    [
        (b"transfer-encoding: chunked\r\n", chunked(SIZE)),
        (b"content-length: %d\r\n" % SIZE, bytes(SIZE)),
        (b"", bytes(SIZE)),
    ],
    ids=["chunked", "sized", "unsized"],
)
def test_a_read_gives_one_piece_and_only_a_chunked_body_is_copied(
    headers: bytes, stream: bytes
) -> None:
    reads = split_into_reads(stream)
    connection = awaiting_body(headers)
    pieces_of_reads = [pieces_of(connection, read) for read in reads]
    assert sum(len(piece) for pieces in pieces_of_reads for piece in pieces) == SIZE
    assert all(len(pieces) <= 1 for pieces in pieces_of_reads)

    connection = awaiting_body(headers)
    copies = 1.05 if b"chunked" in headers else 0.05
    assert allocated([partial(pieces_of, connection, read) for read in reads]) <= copies * SIZE


def test_an_upload_is_not_copied() -> None:
    body = BytesBody((bytes(SIZE), bytes(1000)))
    length = ("content-length", str(body.content_length))
    request = Request(method="POST", url="https://api.test/new", headers=(length,), body=body)
    connection = HTTP11Connection("api.test:443")
    connection.start_request(request)
    assert allocated([partial(connection.encode, part) for part in slices(body)]) <= 0.05 * SIZE
    connection.finish_request()


class CannedTransport:
    """A transport and its response in one; the body is there at once."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, body: bytes) -> None:
        self._pieces = [b"", body]

    def now(self) -> float:
        return 0.0

    def send(self, request: Request, deadline: float | None) -> CannedTransport:
        del request, deadline
        return self

    def read(self, deadline: float | None) -> bytes:
        del deadline
        return self._pieces.pop()

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"there is nothing to wait for, and it waits {seconds} s")

    def close(self) -> None:
        pass

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()


class AsyncCannedTransport:
    """The same for an async client; awaiting it never suspends."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, body: bytes) -> None:
        self._canned = CannedTransport(body)
        self.now = self._canned.now

    async def send(self, request: Request, deadline: float | None) -> AsyncCannedTransport:
        del request, deadline
        return self

    async def read(self, deadline: float | None) -> bytes:
        return self._canned.read(deadline)

    async def sleep(self, seconds: float) -> None:
        self._canned.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return work()

    async def aclose(self) -> None:
        pass


def count_items(count: int, body: bytes) -> int:
    operation = api().results_stream(ended_batch(count))
    driver = Driver(CannedTransport(body), operation)
    stream: ResultsStream[Message] = ResultsStream(driver, operation, ignore)
    return sum(1 for _ in stream)


def count_items_async(count: int, body: bytes) -> int:
    operation = api().results_stream(ended_batch(count))
    driver = AsyncDriver(AsyncCannedTransport(body), operation)

    async def read() -> int:
        stream: AsyncResultsStream[Message] = AsyncResultsStream(driver, operation, ignore)
        return len([item async for item in stream])

    running = read()
    with pytest.raises(StopIteration) as stopped:
        running.send(None)
    items: int = stopped.value.value
    return items


@pytest.mark.parametrize("read", [count_items, count_items_async])
def test_each_more_item_of_a_stream_takes_one_call(read: Callable[[int, bytes], int]) -> None:
    calls = []
    read(1, result_line("id-0"))  # builds the decoder, which is cached
    for count in (10, 1000):
        body = b"".join(result_line(f"id-{n}") for n in range(count))
        with counted() as work:
            assert read(count, body) == count
        calls.append(work.calls)
    assert calls[1] - calls[0] == 1000 - 10
