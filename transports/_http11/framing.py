"""Find the end of an HTTP/1.1 response body, and separate its payload from its framing.

The result does not depend on how the received bytes are cut. There is no I/O: the transport
receives the bytes. `content_encoding` decodes the payload.

h11 parses heads, but is too slow for bodies. It copies each byte three times and makes an event for
each chunk, which takes as long as decoding the results. Here the payload of one read is one piece.
It is copied once if there is framing in it, and not at all otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

from transports._client.failures import CLOSED_EARLY

#: The longest line of chunked framing, and the limit of all trailers together, in bytes. It is the
#: limit of a head as well.
_MAX_LINE = 64 * 1024

#: The line before a chunk: its length in up to twenty digits, as in h11, and extensions, which are
#: ignored.
_LENGTH = re.compile(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;.*)?")
#: A trailer, and a line that continues one. As strict as h11: payload after a corrupted length of 0
#: must not be skipped as trailers.
_TRAILER = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[^\x00\n\v\f\r]*")
_CONTINUATION = re.compile(rb"[ \t][^\x00\n\v\f\r]*")


class Framing(Protocol):
    """The framing of one body."""

    #: Whether the body has ended.
    is_complete: bool
    #: What is wrong with the framing, as text; None if nothing is.
    error: str | None
    #: Whether the connection can be reused after the body.
    keeps_connection: bool

    def feed(self, data: bytes) -> bytes:
        """Accept received bytes, and return the payload in them, up to an error if there is one."""
        ...

    def close(self) -> None:
        """Accept the end of the connection, which can complete the body or be an error."""
        ...


class SizedFraming:
    """A body with its length in the head (``content-length``)."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = not length
        self.error: str | None = None
        self.keeps_connection = True

    def feed(self, data: bytes) -> bytes:
        payload = data[: self._left]
        self._left -= len(payload)
        self.is_complete = not self._left
        # Bytes after the end of the response were not requested, so do not reuse the connection.
        self.keeps_connection = len(payload) == len(data)
        return payload

    def close(self) -> None:
        self.keeps_connection = False
        if not self.is_complete:
            self.error = CLOSED_EARLY


class UntilCloseFraming:
    """A body that ends when its connection is closed."""

    def __init__(self) -> None:
        self.is_complete = False
        self.error: str | None = None
        self.keeps_connection = False

    def feed(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.is_complete = True


class ChunkedFraming:
    """A body in chunks, each preceded by its length. Trailers are skipped."""

    def __init__(self) -> None:
        #: How many bytes of the current chunk have not arrived yet.
        self._left = 0
        #: The incomplete line of framing.
        self._line = bytearray()
        #: The method that parses the next line of framing.
        self._parse_line = self._parse_length
        #: The size of all trailers so far, in bytes.
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
            self.error = f"a line between the chunks has more than {_MAX_LINE:,} bytes"
        elif self._line.endswith(b"\n"):
            line = bytes(self._line)
            self._line.clear()
            if line.endswith(b"\r\n"):
                self._parse_line(line[:-2])
            else:
                self.error = "a line between the chunks ends without a carriage return"

    def _parse_length(self, line: bytes) -> None:
        length = _LENGTH.fullmatch(line)
        if length is None:
            self.error = "a chunk does not begin with its length"
            return
        self._left = int(length[1], 16)
        self._parse_line = self._parse_end_of_chunk if self._left else self._parse_trailer

    def _parse_end_of_chunk(self, line: bytes) -> None:
        if line:
            self.error = "a chunk is longer than its length says"
        self._parse_line = self._parse_length

    def _parse_trailer(self, line: bytes) -> None:
        self.is_complete = not line
        is_continued = self._trailers > 0 and _CONTINUATION.fullmatch(line) is not None
        if line and not is_continued and _TRAILER.fullmatch(line) is None:
            self.error = "a trailer is not a header field"
        self._trailers += len(line)
        if self._trailers > _MAX_LINE:
            self.error = f"the trailers have more than {_MAX_LINE:,} bytes"


def framing_of(status: int, headers: Mapping[str, str]) -> Framing:
    """Return the framing of a response to any request except HEAD and CONNECT.

    h11 must have accepted the head. It has checked ``content-length`` and ``transfer-encoding``.
    """
    if status in {204, 304}:
        return SizedFraming(0)
    if "transfer-encoding" in headers:
        return ChunkedFraming()
    if (length := headers.get("content-length")) is not None:
        return SizedFraming(int(length))
    return UntilCloseFraming()
