"""Undoes the content-encoding of a response body as it streams: gzip and deflate, by zlib.

Pure: bytes in, bytes out, in pieces of bounded size however far the input expands; what they mean
is the core's. httpx can decode too, but takes a gzip body that was cut off for a whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from batches_core import RawHeaders, TransportError
from batches_core.lowlevel import fold_headers

#: The value of the accept-encoding header that goes with this module.
ACCEPTED = "gzip, deflate"

#: The most that one piece holds, in bytes. Deflate expands up to a thousandfold.
_PIECE = 1024 * 1024
#: How much input is looked at at once, in bytes.
_WINDOW = 16 * 1024

#: By how much a body may expand, once it is larger than so many bytes. Results expand to about
#: five times their size, the most repetitive ones to some dozens; deflate's most is a thousand.
_MAX_RATIO = 200
_UNSUSPECTED = 16 * 1024 * 1024

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


class Identity:
    """A body that is not encoded."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the bytes as they are."""
        yield data

    def finish(self) -> None:
        """Take the end of the body."""


class Inflate:
    """A body in gzip, of one or more members, or in deflate, with zlib's wrapper or without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._taken = 0
        self._given = 0
        #: What has come while it is not clear yet which deflate it is: that takes two bytes.
        self._start: bytes | None = None if gzip else b""
        self._inflate = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the decoded bytes that this input completes, in pieces, none of them empty.

        Raises:
            TransportError: this is not the encoding that the head promised.
        """
        if self._start is not None:
            data = self._start + data
            if len(data) < 2:  # noqa: PLR2004 - the length of zlib's header
                self._start = data
                return
            self._start = None
            wrapped = data[0] & 0x0F == zlib.DEFLATED and not (data[0] << 8 | data[1]) % 31
            self._inflate = zlib.decompressobj(_ZLIB if wrapped else _RAW)
        self._taken += len(data)
        # In small windows: zlib gives back what it has not used as a copy, member by member.
        for start in range(0, len(data), _WINDOW):
            yield from self._feed(data[start : start + _WINDOW])

    def _feed(self, data: bytes) -> Iterator[bytes]:
        more = False  # zlib can have taken all the input in and still hold output
        while data or more:
            self._begun = True
            before = self._inflate.copy()
            try:
                piece = self._inflate.decompress(data, _PIECE)
            except zlib.error as error:
                yield from _up_to_the_fault(before, data)
                raise _broken(str(error)) from None
            more = len(piece) == _PIECE
            data = self._inflate.unconsumed_tail
            if self._inflate.eof and (data := self._inflate.unused_data):
                if not self._gzip:
                    raise _broken("there are bytes behind its end")
                self._inflate = zlib.decompressobj(_GZIP)
            self._given += len(piece)
            if self._given > _UNSUSPECTED and self._given > _MAX_RATIO * self._taken:
                raise _broken(f"it expands to more than {_MAX_RATIO} times its size")
            if piece:
                yield piece

    def finish(self) -> None:
        """Take the end of the body.

        Raises:
            TransportError: the encoded bytes stop in the middle.
        """
        if self._start or (self._begun and not self._inflate.eof):
            raise _broken("it ends in the middle")


def _up_to_the_fault(inflate: Any, data: bytes) -> Iterator[bytes]:
    """Give what comes before the byte that is wrong, for zlib keeps all of a window back."""
    for byte in data:
        try:
            piece = inflate.decompress(bytes((byte,)))
        except zlib.error:
            return
        if piece:
            yield piece


class Refused:
    """A body in an encoding that was not asked for."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Refuse the bytes.

        Raises:
            TransportError: always.
        """
        del data
        raise _broken(f"{self._encoding!r} was not asked for")

    def finish(self) -> None:
        """Take the end of a body without bytes, which no encoding can spoil."""


def decoder_for(headers: RawHeaders) -> Identity | Inflate | Refused:
    """Choose the decoder that a response's head asks for."""
    encoding = fold_headers(headers).get("content-encoding", "identity").strip().lower()
    if encoding in {"identity", ""}:
        return Identity()
    if encoding in {"gzip", "x-gzip"}:
        return Inflate(gzip=True)
    if encoding == "deflate":
        return Inflate(gzip=False)
    return Refused(encoding)


def _broken(what: str) -> TransportError:
    return TransportError(f"the content-encoding of the answer is broken: {what}", sent=True)
