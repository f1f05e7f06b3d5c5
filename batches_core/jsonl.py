"""From bytes to complete lines to decoded items, however the bytes are cut.

Knows lines and a decoder's two calls; not what the lines mean. The work is linear in the bytes:
each chunk is searched once, from its end, for the last line feed; what follows it is kept until
its line is complete. The line that was begun by the chunks before is put together and decoded
alone; all other complete lines go to the decoder in one call, where they are, uncopied.
Only where that one call fails is the block gone through line by line, so that one bad line costs
one `MalformedResultError` and nothing else.

A line ends with LF; a CR before it belongs to the line end. Blank and whitespace-only lines are
skipped but counted. One byte order mark at the very start is skipped. A lone CR is white space,
as it is in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .decoding import UNDECODABLE, custom_id_of
from .errors import MalformedResultError

T = TypeVar("T")

#: The default limit of one line, in bytes. One answer can be 300,000 output tokens, a few MB as
#: JSON; 64 MiB leaves an order of magnitude, and still bounds what a broken peer can make us hold.
MAX_LINE = 64 * 1024 * 1024
#: How much of a line over the limit is kept to be shown.
_KEPT_OF_A_LONG_LINE = 1024

#: More than any body has.
_UNBOUNDED = 1 << 62

_BOM = b"\xef\xbb\xbf"
_LF, _OPEN, _CLOSE = b"\n{}"


class LineDecoder(Protocol[T]):
    """Decodes lines that are complete: many in one call, or one. Both raise `UNDECODABLE`."""

    @property
    def decode_lines(self) -> Callable[[memoryview], list[T]]:
        """Decode one value after the other until the end."""
        ...

    def decode_line(self, line: bytes, /) -> T:
        """Decode one line, more patiently."""
        ...


def _lines_of_objects(data: bytes, start: int, end: int) -> int:
    """Count the lines between two places of the data; 0 where one may end inside of a value.

    The decoder's call for many lines reads one value after the other and does not mind where the
    lines end: two values on a line, or one value over two lines, pass it. So that the verdict
    never depends on how the bytes were cut, it is believed only where each line feed but the last
    stands between a closing and an opening brace, which is nowhere possible inside of a value, and
    where it found as many values as there are lines.
    """
    if data[start] == _LF:
        return 0  # else what is looked at before it would be the last byte of the data
    lines = 1
    last = end - 1
    find = data.find
    at = start
    while (at := find(_LF, at)) != last:
        # A CR is looked for only where there is no brace, which keeps this loop cheap.
        if data[at - 1] != _CLOSE and data[at - 2 : at] != b"}\r":
            return 0
        at += 1
        if data[at] != _OPEN:
            return 0
        lines += 1
    return lines


class JSONLines(Generic[T]):
    """A results body as it comes: chunks in, items and malformed lines out, in order.

    A body of more than `max_lines` lines, blank ones included, or with a line of more than
    `longest` bytes (no fewer than `max_line`) is not read on from there: `fault` tells why. What
    comes before that place is delivered, and nothing behind it, however the bytes are cut.
    """

    def __init__(
        self,
        decoder: LineDecoder[T],
        max_line: int = MAX_LINE,
        *,
        max_lines: int = _UNBOUNDED,
        longest: int = _UNBOUNDED,
    ) -> None:
        self._decoder = decoder
        self._max_line = max_line
        self._max_lines = max_lines
        self._longest = longest
        #: Why the body is not read on.
        self.fault: str | None = None
        self._line_number = 0
        self._at_start = True
        #: The line that is not complete yet, and its length. Of a line over the limit only the
        #: beginning is kept while the length counts on. One buffer that grows, for pieces kept
        #: one by one can take many times their bytes.
        self._tail = bytearray()
        self._tail_length = 0

    def feed(self, data: bytes) -> list[T | MalformedResultError]:
        """Take the next bytes; give the lines that they completed.

        A chunk that completes no line costs a search of that chunk alone.
        """
        if self.fault is not None:
            return []
        if self._at_start:
            if (started := self._skip_bom(data)) is None:
                return []
            data = started
        end = data.rfind(b"\n") + 1
        if not end:
            self._keep(data)
            self._check_tail()
            return []
        start = 0
        found: list[T | MalformedResultError] = []
        if self._tail:
            start = data.find(_LF) + 1
            self._keep(data[: start - 1])
            self._add_line(found, bytes(self._tail), self._tail_length)
            self._forget_tail()
        self._keep(data[end:])
        if start < end and self.fault is None:
            found += self._decode(data, start, end)
        self._check_tail()
        return found

    def finish(self) -> tuple[list[T | MalformedResultError], bool]:
        """End the body; give what its last line, if it has no line end, turned out to be.

        The bool tells whether the body stops in the middle of a line: something was cut off.
        """
        tail = bytes(self._tail)
        length = self._tail_length
        self._forget_tail()
        if not tail or tail.isspace():
            return [], False
        self._line_number += 1
        if length > self._max_line:
            return [self._too_long(tail, length)], False
        try:
            return [self._decoder.decode_line(tail)], False
        except UNDECODABLE as error:
            custom_id = custom_id_of(tail)
            if custom_id is None:
                return [], True
            # A whole object with an id: nothing is missing at its end, it is just no result.
            return [self._malformed(tail, str(error), custom_id)], False

    def _skip_bom(self, data: bytes) -> bytes | None:
        """Give the first bytes without a byte order mark; None while there may be half of one."""
        data = bytes(self._tail) + data
        self._forget_tail()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail += data
            self._tail_length = len(data)
            return None
        self._at_start = False
        return data.removeprefix(_BOM)

    def _keep(self, piece: bytes) -> None:
        self._tail_length += len(piece)
        if self._tail_length <= self._max_line:
            self._tail += piece
        elif len(self._tail) < _KEPT_OF_A_LONG_LINE or (
            self._tail_length - len(piece) <= self._max_line
        ):
            self._tail = (self._tail + piece)[:_KEPT_OF_A_LONG_LINE]

    def _check_tail(self) -> None:
        """Leave a line that has no end in sight, and all that is behind a fault."""
        if self._tail_length > self._longest and self.fault is None:
            self._is_within_bounds(self._line_number + 1, self._tail_length)
        if self.fault is not None:
            self._forget_tail()

    def _is_within_bounds(self, line_number: int, length: int) -> bool:
        if line_number > self._max_lines:
            self.fault = f"it has more than {self._max_lines:,} lines"
        elif length > self._longest:
            self.fault = f"its line {line_number:,} has more than {self._longest:,} bytes"
        return self.fault is None

    def _forget_tail(self) -> None:
        self._tail = bytearray()
        self._tail_length = 0

    def _decode(self, data: bytes, start: int, end: int) -> Sequence[T | MalformedResultError]:
        """Decode the whole lines that stand between two places of the data."""
        fits = end - start <= self._max_line
        # A block within the limit has no line over it, whatever its lines are.
        lines = _lines_of_objects(data, start, end) if fits else 0
        if lines and self._line_number + lines <= self._max_lines:
            try:
                items = self._decoder.decode_lines(memoryview(data)[start:end])
            except UNDECODABLE:
                pass
            else:
                if len(items) == lines:
                    self._line_number += lines
                    return items
        found: list[T | MalformedResultError] = []
        block = data[start:end]
        if fits and block.isspace():
            # However long a run of blank lines is, it costs next to nothing.
            self._line_number += block.count(b"\n")
            self._is_within_bounds(self._line_number, 0)
        else:
            for line in block.split(b"\n")[:-1]:
                if self.fault is None:
                    self._add_line(found, line, len(line))
        return found

    def _add_line(self, found: list[T | MalformedResultError], line: bytes, length: int) -> None:
        """Decode one line, of which only the beginning is there if it is over the limit."""
        self._line_number += 1
        if not self._is_within_bounds(self._line_number, length):
            return
        if length > self._max_line:
            found.append(self._too_long(line, length))
            return
        line = line.removesuffix(b"\r")
        try:
            found.append(self._decoder.decode_line(line))
        except UNDECODABLE as error:
            if line and not line.isspace():
                found.append(self._malformed(line, str(error), custom_id_of(line)))

    def _malformed(self, line: bytes, reason: str, custom_id: str | None) -> MalformedResultError:
        return MalformedResultError(
            line_number=self._line_number, raw=line, reason=reason, custom_id=custom_id
        )

    def _too_long(self, kept: bytes, length: int) -> MalformedResultError:
        reason = f"it has {length:,} bytes, over the limit max_line={self._max_line:,}"
        raw = kept[:_KEPT_OF_A_LONG_LINE]
        return MalformedResultError(
            line_number=self._line_number, raw=raw, reason=reason, is_cut=True
        )
