"""Writes a file that appears only when it is complete, and replaces only what it wrote before.

The bytes are written to ``NAME.merge.part``, which is synced and then renamed. A small JSON file,
the register, lists the versions of the written files, so that a later write recognises them.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from batches_core import InvalidInputError

from ._errors import StorageError


def _module_of_this_system(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl = _module_of_this_system("fcntl")

#: How many bytes are gathered before they are written.
_GATHERED = 1024 * 1024
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
#: The error numbers of a folder that cannot be written to.
_READ_ONLY = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: Whether a rename replaces an existing file. On Windows it fails instead.
_RENAME_REPLACES = os.name != "nt"


class _Version(msgspec.Struct, frozen=True):
    """The version of a file. Writing to the file, or replacing it, changes a field."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: os.stat_result) -> Self:
        return cls(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)


class _Register(msgspec.Struct):
    """The versions of written files by absolute path: two if a file was about to be replaced."""

    files: dict[str, list[_Version]] = {}


class OutputFile:
    """A file to write, as a context manager. Without `finish` no file appears.

    `register` is the path of the register. A file at `path` is replaced only if the register knows
    it and nobody has changed it since.

    Raises:
        InvalidInputError: another file is at `path`, it is being written by another call, or its
            folder does not exist.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, register: Path) -> None:
        self.path = path
        self._register_path = register
        self._key = str(path.absolute())
        self._part = path.with_name(path.name + ".merge.part")
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._read_register()
        self._check_target()
        self._file = self._open()

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            StorageError: they could not be written.
        """
        self._pieces.append(data)
        self._gathered += len(data)
        if self._gathered >= _GATHERED:
            self._flush()

    def finish(self) -> int:
        """Sync the bytes, and rename the file to its final name. Return its size in bytes.

        Raises:
            InvalidInputError: another file has appeared at the path.
            StorageError: the file could not be written.
        """
        self._flush()
        try:
            os.fsync(self._file.fileno())
            info = os.fstat(self._file.fileno())
            old = self._check_target()
            self._note(old, _Version.of(info))
            # Windows renames no open file.
            self._file.close()
            if old is not None:
                self._part.replace(self.path)
            else:
                _publish(self._part, self.path)
            sync_folder(self.path.parent)
        except FileExistsError:
            raise self._refused() from None
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from error
        return info.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            # The lock is still held, so the part belongs to this call.
            with contextlib.suppress(OSError):
                self._part.unlink()
            self._file.close()
        # The rename failed, so the part is still there.
        elif error is not None:
            with contextlib.suppress(OSError):
                self._part.unlink()

    def _open(self) -> FileIO:
        try:
            while (file := self._open_part()) is None:
                pass
            file.truncate(0)
        except (FileNotFoundError, NotADirectoryError):
            raise InvalidInputError(
                f"{self.path} cannot be written, because {self.path.parent} is not a folder: "
                "create that first, or choose another path"
            ) from None
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from error
        return file

    def _open_part(self) -> FileIO | None:
        """Open and lock the part. Return None if it must be opened again."""
        file = FileIO(os.open(self._part, _OPEN, 0o666), "r+")
        if not _lock(file):
            file.close()
            raise InvalidInputError(
                f"{self.path} is being written by another call: wait until that has ended"
            )
        try:
            info = os.fstat(file.fileno())
            if not _is_same(info, self._part):
                file.close()  # another call has just renamed it
                return None
            if info.st_nlink > 1:
                # A crash in `_publish` left both names. To write here would change the final file.
                self._part.unlink()
                file.close()
                return None
        except BaseException:
            file.close()
            raise
        return file

    def _flush(self) -> None:
        data = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self._gathered = 0
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from error

    def _check_target(self) -> _Version | None:
        """Return the version of the file at the path; None if there is no file.

        Raises:
            InvalidInputError: the register does not list this version.
        """
        try:
            version = _Version.of(self.path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        if version not in self._register.files.get(self._key, ()):
            raise self._refused()
        return version

    def _refused(self) -> InvalidInputError:
        return InvalidInputError(
            f"{self.path} is there already and is not what this job wrote there, or was changed "
            "since: it was left as it is; move it away, or choose another path"
        )

    def _read_register(self) -> None:
        self._register = _Register()
        with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
            self._register = msgspec.json.decode(self._register_path.read_bytes(), type=_Register)

    def _note(self, old: _Version | None, new: _Version) -> None:
        """Register a version before its file is renamed. After a crash the old one may be there."""
        self._read_register()
        self._register.files[self._key] = [new] if old is None else [old, new]
        draft = self._register_path.with_name(f"{self._register_path.name}.{os.getpid()}.new")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(self._register))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._register_path)
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            # The results of a job can be read from a read-only folder. The output is then not
            # registered, so a later write does not replace it.


def _is_same(info: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(info, path.lstat())
    except FileNotFoundError:
        return False


def _lock(file: FileIO) -> bool:
    """Lock a file until it is closed; return False if another call has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some file systems have no locks.
        return error.errno not in {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
    return True


def _publish(part: Path, path: Path) -> None:
    """Rename a closed file, if no file has the new name.

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
        # Without hard links, claim the name first, because a rename replaces files.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            part.replace(path)
        except OSError:
            path.unlink()
            raise
    else:
        part.unlink()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with contextlib.suppress(PermissionError):  # Windows opens no folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
