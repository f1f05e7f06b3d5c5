from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import TransportError
from transports._client.content_encoding import END, BodyDecoder

TEXT = b"".join(b'{"custom_id":"r%d","result":{"type":"expired"}}\n' % n for n in range(2000))
GZIPPED = gzip.compress(TEXT)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
    "": bytes,
}
NAMES = st.sampled_from(sorted(ENCODERS))


def decode(name: str, chunks: list[bytes]) -> bytes:
    pieces = [*pieces_of(BodyDecoder({"content-encoding": name}), [*chunks, END])]
    assert pieces.pop() == END
    assert all(pieces)
    return b"".join(pieces)


def pieces_of(decoder: BodyDecoder, chunks: list[bytes]) -> Iterator[bytes]:
    """Feed chunks, and return each piece as soon as it is there; `END` comes once."""
    for chunk in chunks:
        decoder.feed(chunk)
        while (piece := decoder.next_piece()) is not None:
            yield piece
            if piece == END:
                return


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    return [data[i:j] for i, j in itertools.pairwise(borders)]


@given(name=NAMES, data=st.binary(max_size=300), cuts=st.lists(st.integers(1, 400), max_size=8))
def test_every_encoding_cut_anywhere(name: str, data: bytes, cuts: list[int]) -> None:
    assert decode(name, cut(ENCODERS[name](data), cuts)) == data


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.lists(st.integers(1, 200)))
def test_gzip_of_several_members(members: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(map(gzip.compress, members))
    assert decode("gzip", cut(whole, cuts)) == b"".join(members)


@pytest.mark.parametrize("name", ["gzip", "deflate", "Deflate"])
def test_an_end_in_the_middle_is_told_wherever_it_is(name: str) -> None:
    whole = ENCODERS[name](b"a line\nand another\n" * 5)
    for length in range(1, len(whole)):
        with pytest.raises(TransportError, match="it is incomplete"):
            decode(name, [whole[:length]])


def test_no_bytes_at_all_are_an_empty_body_in_any_encoding() -> None:
    for name in (*ENCODERS, "br"):
        assert decode(name, []) == b""


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_what_is_not_encoded_is_told(name: str) -> None:
    with pytest.raises(TransportError, match="content-encoding"):
        decode(name, [b"\xff plain text"])


def test_bytes_behind_the_end_are_told() -> None:
    with pytest.raises(TransportError, match="after its end"):
        decode("deflate", [zlib.compress(b"x") + b"more"])


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip"])
def test_an_encoding_that_was_not_asked_for_is_told(name: str) -> None:
    with pytest.raises(TransportError, match="was not requested"):
        decode(name, [b"x"])


@given(data=st.binary(min_size=1, max_size=60), gzipped=st.booleans())
def test_any_bytes_decode_or_are_told(data: bytes, gzipped: bool) -> None:  # noqa: FBT001
    decoder = BodyDecoder({"content-encoding": "gzip" if gzipped else "deflate"})
    error = None
    try:
        assert [*pieces_of(decoder, [data, END])][-1] == END
    except TransportError as caught:
        error = caught
    assert error is None or error.sent


@pytest.mark.parametrize("name", ["gzip", "deflate", "Deflate"])
def test_a_body_that_ends_just_about_where_a_piece_does_is_whole(name: str) -> None:
    for more in range(600):
        data = b"a" * (1024 * 1024 + more)
        assert decode(name, [ENCODERS[name](data)]) == data


def test_an_expansion_comes_in_bounded_pieces() -> None:
    bomb = gzip.compress(bytes(15_000_000))
    decoder = BodyDecoder({"content-encoding": "gzip"})
    sizes = [len(piece) for piece in pieces_of(decoder, [bomb, END])]
    assert sum(sizes) == 15_000_000
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize("fault", [len(GZIPPED) // 2, len(GZIPPED) - 6], ids=["a bit", "its sum"])
def test_what_came_before_a_fault_is_given(fault: int) -> None:
    broken = bytearray(GZIPPED)
    broken[fault] ^= 0x10
    decoder = BodyDecoder({"content-encoding": "gzip"})
    given = bytearray()
    with pytest.raises(TransportError, match="cannot be decoded"):  # noqa: PT012 - its pieces come before
        for piece in pieces_of(decoder, [bytes(broken)]):
            given += piece
    assert len(given) > len(TEXT) // 3
    if fault > len(GZIPPED) - 8:
        assert bytes(given) == TEXT


@pytest.mark.parametrize(("times", "is_refused"), [(1, False), (4, True)])
def test_a_body_that_expands_without_measure_is_refused(times: int, is_refused: Any) -> None:
    bomb = gzip.compress(bytes(8 * 1024 * 1024)) * times
    pieces = pieces_of(BodyDecoder({"content-encoding": "gzip"}), [bomb])
    if is_refused:
        with pytest.raises(TransportError, match="more than 200 times its size"):
            list(pieces)
    else:
        assert sum(map(len, pieces)) == 8 * 1024 * 1024
