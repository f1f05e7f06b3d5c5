"""Keep the records of a job in a SQLite file, the journal.

`batches_core.jobs` defines what records mean. `JobFolder.lock` ensures that only one process
writes.

The table ``record`` is the truth: records are only appended. The tables ``chunk`` and ``leftover``
are derived from the records in the same transaction, for people and programs that read the file.
``leftover`` has the failed rows that are in no chunk now: those that will be sent again, and those
that failed for good (``is_final``).

Other processes can read the file at any time. They see all records of a transaction or none::

    sqlite3 -readonly reviews.job/journal.db 'SELECT state, sum(rows) FROM chunk GROUP BY state'
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from batches_core import BatchesError, InvalidInputError, LocalProtocolError
from batches_core.jobs import (
    FORMAT,
    Chunk,
    ChunkPlanned,
    Collected,
    JobOpened,
    JobState,
    Record,
    decode_record,
    encode_record,
)

from ._errors import JobFolderError, JournalError, StorageError
from ._folder import sync_folder

#: The format of the file, in its table ``meta``. A newer one is refused.
JOURNAL_FORMAT = 1
#: Marks the file as a job's journal, in its header at byte 68: ``BJob``.
APPLICATION_ID = 0x424A6F62
#: Seconds to wait for another program that is writing to the file, such as a database browser.
_BUSY_TIMEOUT = 10.0
#: The size of a salt and of the hash that it goes into, in bytes.
_SALT = 16

_SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE record(
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, chunk INTEGER, data TEXT NOT NULL
);
CREATE TRIGGER record_is_not_changed BEFORE UPDATE ON record
    BEGIN SELECT RAISE(ABORT, 'records are never changed'); END;
CREATE TRIGGER record_is_not_deleted BEFORE DELETE ON record
    BEGIN SELECT RAISE(ABORT, 'records are never deleted'); END;
CREATE TABLE chunk(
    chunk INTEGER PRIMARY KEY, state TEXT NOT NULL, round INTEGER NOT NULL, first_row INTEGER,
    rows INTEGER NOT NULL, content_length INTEGER NOT NULL, batch_id TEXT, adopted INTEGER NOT NULL,
    created_at TEXT, expires_at TEXT, succeeded INTEGER NOT NULL, errored INTEGER NOT NULL,
    canceled INTEGER NOT NULL, expired INTEGER NOT NULL, answered INTEGER NOT NULL,
    retried INTEGER NOT NULL, failed INTEGER NOT NULL, reason TEXT, needs_person INTEGER NOT NULL
);
CREATE TABLE leftover(
    row INTEGER PRIMARY KEY, is_final INTEGER NOT NULL, round INTEGER, outcome TEXT NOT NULL,
    type TEXT, message TEXT
);
"""
_ADD_RECORD = "INSERT INTO record(at, kind, chunk, data) VALUES (?, ?, ?, ?)"
_PUT_CHUNK = (
    "INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PUT_LEFTOVER = "INSERT INTO leftover VALUES (?, ?, ?, ?, ?, ?)"


def new_salt() -> bytes:
    """Return a random salt for `hash_key`."""
    return os.urandom(_SALT)


def hash_key(salt: bytes, *, base_url: str, credential: str, workspace: str) -> str:
    """Hash the destination of a job, for `JobOpened.key`.

    With the same salt, two hashes are equal only if all parts are equal. The hash does not reveal
    the credential.
    """
    parts = json.dumps([base_url, credential, workspace]).encode()
    return blake2b(parts, key=salt, digest_size=_SALT, person=b"job-key").hexdigest()


class Journal:
    """The journal of one job.

    Get one from `create`, `open` or `open_read_only`. Its methods can be called from any thread.
    `salt` is the salt for `hash_key`.
    """

    def __init__(self, path: Path, database: sqlite3.Connection, *, is_read_only: bool) -> None:
        self.path = path
        self._database = database
        self._is_read_only = is_read_only
        self._turn = threading.Lock()
        #: The state after the last record of the file; None until the records are read.
        self._state: JobState | None = None
        #: Why nothing can be appended any more.
        self._end: BatchesError | None = None
        self._is_closed = False
        self.salt = self._check()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {str(self.path)!r}>"

    @classmethod
    def create(cls, path: str | os.PathLike[str], opened: JobOpened, *, salt: bytes) -> Self:
        """Create a journal with its first record. Both are durable on return.

        After a crash the journal is complete, or there is none at this path.

        Raises:
            JournalError: a file exists at this path.
            JobFolderError: the file system does not support a write-ahead log.
            StorageError: the journal could not be written.
        """
        path = Path(path)
        if os.path.lexists(path):
            raise JournalError(f"{path} exists: open it, or begin the job in another folder")
        draft = path.with_name(path.name + ".new")
        try:
            _remove_database(draft)
            with contextlib.closing(_connect(draft, "rwc")) as database:
                # The write-ahead log is turned on last. So everything is in the renamed file.
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA fullfsync = ON")
                database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                database.executescript(f"BEGIN; {_SCHEMA}")
                meta = {"format": JOURNAL_FORMAT, "salt": salt}
                database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                _insert(database, [opened])
                database.execute("COMMIT")
                _configure(database, draft)
            draft.rename(path)
            sync_folder(path.parent)
        except (OSError, sqlite3.Error) as error:
            raise _explain(path, error) from error
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal to read it and append to it.

        Raises:
            JournalError: the journal is missing, damaged, of a newer format, or not a job's.
            JobFolderError: the file system does not support a write-ahead log.
            StorageError: the file could not be opened for writing.
        """
        return cls._opened(Path(path), "rw")

    @classmethod
    def open_read_only(cls, path: str | os.PathLike[str]) -> Self:
        """Open a journal only to read it. Another process may write it at the same time.

        Raises:
            JournalError: the journal is missing, damaged, of a newer format, or not a job's.
        """
        path = Path(path)
        try:
            return cls._opened(path, "ro")
        except BatchesError as error:
            # To read a journal, SQLite creates small files beside it. It can do without them if
            # the write-ahead log is empty, as it is after a run has ended.
            if not _is_unopened(error.__cause__) or not path.exists() or _is_unfinished(path):
                raise
        return cls._opened(path, "ro&immutable=1")

    @classmethod
    def _opened(cls, path: Path, mode: str) -> Self:
        is_read_only = mode != "rw"
        # After a crash the file may end within a page, which the log then has.
        is_whole = not is_read_only and not _is_unfinished(path)
        try:
            database = _connect(path, mode)
            try:
                journal = cls(path, database, is_read_only=is_read_only)
                if is_whole:
                    journal._check_whole()
                if not is_read_only:
                    _configure(database, path)
            except BaseException:
                database.close()
                raise
        except sqlite3.Error as error:
            if not path.exists():
                raise JournalError(
                    f"{path} does not exist: check the path of the job's folder"
                ) from error
            raise _explain(path, error) from error
        return journal

    def load(self) -> list[Record]:
        """Return all records, in their order.

        Raises:
            JournalError: a record is damaged, missing or of a newer format.
        """
        with self._turn:
            return self._load()

    def times(self) -> list[datetime]:
        """Return when each record was appended, in their order, by the clock of this machine.

        Raises:
            JournalError: a time is damaged, or the journal is closed.
        """
        with self._turn:
            if self._is_closed:
                raise JournalError(f"{self.path} is closed: open it again")
            try:
                rows = self._database.execute("SELECT at FROM record ORDER BY seq").fetchall()
                return [datetime.fromisoformat(at) for (at,) in rows]
            except sqlite3.Error as error:
                raise _explain(self.path, error) from error
            except (TypeError, ValueError) as error:
                raise _damaged(self.path, f"a record's time: {error}") from error

    def append(self, records: Sequence[Record]) -> None:
        """Append records in one transaction. They are durable on return.

        After a `StorageError` it is unknown whether the records are in the file, so nothing more
        can be appended. Open the journal again to find out.

        Raises:
            StorageError: the records could not be written.
            JournalError: the journal is damaged, closed, or open only to be read; or another
                program has locked it.
            LocalProtocolError: a record cannot follow the records before it. Nothing was written.
        """
        with self._turn:
            self._check_appendable()
            if self._state is None:
                self._load()
            if not records:
                return
            state = self._state
            assert state is not None, "it was loaded"  # noqa: S101
            records = [_storable(record) for record in records]
            try:
                state.apply_all(records)
                self._write(records, state)
            except LocalProtocolError:
                self._state = None  # it may contain some of the records, and the file has none
                raise
            except sqlite3.Error as error:
                self._end = _explain(self.path, error)
                raise self._end from error
            except BaseException:
                self._end = JournalError(
                    f"{self.path} cannot be continued after an interruption: run the job again"
                )
                raise

    def close(self) -> None:
        """Close the file. All appended records are durable already."""
        with self._turn:
            self._is_closed = True
            with contextlib.suppress(sqlite3.Error):
                self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self) -> bytes:
        """Check that this version can read the file, and return its salt."""
        if self._value("PRAGMA application_id") != APPLICATION_ID:
            raise JournalError(
                f"{self.path} is not the journal of a job: choose the folder of a job, or a new one"
            )
        format_ = self._value("SELECT value FROM meta WHERE name = 'format'")
        if isinstance(format_, int) and format_ > JOURNAL_FORMAT:
            raise _newer(self.path, format_, JOURNAL_FORMAT)
        salt = self._value("SELECT value FROM meta WHERE name = 'salt'")
        if format_ != JOURNAL_FORMAT or not isinstance(salt, bytes):
            raise _damaged(self.path, f"its format is {format_!r}")
        return salt

    def _check_whole(self) -> None:
        # SQLite would read what is missing of the last page as zeros.
        if self.path.stat().st_size % self._value("PRAGMA page_size"):
            raise _damaged(self.path, "it is cut off")

    def _value(self, query: str) -> Any:
        row = self._database.execute(query).fetchone()
        return None if row is None else row[0]

    def _load(self) -> list[Record]:
        if self._is_closed:
            raise JournalError(f"{self.path} is closed: open it again")
        records: list[Record] = []
        state = JobState()
        try:
            # One statement reads one state of the file, whatever another process writes.
            rows = self._database.execute("SELECT seq, data FROM record ORDER BY seq")
            for seq, data in rows:
                if seq != len(records) + 1:
                    raise _damaged(self.path, f"record {len(records) + 1} is missing")
                record = self._decode(seq, data)
                state.apply(record)
                records.append(record)
        except sqlite3.Error as error:
            raise _explain(self.path, error) from error
        except LocalProtocolError as error:
            raise _damaged(self.path, f"record {len(records) + 1}: {error}") from error
        if not records:
            raise _damaged(self.path, "it has no records")
        self._state = state
        return records

    def _decode(self, seq: int, data: Any) -> Record:
        try:
            record = decode_record(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, InvalidInputError) as error:
            raise _damaged(self.path, f"record {seq}: {error}") from error
        if isinstance(record, JobOpened) and record.format > FORMAT:
            raise _newer(self.path, record.format, FORMAT)
        return record

    def _check_appendable(self) -> None:
        if self._end is not None:
            raise self._end
        if self._is_closed:
            raise JournalError(f"{self.path} is closed: open it again")
        if self._is_read_only:
            raise JournalError(f"{self.path} was opened only to be read: open the job to change it")

    def _write(self, records: Sequence[Record], state: JobState) -> None:
        database = self._database
        database.execute("BEGIN IMMEDIATE")
        try:
            _insert(database, records)
            chunks = sorted(set(_chunks_of(records)))
            database.executemany(
                _PUT_CHUNK, (_chunk_values(state.chunks[number]) for number in chunks)
            )
            rows = sorted(set(_rows_of(records)))
            database.executemany("DELETE FROM leftover WHERE row = ?", ((row,) for row in rows))
            database.executemany(_PUT_LEFTOVER, _leftover_values(state, rows))
            database.execute("COMMIT")
        except BaseException:
            # After some errors SQLite has rolled back already.
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )


def _configure(database: sqlite3.Connection, path: Path) -> None:
    """Make every commit durable, and let other processes read at the same time."""
    mode = database.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise JobFolderError(
            f"{path.parent} is on a file system without a write-ahead log for SQLite: use a folder "
            "on a local disk"
        )
    database.execute("PRAGMA synchronous = FULL")
    # Only with these does macOS write to the disk itself. Other systems ignore them.
    database.execute("PRAGMA fullfsync = ON")
    database.execute("PRAGMA checkpoint_fullfsync = ON")


def _insert(database: sqlite3.Connection, records: Sequence[Record]) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    database.executemany(
        _ADD_RECORD,
        (
            (
                at,
                type(record).__struct_config__.tag,
                getattr(record, "chunk", None),
                encode_record(record).decode(),
            )
            for record in records
        ),
    )


def _storable(record: Record) -> Record:
    """Return a record that can be encoded. A message can contain a file name that is not UTF-8."""
    try:
        encode_record(record)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(record), ensure_ascii=False)
        return decode_record(text.encode(errors="replace"))
    return record


def _chunks_of(records: Iterable[Record]) -> Iterator[int]:
    for record in records:
        chunk: int | None = getattr(record, "chunk", None)
        if chunk is not None:
            yield chunk


def _rows_of(records: Iterable[Record]) -> Iterator[int]:
    """Return the rows whose leftover can change."""
    for record in records:
        if isinstance(record, ChunkPlanned):
            yield from record.rows
        elif isinstance(record, Collected):
            yield from (each.row for each in (*record.retried, *record.failed))


def _chunk_values(chunk: Chunk) -> tuple[object, ...]:
    counts = chunk.counts
    return (
        chunk.number,
        chunk.state.value,
        chunk.plan.round,
        None if chunk.plan.rows else chunk.plan.first_row,
        chunk.count,
        chunk.plan.content_length,
        chunk.batch_id or None,
        chunk.adopted,
        chunk.created_at and chunk.created_at.isoformat(),
        chunk.expires_at and chunk.expires_at.isoformat(),
        counts.succeeded,
        counts.errored,
        counts.canceled,
        counts.expired,
        chunk.answered,
        chunk.retried,
        chunk.failed,
        chunk.reason or None,
        chunk.needs_person,
    )


def _leftover_values(state: JobState, rows: Iterable[int]) -> Iterator[tuple[object, ...]]:
    """Return the values of the rows that failed and are in no chunk now."""
    for row in rows:
        round_: int | None = None
        if (waiting := state.waiting.get(row)) is not None:
            failed, round_ = waiting.row, waiting.round
        elif row in state.failed:
            failed = state.failed[row]
        else:
            continue  # it was sent again, in a new chunk
        is_final = round_ is None
        yield row, is_final, round_, failed.outcome, failed.type or None, failed.message


def _explain(path: Path, error: OSError | sqlite3.Error) -> BatchesError:
    """Return the error that explains a failure of SQLite or of the file system."""
    if isinstance(error, OSError):
        return StorageError(path, error.strerror or str(error))
    # The low byte is the primary code.
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF:
        case sqlite3.SQLITE_BUSY:
            return JournalError(
                f"{path} is locked by another program, such as a database browser: close that, "
                "then run the job again"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_ERROR:
            return _damaged(path, str(error))
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY if _is_read_only(path):
            problem = f"cannot be opened here ({error}): its folder is read-only"
            remedy = "copy the whole folder to where you can write, and use the copy"
        case sqlite3.SQLITE_READONLY:
            problem = f"was left in the middle of a change ({error})"
            remedy = "run the job again"
        case _:
            return StorageError(path, str(error))
    return JournalError(f"{path} {problem}; {remedy}")


def _is_read_only(path: Path) -> bool:
    return any(each.exists() and not os.access(each, os.W_OK) for each in (path, path.parent))


def _is_unopened(error: BaseException | None) -> bool:
    """Return whether SQLite could not open the file or the small files beside it."""
    kinds = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in kinds


def _is_unfinished(path: Path) -> bool:
    """Return whether the files beside this one contain an unfinished change of it."""
    return any(
        name.exists() and name.stat().st_size > 0
        for name in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-journal"))
    )


def _damaged(path: Path, reason: str) -> JournalError:
    return JournalError(
        f"{path} is damaged or is not the journal of a job ({reason}): restore the folder from a "
        "backup; its batches are still in the service's list"
    )


def _newer(path: Path, format_: int, known: int) -> JournalError:
    return JournalError(
        f"{path} has the format {format_}, and this version reads formats up to {known}: upgrade "
        "batches-core"
    )


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
