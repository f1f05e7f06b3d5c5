"""Write a file of requests that is complete and durable before it gets its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from batches_jobs._errors import StorageError
from batches_jobs._folder import sync_folder

#: Lines are gathered up to this many bytes before they are written.
_GATHERED = 256 * 1024
_OPEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)


class SpoolFile:
    """A file of lines, as a context manager.

    Lines are written to ``NAME.part``, and `finish` renames that file. If the context is left
    without `finish`, the file is removed. `size` is the number of bytes so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._part = path.with_name(path.name + ".part")
        self._digest = sha256()
        self._lines: list[bytes] = []
        self._gathered = 0
        self._descriptor: int | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the finished file in hexadecimal, as ``sha256sum`` prints it."""
        return self._digest.hexdigest()

    def write(self, line: bytes) -> None:
        """Add a line. Pass it without its line feed.

        Raises:
            StorageError: the file could not be written.
        """
        self._lines.append(line)
        self._gathered += len(line) + 1
        self.size += len(line) + 1
        if self._gathered >= _GATHERED:
            self._flush()

    def finish(self) -> None:
        """Make the lines durable, and rename the file. A file of that name is replaced.

        Raises:
            StorageError: the file could not be written.
        """
        self._flush()
        with self._explained():
            descriptor = self._open()
            os.fsync(descriptor)
            # Windows renames no open file.
            self._close()
            self._part.replace(self.path)
            sync_folder(self.path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def _flush(self) -> None:
        data = b"".join([each + b"\n" for each in self._lines])
        self._lines.clear()
        self._gathered = 0
        self._digest.update(data)
        with self._explained():
            descriptor = self._open()
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._part, _OPEN, 0o666)
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(self.path, error.strerror or str(error)) from error
