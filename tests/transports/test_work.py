"""What bodies may cost on their way through the transports' own code: counts of work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest

from batches_core import Message, RawHeaders, Request
from batches_core.http import BytesBody
from tests.core.test_results import batch
from tests.support.playbook import api, result_line
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


def begun(head: bytes) -> HTTP11Connection:
    """Return a connection that waits for the body that this head announces."""
    http = HTTP11Connection("api.test:443")
    http.start_request(GET)
    http.finish_request()
    http.receive(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    assert isinstance(http.next_event(), Head)
    return http


def chunked(size: int) -> bytes:
    chunk = b"%x\r\n%b\r\n" % (CHUNK, bytes(CHUNK))
    return chunk * (size // CHUNK) + b"0\r\n\r\n"


def reads(stream: bytes) -> list[bytes]:
    return [stream[at : at + READ] for at in range(0, len(stream), READ)]


def pieces_of(http: HTTP11Connection, read: bytes) -> list[bytes]:
    http.receive(read)
    pieces = []
    while (piece := http.next_event()) is not None and piece != END:
        assert isinstance(piece, bytes)
        pieces.append(piece)
    return pieces


@pytest.mark.parametrize(
    ("head", "stream"),
    [
        (b"transfer-encoding: chunked\r\n", chunked(SIZE)),
        (b"content-length: %d\r\n" % SIZE, bytes(SIZE)),
        (b"", bytes(SIZE)),
    ],
    ids=["chunked", "sized", "unsized"],
)
def test_what_was_read_at_once_is_one_piece_and_copied_once_at_most(
    head: bytes, stream: bytes
) -> None:
    http = begun(head)
    taken = [pieces_of(http, read) for read in reads(stream)]
    assert sum(len(piece) for pieces in taken for piece in pieces) == SIZE
    assert all(len(pieces) <= 1 for pieces in taken)

    http = begun(head)
    steps = [partial(pieces_of, http, read) for read in reads(stream)]
    copies = 1.05 if b"chunked" in head else 0.05
    assert allocated([*steps]) <= copies * SIZE


def test_an_upload_is_not_copied() -> None:
    body = BytesBody((bytes(SIZE), bytes(1000)))
    length = ("content-length", str(body.content_length))
    request = Request(method="POST", url="https://api.test/new", headers=(length,), body=body)
    http = HTTP11Connection("api.test:443")
    http.start_request(request)
    steps = [partial(http.encode, part) for part in slices(body)]
    assert allocated([*steps]) <= 0.05 * SIZE
    http.finish_request()


class Canned:
    """A transport and a response in one: a body that is there already."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, body: bytes) -> None:
        self._pieces = [b"", body]

    def now(self) -> float:
        return 0.0

    def send(self, request: Request, deadline: float | None) -> Canned:
        del request, deadline
        return self

    def read(self, deadline: float | None) -> bytes:
        del deadline
        return self._pieces.pop()

    def sleep(self, seconds: float) -> None:
        raise AssertionError(f"there is nothing to wait for, {seconds} s or else")

    def close(self) -> None:
        pass

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()


class AsyncCanned:
    """The same, to be awaited; it never makes anyone wait."""

    status = 200
    headers: RawHeaders = ()

    def __init__(self, body: bytes) -> None:
        self._canned = Canned(body)
        self.now = self._canned.now

    async def send(self, request: Request, deadline: float | None) -> AsyncCanned:
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


def blocking(count: int, body: bytes) -> int:
    operation = api().results_stream(batch(count))
    drive = Driver(Canned(body), operation)
    stream: ResultsStream[Message] = ResultsStream(drive, operation, ignore)
    return sum(1 for _ in stream)


def awaited(count: int, body: bytes) -> int:
    operation = api().results_stream(batch(count))
    drive = AsyncDriver(AsyncCanned(body), operation)

    async def read() -> int:
        stream: AsyncResultsStream[Message] = AsyncResultsStream(drive, operation, ignore)
        return len([item async for item in stream])

    running = read()
    with pytest.raises(StopIteration) as stopped:
        running.send(None)
    given: int = stopped.value.value
    return given


@pytest.mark.parametrize("read", [blocking, awaited])
def test_an_item_costs_one_step_of_its_stream(read: Callable[[int, bytes], int]) -> None:
    calls: list[Counter[str]] = []
    for count in (10, 1000):
        body = b"".join(result_line(f"id-{n}") for n in range(count))
        with counted() as work:
            assert read(count, body) == count
        calls.append(work.calls)
    more = calls[1] - calls[0]
    [step] = more.items()
    assert step in {("ResultsStream.__next__", 990), ("AsyncResultsStream.__anext__", 990)}
