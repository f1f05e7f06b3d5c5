"""A file of requests that is sent without ever being in memory whole. It blocks."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

from batches_core import MAX_BYTES, InvalidInputError, PreparedRequests
from batches_core.lowlevel import RequestChecker, as_sent, envelope

#: How much of a file is read at once, in bytes.
_READ = 256 * 1024
#: Up to how many bytes a line is read without a look at where it ends.
_USUAL_LINE = 1024 * 1024
#: How much of a longer one is searched at once, in bytes.
_SEARCHED = 64 * 1024


class RequestsFile:
    """A file of requests, one as JSON on each line, for ``create``.

    The file is read twice, line by line: once to check every line, then to send them, byte for
    byte. It is never in memory whole. It is not to change between the two; where it does, nothing
    is created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def prepare(self) -> PreparedRequests:
        """Check every line.

        Raises:
            InvalidInputError: with every problem and the number of its line; or it is no regular
            file.
            OSError: it cannot be read.
        """
        checker = RequestChecker(lines=True)
        digest = blake2b()
        with _open(self.path) as file:
            version = _version(file)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInputError(
                    f"{self.path} is no regular file, and could not be read twice: pass the "
                    "open file itself, open(path, 'rb')"
                )
            for piece in envelope(checker.check(_lines(file, checker))):
                digest.update(piece)
        checker.finish()
        body = _FileBody(self.path, version, checker.content_length, digest.digest())
        return PreparedRequests(body=body, count=checker.count)


class _FileBody:
    """The body of a create, read from its file each time that it is sent."""

    #: To iterate over it blocks, so an async transport does that in a thread.
    blocks = True

    def __init__(
        self, path: Path, version: tuple[int, ...], content_length: int, digest: bytes
    ) -> None:
        self._path = path
        self._version = version
        self._content_length = content_length
        self._digest = digest

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        return self._content_length

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.content_length} bytes>"

    def __iter__(self) -> Iterator[bytes]:
        left = self._content_length
        digest = blake2b()
        with _open(self._path) as file:
            self._check_unchanged(_version(file) == self._version)
            for piece in envelope(_sent(_lines(file))):
                left -= len(piece)
                digest.update(piece)
                # Before the last piece: without it the service cannot take the request. An edit
                # can keep size and time, so the bytes themselves are compared.
                if left <= 0:
                    self._check_unchanged(left == 0 and digest.digest() == self._digest)
                yield piece
            self._check_unchanged(left == 0)

    def _check_unchanged(self, unchanged: bool) -> None:  # noqa: FBT001 - one question, one answer
        if not unchanged:
            raise InvalidInputError(
                f"{self._path} was changed after it was checked: nothing was created; leave it as "
                "it is until it is sent, and send it again"
            )


def _open(path: Path) -> IO[bytes]:
    """Open a file to read; a pipe that nobody writes to is not waited for."""
    return open(path, "rb", buffering=_READ, opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _version(file: IO[bytes]) -> tuple[int, ...]:
    """Tell one state of a file from another, at little cost."""
    info = os.fstat(file.fileno())
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _lines(file: IO[bytes], checker: RequestChecker | None = None) -> Iterator[bytes]:
    """Read line by line; one that is over a batch's limit is told, and left out unread."""
    index = 0
    while line := file.readline(_USUAL_LINE):
        if len(line) == _USUAL_LINE and not line.endswith(b"\n"):
            line = _long_line(file, line, index, checker)
        yield line
        index += 1


def _long_line(file: IO[bytes], begun: bytes, index: int, checker: RequestChecker | None) -> bytes:
    start = file.tell() - len(begun)
    length = len(begun)
    while piece := file.readline(_SEARCHED):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    if length <= MAX_BYTES:
        file.seek(start)
        return file.read(length)
    if checker is not None:
        checker.count += 1
        checker.add(
            f"has {length:,} bytes, over the limit of {MAX_BYTES:,} for a whole batch: is "
            "there one request on each line?",
            index,
        )
    return b""


def _sent(lines: Iterator[bytes]) -> Iterator[bytes]:
    for index, line in enumerate(lines):
        if sent := as_sent(line, index):
            yield sent
