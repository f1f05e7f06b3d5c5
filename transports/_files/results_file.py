"""Results on their way to a file: written line by line, named only once they are complete.

Knows the file system and what a line of results is; nothing of a network. All of it blocks: an
async client calls it in threads.

The results stand in ``NAME.<batch id>.part`` until they are complete, so a part belongs to one
batch. Each line is written as it arrives, and stays there whatever happens; the next call
continues. No file is ever replaced: the part gets its name only where there is no file of that
name. Where there is one, as after a crash in the very last step, it is compared with the batch's
results line by line.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batches_core import (
    MAX_REQUESTS,
    BatchesError,
    InvalidInputError,
    MalformedResultError,
    MessageBatch,
    RawResult,
)
from batches_core.lowlevel import MAX_LINE, JSONLines, RawDecoder, path_segment


def _module_of_this_system(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl = _module_of_this_system("fcntl")
msvcrt = _module_of_this_system("msvcrt")

Line = RawResult | MalformedResultError

#: How much of a file is read at once, in bytes.
_READ = 1024 * 1024
#: More lines than any batch's results have: the core stops to read at twice a batch's size.
_MOST_LINES = 2 * MAX_REQUESTS + 1000
#: The byte that Windows locks: far behind the end, since a locked byte cannot be read.
_LOCKED_BYTE = 2**42
#: A part is opened without following a link and without waiting for the writer of a pipe.
_OPEN = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
#: Whether a rename replaces the file that has the new name, as it does but on Windows.
_RENAME_REPLACES = os.name != "nt"
#: What locking raises where somebody else has the lock; anything else means that there are none.
_LOCKED = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES})


class ResultsFile:
    """The file that a batch's results are written to. Enter it, `open` it, `write`, `finish`.

    Leaving it closes the file and the lock, and says in a note to the error what is there.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch: MessageBatch | str,
        *,
        max_line: int = MAX_LINE,
    ) -> None:
        self.path = Path(path)
        batch_id = batch.id if isinstance(batch, MessageBatch) else batch
        self._name = f".{path_segment('batch', batch_id)}.part"
        self._max_line = max_line
        self._file: _Part | _Complete | None = None
        #: The custom_ids of the results that are there from before.
        self.ids: list[str] = []

    def open(self) -> None:
        """Open or make the part; or read the file, if it is there already.

        Raises:
            InvalidInputError: what is there cannot be this batch's results, or another download is
                writing them.
            OSError: it cannot be opened.
        """
        part = self.path.parent / (self.path.name + self._name)
        if os.path.lexists(self.path):
            self._file = _Complete(self.path, part, self._max_line)
        else:
            self._file = _Part(self.path, part, self._max_line)
        self.ids = self._file.ids

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines, or compare them with those that are there.

        Raises:
            InvalidInputError: the file is not this batch's, or was changed by somebody else.
            OSError: they could not be written, as where the disk is full.
        """
        assert self._file is not None, "it is opened first"  # noqa: S101
        self._file.write(lines)

    def finish(self) -> int:
        """Give the file its name; return its number of lines.

        Raises:
            InvalidInputError: it holds lines that are not the batch's, or a file of that name has
                appeared.
            MalformedResultError: a line was longer than ``max_line``, and so could not be kept.
            OSError: it could not be made permanent.
        """
        assert self._file is not None, "it is opened first"  # noqa: S101
        return self._file.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        file.close()
        if isinstance(error, (BatchesError, OSError)) and (note := file.note(error)):
            error.add_note(note)


class _Part:
    """The part of one batch's results."""

    def __init__(self, path: Path, part: Path, max_line: int) -> None:
        self.ids: list[str] = []
        self._path = path
        self._part = part
        #: Lines that are there, and where the last complete one ends.
        self._lines = 0
        self._complete = 0
        #: The size that the file has, unless somebody else writes to it.
        self._size = 0
        #: The unreadable lines from before that this reading has not shown yet.
        self._unseen: Counter[bytes] = Counter()
        self._too_long: MalformedResultError | None = None
        try:
            self._file = io.FileIO(self._part, "r+", opener=_open_part)
        except OSError as error:
            if isinstance(error, IsADirectoryError) or self._part.is_symlink():
                raise self._refused("it is no regular file") from None
            raise
        try:
            self._check()
            self._take_stock(max_line)
        except BaseException:
            # What was refused is nobody's to remove.
            self._file.close()
            raise

    def write(self, lines: Iterable[Line]) -> None:
        new = [line for line in lines if self._is_new(line)]
        if not new:
            return
        self._check_unchanged()
        if self._size > self._complete:
            self._file.truncate(self._complete)
            self._size = self._complete
        data = memoryview(b"\n".join([*(line.raw for line in new), b""]))
        while data:
            written = self._file.write(data)
            self._size += written
            data = data[written:]
        self._complete = self._size
        self._lines += len(new)

    def finish(self) -> int:
        if self._too_long is not None:
            raise self._too_long
        if unseen := self._unseen.total():
            raise self._refused(f"{unseen} of its lines are unreadable and not among the results")
        self._check_unchanged()
        if not self._is_in_place():
            raise InvalidInputError(
                f"{self._part} was removed or replaced during the download: call again"
            )
        if self._size > self._complete:
            self._file.truncate(self._complete)
        os.fsync(self._file.fileno())
        # Windows renames no open file.
        self._file.close()
        try:
            _publish(self._part, self._path)
        except FileExistsError:
            raise InvalidInputError(
                f"{self._path} appeared during the download and was left as it is: move it away, "
                f"and call again; {self._part} holds all {self._lines} results"
            ) from None
        return self._lines

    def close(self) -> None:
        if self._file.closed:
            return
        try:
            # Nothing is left of a download that was refused. By its name it is ours.
            if os.fstat(self._file.fileno()).st_size == 0 and self._is_in_place():
                _remove(self._part, self._file)
        except OSError:
            pass  # nothing was in it
        finally:
            self._file.close()

    def note(self, error: Exception) -> str | None:
        if isinstance(error, InvalidInputError):
            # Some name it already; of the rest it is not known what they are about.
            named = str(self._part) in str(error) or not self._lines
            return (
                None
                if named
                else f"{self._part} was kept: if the results in it are not this batch's, move it "
                "away, and call again"
            )
        if isinstance(error, MalformedResultError) and error.is_cut:
            return (
                f"{self._part} holds the other {self._lines} results: the same call of a client "
                "with a larger max_line adds this one"
            )
        if not self._lines:
            return None
        return f"{self._part} holds {self._lines} results: the same call continues from there"

    def _refused(self, why: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self._part} cannot be continued, for {why}: it was left as it is; move it away, "
            "and call again"
        )

    def _check(self) -> None:
        """Check that the open file is a part and nobody else's.

        Raises:
            InvalidInputError: it is not.
        """
        info = os.fstat(self._file.fileno())
        if not stat.S_ISREG(info.st_mode) or self._part.is_symlink():
            raise self._refused("it is no regular file")
        # Another download that had the lock may have removed the file before it let go.
        if not _lock(self._file) or not self._is_in_place():
            raise InvalidInputError(
                f"{self._part} is being written by another download: wait for that, or choose "
                "another path"
            )
        if info.st_nlink > 1:
            raise self._refused("it is a hard link, and the file has another name as well")

    def _is_in_place(self) -> bool:
        """Whether the open file still has its name."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._part.lstat())
        except FileNotFoundError:
            return False

    def _check_unchanged(self) -> None:
        """Check the size, which is what shows another writer where files cannot be locked."""
        if os.fstat(self._file.fileno()).st_size != self._size:
            raise self._refused("somebody else has changed it during the download")

    def _is_new(self, line: Line) -> bool:
        if isinstance(line, RawResult):
            return True
        if line.is_cut:
            self._too_long = line
            return False
        # The core knows the unreadable lines of this download alone; those of the part count too.
        key = _digest(line.raw)
        if self._unseen[key] > 0:
            self._unseen[key] -= 1
            return False
        return True

    def _take_stock(self, max_line: int) -> None:
        """Read what is there. Nothing is changed before it is known to be results."""
        lines = JSONLines(RawDecoder(), max_line)
        torn = b""
        for data in _pieces(self._file):
            if (end := data.rfind(b"\n") + 1) > 0:
                self._complete = self._size + end
                torn = b""
            torn = torn or data[end : end + 1]
            self._size += len(data)
            self._count(lines.feed(data))
        if len(set(self.ids)) < len(self.ids):
            raise self._refused("it holds two results of one custom_id")
        # A write that a crash cut short leaves the beginning of an object.
        if (self._lines and not self.ids) or torn not in {b"", b"{"}:
            raise self._refused("it holds no results of a batch")

    def _count(self, lines: list[Line]) -> None:
        self._lines += len(lines)
        for line in lines:
            if isinstance(line, RawResult):
                self.ids.append(line.custom_id)
            elif line.is_cut:
                raise self._refused(f"{line.reason} of this client")
            else:
                self._unseen[_digest(line.raw)] += 1
        if self._lines > _MOST_LINES:
            raise self._refused("it has more lines than the results of any batch")


class _Complete:
    """A file that is there already: it is compared with the batch's results, never changed.

    It may be complete and this batch's, if the download before was interrupted in its last step.
    Equal custom_ids do not show that, for another batch can have the same: every line has to be
    equal.
    """

    def __init__(self, path: Path, part: Path, max_line: int) -> None:
        #: None counts as delivered: every line is compared.
        self.ids: list[str] = []
        self._path = path
        self._part = part
        self._unseen: Counter[bytes] = Counter()
        self._lines = 0
        self._read(max_line)

    def write(self, lines: Iterable[Line]) -> None:
        for line in lines:
            if isinstance(line, MalformedResultError) and line.is_cut:
                raise line
            key = _digest(line.raw)
            if self._unseen[key] < 1:
                raise self._refused()
            self._unseen[key] -= 1

    def finish(self) -> int:
        if self._unseen.total():
            raise self._refused()
        # An interruption between the last two steps leaves both names.
        with contextlib.suppress(OSError):
            if os.path.samestat(self._part.lstat(), self._path.lstat()):
                self._part.unlink()
        return self._lines

    def close(self) -> None:
        pass  # it was closed when it was read

    def note(self, error: Exception) -> str | None:
        if str(self._path) in str(error):
            return None
        return (
            f"{self._path} is there already and was left as it is: whether it holds all results "
            "of this batch could not be checked"
        )

    def _refused(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self._path} is there already, and is not the complete results of this batch: it was "
            "left as it is; move it away, or choose another path"
        )

    def _read(self, max_line: int) -> None:
        if not stat.S_ISREG(self._path.lstat().st_mode):
            raise self._refused()
        reader = JSONLines(RawDecoder(), max_line)
        has_results = False
        ends = b"\n"
        with self._path.open("rb", buffering=0) as file:
            for data in _pieces(file):
                ends = data[-1:]
                for line in reader.feed(data):
                    has_results = has_results or isinstance(line, RawResult)
                    self._unseen[_digest(line.raw)] += 1
                    self._lines += 1
                if self._lines > _MOST_LINES:
                    raise self._refused()
        if ends != b"\n" or not has_results:
            raise self._refused()


def _open_part(path: str, flags: int) -> int:
    del flags
    try:
        # This follows no link, be there a file at its end or not.
        return os.open(path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, _OPEN | getattr(os, "O_NOFOLLOW", 0))


def _pieces(file: io.RawIOBase) -> Iterator[bytes]:
    while data := file.read(_READ):
        yield data


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=16).digest()


def _lock(file: io.FileIO) -> bool:
    """Lock a file until it is closed; False where somebody else has locked it."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        # Without locks the size of the file shows another writer, if only afterwards.
        return error.errno not in _LOCKED
    finally:
        file.seek(0)
    return True


def _remove(part: Path, file: io.FileIO) -> None:
    """Remove a part, under its lock if possible."""
    try:
        part.unlink()
    except PermissionError:
        # Windows removes no open file.
        file.close()
        part.unlink()


def _publish(part: Path, path: Path) -> None:
    """Give a closed part its name.

    Raises:
        FileExistsError: there is a file of that name.
    """
    if not _RENAME_REPLACES:
        part.rename(path)
        return
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links. The name is claimed first, for a rename replaces.
        claim = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            os.close(claim)
            part.replace(path)
        except BaseException:
            if os.path.lexists(part):  # else an interruption came after the rename
                path.unlink()
            raise
        _sync_folder(path)
    else:
        _sync_folder(path)
        # The results are there. If this fails, the next call of `_Complete.finish` does it.
        with contextlib.suppress(OSError):
            part.unlink()


def _sync_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # where a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
