"""What is done with a fuzzer's bytes, and what has to be true of it, whatever they are.

Knows three entries: a results file (`jsonl`), whatever comes with and before a body (`head`), and
an operation from its start to its end (`operation`). Each takes bytes and raises where something
is wrong. Work is counted, not timed, so that the same bytes always give the same verdict.
"""

from __future__ import annotations

import gzip
import math
import pickle
import random
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from batches_core import (
    APIStatusError,
    BatchesError,
    Done,
    LocalProtocolError,
    MalformedResultError,
    Need,
    Operation,
    Request,
    ResultsReceived,
    RetryPolicy,
    SendRequest,
    TransportError,
    WaitUntil,
)
from batches_core.http import fold_headers
from batches_core.retry import parse_retry_after, parse_should_retry
from transports._client.content_encoding import END
from transports._http11.connection import Head, HTTP11Connection
from transports._http11.proxy import Proxy, TunnelError

from .jsonl_machine import LIMITS, PIECES, Reading, simply
from .peer import HEADERS, KINDS, STATUSES, bodies_for, operation, shown

#: How many times an operation may send, at most; the longest here wait and settle for minutes.
_MOST_EXCHANGES = 2000
#: A body that expands holds up to a thousand times its bytes, in pieces of up to so many.
_PIECE = 1024 * 1024
_EXPANSION = 1100


class Source:
    """Reads a fuzzer's bytes from the front; after their end there are zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    @property
    def is_empty(self) -> bool:
        return self._place >= len(self._data)

    def byte(self) -> int:
        return (self.take(1) or b"\0")[0]

    def take(self, count: int) -> bytes:
        taken = self._data[self._place : self._place + count]
        self._place += count
        return taken

    def rest(self) -> bytes:
        return self.take(len(self._data))


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """Cut bytes into pieces: small ones, large ones, or single bytes."""
    most = chance.choice((1, 3, 20, 500))
    found, start = [], 0
    while start < len(data):
        end = start + chance.randint(1, most)
        found.append(data[start:end])
        start = end
    return found


# --- a results file ----------------------------------------------------------------------


def jsonl(data: bytes) -> None:
    """The file gives what a simple reader finds in it, however it is cut."""
    source = Source(data)
    max_line = LIMITS[source.byte() % len(LIMITS)]
    chance = random.Random(source.byte())
    body = source.rest()
    expected = simply(body, max_line)
    for chunks in ([body] if body else [], pieces(body, chance)):
        reading = Reading(max_line)
        for chunk in chunks:
            reading.feed(chunk)
        reading.finish()
        assert reading.outcome == expected
        for item in reading.items:
            shown(item)


# --- heads -------------------------------------------------------------------------------


def head(data: bytes) -> None:
    """Headers and heads of any kind are read, or refused as what they are."""
    source = Source(data)
    chance = random.Random(source.byte())
    what = source.byte()
    if what % 4 == 0:
        _status_error(source)
    elif what % 4 == 1:
        tunnel(source.rest(), chance)
    else:
        wire(source.rest(), chance)


def _pairs(source: Source) -> list[tuple[bytes, bytes]]:
    """Header pairs: a line each, the names by a number or spelled out."""
    names = (b"retry-after", b"retry-after-ms", b"date", b"x-should-retry", b"location")
    found = []
    for line in source.rest().split(b"\n"):
        name, colon, value = line.partition(b":")
        found.append((name, value) if colon else (names[len(name) % len(names)], name))
    return found


def _status_error(source: Source) -> None:
    """An error status with any headers and any body is an error that says when to try again."""
    status = STATUSES[source.byte() % len(STATUSES)]
    body = source.take(source.byte())
    pairs = _pairs(source)
    as_text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
    headers = fold_headers(pairs)
    assert headers == fold_headers(as_text)
    assert all(name == name.lower() for name in headers)
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds < math.inf
    assert parse_should_retry(headers) in {True, False, None}
    asked = operation("get", attempts=1)
    assert isinstance(asked.next_event(), SendRequest)
    asked.receive_head(1, status, pairs, 0.0)
    if body:
        asked.receive_data(1, body, 0.0)
    asked.receive_eof(1, 0.0)
    outcome = _next_of(asked)
    shown(outcome)
    if not isinstance(outcome, BatchesError):
        assert 200 <= status < 300
        return
    assert not isinstance(outcome, LocalProtocolError)
    policy = RetryPolicy(attempts=1)
    assert isinstance(policy.retries(outcome), bool)
    assert 0 <= policy.delay(1, outcome, lambda: 1.0) <= policy.max_retry_after
    again = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - our own bytes
    assert shown(again) == shown(outcome)
    if isinstance(outcome, APIStatusError):
        assert (outcome.status, outcome.retry_after) == (status, seconds)


def _next_of(asked: Operation[Any]) -> object:
    try:
        return asked.next_event()
    except BatchesError as error:
        return error


_GET = Request(method="GET", url="https://api.example.test/v1/x", headers=())


class _OnAWire:
    """One response read: its head and body, how it ended, and how many times was asked."""

    def __init__(self, chunks: list[bytes], *, looks: bool) -> None:
        self.head: object = None
        self.body = b""
        self.asked = 0
        self._http = HTTP11Connection("api.test:443")
        self._looks = looks
        self._waiting = [*chunks, b""]
        self._http.record_accepted(len(self._http.start_request(_GET)))
        self._http.finish_request()
        self.end = self._read()

    def _read(self) -> str:
        while True:
            self.asked += 1
            item = self._next()
            if isinstance(item, TransportError):
                shown(item)
                assert item.sent
                return "error"
            if item == END:
                assert self.head is not None
                self._http.start_next_cycle()
                return "end"
            if item is None:
                assert self._waiting, "it waits for more than the end"
                self._http.receive(self._waiting.pop(0))
            elif isinstance(item, Head):
                assert self.head is None, "a second head"
                assert 200 <= item.status <= 999
                self.head = (item.status, fold_headers(item.headers))
            else:
                assert isinstance(item, bytes)
                assert self.head is not None
                self.body += item

    def _next(self) -> object:
        try:
            if self._looks:
                self._http.has_head()
                self._http.is_refused()
            return self._http.next_event()
        except TransportError as error:
            return error


def wire(data: bytes, chance: random.Random) -> None:
    """A response of any bytes ends, in the same way however they are cut."""
    whole = _OnAWire([data] if data else [], looks=False)
    _check_asked(whole.asked, len(data), 1)
    for looks in (False, True):
        chunks = pieces(data, chance)
        cut = _OnAWire(chunks, looks=looks)
        _check_asked(cut.asked, len(data), len(chunks))
        assert (cut.head, cut.end) == (whole.head, whole.end)
        # What comes before a break can have got through, or not.
        assert cut.body == whole.body or (cut.end == "error" and cut.body.startswith(whole.body))


def _check_asked(asked: int, length: int, chunks: int) -> None:
    # Each time either takes a chunk, or gives a head, an end or a piece that is not empty.
    assert asked <= 4 + 2 * length + chunks + length * _EXPANSION // _PIECE


def tunnel(data: bytes, chance: random.Random) -> None:
    """A proxy's answer of any bytes is a tunnel, none, or not there yet."""
    outcomes = {_tunneled([data] if data else []), _tunneled(pieces(data, chance))}
    assert len(outcomes) == 1


def _tunneled(chunks: list[bytes]) -> bool:
    asked = Proxy("http://user:secret-word@proxy.test").tunnel(("https", "api.test", 443))
    refused: TunnelError | None = None
    try:
        stands = any(asked.receive(chunk) for chunk in (*chunks, b""))
    except TunnelError as error:
        refused = error
    if refused is None:
        assert stands, "it waits for more than the end"
        return True
    assert "secret-word" not in repr(refused)
    return False


# --- an operation ------------------------------------------------------------------------


class Peer:
    """Answers requests as bytes say; after their end it cannot be reached."""

    def __init__(self, data: bytes) -> None:
        self._source = Source(data)

    def answer(self, request: Request) -> tuple[int, Any, bytes, str] | None:
        """Status, headers, body and end of an answer; None where there is no connection."""
        source = self._source
        if source.is_empty:
            return None
        how, bodies = source.byte(), bodies_for(request)
        status = STATUSES[source.byte() % len(STATUSES)] if how & 1 else 200
        headers = HEADERS[source.byte() % len(HEADERS)] if how & 2 else ()
        body = bodies[source.byte() % len(bodies)]
        if how & 4:
            body = source.take(source.byte())
        if how & 8:
            place = source.byte() * 2
            body = body[:place] + source.take(source.byte() % 8) + body[place + 1 :]
        if how & 16:
            body = body * (2 + source.byte() % 3)
        end = ("eof", "eof", "lost", "eof, late")[how >> 6]
        return status, headers, body, end


class Driven:
    """An operation driven to its end on a clock of its own, with all that came out of it."""

    def __init__(self, driven: Operation[Any], peer: Peer, cut: random.Random | None) -> None:
        self.operation = driven
        self.peer = peer
        self.cut = cut
        self.now = 1000.0
        self.exchanges = 0
        self.events: list[str] = []
        self.delivered: list[str] = []
        self.malformed: Counter[bytes] = Counter()
        self.is_in_a_file = False
        #: How often was asked for the next event, and how often something was passed.
        self.asked = 0
        self.handed_in = 0

    def run(self) -> None:
        parts: Iterator[Callable[[], None]] = iter(())
        self.operation.handle_timeout(self.now)
        while True:
            self.asked += 1
            got = _next_of(self.operation)
            match got:
                case SendRequest(exchange=number, request=request):
                    self.exchanges += 1
                    assert number == self.exchanges <= _MOST_EXCHANGES
                    self.tell(got)
                    parts = self.parts(number, request)
                case Need.DATA:
                    self.handed_in += 1
                    part = next(parts, None)
                    assert part is not None, "it waits for more than the end"
                    part()
                case WaitUntil(deadline=deadline):
                    assert self.now < deadline < math.inf
                    self.tell(got)
                    self.now = deadline
                    self.operation.handle_timeout(deadline)
                case ResultsReceived(items=items):
                    self.take(items)
                case Done() | BatchesError():
                    assert not isinstance(got, LocalProtocolError)
                    self.tell(got)
                    return
                case _:
                    self.tell(got)

    def parts(self, number: int, request: Request) -> Iterator[Callable[[], None]]:
        driven = self.operation
        answer = self.peer.answer(request)
        if answer is None:
            yield lambda: driven.connection_lost(number, "no route", self.now, sent=False)
            return
        status, headers, body, end = answer
        if end == "eof, late":
            self.now += 45.0
        yield lambda: driven.receive_head(number, status, headers, self.now)
        whole = [body] if body else []
        for piece in whole if self.cut is None else pieces(body, self.cut):
            yield partial(driven.receive_data, number, piece, self.now)
        if end == "lost":
            yield lambda: driven.connection_lost(number, "reset", self.now, sent=True)
        else:
            yield lambda: driven.receive_eof(number, self.now)

    def take(self, items: list[Any]) -> None:
        for item in items:
            if isinstance(item, MalformedResultError):
                self.malformed[item.raw] += 1
            else:
                self.delivered.append(item.custom_id)
            # One by one, for where the blocks end depends on the cut.
            self.events.append(shown(item))

    def tell(self, got: object) -> None:
        self.events.append(shown(got))


def whole_operation(data: bytes) -> None:
    """Any operation against any peer ends, and says the same however the bodies are cut."""
    source = Source(data)
    kind = sorted(KINDS)[source.byte() % len(KINDS)]
    attempts = 1 + source.byte() % 4
    max_line = LIMITS[~(source.byte() % len(LIMITS))]
    seed = source.byte()
    answers = source.rest()
    runs = []
    for cut in (None, random.Random(seed)):
        made = operation(kind, attempts=attempts, max_line=max_line)
        run = Driven(made, Peer(answers), cut)
        run.run()
        assert len(set(run.delivered)) == len(run.delivered), "delivered twice"
        # Each time gives an event, or asks for what was passed next; few events come of one.
        assert run.asked <= 4 + run.handed_in * 3 + run.exchanges * 5
        runs.append(run)
    first, second = runs
    assert first.events == second.events


TARGETS: dict[str, Callable[[bytes], None]] = {
    "jsonl": jsonl,
    "head": head,
    "operation": whole_operation,
}

_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
_RESPONSE = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + _CHUNKS,
    b"HTTP/1.1 503 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\ncontent-encoding: deflate\r\n\r\n" + zlib.compress(b"hello"),
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + gzip.compress(b"hello", mtime=0),
)
#: Where a fuzzer starts from, by target.
SEEDS: dict[str, list[bytes]] = {
    "jsonl": [
        *(bytes([limit, 7]) + piece for limit in range(len(LIMITS)) for piece in PIECES),
        *(bytes([limit, 7]) + b"".join(PIECES) for limit in range(len(LIMITS))),
    ],
    "head": [
        *(b"\1\2" + response for response in _RESPONSE),
        *(b"\1\1" + response for response in _RESPONSE),
        b'\0\0\x0b\x05{"a"}retry-after:12.5\nx-should-retry: true',
        b"\0\0\x18\0retry-after:Fri, 01 May 2026 20:29:35 GMT\ndate:Fri, 01 May 2026 20:29:05 GMT",
        b"\0\0\x19\0retry-after-ms: 70\nretry-after:3",
    ],
    "operation": [
        *(bytes([kind, 2, 0, 1]) + b"\0\1" * 12 for kind in range(len(KINDS))),
        *(bytes([kind, 2, 0, 1]) + b"\x81\x05\0\0\1\0\1" * 9 for kind in range(len(KINDS))),
    ],
}
#: Words that a fuzzer puts in.
WORDS: tuple[bytes, ...] = (
    *PIECES,
    *(b"HTTP/1.1 ", b"content-length: ", b"transfer-encoding: chunked", b"\r\n\r\n", b"gzip"),
    *(b"content-encoding: ", b"retry-after", b"retry-after-ms", b"date", b"GMT", b"x-should-retry"),
    *(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03", b"x\x9c", b"deflate", b"connection: close"),
    *(b'"custom_id":"c"', b'"result":', b'"type":"succeeded"', b'"error":', b'"request_id":"r"'),
)
