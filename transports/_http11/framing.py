"""Finds the end of an HTTP/1.1 response body, and its payload among the received bytes.

Pure: bytes in, payload out, whatever the cuts. h11 parses heads, but not bodies: it copies each
byte of a body three times and makes an event of each chunk, which takes as long as decoding the
results. Here the payload of one read is one piece, copied once if there is framing in it, and not
at all otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from transports._client.failures import CLOSED_EARLY

#: The most that one line of chunked framing may hold, and all trailers together, in bytes: as much
#: as a head.
_MAX_LINE = 64 * 1024

#: A chunk's size, and extensions, which are ignored. At most twenty digits, as in h11.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;.*)?")


class Framing(Protocol):
    """The framing of one body."""

    #: Whether the body has ended.
    is_complete: bool
    #: What is wrong with it, for a person to read, or None.
    error: str | None
    #: Whether the connection can be used again once the body has ended.
    keeps_connection: bool

    def feed(self, data: bytes) -> bytes:
        """Accept received bytes; return their payload, up to an error if there is one."""
        ...

    def close(self) -> None:
        """Accept the end of the connection."""
        ...


class SizedFraming:
    """A body whose length is in the head."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = not length
        self.error: str | None = None
        self.keeps_connection = True

    def feed(self, data: bytes) -> bytes:
        payload = data[: self._left]
        self._left -= len(payload)
        self.is_complete = not self._left
        # Bytes after the end of a response were not requested.
        self.keeps_connection = len(payload) == len(data)
        return payload

    def close(self) -> None:
        self.keeps_connection = False
        if not self.is_complete:
            self.error = CLOSED_EARLY


class UntilCloseFraming:
    """A body that ends with its connection."""

    def __init__(self) -> None:
        self.is_complete = False
        self.error: str | None = None
        self.keeps_connection = False

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.is_complete = True


class ChunkedFraming:
    """A body in chunks, each after its length; trailers are skipped."""

    def __init__(self) -> None:
        #: How many bytes of the current chunk are missing.
        self._left = 0
        #: A line of the framing that is not complete yet.
        self._line = bytearray()
        self._parse_line = self._parse_size
        self._trailers = 0
        self.is_complete = False
        self.error: str | None = None
        self.keeps_connection = True

    def feed(self, data: bytes) -> bytes:
        pieces = []
        view = memoryview(data)
        at = 0
        while at < len(data) and not self.is_complete and self.error is None:
            if self._left:
                piece = view[at : at + self._left]
                pieces.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                end = data.find(b"\n", at) + 1
                self._line += view[at : end or len(data)]
                at = end or len(data)
                self._check_line()
        if self.is_complete and at < len(data):
            self.keeps_connection = False
        if len(pieces) == 1 and len(pieces[0]) == len(data):
            return data
        return b"".join(pieces)

    def close(self) -> None:
        self.keeps_connection = False
        if not self.is_complete:
            self.error = self.error or CLOSED_EARLY

    def _check_line(self) -> None:
        if len(self._line) > _MAX_LINE:
            self.error = f"a line between its chunks has more than {_MAX_LINE:,} bytes"
        elif self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            if line.endswith(b"\r\n"):
                self._parse_line(line[:-2])
            else:
                self.error = "a line between its chunks ends without a carriage return"

    def _parse_size(self, line: bytes) -> None:
        size = _SIZE.fullmatch(line)
        if size is None:
            self.error = "a chunk does not begin with its length"
            return
        self._left = int(size[1], 16)
        self._parse_line = self._parse_end_of_chunk if self._left else self._parse_trailer

    def _parse_end_of_chunk(self, line: bytes) -> None:
        if line:
            self.error = "a chunk is longer than its length"
        self._parse_line = self._parse_size

    def _parse_trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        self.is_complete = not line
        if self._trailers > _MAX_LINE:
            self.error = f"its trailers have more than {_MAX_LINE:,} bytes"


def framing_of(status: int, headers: Mapping[str, str]) -> Framing:
    """Choose the framing of a response to any request but HEAD and CONNECT.

    The header fields are those that h11 accepted: their lengths and encodings are checked.
    """
    if status in {204, 304}:
        return SizedFraming(0)
    if "transfer-encoding" in headers:
        return ChunkedFraming()
    if (length := headers.get("content-length")) is not None:
        return SizedFraming(int(length))
    return UntilCloseFraming()
