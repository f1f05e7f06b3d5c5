"""The reference for `JSONLines`: a reader that splits at LF and decodes one line at a time.

The state machine and the fuzz target for `JSONLines` both compare with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from batches_core import MalformedResultError, Message, ResultItem
from batches_core.decoding import UNDECODABLE, ResultDecoder, custom_id_of
from batches_core.jsonl import MAX_LINE, JSONLines

Item: TypeAlias = ResultItem[Any] | MalformedResultError
#: The items in a form that can be compared, and whether the body was cut off in its last line.
Outcome: TypeAlias = tuple[list[object], bool]

DECODER = ResultDecoder(Message)
#: The limits of a line to test with, in bytes.
LIMITS = (1, 2, 5, 40, 200, 1500, MAX_LINE)
#: How many bytes of a line over the limit are kept.
KEPT = 1024

_LINE = b'{"custom_id":"a","result":{"type":"canceled"}}'
#: Pieces of result lines, whole ones and halves, and bytes that are special to a reader.
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


# --- the reference -----------------------------------------------------------------------


def items_of_complete_lines(body: bytes, max_line: int) -> list[Item]:
    """Read the lines of a body that end with LF."""
    lines = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")[:-1]
    items = (_item_of_line(number, line, max_line) for number, line in enumerate(lines, 1))
    return [item for item in items if item is not None]


def read_body(body: bytes, max_line: int) -> Outcome:
    """Read a whole body."""
    rest, is_cut = _item_of_last_line(body, max_line)
    items = items_of_complete_lines(body, max_line) + rest
    return [comparable(item) for item in items], is_cut


def comparable(item: Item) -> object:
    """Return an item, or the fields of a malformed line, whose objects do not compare."""
    if isinstance(item, MalformedResultError):
        return item.line_number, item.raw, item.reason, item.custom_id
    return item


def _item_of_line(number: int, line: bytes, max_line: int) -> Item | None:
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


def _item_of_last_line(body: bytes, max_line: int) -> tuple[list[Item], bool]:
    """Read the rest after the last LF; return whether it is cut off."""
    *lines, tail = body.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if not tail[:KEPT].strip() if len(tail) > max_line else not tail.strip():
        return [], False
    number = len(lines) + 1
    if len(tail) > max_line:
        item = _item_of_line(number, tail, max_line)
        assert item is not None
        return [item], False
    try:
        return [DECODER.decode_line(tail)], False
    except UNDECODABLE as error:
        if (custom_id := custom_id_of(tail)) is None:
            return [], True
        return [_malformed(number, tail, str(error), custom_id)], False


def _malformed(number: int, raw: bytes, reason: str, custom_id: str | None) -> MalformedResultError:
    return MalformedResultError(line_number=number, raw=raw, reason=reason, custom_id=custom_id)


# --- the reader under test ---------------------------------------------------------------


class CountingDecoder:
    """A decoder that counts the bytes that it decodes."""

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


class CheckedReading:
    """A `JSONLines` that reads one body; its work and memory are checked after every piece."""

    def __init__(self, max_line: int) -> None:
        self.max_line = max_line
        self.items: list[Item] = []
        self._decoder = CountingDecoder()
        self._lines = JSONLines(self._decoder, max_line)
        self._length = 0
        self._is_cut = False

    def feed(self, data: bytes) -> None:
        self._length += len(data)
        self._add(self._lines.feed(data))

    def finish(self) -> None:
        items, self._is_cut = self._lines.finish()
        self._add(items)

    def _add(self, items: list[Item]) -> None:
        self.items += items
        assert all(isinstance(item, (ResultItem, MalformedResultError)) for item in items)
        # A byte is decoded once in its block, and once more in its line if the block failed.
        assert self._decoder.in_blocks <= self._length
        assert self._decoder.in_lines <= self._length
        assert len(self._lines._tail) <= max(self.max_line, KEPT)

    @property
    def outcome(self) -> Outcome:
        return [comparable(item) for item in self.items], self._is_cut
