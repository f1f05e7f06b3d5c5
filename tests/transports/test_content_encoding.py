"""Decoding response bodies: gzip and deflate, split anywhere, cut, corrupted, expanding."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator

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
    """Feed chunks and yield each piece as soon as it is decoded, and `END` once."""
    for chunk in chunks:
        decoder.feed(chunk)
        while (piece := decoder.next_piece()) is not None:
            yield piece
            if piece == END:
                return


def split(data: bytes, places: list[int]) -> list[bytes]:
    borders = sorted({0, len(data), *(place for place in places if place < len(data))})
    return [data[start:end] for start, end in itertools.pairwise(borders)]


@given(name=NAMES, data=st.binary(max_size=300), places=st.lists(st.integers(1, 400), max_size=8))
def test_an_encoded_body_decodes_however_it_is_split(
    name: str, data: bytes, places: list[int]
) -> None:
    assert decode(name, split(ENCODERS[name](data), places)) == data


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=4), st.lists(st.integers(1, 200)))
def test_a_gzip_body_of_several_members_decodes_to_all_of_them(
    members: list[bytes], places: list[int]
) -> None:
    whole = b"".join(map(gzip.compress, members))
    assert decode("gzip", split(whole, places)) == b"".join(members)


@pytest.mark.parametrize("name", ["gzip", "deflate", "Deflate"])
def test_a_truncated_encoded_body_raises_wherever_it_is_cut(name: str) -> None:
    whole = ENCODERS[name](b"a line\nand another\n" * 5)
    for length in range(1, len(whole)):
        with pytest.raises(TransportError, match="it is incomplete"):
            decode(name, [whole[:length]])


def test_no_bytes_decode_to_an_empty_body_in_any_encoding() -> None:
    for name in (*ENCODERS, "br"):
        assert decode(name, []) == b""


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_body_that_is_not_encoded_as_declared_raises(name: str) -> None:
    with pytest.raises(TransportError, match="content-encoding"):
        decode(name, [b"\xff plain text"])


def test_bytes_after_the_end_of_an_encoded_body_raise() -> None:
    with pytest.raises(TransportError, match="after its end"):
        decode("deflate", [zlib.compress(b"x") + b"more"])


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip"])
def test_a_content_encoding_that_was_not_requested_raises(name: str) -> None:
    with pytest.raises(TransportError, match="was not requested"):
        decode(name, [b"x"])


@given(data=st.binary(min_size=1, max_size=60), name=st.sampled_from(["gzip", "deflate"]))
def test_arbitrary_bytes_decode_or_raise_a_transport_error(data: bytes, name: str) -> None:
    decoder = BodyDecoder({"content-encoding": name})
    error = None
    try:
        assert [*pieces_of(decoder, [data, END])][-1] == END
    except TransportError as caught:
        error = caught
    assert error is None or error.sent


@pytest.mark.parametrize("name", ["gzip", "deflate", "Deflate"])
def test_a_body_that_ends_near_a_piece_boundary_decodes_completely(name: str) -> None:
    for more in range(600):
        data = b"a" * (1024 * 1024 + more)
        assert decode(name, [ENCODERS[name](data)]) == data


def test_an_expanding_body_decodes_to_pieces_of_bounded_size() -> None:
    bomb = gzip.compress(bytes(15_000_000))
    decoder = BodyDecoder({"content-encoding": "gzip"})
    sizes = [len(piece) for piece in pieces_of(decoder, [bomb, END])]
    assert sum(sizes) == 15_000_000
    assert max(sizes) <= 1024 * 1024


@pytest.mark.parametrize(
    "corrupted", [len(GZIPPED) // 2, len(GZIPPED) - 6], ids=["data", "checksum"]
)
def test_the_pieces_before_a_corruption_precede_its_error(corrupted: int) -> None:
    broken = bytearray(GZIPPED)
    broken[corrupted] ^= 0x10
    decoder = BodyDecoder({"content-encoding": "gzip"})
    decoded = bytearray()
    with pytest.raises(TransportError, match="broken"):  # noqa: PT012 - pieces precede the error
        for piece in pieces_of(decoder, [bytes(broken)]):
            decoded += piece
    assert len(decoded) > len(TEXT) // 3
    if corrupted > len(GZIPPED) - 8:
        assert bytes(decoded) == TEXT


@pytest.mark.parametrize(("members", "is_rejected"), [(1, False), (4, True)])
def test_a_body_that_expands_over_200_times_is_rejected(members: int, *, is_rejected: bool) -> None:
    bomb = gzip.compress(bytes(8 * 1024 * 1024)) * members
    pieces = pieces_of(BodyDecoder({"content-encoding": "gzip"}), [bomb])
    if is_rejected:
        with pytest.raises(TransportError, match="more than 200 times its size"):
            list(pieces)
    else:
        assert sum(map(len, pieces)) == 8 * 1024 * 1024
