"""How every client reads responses: heads, framings, encodings, and bodies that break off."""

from __future__ import annotations

import gzip
import socket
import zlib
from typing import Any

import pytest

from batches_core import (
    Event,
    IncompleteResultsError,
    InternalServerError,
    MalformedResultError,
    ResultsInterrupted,
    TransportError,
)
from tests.support.batches import (
    BATCH,
    CHUNKED,
    ONE_ATTEMPT,
    QUICK_RETRIES,
    chunk,
    collect,
    ended_batch,
    read_until_error,
)
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier, raw_carriers
from tests.support.playbook import result_line
from tests.support.scripted import raw, reply, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

A, B, C = result_line("a"), result_line("b"), result_line("c")

# --- heads -----------------------------------------------------------------------------


@every_carrier
def test_an_html_error_page_raises_a_status_error_that_names_a_gateway(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(Exception, match=r"502: <html>.*proxy or gateway") as caught:
                await client.get("msgbatch_1")
            assert getattr(caught.value, "status", None) == 502
            with pytest.raises(InternalServerError):
                await client.get("msgbatch_1")

    html = b"<html><h1>Bad Gateway</h1></html>"
    with scripted(reply(html, 502), reply(html, 500)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_redirect_is_not_followed(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            with pytest.raises(Exception, match=r"redirect to 'http://127\.0\.0\.1:9/'"):
                await client.get("msgbatch_1")

    with scripted(reply(b"", 302, b"location: http://127.0.0.1:9/\r\n")) as served:
        carrier.run(scenario)
    assert len(served.requests) == 1


def endless(start: bytes, more: bytes) -> Any:
    """Return a handler that sends a head without an end."""

    def handler(connection: socket.socket) -> bool:
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return handler


@every_carrier
@pytest.mark.parametrize(
    "handler",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n" * 100),
        endless(b"HTTP/1.1 200 OK\r\nx-more: ", b"y" * 1000),
        endless(b"HTTP/1.1 200 ", b"O" * 1000),
    ],
    ids=["many header lines", "one header line", "status line"],
)
def test_an_endless_response_head_raises_a_transport_error(carrier: Carrier, handler: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="is broken"):
                await client.get("msgbatch_1")

    with scripted(handler) as served:
        carrier.run(scenario)


@raw_carriers
def test_endless_informational_heads_raise_a_transport_error(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="no end of 1xx"):
                await client.get("msgbatch_1")

    with scripted(raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 200)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_response_that_is_not_http_or_not_gzip_raises_a_transport_error(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError):
                await client.get("msgbatch_1")
            with pytest.raises(TransportError):
                await client.results(ended_batch(served.base_url))

    not_gzip = reply(b"this is not gzip", headers=b"content-encoding: gzip\r\n")
    with scripted(raw(b"SSH-2.0-x\r\n", keep=False), not_gzip) as served:
        carrier.run(scenario)


# --- bodies ----------------------------------------------------------------------------

WHOLE_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(A + B + C), A + B + C)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n"
FRAMINGS: dict[str, Any] = {
    "content-length": reply(A + B + C),
    "chunked": raw(CHUNKED, chunk(A[:7]), chunk(A[7:] + B), chunk(C), b"0\r\n\r\n"),
    "chunked with trailers": raw(CHUNKED, chunk(A + B + C), b"0\r\nx-sum: 1\r\n\r\n"),
    "until close": raw(UNTIL_CLOSE, A + B, C, keep=False),
    "informational first": raw(b"HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n" + WHOLE_RESPONSE),
    "one byte at a time": raw(*(bytes([byte]) for byte in WHOLE_RESPONSE)),
    "gzip": reply(gzip.compress(A + B + C), headers=b"content-encoding: gzip\r\n"),
    "deflate": reply(zlib.compress(A + B + C), headers=b"content-encoding: deflate\r\n"),
    "gzip in chunks of one byte": raw(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        *(chunk(bytes([byte])) for byte in gzip.compress(A + B + C)),
        b"0\r\n\r\n",
    ),
}


@every_carrier
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_results_are_the_same_in_every_framing_and_encoding(carrier: Carrier, framing: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            items = await collect(client.results_stream(ended_batch(served.base_url)))
            assert [item.custom_id for item in items] == ["a", "b", "c"]

    with scripted(framing) as served:
        carrier.run(scenario)
    assert len(served.requests) == 1


@every_carrier
def test_an_unreadable_line_becomes_a_malformed_result(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            _, malformed, _ = await client.results(ended_batch(served.base_url))
            assert isinstance(malformed, MalformedResultError)
            assert (malformed.line_number, malformed.raw) == (2, b"oops")

    with scripted(reply(A + b"oops\r\n" + C)) as served:
        carrier.run(scenario)


# --- bodies that break off -------------------------------------------------------------


def gzip_without_end(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


BREAKS: dict[str, Any] = {
    "gzip, cut between blocks": reply(gzip_without_end(A), headers=b"content-encoding: gzip\r\n"),
    "content-length, cut": reply(A + B + C, cut=len(A) + 20),
    "chunked, cut between chunks": raw(CHUNKED, chunk(A), chunk(B[:20]), keep=False),
    "chunked, cut within a chunk": raw(CHUNKED, chunk(A), b"500\r\n" + B[:20], keep=False),
    "until close, cut within a line": raw(UNTIL_CLOSE, A + B[:20], keep=False),
    "until close, cut between lines": raw(UNTIL_CLOSE, A, keep=False),
}


@every_carrier
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_results_that_break_off_are_read_again_and_returned_once(
    carrier: Carrier, broken: Any
) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        settings = {"on_event": events.append, "retry": QUICK_RETRIES}
        async with carrier.client(served.base_url, **settings) as client:
            items = await collect(client.results_stream(ended_batch(served.base_url)))
            assert [item.custom_id for item in items] == ["a", "b", "c"]

    with scripted(broken, reply(A + B + C)) as served:
        carrier.run(scenario)
    (interrupted,) = events
    assert isinstance(interrupted, ResultsInterrupted)
    assert interrupted.delivered == 1


@every_carrier
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_complete_results_precede_the_error_of_a_break_without_resume(
    carrier: Carrier, broken: Any
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended_batch(served.base_url), resume=False)
            custom_ids, error = await read_until_error(stream)
        assert custom_ids == ["a"]
        assert isinstance(error, (TransportError, IncompleteResultsError))

    with scripted(broken) as served:
        carrier.run(scenario)


@every_carrier
def test_a_gzip_body_without_its_checksum_raises_a_transport_error(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="ends in the middle"):
                await client.get("msgbatch_1")

    without_checksum = gzip.compress(BATCH)[:-8]
    with scripted(reply(without_checksum, headers=b"content-encoding: gzip\r\n")) as served:
        carrier.run(scenario)
