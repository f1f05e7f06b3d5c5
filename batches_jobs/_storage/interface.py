"""The interface of shared storage. All methods block, and can be called from any thread."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol


class Storage(Protocol):
    """Files by name, which never change once they are there. Only `replace` changes one.

    A name has parts with slashes between them, such as ``reviews/raw/000003.jsonl``. A file appears
    whole or not at all, and is durable when a method that stores it has returned. No method removes
    a file, and no worker of a job calls `replace`. So a process that was thought dead, and wakes
    up, cannot damage anything.

    A failure raises `StorageError`.
    """

    def put(self, name: str, path: Path) -> None:
        """Store a copy of a file, under a name that only this content can have.

        The name holds a digest of the content. If it is there already, nothing needs to be done.
        """
        ...

    def put_new(self, name: str, path: Path) -> bool:
        """Store a copy of a file, unless the name is there already; return whether it was stored.

        If several processes do this at the same time, one of them stores its file.
        """
        ...

    def replace(self, name: str, file: IO[bytes]) -> None:
        """Store what an open file has, from its beginning, under a fixed name.

        What was stored there before is replaced at once: a reader sees the old file or the new one.
        """
        ...

    def check_writable(self, name: str) -> None:
        """Check that a file can be stored under a name. No file appears, and none is replaced.

        Raises:
            StorageError: it cannot, for example because the credentials do not allow it.
        """
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Copy a stored file to a path of this machine. The file there appears whole.

        Raises:
            FileNotFoundError: nothing is stored under this name.
        """
        ...

    def has(self, name: str) -> bool:
        """Return whether something is stored under this name."""
        ...

    def open(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Open a stored file to read it, also from the middle.

        Raises:
            FileNotFoundError: nothing is stored under this name.
        """
        ...
