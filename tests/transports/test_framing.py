"""The framing of response bodies, compared with that of h11 and split anywhere."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches_core.lowlevel import fold_headers
from transports._http11.framing import (
    ChunkedFraming,
    Framing,
    SizedFraming,
    UntilCloseFraming,
    framing_of,
)

CHUNKED = [(b"transfer-encoding", b"chunked")]


def read(body: Framing, stream: bytes, cuts: list[int], *, closed: bool = False) -> bytes:
    """Feed a stream, split at these places, until the body ends or breaks."""
    payload = b""
    places = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    for start, end in pairwise(places):
        if body.is_complete or body.error:
            break
        payload += body.feed(stream[start:end])
    if closed:
        body.close()
    return payload


def read_by_h11(headers: list[tuple[bytes, bytes]], stream: bytes) -> tuple[bytes, bool, bool]:
    """Return the payload, whether the body ended, and whether h11 found an error."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    connection.send(h11.EndOfMessage())
    head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n"
    connection.receive_data(head + stream)
    payload = b""
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Data):
                payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return payload, True, False
    except h11.RemoteProtocolError:
        return payload, False, True
    return payload, False, False


def chunked(payloads: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = (b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in payloads if each)
    return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"


CUTS = st.lists(st.integers(0, 200))


BODIES = st.builds(
    chunked,
    st.lists(st.binary(max_size=40), max_size=5),
    st.sampled_from([b"", b";a", b';a="b" ', b"  "]),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc:d\r\n", b"a:\r\n b\r\n\t\r\n"]),
)


@given(whole=BODIES, beyond=st.binary(max_size=5), length=st.integers(0, 300), cuts=CUTS)
def test_a_chunked_body_is_read_as_h11_reads_it(
    whole: bytes, beyond: bytes, length: int, cuts: list[int]
) -> None:
    stream = (whole + beyond)[:length]
    body = ChunkedFraming()
    payload = read(body, stream, cuts)
    expected, ended, _ = read_by_h11(CHUNKED, stream)
    assert (payload, body.is_complete, body.error) == (expected, ended, None)


@given(
    payloads=st.lists(st.binary(max_size=20), max_size=3),
    place=st.integers(0, 100),
    corruption=st.binary(max_size=3),
    cuts=CUTS,
)
@example(payloads=[b"abc"], place=6, corruption=b"x", cuts=[])
@example(payloads=[b"\x00"], place=0, corruption=b"0", cuts=[])
def test_broken_chunks_are_detected_at_every_split_and_not_before_h11(
    payloads: list[bytes], place: int, corruption: bytes, cuts: list[int]
) -> None:
    stream = chunked(payloads)
    stream = stream[:place] + corruption + stream[place + len(corruption) :]
    whole, split = ChunkedFraming(), ChunkedFraming()
    payload = read(whole, stream, [])
    assert read(split, stream, cuts) == payload
    assert (split.is_complete, split.error) == (whole.is_complete, whole.error)
    expected, ended, broken = read_by_h11(CHUNKED, stream)
    assert payload == expected
    assert not (whole.is_complete and broken)
    assert not (whole.error and ended)


@given(payload=st.binary(max_size=40), length=st.integers(0, 40), cuts=CUTS)
def test_a_sized_body_ends_at_its_content_length(
    payload: bytes, length: int, cuts: list[int]
) -> None:
    body = SizedFraming(length)
    assert read(body, payload, cuts) == payload[:length]
    assert body.is_complete == (len(payload) >= length)


def test_an_unsized_body_ends_with_its_connection() -> None:
    body = UntilCloseFraming()
    assert read(body, b"abc", [1]) == b"abc"
    assert not body.is_complete
    body.close()
    assert body.is_complete
    assert not body.keeps_connection


@pytest.mark.parametrize("stream", [b"3\r\nab", b"3\r\nabc\r\n", b"0\r\n", b"", b"3"], ids=repr)
def test_a_chunked_body_cut_off_by_a_close_is_an_error(stream: bytes) -> None:
    body = ChunkedFraming()
    read(body, stream, [], closed=True)
    assert not body.is_complete
    assert "closed before the end of the body" in str(body.error)


def test_a_sized_body_cut_off_by_a_close_is_an_error() -> None:
    body = SizedFraming(3)
    assert read(body, b"ab", [], closed=True) == b"ab"
    assert "closed before the end of the body" in str(body.error)


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (b"x\r\n", "length"),
        (b"-1\r\n", "length"),
        (b"\r\n", "length"),
        (b"1" * 21 + b"\r\n", "length"),
        (b"3 3\r\n", "length"),
        (b"3\n", "carriage return"),
        (b"3\r\nabcd\r\n", "longer"),
        (b"3\r\nabc3\r\n", "longer"),
        (b"3\r\nabc\n", "carriage return"),
        (b"0\r\nabc\r\n\r\n", "trailer"),
        (b"0\r\n a: b\r\n\r\n", "trailer"),
        (b"0\r\na: \0\r\n\r\n", "trailer"),
    ],
)
def test_an_invalid_chunk_is_reported_with_its_problem(stream: bytes, problem: str) -> None:
    body = ChunkedFraming()
    assert read(body, stream, []) == (b"abc" if stream.startswith(b"3\r\nabc") else b"")
    assert not body.is_complete
    assert problem in str(body.error)


@pytest.mark.parametrize("step", [1000, 70_000])
@pytest.mark.parametrize(
    "stream",
    [b"3;" + b"a" * 70_000, b"3;" + b"a" * 70_000 + b"\r\n", b"0\r\n" + b"a: bcdefg\r\n" * 8_000],
    ids=["endless line", "long line", "trailers"],
)
def test_endless_chunk_lines_and_trailers_are_rejected(stream: bytes, step: int) -> None:
    body = ChunkedFraming()
    read(body, stream, [*range(0, len(stream), step)])
    assert "65,536 bytes" in str(body.error)
    assert not body.is_complete


@pytest.mark.parametrize(
    "stream", [b"3\r\nabc\r\n0\r\n\r\nHTTP", b"abcHTTP"], ids=["chunked", "sized"]
)
def test_bytes_after_the_end_of_a_body_prevent_reuse_of_the_connection(stream: bytes) -> None:
    body: Framing = ChunkedFraming() if stream.startswith(b"3") else SizedFraming(3)
    assert read(body, stream, []) == b"abc"
    assert body.is_complete
    assert not body.keeps_connection


@pytest.mark.parametrize("body", [ChunkedFraming(), SizedFraming(3)], ids=["chunked", "sized"])
def test_a_close_after_a_complete_body_prevents_reuse_of_the_connection(body: Framing) -> None:
    read(body, b"3\r\nabc\r\n0\r\n\r\n" if isinstance(body, ChunkedFraming) else b"abc", [])
    assert (body.is_complete, body.keeps_connection) == (True, True)
    body.close()
    assert (body.is_complete, body.error, body.keeps_connection) == (True, None, False)


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (200, [*CHUNKED, (b"content-length", b"3")], ChunkedFraming),
        (200, [(b"content-length", b"3")], SizedFraming),
        (200, [], UntilCloseFraming),
        (204, CHUNKED, SizedFraming),
        (304, [(b"content-length", b"3")], SizedFraming),
    ],
    ids=["chunked", "sized", "until close", "204", "304"],
)
def test_the_status_and_headers_determine_the_framing(
    status: int, headers: list[tuple[bytes, bytes]], kind: type[Framing]
) -> None:
    body = framing_of(status, fold_headers(headers))
    assert type(body) is kind
    assert body.is_complete == (status != 200)


def test_a_payload_without_framing_bytes_is_not_copied() -> None:
    body = ChunkedFraming()
    body.feed(b"5\r\nab")
    piece = bytes(bytearray(b"cd"))
    assert body.feed(piece) is piece
    sized = SizedFraming(5)
    assert sized.feed(piece) is piece
