"""Tests of `jsonl`: lines become items, however the bytes are cut, within limits."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches_core import MalformedResultError, Message, ResultItem
from batches_core.decoding import ResultDecoder
from batches_core.jsonl import MAX_LINE, JSONLines
from tests.support.playbook import result_line

Item = ResultItem[Message] | MalformedResultError
#: The items of a body in a form that can be compared, and whether its end was truncated.
Reading = tuple[list[object], bool]
DECODER = ResultDecoder(Message)


def comparable(items: list[Item], *, truncated: bool) -> Reading:
    """Replace each malformed result by a tuple of its attributes, because errors are not equal."""
    values: list[object] = [
        (i.line_number, i.raw, i.reason, i.custom_id) if isinstance(i, MalformedResultError) else i
        for i in items
    ]
    return values, truncated


def read(chunks: Sequence[bytes], max_line: int = MAX_LINE) -> Reading:
    lines = JSONLines(DECODER, max_line)
    items = [item for chunk in chunks for item in lines.feed(chunk)]
    rest, truncated = lines.finish()
    return comparable(items + rest, truncated=truncated)


def read_ids(chunks: Sequence[bytes]) -> list[str | None]:
    lines = JSONLines(DECODER)
    items = [item for chunk in chunks for item in lines.feed(chunk)]
    items += lines.finish()[0]
    return [item.custom_id for item in items]


A, B, C = result_line("a"), result_line("b", "zwei\u2028Zeilen \\ \n ü 漢 🎉"), result_line("c")


# --- valid lines -------------------------------------------------------------------------


VALID_FILES = {
    "lf": A + B + C,
    "crlf": (A + B + C).replace(b"\n", b"\r\n"),
    "mixed line ends": A + B.replace(b"\n", b"\r\n") + C,
    "no final newline": (A + B + C)[:-1],
    "cr at the very end": (A + B + C)[:-1] + b"\r",
    "blank lines": b"\n" + A + b"\n\r\n" + B + b"\n" + C + b"\n\n",
    "white space lines": A + b"  \t\r\n" + B + b" \n\x0b\x0c\n" + C + b"   ",
    "spaces around": b"  " + A[:-1] + b" \t\r\n" + B + C,
    "byte order mark": b"\xef\xbb\xbf" + A + B + C,
    "lone surrogates": A + B.replace(b'"msg_b"', b'"\\udc00\\ud83d"') + C,
    "irregular messages": A
    + B.replace(b'"msg_b"', b"null")
    + C.replace(b'"text":"hi"', b'"text":5'),
    "unknown fields and variants": A + B + C[:-2] + b',"new":{"deep":[1,{"x":null}]}}\n',
}


@pytest.mark.parametrize("body", VALID_FILES.values(), ids=VALID_FILES.keys())
def test_each_form_of_a_valid_file_is_decoded_for_every_cut(body: bytes) -> None:
    expected = ["a", "b", "c"]
    assert read_ids([body]) == expected
    assert read_ids([body[i : i + 1] for i in range(len(body))]) == expected
    for cut in range(len(body)):
        assert read_ids([body[:cut], body[cut:]]) == expected


def test_an_empty_body_has_no_items_and_is_not_truncated() -> None:
    assert read([]) == ([], False)
    assert read([b"\xef\xbb\xbf"]) == ([], False)


# --- malformed lines ---------------------------------------------------------------------


MALFORMED_LINES = {
    "not json": b"<html>\n",
    "half an object": b'{"custom_id":"x","result":\n',
    "two on a line": A[:-1] + B,
    "one over two lines": A.replace(b'"result"', b'\n"result"'),
    "one over two lines, after a space": b" " + A.replace(b'"result"', b'\n"result"'),
    "two on a line, then one over two": A[:-1] + B + C.replace(b'"result"', b'\n"result"'),
    "two on a line, then one cut before a brace": A[:-1] + B + C.replace(b":{", b":\n{", 1),
    "two on a line, then one cut after a brace": A[:-1] + B + C[:-2] + b"\n}\n",
    "white space at its end": b"bad  \t\r\n",
    "an array": b"[1]\n",
    "a number": b"3\n",
    "no result": b'{"custom_id":"x"}\n',
    "an id of the wrong type": b'{"custom_id":1,"result":{"type":"canceled"}}\n',
    "invalid utf-8": b'{"custom_id":"\xff","result":{"type":"canceled"}}\n',
    "a surrogate in utf-8": b'{"custom_id":"\xed\xa0\x80","result":{"type":"canceled"}}\n',
    "an incomplete lone surrogate": b'{"custom_id":"\\ud800","result":{"type":"canceled"}\n',
    "a second byte order mark": b"\xef\xbb\xbf" + A,
    "a lone cr between two": A[:-1] + b"\r" + B,
    "nul": b"\0\n",
    "deep nesting": b'{"custom_id":"x","result":' + b"[" * 200_000 + b"\n",
    "a success without a message": b'{"custom_id":"x","result":{"type":"succeeded"}}\n',
    "a number out of range": b'{"custom_id":"x","result":{"type":"n","v":' + b"9" * 5000 + b"}}\n",
}


@pytest.mark.parametrize("line", MALFORMED_LINES.values(), ids=MALFORMED_LINES.keys())
def test_a_malformed_line_does_not_affect_the_lines_around_it(line: bytes) -> None:
    before, after = result_line("before"), result_line("after")
    items, truncated = read([before + line + after])
    assert not truncated
    results = [item for item in items if isinstance(item, ResultItem)]
    assert [results[0].custom_id, results[-1].custom_id] == ["before", "after"]
    malformed = [item for item in items if isinstance(item, tuple)]
    assert len(malformed) == line.count(b"\n")
    number, raw, reason, _ = malformed[0]
    assert number == 2
    assert raw == line.partition(b"\n")[0].removesuffix(b"\r")
    assert reason
    assert read([before, line, after]) == (items, truncated)
    whole = before + line + after
    # Byte by byte, unless that takes too long.
    if len(whole) < 5000:
        assert read([whole[i : i + 1] for i in range(len(whole))]) == (items, truncated)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_an_incomplete_last_line_does_not_hide_two_values_on_one_line(end: bytes) -> None:
    # The chunk has as many values as line ends, and its last byte is a brace, as before a line end.
    two_on_a_line = A[:-1] + B
    body = end + two_on_a_line + C[:-1]
    items, _ = read([body])
    assert [type(item) for item in items] == [tuple, ResultItem]
    assert read([body[i : i + 1] for i in range(len(body))])[0] == items


def test_a_malformed_result_has_its_line_number_and_custom_id() -> None:
    lines = JSONLines(DECODER)
    assert len(lines.feed(A + B)) == 2
    # Blank lines count.
    _, item = lines.feed(A + b"\n\r\n" + b'{"custom_id":"q","result":{"type":"succeeded"}}\r\n')
    assert isinstance(item, MalformedResultError)
    assert (item.line_number, item.custom_id) == (6, "q")
    assert item.raw == b'{"custom_id":"q","result":{"type":"succeeded"}}'
    assert "line 6" in str(item)
    assert "'q'" in str(item)


# --- the end of the body -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("last_line", "is_truncated", "number"),
    [
        (b"", False, 0),
        (b" \r", False, 0),
        (C[:-1], False, 1),
        (C[:-2], True, 0),
        (C[:20], True, 0),
        (b"7", True, 0),
        (b'{"custom_id":"x","result":7}', False, 1),  # malformed, but complete
        (b'{"custom_id":"x","result":"\\ud83d"}', False, 1),
        (b'{"custom_id":"\\ud83d","result":7}', False, 1),
        (C[:-1].replace(b"hi", b"\\ud83d"), False, 1),
        (C[:-1].replace(b"hi", b"\\ud83d")[:-1], True, 0),
        (b"\xe2\x82", True, 0),
    ],
    ids=[
        "nothing",
        "white space",
        "a result",
        "a result without its last byte",
        "the start of a result",
        "a number",
        "a malformed object",
        "a malformed object with a lone surrogate",
        "a malformed object with a lone surrogate in its id",
        "a result with a lone surrogate",
        "a result with a lone surrogate, without its last byte",
        "half a character",
    ],
)
def test_a_last_line_without_a_line_end_is_complete_or_truncated(
    last_line: bytes, *, is_truncated: bool, number: int
) -> None:
    items, truncated = read([A + last_line])
    assert truncated is is_truncated
    assert len(items) == 1 + number


@pytest.mark.parametrize("prefix", [b"\xef", b"\xef\xbb"], ids=["one byte", "two bytes"])
def test_a_body_that_ends_inside_a_byte_order_mark_is_truncated(prefix: bytes) -> None:
    assert read([prefix]) == ([], True)


# --- the limit of a line -----------------------------------------------------------------


def test_the_default_limit_of_a_line_is_64_mib() -> None:
    assert MAX_LINE == 67_108_864


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "no line end"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_the_limit_of_a_line_is_exact_for_every_cut(end: bytes, size: int) -> None:
    line = A[:-1]
    ending = end[:-1]  # a CR counts toward the length of its line
    body = line + end
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    (within,) = read(chunks, len(line + ending))[0]
    assert isinstance(within, ResultItem)
    (over,) = read(chunks, len(line + ending) - 1)[0]
    assert isinstance(over, tuple)
    assert "max_line" in over[2]
    assert over[:2] == (1, body.removesuffix(b"\n")[:1024])


def test_each_line_over_the_limit_is_reported_for_every_cut() -> None:
    short = b'{"custom_id":"s","result":{"type":"canceled"}}'
    lines = [short, b"x" * 61, b"", short, b"y" * 1500, b"v" * 2000, b"w" * 60, b"z" * 70]
    body = b"\n".join(lines)
    sizes = (1, 3, 7, 61, 100, 1023, 1024, 1025, len(body))
    cuts = [
        *([body[:cut], body[cut:]] for cut in range(1, len(body))),
        *([body[i : i + size] for i in range(0, len(body), size)] for size in sizes),
    ]
    expected = [
        None,
        (2, b"x" * 61, "it has 61 bytes, over the limit max_line=60"),
        None,
        (5, b"y" * 1024, "it has 1,500 bytes, over the limit max_line=60"),
        (6, b"v" * 1024, "it has 2,000 bytes, over the limit max_line=60"),
        (7, b"w" * 60, "JSON is malformed: invalid character (byte 0)"),
        (8, b"z" * 70, "it has 70 bytes, over the limit max_line=60"),
    ]
    for chunks in cuts:
        items, truncated = read(chunks, 60)
        assert not truncated
        assert [item[:3] if isinstance(item, tuple) else None for item in items] == expected


def test_a_blank_line_over_the_limit_is_reported_for_every_cut() -> None:
    body = b" " * 10 + b"\n\n" + b" " * 3 + b"\n"
    for cut in range(len(body)):
        items, truncated = read([body[:cut], body[cut:]] if cut else [body], 5)
        assert [item[:3] for item in items if isinstance(item, tuple)] == [
            (1, b" " * 10, "it has 10 bytes, over the limit max_line=5")
        ]
        assert not truncated


@pytest.mark.parametrize("size", [1, 1000, 1499, 3000])
def test_a_line_as_long_as_a_large_limit_is_decoded(size: int) -> None:
    line = result_line("long", "x" * 3000)[:-1]
    chunks = [line[i : i + size] for i in range(0, len(line), size)]
    (item,) = read([*chunks, b"\n"], len(line))[0]
    assert isinstance(item, ResultItem)


@pytest.mark.parametrize(("within", "over"), [(1000, 1), (500, 700), (500, 100_000)])
def test_only_the_start_of_a_line_over_a_large_limit_is_held(within: int, over: int) -> None:
    lines = JSONLines(DECODER, max_line=3000)
    for size, held in ((2000, 2000), (within, 2000 + within), (over, 1024), (5000, 1024)):
        assert lines.feed(b"x" * size) == []
        assert len(lines._tail) == held
    (item,) = lines.feed(b"\n")
    assert isinstance(item, MalformedResultError)
    assert item.is_cut


def test_a_line_over_the_limit_takes_little_memory_and_affects_no_other() -> None:
    lines = JSONLines(DECODER, max_line=2000)
    items = lines.feed(A)
    for _ in range(10_000):
        assert lines.feed(b"x" * 100) == []
        assert len(lines._tail) <= 2000
    items += lines.feed(b"y\n" + B)
    first, long, last = items
    assert [first.custom_id, last.custom_id] == ["a", "b"]
    assert isinstance(long, MalformedResultError)
    assert (long.line_number, long.raw) == (2, b"x" * 1024)
    assert "1,000,001 bytes" in long.reason


# --- any cut -----------------------------------------------------------------------------


#: Parts of a body: files, lines, and bytes between them.
fragments = st.one_of(
    st.sampled_from(
        [*VALID_FILES.values(), *(line for line in MALFORMED_LINES.values() if len(line) < 3000)]
    ),
    st.sampled_from([A, B, C, b"\n", b"\r\n", b"\r", b" ", b"{", b"}", b"{}\n", b"\xef\xbb\xbf"]),
    st.binary(max_size=8),
    st.text(max_size=8).map(lambda text: json.dumps(text).encode() + b"\n"),
)


@given(
    body=st.lists(fragments, max_size=8).map(b"".join),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    max_line=st.sampled_from([1, 5, 100, 400, MAX_LINE]),
)
@example(body=A[:-1] + B + C.replace(b'"result"', b'\n"result"'), cuts=[300], max_line=MAX_LINE)
def test_items_do_not_depend_on_how_the_body_is_cut(
    body: bytes, cuts: list[int], max_line: int
) -> None:
    borders = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[i:j] for i, j in itertools.pairwise(borders)]
    assert read(chunks, max_line) == read([body] if body else [], max_line)


@given(body=st.binary(max_size=60))
def test_any_bytes_become_items_or_malformed_results(body: bytes) -> None:
    items, truncated = read([body])
    assert isinstance(truncated, bool)
    assert all(isinstance(item, (ResultItem, tuple)) for item in items)


# --- the limits of a body ----------------------------------------------------------------


def read_limited(
    chunks: Sequence[bytes], max_line: int, max_lines: int, longest: int
) -> tuple[Reading, str | None]:
    """Read a body until it exceeds a limit; return its items, and the limit that it exceeds."""
    lines = JSONLines(DECODER, max_line, max_lines=max_lines, longest=longest)
    items: list[Item] = []
    for chunk in chunks:
        items += lines.feed(chunk)
        if lines.exceeded_limit is not None:
            return comparable(items, truncated=False), lines.exceeded_limit
    rest, truncated = lines.finish()
    return comparable(items + rest, truncated=truncated), None


@given(
    body=st.lists(fragments, max_size=12).map(b"".join),
    cuts=st.lists(st.integers(0, 4000), max_size=12),
    max_line=st.sampled_from([1, 5, 400, MAX_LINE]),
    max_lines=st.integers(0, 8),
    longest=st.sampled_from([1, 3, 9, 100, 250, 1000]),
)
@example(body=b"\n" * 9, cuts=[1, 2, 3, 4], max_line=400, max_lines=3, longest=9)
@example(body=b"\n" + b" " * 20, cuts=[4, 8], max_line=5, max_lines=1, longest=9)
@example(body=A + b"x" * 20 + b"\n" + B, cuts=[len(A) + 9], max_line=5, max_lines=8, longest=9)
def test_the_limits_of_a_body_are_the_same_for_every_cut(
    body: bytes, cuts: list[int], max_line: int, max_lines: int, longest: int
) -> None:
    longest = max(longest, max_line)
    borders = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[i:j] for i, j in itertools.pairwise(borders)]
    whole = read_limited([body] if body else [], max_line, max_lines, longest)
    assert read_limited(chunks, max_line, max_lines, longest) == whole
    each_byte = [body[i : i + 1] for i in range(len(body))]
    assert read_limited(each_byte, max_line, max_lines, longest) == whole
    (items, _), exceeded = whole
    is_over_limit = body.count(b"\n") > max_lines or any(
        len(line) > longest for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    )
    assert (exceeded is not None) == is_over_limit
    assert len(items) <= max_lines + 1
    # Within the limits it has the same items as without limits.
    assert is_over_limit or whole[0] == read([body] if body else [], max_line)


def test_beyond_the_limits_of_a_body_nothing_is_decoded_or_held() -> None:
    lines = JSONLines(DECODER, max_lines=2, longest=MAX_LINE)
    assert len(lines.feed(A + B + C + A[:50])) == 2
    assert lines.exceeded_limit == "it has more than 2 lines"
    assert (lines.feed(C), len(lines._tail), lines.finish()) == ([], 0, ([], False))


# --- counted work ------------------------------------------------------------------------


class CountingDecoder:
    """A decoder that counts its calls: for blocks of lines, and for single lines."""

    def __init__(self) -> None:
        self.blocks = 0
        self.lines = 0

    def decode_lines(self, lines: bytes | memoryview) -> list[ResultItem[Message]]:
        self.blocks += 1
        return DECODER.decode_lines(lines)

    def decode_line(self, line: bytes, /) -> ResultItem[Message]:
        self.lines += 1
        return DECODER.decode_line(line)


def test_a_chunk_is_decoded_in_one_call_except_a_line_begun_before() -> None:
    decoder = CountingDecoder()
    lines = JSONLines(decoder)
    body = b"".join(result_line(f"id-{i}") for i in range(1000))
    chunks = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    assert sum(len(lines.feed(chunk)) for chunk in chunks) == 1000
    begun_before = sum(not chunk.endswith(b"\n") for chunk in chunks)
    assert (decoder.blocks, decoder.lines) == (len(chunks), begun_before)


def test_hundreds_of_lines_are_decoded_in_one_call_even_at_the_limit() -> None:
    decoder = CountingDecoder()
    assert len(JSONLines(decoder).feed(A * 300)) == 300
    assert len(JSONLines(decoder, len(A + B)).feed(A + B)) == 2
    assert (decoder.blocks, decoder.lines) == (2, 0)


def test_lines_that_end_with_crlf_are_decoded_in_one_call() -> None:
    decoder = CountingDecoder()
    crlf = (A + B + C).replace(b"\n", b"\r\n")
    assert len(JSONLines(decoder).feed(crlf)) == 3
    assert len(JSONLines(decoder).feed(crlf + A)) == 4
    assert (decoder.blocks, decoder.lines) == (2, 0)


def test_lines_with_unknown_parts_are_decoded_in_one_call() -> None:
    decoder = CountingDecoder()
    lines = JSONLines(decoder)
    unknown = A.replace(b'"content":[', b'"content":[{"type":"song"},')
    for line in (unknown, A.replace(b'"msg_a"', b"null"), A.replace(b"succeeded", b"brand_new")):
        assert len(lines.feed(B + line + C)) == 3
    assert (decoder.blocks, decoder.lines) == (3, 0)


def test_a_malformed_line_makes_only_its_chunk_be_decoded_by_line() -> None:
    decoder = CountingDecoder()
    lines = JSONLines(decoder)
    lines.feed(A + B)
    lines.feed(A + b"malformed\n" + B)
    lines.feed(A + B)
    assert (decoder.blocks, decoder.lines) == (2, 3)


def test_a_long_line_in_small_pieces_takes_less_than_twice_its_size() -> None:
    lines = JSONLines(DECODER)
    line = result_line("long", "x" * 200_000)
    tracemalloc.start()
    try:
        for start in range(len(line) - 1):
            assert lines.feed(line[start : start + 1]) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * len(line)
    (item,) = lines.feed(b"\n")
    assert item.custom_id == "long"
