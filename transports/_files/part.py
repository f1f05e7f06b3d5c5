"""The part of a download: the file of results that are not complete yet.

`Part` opens, checks, continues and renames it. `locking` and `renaming` handle the differences
between operating systems. `complete_file` handles a file that has its final name.
"""

from __future__ import annotations

import io
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from batches_core import InvalidInputError, MalformedResultError, RawResult
from batches_core.lowlevel import JSONLines, RawDecoder

from .locking import lock
from .renaming import rename_to_new_name
from .result_lines import MAX_LINES, ResultLine, digest_of, pieces_of

#: The flags that open a part: without translating line ends, and without waiting for the other end
#: of a named pipe.
_OPEN_FLAGS = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Part:
    """The part of one batch's results, opened and locked. `ResultsFile` documents the methods.

    `path` is the name of the complete file, `part` the name until then. `ids` are the custom_ids of
    the results that the part holds already.

    Raises:
        InvalidInputError: the part cannot be continued, or another download is writing it.
        OSError: the part cannot be opened.
    """

    def __init__(self, path: Path, part: Path, max_line: int) -> None:
        self.ids: list[str] = []
        self._path = path
        self._part = part
        #: The number of complete lines, and their size in bytes.
        self._lines = 0
        self._complete_size = 0
        #: The expected size of the file. Another size means that another program wrote to it.
        self._size = 0
        #: The unreadable lines that the part held when it was opened, by digest, minus those that
        #: this download has received again.
        self._unmatched: Counter[bytes] = Counter()
        self._too_long: MalformedResultError | None = None
        try:
            self._file = io.FileIO(self._part, "r+", opener=_open_or_create)
        except OSError as error:
            if isinstance(error, IsADirectoryError) or self._part.is_symlink():
                raise self._refusal("it is not a regular file") from None
            raise
        try:
            self._check_ownership()
            self._read_existing(max_line)
        except BaseException:
            # Do not call `close`: it removes an empty file, and this one may be another download's.
            self._file.close()
            raise

    def write(self, lines: Iterable[ResultLine]) -> None:
        new = [line for line in lines if self._is_new(line)]
        if not new:
            return
        self._check_size()
        if self._size > self._complete_size:
            self._file.truncate(self._complete_size)
            self._size = self._complete_size
        data = memoryview(b"\n".join([*(line.raw for line in new), b""]))
        while data:
            written = self._file.write(data)
            self._size += written
            data = data[written:]
        self._complete_size = self._size
        self._lines += len(new)

    def finish(self) -> int:
        if self._too_long is not None:
            raise self._too_long
        if unmatched := self._unmatched.total():
            raise self._refusal(f"{unmatched} of its unreadable lines are not in the results")
        self._check_size()
        if not self._has_its_name():
            raise InvalidInputError(
                f"{self._part} was removed or replaced during the download: download again"
            )
        if self._size > self._complete_size:
            self._file.truncate(self._complete_size)
        os.fsync(self._file.fileno())
        # Windows cannot rename an open file.
        self._file.close()
        try:
            rename_to_new_name(self._part, self._path)
        except FileExistsError:
            raise InvalidInputError(
                f"{self._path} appeared during the download and was left as it is: move it away "
                f"and download again; {self._part} holds all {self._lines} results"
            ) from None
        return self._lines

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            # A download that was refused leaves no empty part. The name belongs to this batch, so
            # the file can be removed.
            if os.fstat(self._file.fileno()).st_size == 0 and self._has_its_name():
                _remove(self._part, self._file)
        except OSError:
            pass  # an empty file that stays does no harm
        finally:
            self._file.close()

    def note(self, error: Exception) -> str | None:
        """Return a note for an error that ended the download, or None if there is nothing to say.

        The note says what the part holds and how to continue.
        """
        if isinstance(error, InvalidInputError):
            if str(self._part) in str(error) or not self._lines:
                return None
            # The error does not say whether results in the part caused it, so the note says "if".
            return (
                f"{self._part} was kept: if it holds results of another batch, move it away and "
                "download again"
            )
        if isinstance(error, MalformedResultError) and error.is_cut:
            return (
                f"{self._part} holds the other {self._lines} results: download again with a client "
                "that has a larger max_line, to add this one"
            )
        if not self._lines:
            return None
        return f"{self._part} holds {self._lines} results: download again to continue from there"

    def _refusal(self, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self._part} cannot be continued because {why}; it was left as it is: move it away "
            "and download again"
        )

    def _check_ownership(self) -> None:
        """Lock the open file, and check that it is a regular file with no other name."""
        info = os.fstat(self._file.fileno())
        if not stat.S_ISREG(info.st_mode) or self._part.is_symlink():
            raise self._refusal("it is not a regular file")
        # The download that held the lock before may have removed or renamed the file.
        if not lock(self._file) or not self._has_its_name():
            raise InvalidInputError(
                f"{self._part} is being written by another download: wait until that has ended, or "
                "choose another path"
            )
        if info.st_nlink > 1:
            raise self._refusal("its file has another hard link")

    def _has_its_name(self) -> bool:
        """Whether the name of the part still leads to the open file."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._part.lstat())
        except FileNotFoundError:
            return False

    def _check_size(self) -> None:
        """Check that no other program wrote to the part, which can happen if there are no locks.

        Raises:
            InvalidInputError: the size is not the expected one.
        """
        if os.fstat(self._file.fileno()).st_size != self._size:
            raise self._refusal("another program changed it during the download")

    def _is_new(self, line: ResultLine) -> bool:
        """Whether a line must be written: it is not too long, and not in the part already."""
        if isinstance(line, RawResult):
            return True
        if line.is_cut:
            self._too_long = line
            return False
        # The core skips results by custom_id. It cannot know which unreadable lines were received
        # by earlier downloads.
        key = digest_of(line.raw)
        if self._unmatched[key] > 0:
            self._unmatched[key] -= 1
            return False
        return True

    def _read_existing(self, max_line: int) -> None:
        """Read the lines that the part holds. Change nothing, in case they are not results."""
        lines = JSONLines(RawDecoder(), max_line)
        first_byte_of_torn_line = b""
        for data in pieces_of(self._file):
            if (end := data.rfind(b"\n") + 1) > 0:
                self._complete_size = self._size + end
                first_byte_of_torn_line = b""
            first_byte_of_torn_line = first_byte_of_torn_line or data[end : end + 1]
            self._size += len(data)
            self._count(lines.feed(data))
        if len(set(self.ids)) < len(self.ids):
            raise self._refusal("it holds two results with the same custom_id")
        # If a crash interrupted a write, the last line is the beginning of an object.
        if (self._lines and not self.ids) or first_byte_of_torn_line not in {b"", b"{"}:
            raise self._refusal("it holds no results of a batch")

    def _count(self, lines: list[ResultLine]) -> None:
        self._lines += len(lines)
        for line in lines:
            if isinstance(line, RawResult):
                self.ids.append(line.custom_id)
            elif line.is_cut:
                raise self._refusal(f"line {line.line_number} is too long ({line.reason})")
            else:
                self._unmatched[digest_of(line.raw)] += 1
        if self._lines > MAX_LINES:
            raise self._refusal("it has more lines than the results of any batch")


def _open_or_create(path: str, flags: int) -> int:
    del flags
    try:
        # With O_EXCL a symbolic link is never followed, whether or not its target exists.
        return os.open(path, _OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, _OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0))


def _remove(part: Path, file: io.FileIO) -> None:
    """Remove a part before it is unlocked, if the operating system can remove an open file."""
    try:
        part.unlink()
    except PermissionError:
        # Windows cannot remove an open file.
        file.close()
        part.unlink()
