"""Read the requests of a create from a file, without loading the whole file into memory.

`RequestChecker` checks the lines, and `envelope` builds the body from them. All calls block. The
transports decide in which thread they run.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO

from batches_core import MAX_BYTES, InvalidInputError, PreparedRequests
from batches_core.lowlevel import RequestChecker, as_sent, envelope

#: The size of the file's read buffer, in bytes.
_READ = 256 * 1024
#: Lines of up to this many bytes are read in one call. The end of a longer line is searched for
#: first, so that a line over the limit is never in memory.
_USUAL_LINE = 1024 * 1024
#: How much of a longer line is searched at once, in bytes.
_SEARCHED = 64 * 1024


class RequestsFile:
    """A file of requests for ``create``: JSON Lines, one request on each line.

    The file is read twice, line by line: first to check every line, then to send the lines byte for
    byte. Do not change it in between. If it has changed, nothing is created and
    `InvalidInputError` is raised.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def prepare(self) -> PreparedRequests:
        """Check every line, and return the requests with a body that reads the file again.

        Raises:
            InvalidInputError: the requests have problems, listed with their line numbers; or the
                path is not a regular file.
            OSError: the file cannot be read.
        """
        checker = RequestChecker(lines=True)
        digest = blake2b()
        with _open(self.path) as file:
            version = _version(file)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInputError(
                    f"{self.path} is not a regular file, so it cannot be read twice: pass the open "
                    "file instead, open(path, 'rb')"
                )
            for piece in envelope(checker.check(_lines(file, checker))):
                digest.update(piece)
        checker.finish()
        body = _FileBody(self.path, version, checker.content_length, digest.digest())
        return PreparedRequests(body=body, count=checker.count)


class _FileBody:
    """The body of a create. Each iteration reads the file again."""

    #: Iterating blocks, so an async transport iterates in a thread; see `bodies.is_blocking`.
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
        """The size of the body in bytes."""
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
                # Check before the last piece is sent: without it the service cannot accept the
                # request. An edit can keep size and time, so compare the bytes themselves.
                if left <= 0:
                    self._check_unchanged(left == 0 and digest.digest() == self._digest)
                yield piece
            self._check_unchanged(left == 0)

    def _check_unchanged(self, unchanged: bool) -> None:  # noqa: FBT001 - one question, one answer
        if not unchanged:
            raise InvalidInputError(
                f"{self._path} was changed after it was checked, so nothing was created: pass the "
                "file to create() again, and do not change it until create() returns"
            )


def _open(path: Path) -> IO[bytes]:
    """Open a file for reading, without waiting for the writer of a named pipe."""
    return open(path, "rb", buffering=_READ, opener=_open_nonblocking)


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _version(file: IO[bytes]) -> tuple[int, ...]:
    """Return what identifies the state of a file: device, inode, size and modification time."""
    info = os.fstat(file.fileno())
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _lines(file: IO[bytes], checker: RequestChecker | None = None) -> Iterator[bytes]:
    """Yield the lines of a file.

    A line over the limit of a whole batch is reported to the `checker`, and yielded as empty.
    """
    index = 0
    while line := file.readline(_USUAL_LINE):
        if len(line) == _USUAL_LINE and not line.endswith(b"\n"):
            line = _long_line(file, line, index, checker)
        yield line
        index += 1


def _long_line(file: IO[bytes], begun: bytes, index: int, checker: RequestChecker | None) -> bytes:
    """Find the end of a line, then return the whole line, or no bytes if it is over the limit."""
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
            f"has {length:,} bytes, over the limit of {MAX_BYTES:,} for a whole batch: check that "
            "there is one request on each line",
            index,
        )
    return b""


def _sent(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines as they are sent, without blank ones."""
    for index, line in enumerate(lines):
        if sent := as_sent(line, index):
            yield sent
