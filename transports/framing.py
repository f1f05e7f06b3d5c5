"""Where an HTTP/1.1 response's body ends, and which of the bytes that come are its payload.

Pure: bytes in, payload out, whatever the cuts. h11 could do this too and is right for heads; of a
body it copies every byte three times and makes an event of each chunk, which for results takes as
long as to decode them. Here all payload of one read is one piece, copied once where there is
framing in it and not at all where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from .wording import CLOSED_EARLY

#: The most that one line of chunked framing may hold, and all its trailers together, in bytes: as
#: much as a head.
_MAX_LINE = 64 * 1024

#: A chunk's size, and extensions, which mean nothing to us. Twenty digits as h11 has it: more
#: would be no length of anything.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;.*)?")


class Body(Protocol):
    """A body as it comes."""

    #: Whether it has come to its end.
    ended: bool
    #: What is wrong with it, for a person to read; None where nothing is.
    fault: str | None
    #: Whether the connection is as good as before once the body has ended.
    leaves_connection: bool

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they came; give those that are payload, up to a fault if there is one."""
        ...

    def close(self) -> None:
        """Take the end of the connection."""
        ...


class SizedBody:
    """A body whose length the head tells."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.ended = not length
        self.fault: str | None = None
        self.leaves_connection = True

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give those that are payload."""
        payload = data[: self._left]
        self._left -= len(payload)
        self.ended = not self._left
        # Bytes behind the end of a response belong to nothing that was asked for.
        self.leaves_connection = len(payload) == len(data)
        return payload

    def close(self) -> None:
        """Take the end of the connection."""
        self.leaves_connection = False
        if not self.ended:
            self.fault = CLOSED_EARLY


class UnsizedBody:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.ended = False
        self.fault: str | None = None
        self.leaves_connection = False

    def feed(self, data: bytes) -> bytes:
        """Take bytes; all are payload."""
        return data

    def close(self) -> None:
        """Take the end of the connection."""
        self.ended = True


class ChunkedBody:
    """A body in chunks, each behind its length; trailers are passed over."""

    def __init__(self) -> None:
        #: What is missing of the present chunk, in bytes.
        self._left = 0
        #: A line of the framing that is not complete yet.
        self._line = bytearray()
        self._takes = self._take_size
        self._trailers = 0
        self.ended = False
        self.fault: str | None = None
        self.leaves_connection = True

    def feed(self, data: bytes) -> bytes:
        """Take bytes; give those that are payload, up to a fault if there is one."""
        pieces = []
        view = memoryview(data)
        at = 0
        while at < len(data) and not self.ended and self.fault is None:
            if self._left:
                piece = view[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                end = data.find(b"\n", at) + 1
                self._line += view[at : end or len(data)]
                at = end or len(data)
                self._look_at_line()
        if self.ended and at < len(data):
            self.leaves_connection = False
        if len(pieces) == 1 and len(pieces[0]) == len(data):
            return data
        return b"".join(pieces)

    def close(self) -> None:
        """Take the end of the connection."""
        self.leaves_connection = False
        if not self.ended:
            self.fault = self.fault or CLOSED_EARLY

    def _look_at_line(self) -> None:
        if len(self._line) > _MAX_LINE:
            self.fault = f"a line between its chunks has more than {_MAX_LINE:,} bytes"
        elif self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            if line.endswith(b"\r\n"):
                self._takes(line[:-2])
            else:
                self.fault = "a line between its chunks ends without a carriage return"

    def _take_size(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            self.fault = "a chunk does not begin with its length"
            return
        self._left = int(size[1], 16)
        self._takes = self._take_end_of_chunk if self._left else self._take_trailer

    def _take_end_of_chunk(self, line: bytes) -> None:
        if line:
            self.fault = "a chunk is longer than it says"
        self._takes = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        self.ended = not line
        if self._trailers > _MAX_LINE:
            self.fault = f"its trailers have more than {_MAX_LINE:,} bytes"


def body_of(status: int, headers: Iterable[tuple[bytes, bytes]]) -> Body:
    """Choose what a response's body ends with, for any request but HEAD and CONNECT.

    The headers are h11's: names in small letters, lengths and encodings checked.
    """
    fields = dict(headers)
    if status in {204, 304}:
        return SizedBody(0)
    if b"transfer-encoding" in fields:
        return ChunkedBody()
    if (length := fields.get(b"content-length")) is not None:
        return SizedBody(int(length))
    return UnsizedBody()
