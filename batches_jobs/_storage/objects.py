"""Shared storage in a bucket of objects: S3, GCS, Azure, or memory. Needs the extra ``storage``."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from batches_jobs._errors import StorageError

#: How much is fetched at once, in bytes.
_PIECE = 4 * 1024 * 1024
#: A file of more bytes than this is sent in parts, which no store can do on a condition.
_LARGEST_PUT = 512 * 1024 * 1024


class ObjectStorage:
    """A bucket of objects, or a prefix in one. `store` is one of obstore's.

    The store must know conditional puts, as S3, GCS, Azure and memory do.
    """

    def __init__(self, store: Any) -> None:
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import AlreadyExistsError, BaseError  # noqa: PLC0415 - likewise

        self._obstore = obstore
        self._exists_error = AlreadyExistsError
        self._errors = (BaseError, OSError)
        self._store = store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._store).__name__})"

    def put(self, name: str, path: Path) -> None:
        """See `Storage`."""
        if path.stat().st_size <= _LARGEST_PUT:
            self.put_new(name, path)
            return
        with self._explained(name):
            self._obstore.put(self._store, name, path)

    def put_new(self, name: str, path: Path) -> bool:
        """See `Storage`."""
        with self._explained(name):
            try:
                self._obstore.put(self._store, name, path, mode="create", use_multipart=False)
            except self._exists_error:
                return False
        return True

    def fetch(self, name: str, path: Path) -> None:
        """See `Storage`."""
        part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
        try:
            with self._explained(name):
                found = self._obstore.get(self._store, name)
                with part.open("wb") as file:
                    for piece in found.stream(min_chunk_size=_PIECE):
                        file.write(piece)
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """See `Storage`."""
        with self._explained(name):
            try:
                self._obstore.head(self._store, name)
            except FileNotFoundError:
                return False
        return True

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """See `Storage`."""
        with self._explained(name):
            reader = self._obstore.open_reader(self._store, name, buffer_size=_PIECE)
            with io.BufferedReader(_Raw(reader), _PIECE) as file:
                yield file

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self._errors as error:
            # The text of a store can name a URL, and never a credential.
            raise StorageError(Path(name), str(error).partition("\n")[0]) from error


class _Raw(io.RawIOBase):
    """A stored object as a raw file."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._reader.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position: int = self._reader.seek(offset, whence)
        return position

    def tell(self) -> int:
        position: int = self._reader.tell()
        return position
