"""Shared storage in a folder, which all machines have mounted."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from batches_core import InvalidInputError
from batches_jobs._errors import StorageError
from batches_jobs._folder import sync_folder

#: How much of a file is copied at once, in bytes.
_PIECE = 1024 * 1024


class FolderStorage:
    """A folder that every worker can read and write. It is created if it does not exist.

    It can be on a network file system if that supports hard links and makes them visible to other
    machines at once, as NFS does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    def put(self, name: str, path: Path) -> None:
        """See `Storage`."""
        self.put_new(name, path)

    def put_new(self, name: str, path: Path) -> bool:
        """See `Storage`."""
        target = self._target(name)
        try:
            with path.open("rb") as source, _part_of(target, source) as part:
                try:
                    # Unlike a rename, a link replaces nothing.
                    os.link(part, target)
                except FileExistsError:
                    return False
                sync_folder(target.parent)
        except OSError as error:
            raise StorageError(target, error.strerror or str(error)) from error
        return True

    def replace(self, name: str, file: IO[bytes]) -> None:
        """See `Storage`."""
        target = self._target(name)
        file.seek(0)
        try:
            with _part_of(target, file) as part:
                part.replace(target)
                sync_folder(target.parent)
        except OSError as error:
            raise StorageError(target, error.strerror or str(error)) from error

    def check_writable(self, name: str) -> None:
        """See `Storage`."""
        target = self._target(name)
        try:
            with _part_of(target, io.BytesIO()):
                pass
        except OSError as error:
            raise StorageError(target, error.strerror or str(error)) from error

    def fetch(self, name: str, path: Path) -> None:
        """See `Storage`."""
        fetched = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        source = self._target(name)
        try:
            try:
                shutil.copyfile(source, fetched)
                fetched.replace(path)
            finally:
                fetched.unlink(missing_ok=True)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StorageError(path, error.strerror or str(error)) from error

    def has(self, name: str) -> bool:
        """See `Storage`."""
        return self._target(name).exists()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage`."""
        with self._target(name).open("rb") as file:
            yield file

    def _target(self, name: str) -> Path:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise InvalidInputError(f"{name!r} is no name in the storage: use letters and slashes")
        return self._path.joinpath(*parts)


@contextlib.contextmanager
def _part_of(target: Path, source: IO[bytes]) -> Iterator[Path]:
    """Copy a file to a path beside the target, durably. It is removed at the end."""
    # Of this process and this call alone, so that two writers never share it.
    part = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("xb") as copy:
            shutil.copyfileobj(source, copy, _PIECE)
            copy.flush()
            os.fsync(copy.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)
