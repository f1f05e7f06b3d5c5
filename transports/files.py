"""Files in, files out: requests from a file that is never in memory whole, results to a file.

Knows the file system, and what the core says of requests and results; nothing of a network. All
of it blocks: an async client does it in threads.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from batches_core import BatchesError, InvalidRequest, MalformedResult, Prepared, RawResult
from batches_core.decoding import RawDecoder
from batches_core.jsonl import JSONLines
from batches_core.requests import Checker, as_sent, envelope

try:
    import fcntl
except ImportError:  # not on Windows, where an open file cannot be written by another anyway
    fcntl = None  # type: ignore[assignment]  # a module that is not there

#: How much of a part is read at once, in bytes.
_READ = 1024 * 1024


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

    def prepared(self) -> Prepared:
        """Check every line.

        Raises:
            InvalidRequest: with every fault and the number of its line; or it is no regular file.
            OSError: it cannot be read.
        """
        checker = Checker(lines=True)
        with self.path.open("rb") as file:
            version = _version(file)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidRequest(
                    f"{self.path} is no regular file, and could not be read twice: hand in the "
                    "open file itself, open(path, 'rb')"
                )
            for _ in checker.checked(file):
                pass
        checker.finish()
        body = _FileBody(self.path, version, checker.content_length)
        return Prepared(body=body, count=checker.count)


class _FileBody:
    """The body of a create, read from its file each time that it is sent."""

    def __init__(self, path: Path, version: tuple[int, ...], content_length: int) -> None:
        self._path = path
        self._version = version
        self._content_length = content_length

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        return self._content_length

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.content_length} bytes>"

    def __iter__(self) -> Iterator[bytes]:
        left = self._content_length
        with self._path.open("rb") as file:
            self._check_unchanged(_version(file) == self._version)
            for piece in envelope(_lines(file)):
                left -= len(piece)
                # Before the last piece: without it the service cannot take the request.
                if left <= 0:
                    self._check_unchanged(left == 0 and _version(file) == self._version)
                yield piece
            self._check_unchanged(left == 0)

    def _check_unchanged(self, unchanged: bool) -> None:  # noqa: FBT001 - one question, one answer
        if not unchanged:
            raise InvalidRequest(
                f"{self._path} was changed after it was checked: nothing was created; leave it as "
                "it is until it is sent, and send it again"
            )


def _version(file: IO[bytes]) -> tuple[int, ...]:
    """Tell one state of a file from another."""
    info = os.fstat(file.fileno())
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


def _lines(file: Iterable[bytes]) -> Iterator[bytes]:
    for index, line in enumerate(file):
        if sent := as_sent(line, index):
            yield sent


class PartFile:
    """The results of a batch on their way to a file: ``path.part`` until it is complete.

    Every line is written as soon as it has come, and stays there whatever happens. What a part
    holds from before is kept; the beginning of a line that its end never followed is cut off.

    Raises:
        InvalidRequest: the file is there already, or somebody else is writing the part.
        OSError: the part cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.part = self.path.with_name(self.path.name + ".part")
        if self.path.exists():
            raise InvalidRequest(f"{self.path} is there already: move it away, or choose another")
        #: The custom_ids of the lines that it holds from before.
        self.ids: list[str] = []
        self._lines = 0
        #: The unreadable lines that it holds from before, and this time were not seen yet.
        self._malformed: Counter[bytes] = Counter()
        self._too_long: MalformedResult | None = None
        self._file = self.part.open("a+b", buffering=0)
        try:
            self._lock()
            self._take_stock()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        if isinstance(error, (BatchesError, OSError)):
            error.add_note(
                f"{self.part} holds the {self._lines} results that came: the same call again goes "
                "on from there"
            )

    def write(self, lines: Iterable[RawResult | MalformedResult]) -> None:
        """Append lines.

        Raises:
            OSError: they could not be written, as where the disk is full.
        """
        new = [line for line in lines if self._is_new(line)]
        data = memoryview(b"\n".join([*(line.raw for line in new), b""]))
        while data:
            data = data[self._file.write(data) :]
        self._lines += len(new)

    def finish(self) -> int:
        """Make the part the file; give its number of lines.

        Raises:
            MalformedResult: a line was longer than ``max_line``, and so could not be kept.
            OSError: it could not be made permanent.
        """
        if self._too_long is not None:
            raise self._too_long
        os.fsync(self._file.fileno())
        self.part.rename(self.path)
        with contextlib.suppress(OSError):  # where a folder cannot be opened, as on Windows
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return self._lines

    def _is_new(self, line: RawResult | MalformedResult) -> bool:
        if isinstance(line, RawResult):
            return True
        if line.is_cut:
            self._too_long = line
            return False
        # The core knows unreadable lines of this download alone; those of the part count as well.
        if self._malformed[line.raw] > 0:
            self._malformed[line.raw] -= 1
            return False
        return True

    def _lock(self) -> None:
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InvalidRequest(
                    f"{self.part} is being written by somebody else: wait for that, or choose "
                    "another path"
                ) from None

    def _take_stock(self) -> None:
        self._file.seek(0)
        lines = JSONLines(RawDecoder(), max_line=sys.maxsize)
        complete = 0
        size = 0
        while data := self._file.read(_READ):
            if (end := data.rfind(b"\n") + 1) > 0:
                complete = size + end
            size += len(data)
            self._count(lines.feed(data))
        self._file.truncate(complete)

    def _count(self, lines: list[RawResult | MalformedResult]) -> None:
        self._lines += len(lines)
        for line in lines:
            if isinstance(line, RawResult):
                self.ids.append(line.custom_id)
            else:
                self._malformed[line.raw] += 1
