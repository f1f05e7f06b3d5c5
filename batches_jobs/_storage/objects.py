"""Shared storage in a bucket of objects: S3, GCS, Azure, or memory. Needs the extra ``storage``."""

from __future__ import annotations

import contextlib
import io
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from batches_jobs._errors import ObjectStoreError, StorageError

from .store_failures import failure_of

#: How much is fetched at once, in bytes.
_PIECE = 4 * 1024 * 1024
#: The bytes of a part of an upload, if there are at most `_PARTS`: no store takes more parts.
_PART, _PARTS = 5 * 1024 * 1024, 10_000
#: How many parts are sent at once. Each must be sent in 30 seconds, also on a slow line.
_AT_ONCE = 4
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
        self._errors = BaseError
        self._store = store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._store).__name__})"

    def put(self, name: str, path: Path) -> None:
        """See `Storage`."""
        if path.stat().st_size <= _LARGEST_PUT:
            self.put_new(name, path)
            return
        with self._explained(name, is_stored=True):
            self._obstore.put(self._store, name, path)

    def put_new(self, name: str, path: Path) -> bool:
        """See `Storage`."""
        with self._explained(name, is_stored=True):
            try:
                self._obstore.put(self._store, name, path, mode="create", use_multipart=False)
            except self._exists_error:
                return False
        return True

    def replace(self, name: str, file: IO[bytes]) -> None:
        """See `Storage`."""
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        part = max(_PART, -(-size // _PARTS))
        with self._explained(name, is_stored=True):
            self._obstore.put(self._store, name, file, chunk_size=part, max_concurrency=_AT_ONCE)

    def check_writable(self, name: str) -> None:
        """See `Storage`."""
        # An upload in parts is begun and given up. It needs only the permission to write, and
        # leaves nothing that anybody can see.
        with contextlib.suppress(_GivenUpError), self._explained(name, is_stored=True):
            self._obstore.put(
                self._store,
                name,
                _given_up(),
                use_multipart=True,
                chunk_size=1,
                max_concurrency=1,
            )

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
    def _explained(self, name: str, *, is_stored: bool = False) -> Iterator[None]:
        """Raise `ObjectStoreError` for errors of the store.

        `is_stored` is True if a file is stored: if something is not found then, it is the bucket.
        """
        try:
            yield
        except FileNotFoundError as error:
            if not is_stored or error.errno is not None:
                raise
            reason, _ = failure_of(str(error))
            raise ObjectStoreError(name, reason, passes=False) from None
        except self._errors as error:
            reason, passes = failure_of(str(error))
            # The text of the store's error can have parts of a credential.
            raise ObjectStoreError(name, reason, passes=passes) from None
        except OSError as error:
            raise StorageError(Path(name), error.strerror or str(error)) from error


class _GivenUpError(Exception):
    """Ends an upload that was only begun."""


def _given_up() -> Iterator[bytes]:
    yield b"?"
    yield b""  # asked for when the first part has arrived
    raise _GivenUpError


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
