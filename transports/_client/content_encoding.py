"""Decode the content-encoding of a response body as it arrives: gzip and deflate, with zlib.

The decoded pieces have a bounded size, however far the input expands. There is no I/O: a transport
receives the bytes, and `_http11/framing` finds the end of the body in them.

httpx can decode too, but it accepts an incomplete gzip body as complete.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from batches_core import TransportError

from .failures import cause_of

#: The value of the accept-encoding header: the encodings that this module decodes.
ACCEPTED = "gzip, deflate"
#: The end of a body. Received bytes are never empty, so it cannot be mistaken for a piece.
END = b""

#: The largest decoded piece, in bytes. Deflate can expand its input up to a thousandfold.
_PIECE = 1024 * 1024
#: How much input is passed to zlib at once, in bytes. zlib copies the input that it does not use.
_INPUT_SLICE = 16 * 1024

#: How many times its encoded size a body may expand to. Results expand about 5 times, and very
#: repetitive ones some dozens of times. The limit of deflate is about a thousand.
_MAX_RATIO = 200
#: The decoded size from which the ratio is checked, in bytes.
_RATIO_CHECKED_FROM = 16 * 1024 * 1024

# zlib's `wbits` for the three formats.
_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


class BodyDecoder:
    """The decoder of one response body: pass encoded bytes to `feed`, read pieces by `next_piece`.

    `feed` only queues the bytes. `next_piece` decodes no more of them than one piece needs.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._decoding = _decoding_of(headers)
        self._fed: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        #: How many bytes are queued.
        self.waiting = 0

    def feed(self, data: bytes) -> None:
        """Queue the next encoded bytes, or `END`."""
        self._fed.append(data)
        self.waiting += len(data)

    def next_piece(self) -> bytes | None:
        """Return the next decoded bytes, `END` after the last ones, or None if more must be fed.

        Raises:
            TransportError: the bytes are not in the encoding that the head names, or are
                incomplete, or expand too far.
        """
        while True:
            for piece in self._pieces:
                return piece
            if not self._fed:
                return None
            if self._fed[0] == END:
                self._decoding.finish()
                return END
            data = self._fed.popleft()
            self.waiting -= len(data)
            self._pieces = self._decoding.decode(data)


class _Decoding(Protocol):
    def decode(self, data: bytes) -> Iterator[bytes]:
        """Decode the next input, and yield the decoded bytes in pieces that are never empty.

        Raises:
            TransportError: the input is not in this encoding, or expands too far.
        """
        ...

    def finish(self) -> None:
        """Check that the body may end here.

        Raises:
            TransportError: the encoded data is incomplete.
        """
        ...


class _Identity:
    """A body without an encoding."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class _Inflate:
    """A body in gzip or deflate.

    A gzip body can consist of several members. A deflate body may lack zlib's header and checksum.
    """

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._encoded = 0
        self._decoded = 0
        #: The first byte of a deflate body, until the second arrives. Both are needed to recognise
        #: zlib's header. None after that, and for gzip.
        self._start: bytes | None = None if gzip else b""
        self._inflate = zlib.decompressobj(_GZIP)
        #: Whether any input was decoded. A body without input is complete.
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._start is not None:
            data = self._start + data
            if len(data) < 2:  # noqa: PLR2004 - the length of zlib's header
                self._start = data
                return
            self._start = None
            has_header = data[0] & 0x0F == zlib.DEFLATED and not (data[0] << 8 | data[1]) % 31
            self._inflate = zlib.decompressobj(_ZLIB if has_header else _RAW)
        self._encoded += len(data)
        for start in range(0, len(data), _INPUT_SLICE):
            yield from self._decode_slice(data[start : start + _INPUT_SLICE])

    def _decode_slice(self, data: bytes) -> Iterator[bytes]:
        more = False  # whether zlib may hold output although it has consumed all input
        while data or more:
            self._begun = True
            before = self._inflate.copy()
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                yield from _decode_up_to_error(before, data)
                raise _undecodable(str(error)) from cause_of(error)
            more = len(piece) == _PIECE
            data = self._inflate.unconsumed_tail
            if self._inflate.eof and (data := self._inflate.unused_data):
                if not self._gzip:
                    raise _undecodable("there are bytes after its end")
                self._inflate = zlib.decompressobj(_GZIP)
            self._decoded += len(piece)
            if self._decoded > _RATIO_CHECKED_FROM and self._decoded > _MAX_RATIO * self._encoded:
                raise _undecodable(f"it expands to more than {_MAX_RATIO} times its size")
            if piece:
                yield piece

    def finish(self) -> None:
        if self._start or (self._begun and not self._inflate.eof):
            raise _undecodable("it is incomplete")


def _decode_up_to_error(inflate: Any, data: bytes) -> Iterator[bytes]:
    """Decode byte by byte up to the bad byte, because zlib returns nothing of a bad slice."""
    for byte in data:
        try:
            piece = inflate.decompress(bytes((byte,)))
        except zlib.error:
            return
        if piece:
            yield piece


class _Unsupported:
    """A body in an encoding that was not requested. It is an error unless the body is empty."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def decode(self, data: bytes) -> Iterator[bytes]:
        del data
        raise _undecodable(f"its content-encoding {self._encoding!r} was not requested")

    def finish(self) -> None:
        pass


def _decoding_of(headers: Mapping[str, str]) -> _Decoding:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in {"identity", ""}:
        return _Identity()
    if encoding in {"gzip", "x-gzip"}:
        return _Inflate(gzip=True)
    if encoding == "deflate":
        return _Inflate(gzip=False)
    return _Unsupported(encoding)


def _undecodable(why: str) -> TransportError:
    reason = f"the response body cannot be decoded from its content-encoding: {why}"
    return TransportError(reason, sent=True)
