"""Read files of the caller and of the job: open, describe, and split them into lines."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec

from batches_core import MAX_BYTES, InvalidInputError
from batches_core.lowlevel import quote

#: How much of a file is read at once, in bytes.
READ = 256 * 1024
#: How much of a line is read at once, in bytes.
_USUAL_LINE = 1024 * 1024


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The version of a file: nearly every change of its content changes the version.

    `size` is in bytes, and times are in nanoseconds. A program can set `mtime_ns` back, but not
    `ctime_ns`.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, info: os.stat_result) -> Version:
        """Return the version that the system reports."""
        return cls(
            size=info.st_size,
            mtime_ns=info.st_mtime_ns,
            ctime_ns=info.st_ctime_ns,
            inode=info.st_ino,
        )


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The description of an input: its kind, and the path and version of its file if it has one.

    `template` is the text of the template that makes the requests, if there is one.
    """

    kind: str
    path: str = ""
    version: Version | None = None
    template: str = ""

    @classmethod
    def of_file(cls, kind: str, path: Path) -> Description:
        """Describe a file.

        Raises:
            InvalidInputError: it cannot be read, or is no regular file.
        """
        with open_file(path) as file:
            # JSON cannot contain the characters of a name that is not UTF-8.
            name = str(path.absolute()).encode(errors="backslashreplace").decode()
            return cls(kind=kind, path=name, version=version_of(file))

    def encode(self) -> str:
        """Return the description as JSON."""
        return msgspec.json.encode(self).decode()


class LineFile(Protocol):
    """A binary file that can be read line by line."""

    def readline(self, size: int, /) -> bytes:
        """Return the next line, or its first bytes up to this size; empty at the end."""
        ...


class LongLine(NamedTuple):
    """A line that exceeds the size limit of a whole batch. Its text is not kept."""

    length: int

    @property
    def problem(self) -> str:
        """The message about this line."""
        return (
            f"has {self.length:,} bytes, over the limit of {MAX_BYTES:,} for a whole batch: is "
            "there one request on each line?"
        )


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn each `OSError` into an error with a remedy.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise InvalidInputError(
            f"{quote(str(path))} cannot be read ({error.strerror or error}): put it back or "
            "correct that, then run the job again"
        ) from error


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file to read it.

    Raises:
        InvalidInputError: it cannot be read, or is no regular file.
    """
    with (
        reading(path),
        open(path, "rb", buffering=READ, opener=_open_at_once) as file,
    ):
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InvalidInputError(
                f"{quote(str(path))} is no regular file, and could not be read twice: pass the "
                "open file itself, open(path, 'rb')"
            )
        yield file


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; do not wait for the writer of a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def version_of(file: IO[bytes]) -> Version:
    """Return the version of an open file."""
    return Version.of(os.fstat(file.fileno()))


def read_lines(file: LineFile) -> Iterator[bytes | LongLine]:
    """Read the next lines of a binary file, each with its line feed.

    A line that exceeds the limit of a whole batch is skipped in pieces of 1 MiB.
    """
    while line := file.readline(_USUAL_LINE):
        is_cut = len(line) == _USUAL_LINE and not line.endswith(b"\n")
        yield _long_line(file, line) if is_cut else line


def _long_line(file: LineFile, begun: bytes) -> bytes | LongLine:
    kept = [begun]
    length = len(begun)
    while piece := file.readline(_USUAL_LINE):
        length += len(piece)
        if length <= MAX_BYTES:
            kept.append(piece)
        else:
            kept.clear()
        if piece.endswith(b"\n"):
            break
    return b"".join(kept) if length <= MAX_BYTES else LongLine(length)


def count_line_feeds(file: IO[bytes], start: int, end: int) -> int:
    """Count the line feeds between two offsets of a file."""
    count, left = 0, end - start
    file.seek(start)
    while left > 0 and (data := file.read(min(READ, left))):
        count += data.count(b"\n")
        left -= len(data)
    return count
