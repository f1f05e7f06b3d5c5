"""Split received bytes into lines and decode them, with the same result for any chunks.

`decoding` decodes the lines. `operations.results` decides what a malformed or missing line means.

The work is linear in the number of bytes. Each chunk is searched backwards for its last line feed,
and the bytes after it are kept until their line is complete. A line that an earlier chunk began is
joined and decoded alone. All other complete lines are decoded in one call, without being copied.
Only if that call fails are they decoded one by one, so a bad line costs one `MalformedResultError`
and no other line.

A line ends with LF or CRLF. Blank lines, of white space only, are skipped but counted. One byte
order mark at the very start is skipped. A lone CR is white space, as in JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from .decoding import UNDECODABLE, custom_id_of
from .errors import MalformedResultError

T = TypeVar("T")

#: The default limit of one line, in bytes. One answer can have 300,000 output tokens, a few MB as
#: JSON. 64 MiB is about ten times as much, and still bounds the memory that a broken peer can use.
MAX_LINE = 64 * 1024 * 1024
#: How many bytes of a line over the limit are kept, for its `MalformedResultError`.
_KEPT_OF_LONG_LINE = 1024

#: A limit that no body reaches.
_UNLIMITED = 1 << 62

_BOM = b"\xef\xbb\xbf"
_LF, _OPEN, _CLOSE = b"\n{}"


class LineDecoder(Protocol[T]):
    """Decode complete lines: many in one call, or a single one. Both raise `UNDECODABLE`."""

    @property
    def decode_lines(self) -> Callable[[memoryview], list[T]]:
        """Decode all values of a block. It need not check that each is on a line of its own."""
        ...

    def decode_line(self, line: bytes, /) -> T:
        """Decode one line, including lines that `decode_lines` refuses although they are valid."""
        ...


def _count_object_lines(data: bytes, start: int, end: int) -> int:
    """Count the lines in ``data[start:end]``; return 0 if one perhaps does not hold one object.

    `decode_lines` ignores line breaks, so it would accept two values on one line, or one value over
    two lines. Trust it only if every inner line break stands between ``}`` and ``{``, which never
    happens inside a value, and if it returns one value per line. Otherwise the result would depend
    on how the bytes are chunked.
    """
    if data[start] == _LF:
        return 0  # a blank first line: there is no byte before it to compare
    lines = 1
    last = end - 1
    find = data.find
    at = start
    while (at := find(_LF, at)) != last:
        # The check for a CR comes second: most lines end with a brace and LF.
        if data[at - 1] != _CLOSE and data[at - 2 : at] != b"}\r":
            return 0
        at += 1
        if data[at] != _OPEN:
            return 0
        lines += 1
    return lines


class JSONLines(Generic[T]):
    """Decode the body of a results file, chunk by chunk, to items and malformed lines in order.

    A line of more than `max_line` bytes is malformed: 64 MiB by default.

    Reading stops at a line of more than `longest` bytes, and after `max_lines` lines, blank ones
    included. By default neither is limited. `longest` must not be less than `max_line`. When
    reading has stopped, `exceeded_limit` says which limit was exceeded. The lines before that place
    are returned, and none after it.
    """

    def __init__(
        self,
        decoder: LineDecoder[T],
        max_line: int = MAX_LINE,
        *,
        max_lines: int = _UNLIMITED,
        longest: int = _UNLIMITED,
    ) -> None:
        self._decoder = decoder
        self._max_line = max_line
        self._max_lines = max_lines
        self._longest = longest
        #: The limit at which reading stopped, as text; None while reading.
        self.exceeded_limit: str | None = None
        self._line_number = 0
        self._at_start = True
        #: The incomplete line and its length. Of a line over the limit only the beginning is kept,
        #: but the length continues to count. It is one growing buffer: a list of small pieces can
        #: occupy many times their bytes.
        self._tail = bytearray()
        self._tail_length = 0

    def feed(self, data: bytes) -> list[T | MalformedResultError]:
        """Add the next bytes, and return the decoded lines that they complete.

        A chunk that completes no line costs no more than a search of that chunk.
        """
        if self.exceeded_limit is not None:
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
            self._clear_tail()
        self._keep(data[end:])
        if start < end and self.exceeded_limit is None:
            found += self._decode(data, start, end)
        self._check_tail()
        return found

    def finish(self) -> tuple[list[T | MalformedResultError], bool]:
        """End the body. Return its last line, decoded, and whether the end of that line is missing.

        The list is empty if every line was returned by `feed`, or if the bool is True: the body
        then ends in the middle of a line.
        """
        tail = bytes(self._tail)
        length = self._tail_length
        self._clear_tail()
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
            # A complete object with a custom_id, so nothing is cut off: it is not a result.
            return [self._malformed(tail, str(error), custom_id)], False

    def _skip_bom(self, data: bytes) -> bytes | None:
        """Return the first bytes without a byte order mark; None while it may be incomplete."""
        data = bytes(self._tail) + data
        self._clear_tail()
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._tail += data
            self._tail_length = len(data)
            return None
        self._at_start = False
        return data.removeprefix(_BOM)

    def _keep(self, piece: bytes) -> None:
        """Add a piece to the incomplete line; keep only the beginning of one over the limit."""
        self._tail_length += len(piece)
        if self._tail_length <= self._max_line:
            self._tail += piece
        elif len(self._tail) < _KEPT_OF_LONG_LINE or (
            self._tail_length - len(piece) <= self._max_line
        ):
            self._tail = (self._tail + piece)[:_KEPT_OF_LONG_LINE]

    def _check_tail(self) -> None:
        """Stop at an incomplete line that exceeds a limit, and drop all bytes after a limit."""
        if self._tail_length > self._longest and self.exceeded_limit is None:
            self._check_limits(self._line_number + 1, self._tail_length)
        if self.exceeded_limit is not None:
            self._clear_tail()

    def _check_limits(self, line_number: int, length: int) -> bool:
        """Return whether a line is within the body's limits; record a limit that it exceeds."""
        if line_number > self._max_lines:
            self.exceeded_limit = f"it has more than {self._max_lines:,} lines"
        elif length > self._longest:
            self.exceeded_limit = f"its line {line_number:,} has more than {self._longest:,} bytes"
        return self.exceeded_limit is None

    def _clear_tail(self) -> None:
        self._tail = bytearray()
        self._tail_length = 0

    def _decode(self, data: bytes, start: int, end: int) -> Sequence[T | MalformedResultError]:
        """Decode the complete lines in ``data[start:end]``."""
        fits = end - start <= self._max_line
        # No line of a block within the limit can exceed it.
        lines = _count_object_lines(data, start, end) if fits else 0
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
            # Count blank lines without splitting the block, so that a long run of them is cheap.
            self._line_number += block.count(b"\n")
            self._check_limits(self._line_number, 0)
        else:
            for line in block.split(b"\n")[:-1]:
                if self.exceeded_limit is None:
                    self._add_line(found, line, len(line))
        return found

    def _add_line(self, found: list[T | MalformedResultError], line: bytes, length: int) -> None:
        """Decode one line of `length` bytes; if that exceeds the limit, `line` is its beginning."""
        self._line_number += 1
        if not self._check_limits(self._line_number, length):
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
        raw = kept[:_KEPT_OF_LONG_LINE]
        return MalformedResultError(
            line_number=self._line_number, raw=raw, reason=reason, is_cut=True
        )
