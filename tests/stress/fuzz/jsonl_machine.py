"""`JSONLines` beside a reader that is as simple as can be: split at LF, one line at a time.

The simple reader is also the measure of the fuzz target for the same module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from batches_core import MalformedResultError, Message, ResultItem
from batches_core.decoding import UNDECODABLE, ResultDecoder, custom_id_of
from batches_core.jsonl import MAX_LINE, JSONLines

Item: TypeAlias = ResultItem[Any] | MalformedResultError

DECODER = ResultDecoder(Message)
LIMITS = (1, 2, 5, 40, 200, 1500, MAX_LINE)
#: How much of a line over the limit is kept.
KEPT = 1024


def shown_item(item: Item) -> object:
    if isinstance(item, MalformedResultError):
        return item.line_number, item.raw, item.reason, item.custom_id
    return item


def _malformed(number: int, raw: bytes, reason: str, custom_id: str | None) -> MalformedResultError:
    return MalformedResultError(line_number=number, raw=raw, reason=reason, custom_id=custom_id)


def _simply(number: int, line: bytes, max_line: int) -> Item | None:
    if len(line) > max_line:
        reason = f"it has {len(line):,} bytes, over the limit max_line={max_line:,}"
        return _malformed(number, line[:KEPT], reason, None)
    line = line.removesuffix(b"\r")
    if not line.strip():
        return None
    try:
        return DECODER.decode_line(line)
    except UNDECODABLE as error:
        return _malformed(number, line, str(error), custom_id_of(line))


def complete_lines(body: bytes, max_line: int) -> list[Item]:
    """What the lines of a body give that are complete."""
    lines = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1]
    found = (_simply(number, line, max_line) for number, line in enumerate(lines, 1))
    return [item for item in found if item is not None]


def last_line(body: bytes, max_line: int) -> tuple[list[Item], bool]:
    """What the end of a body gives, and whether something was cut off there."""
    *lines, tail = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not tail[:KEPT].strip() if len(tail) > max_line else not tail.strip():
        return [], False
    number = len(lines) + 1
    if len(tail) > max_line:
        item = _simply(number, tail, max_line)
        assert item is not None
        return [item], False
    try:
        return [DECODER.decode_line(tail)], False
    except UNDECODABLE as error:
        if (custom_id := custom_id_of(tail)) is None:
            return [], True
        return [_malformed(number, tail, str(error), custom_id)], False


class CountingDecoder:
    """Counts the bytes that it is given to decode."""

    def __init__(self) -> None:
        self.in_blocks = 0
        self.in_lines = 0

    @property
    def decode_lines(self) -> Callable[[memoryview], list[ResultItem[Message]]]:
        def decode_lines(block: memoryview) -> list[ResultItem[Message]]:
            self.in_blocks += len(block)
            return DECODER.decode_lines(block)

        return decode_lines

    def decode_line(self, line: bytes) -> ResultItem[Message]:
        self.in_lines += len(line)
        return DECODER.decode_line(line)


class Reading:
    """One body being read, with the work and the memory held against its length."""

    def __init__(self, max_line: int) -> None:
        self.max_line = max_line
        self.decoder = CountingDecoder()
        self.lines = JSONLines(self.decoder, max_line)
        self.length = 0
        self.items: list[Item] = []
        self.truncated = False

    def feed(self, data: bytes) -> None:
        self.length += len(data)
        self.take(self.lines.feed(data))

    def finish(self) -> None:
        items, self.truncated = self.lines.finish()
        self.take(items)

    def take(self, items: list[Item]) -> None:
        self.items += items
        assert all(isinstance(item, (ResultItem, MalformedResultError)) for item in items)
        # Each byte is decoded once with its block, and once more with its line where that failed.
        assert self.decoder.in_blocks <= self.length
        assert self.decoder.in_lines <= self.length
        assert len(self.lines._tail) <= max(self.max_line, KEPT)

    @property
    def outcome(self) -> tuple[list[object], bool]:
        return [shown_item(item) for item in self.items], self.truncated


def simply(body: bytes, max_line: int) -> tuple[list[object], bool]:
    """What a whole body gives."""
    rest, truncated = last_line(body, max_line)
    return [shown_item(item) for item in complete_lines(body, max_line) + rest], truncated


_LINE = b'{"custom_id":"a","result":{"type":"canceled"}}'
#: Pieces that lines are made of, whole ones and halves.
PIECES = (
    *(b"\n", b"\r\n", b"\r", b" ", b"\t", b"{", b"}", b"{}", b"[", b'"', b",", b"\xef\xbb\xbf"),
    *(
        b"\xef",
        b"\xbb",
        b"\xbf",
        b"\0",
        b"null",
        b"\x0b",
        b"\xe2\x80\xa8",
        b"x" * 1100,
        b" " * 1100,
    ),
    *(_LINE, _LINE + b"\n", _LINE[:20], _LINE[20:], _LINE.replace(b"cance", b"postpo") + b"\r\n"),
    _LINE.replace(b":{", b":\n{"),
    b'{"custom_id":"b","result":{"type":"errored"}}\n',
    b'{"custom_id":"b","result":{"type":"succeeded","message":{"id":"m","model":"n","content":[',
    b'{"type":"text","text":"\\n"}',
    b'{"type":"song"}',
    *(b"\\ud83d", b"\\ude00", b"\\\\", _LINE.replace(b'"a"', b'"\\udc00"') + b"\n"),
    b'"stop_reason":5,"content":"hi"',
    b"]}}}\n",
)


class JSONLinesMachine(RuleBasedStateMachine):
    """Feeds anything in pieces; what came so far is what the simple reader finds."""

    @initialize(max_line=st.sampled_from(LIMITS))
    def start(self, max_line: int) -> None:
        self.body = b""
        self.reading = Reading(max_line)

    @rule(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
    def feed_pieces(self, pieces: list[bytes]) -> None:
        self.feed(b"".join(pieces))

    @rule(blanks=st.text(" \t\r\n", max_size=9), cut=st.integers(0, 9))
    def feed_blanks(self, blanks: str, cut: int) -> None:
        self.feed(blanks[:cut].encode())
        self.feed(blanks[cut:].encode())

    @rule(data=st.binary(max_size=20))
    def feed_any(self, data: bytes) -> None:
        self.feed(data)

    @rule(data=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map(b"".join))
    def feed_byte_by_byte(self, data: bytes) -> None:
        for index in range(min(len(data), 120)):
            self.feed(data[index : index + 1])

    def feed(self, data: bytes) -> None:
        self.body += data
        self.reading.feed(data)

    @invariant()
    def all_complete_lines_are_there(self) -> None:
        expected = complete_lines(self.body, self.reading.max_line)
        found, truncated = self.reading.outcome
        assert not truncated
        assert found == [shown_item(item) for item in expected]

    def teardown(self) -> None:
        if hasattr(self, "body"):
            self.reading.finish()
            assert self.reading.outcome == simply(self.body, self.reading.max_line)
