"""Decodes the content-encoding of a response body as it arrives: gzip and deflate, by zlib.

Pure: bytes in, bytes out, in pieces of bounded size however far the input expands. httpx can decode
too, but accepts a gzip body that was cut off as a whole one.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from batches_core import TransportError

from .failures import cause_of

#: The value of the accept-encoding header that goes with this module.
ACCEPTED = "gzip, deflate"
#: Received bytes are never empty, so an empty piece is the end of a body.
END = b""

#: The most that one decoded piece holds, in bytes. Deflate expands up to a thousandfold.
_PIECE = 1024 * 1024
#: How much input is decoded at once, in bytes: zlib returns what it has not used as a copy.
_WINDOW = 16 * 1024

#: How many times its size a body may expand to, once it is larger than `_UNSUSPECTED` bytes.
#: Results expand to about 5 times their size, very repetitive ones to dozens; deflate's limit is a
#: thousand.
_MAX_RATIO = 200
_UNSUSPECTED = 16 * 1024 * 1024

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


class BodyDecoder:
    """A response body: encoded bytes in by `feed`, decoded pieces out by `next_piece`.

    Holds what was fed and not decoded yet. Nothing is decoded before it is asked for.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._decoding = _decoding_of(headers)
        self._fed: deque[bytes] = deque()
        self._pieces: Iterator[bytes] = iter(())
        #: How many bytes were fed and not decoded yet.
        self.waiting = 0

    def feed(self, data: bytes) -> None:
        """Accept the next encoded bytes, or `END`."""
        self._fed.append(data)
        self.waiting += len(data)

    def next_piece(self) -> bytes | None:
        """Return the next decoded bytes, `END` after the last ones, or None if more must be fed.

        Raises:
            TransportError: the bytes are not in the encoding that the head promised.
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
        """Return the decoded bytes that this input completes, in pieces that are never empty.

        Raises:
            TransportError: the input is not in this encoding.
        """
        ...

    def finish(self) -> None:
        """Check that the body may end here.

        Raises:
            TransportError: it stops in the middle.
        """
        ...


class _Identity:
    """A body without an encoding."""

    def decode(self, data: bytes) -> Iterator[bytes]:
        yield data

    def finish(self) -> None:
        pass


class _Inflate:
    """A body in gzip, of one or more members, or in deflate, with zlib's wrapper or without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._encoded = 0
        self._decoded = 0
        #: The first bytes, until two have arrived: they tell which form of deflate this is.
        self._start: bytes | None = None if gzip else b""
        self._inflate = zlib.decompressobj(_GZIP)
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._start is not None:
            data = self._start + data
            if len(data) < 2:  # noqa: PLR2004 - the length of zlib's header
                self._start = data
                return
            self._start = None
            wrapped = data[0] & 0x0F == zlib.DEFLATED and not (data[0] << 8 | data[1]) % 31
            self._inflate = zlib.decompressobj(_ZLIB if wrapped else _RAW)
        self._encoded += len(data)
        for start in range(0, len(data), _WINDOW):
            yield from self._decode_window(data[start : start + _WINDOW])

    def _decode_window(self, data: bytes) -> Iterator[bytes]:
        more = False  # zlib can hold output after it has read all input
        while data or more:
            self._begun = True
            before = self._inflate.copy()
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                yield from _up_to_the_error(before, data)
                raise _broken(str(error)) from cause_of(error)
            more = len(piece) == _PIECE
            data = self._inflate.unconsumed_tail
            if self._inflate.eof and (data := self._inflate.unused_data):
                if not self._gzip:
                    raise _broken("there are bytes after its end")
                self._inflate = zlib.decompressobj(_GZIP)
            self._decoded += len(piece)
            if self._decoded > _UNSUSPECTED and self._decoded > _MAX_RATIO * self._encoded:
                raise _broken(f"it expands to more than {_MAX_RATIO} times its size")
            if piece:
                yield piece

    def finish(self) -> None:
        if self._start or (self._begun and not self._inflate.eof):
            raise _broken("it ends in the middle")


def _up_to_the_error(inflate: Any, data: bytes) -> Iterator[bytes]:
    """Return what precedes the bad byte: zlib itself drops the whole window."""
    for byte in data:
        try:
            piece = inflate.decompress(bytes((byte,)))
        except zlib.error:
            return
        if piece:
            yield piece


class _Unsupported:
    """A body in an encoding that was not requested. Without bytes it is still a valid body."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def decode(self, data: bytes) -> Iterator[bytes]:
        del data
        raise _broken(f"{self._encoding!r} was not requested")

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


def _broken(what: str) -> TransportError:
    return TransportError(f"the content-encoding of the response is broken: {what}", sent=True)
