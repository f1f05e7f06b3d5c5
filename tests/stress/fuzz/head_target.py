"""The fuzz target for heads: error statuses, HTTP/1.1 responses, a proxy's answers to CONNECT."""

from __future__ import annotations

import math
import pickle
import random
from typing import Any

from batches_core import (
    APIStatusError,
    BatchesError,
    LocalProtocolError,
    Operation,
    Request,
    RetryPolicy,
    SendRequest,
    TransportError,
)
from batches_core.http import fold_headers
from batches_core.retry import parse_retry_after, parse_should_retry
from transports._client.content_encoding import END
from transports._http11.connection import Head, HTTP11Connection
from transports._http11.proxy import Proxy, TunnelError

from .operations import describe, make_operation
from .responses import STATUSES
from .source import Source, cut

#: A compressed body can become so many times longer, and is returned in pieces of this many bytes.
_MAX_EXPANSION = 1100
_MAX_PIECE = 1024 * 1024

_GET = Request(method="GET", url="https://api.example.test/v1/x", headers=())


def head(data: bytes) -> None:
    """Check that any head is read, or refused with a documented error."""
    source = Source(data)
    rng = random.Random(source.byte())
    choice = source.byte() % 4
    if choice == 0:
        _check_error_status(source)
    elif choice == 1:
        tunnel(source.rest(), rng)
    else:
        response(source.rest(), rng)


# --- an error status ---------------------------------------------------------------------


def _check_error_status(source: Source) -> None:
    """Check the error that a status, some headers and a body give, and its retry delay."""
    status = STATUSES[source.byte() % len(STATUSES)]
    body = source.take(source.byte())
    pairs = _header_pairs(source)
    as_text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
    headers = fold_headers(pairs)
    assert headers == fold_headers(as_text)
    assert all(name == name.lower() for name in headers)
    seconds = parse_retry_after(headers)
    assert seconds is None or 0 <= seconds < math.inf
    assert parse_should_retry(headers) in {True, False, None}
    operation = make_operation("get", attempts=1)
    assert isinstance(operation.next_event(), SendRequest)
    operation.receive_head(1, status, pairs, 0.0)
    if body:
        operation.receive_data(1, body, 0.0)
    operation.receive_eof(1, 0.0)
    output = _next_output(operation)
    describe(output)
    if not isinstance(output, BatchesError):
        assert 200 <= status < 300
        return
    assert not isinstance(output, LocalProtocolError)
    policy = RetryPolicy(attempts=1)
    assert isinstance(policy.retries(output), bool)
    assert 0 <= policy.delay(1, output, lambda: 1.0) <= policy.max_retry_after
    again = pickle.loads(pickle.dumps(output))  # noqa: S301 - our own bytes
    assert describe(again) == describe(output)
    if isinstance(output, APIStatusError):
        assert (output.status, output.retry_after) == (status, seconds)


def _header_pairs(source: Source) -> list[tuple[bytes, bytes]]:
    """Read a header from each line. A line without a colon is a value; its length names it."""
    names = (b"retry-after", b"retry-after-ms", b"date", b"x-should-retry", b"location")
    pairs = []
    for line in source.rest().split(b"\n"):
        name, colon, value = line.partition(b":")
        pairs.append((name, value) if colon else (names[len(name) % len(names)], name))
    return pairs


def _next_output(operation: Operation[Any]) -> object:
    try:
        return operation.next_event()
    except BatchesError as error:
        return error


# --- an HTTP/1.1 response ----------------------------------------------------------------


class _ReadResponse:
    """A response read from chunks: its head, its body, and how it ended.

    `calls` is how often the connection was asked for the next part. With `peeks`, the connection is
    asked before each part whether it has a head, which must not change anything.
    """

    def __init__(self, chunks: list[bytes], *, peeks: bool) -> None:
        self.head: object = None
        self.body = b""
        self.calls = 0
        self._connection = HTTP11Connection("api.test:443")
        self._peeks = peeks
        self._chunks = [*chunks, b""]
        self._connection.record_accepted(len(self._connection.start_request(_GET)))
        self._connection.finish_request()
        self.end = self._read()

    def _read(self) -> str:
        while True:
            self.calls += 1
            part = self._next()
            if isinstance(part, TransportError):
                describe(part)
                assert part.sent
                return "error"
            if part == END:
                assert self.head is not None
                self._connection.start_next_cycle()
                return "end"
            if part is None:
                assert self._chunks, "it needs data after the end"
                self._connection.receive(self._chunks.pop(0))
            elif isinstance(part, Head):
                assert self.head is None, "a second head"
                assert 200 <= part.status <= 999
                self.head = (part.status, fold_headers(part.headers))
            else:
                assert isinstance(part, bytes)
                assert self.head is not None
                self.body += part

    def _next(self) -> object:
        try:
            if self._peeks:
                self._connection.has_head()
                self._connection.is_refused()
            return self._connection.next_event()
        except TransportError as error:
            return error


def response(data: bytes, rng: random.Random) -> None:
    """Check that a response of any bytes ends, and in the same way however they are cut."""
    whole = _ReadResponse([data] if data else [], peeks=False)
    _check_calls(whole.calls, len(data), 1)
    for peeks in (False, True):
        chunks = cut(data, rng)
        again = _ReadResponse(chunks, peeks=peeks)
        _check_calls(again.calls, len(data), len(chunks))
        assert (again.head, again.end) == (whole.head, whole.end)
        # Before an error, more of the body may be delivered if it came in smaller chunks.
        is_longer = again.end == "error" and again.body.startswith(whole.body)
        assert again.body == whole.body or is_longer


def _check_calls(calls: int, length: int, chunks: int) -> None:
    # Each call uses a chunk, or returns a head, an end, or a piece that is not empty.
    assert calls <= 4 + 2 * length + chunks + length * _MAX_EXPANSION // _MAX_PIECE


# --- a proxy's answer to CONNECT ---------------------------------------------------------


def tunnel(data: bytes, rng: random.Random) -> None:
    """Check that a tunnel is opened or refused in the same way however the bytes are cut."""
    outcomes = {_opens_tunnel([data] if data else []), _opens_tunnel(cut(data, rng))}
    assert len(outcomes) == 1


def _opens_tunnel(chunks: list[bytes]) -> bool:
    proxy_tunnel = Proxy("http://user:secret-word@proxy.test").tunnel(("https", "api.test", 443))
    refused: TunnelError | None = None
    try:
        is_open = any(proxy_tunnel.receive(chunk) for chunk in (*chunks, b""))
    except TunnelError as error:
        refused = error
    if refused is None:
        assert is_open, "it needs data after the end"
        return True
    assert "secret-word" not in repr(refused)
    return False
