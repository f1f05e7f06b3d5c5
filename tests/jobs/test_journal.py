"""The journal of a job: what is durable, what others can read, and what is refused."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_core import CreateMarker, LocalProtocolError
from batches_core.jobs import (
    ChunkPlanned,
    Collected,
    Counts,
    CreateIntended,
    Doubted,
    Ended,
    FailedRow,
    JobOpened,
    JobOptions,
    JobState,
    Lost,
    Paused,
    Record,
    Refused,
    Submitted,
    Usage,
    job_status,
)
from batches_jobs import _journal
from batches_jobs._errors import JobFolderError, JournalError, StorageError
from batches_jobs._journal import APPLICATION_ID, Journal, hash_key, new_salt

from .store_support import names, python, read_only

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OPENED = JobOpened(job_id="job_1", options=JobOptions(), source='{"kind":"jsonl"}', key="k")
MARKER = CreateMarker(
    requests=3,
    serial=1,
    base_url="https://api.example",
    workspace_id=None,
    organization_id=None,
    scope="",
    listed_ids=("msgbatch_0",),
    newest_created_at=NOW,
    oldest_created_at=NOW,
    read_at=NOW,
)


def planned(chunk: int, rows: int = 3) -> ChunkPlanned:
    return ChunkPlanned(chunk=chunk, count=rows, first_row=chunk * rows, end=9, content_length=99)


def submitted(chunk: int) -> Submitted:
    return Submitted(chunk=chunk, batch_id=f"b{chunk}", created_at=NOW, expires_at=NOW)


def life(chunk: int) -> list[Record]:
    return [
        planned(chunk),
        CreateIntended(chunk=chunk, marker=MARKER),
        submitted(chunk),
        Ended(chunk=chunk, counts=Counts(succeeded=1, errored=2)),
    ]


def failed(row: int, message: str = "no") -> FailedRow:
    return FailedRow(row=row, outcome="errored", type="api_error", message=message)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Any:
    with Journal.create(path, OPENED, salt=new_salt()) as journal:
        yield journal


def read(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Read a journal as any program can."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
        return database.execute(query).fetchall()


def edit(path: Path, statement: str) -> None:
    """Change a journal as no program should."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("DROP TRIGGER IF EXISTS record_is_not_changed")
        database.execute("DROP TRIGGER IF EXISTS record_is_not_deleted")
        database.executescript(statement)


# --- records -----------------------------------------------------------------------------


def test_a_journal_begins_with_its_first_record(path: Path) -> None:
    salt = new_salt()
    with Journal.create(path, OPENED, salt=salt) as journal:
        assert journal.load() == [OPENED]
        assert journal.salt == salt
        assert repr(journal) == f"<Journal {str(path)!r}>"
    assert names(path.parent) == ["journal.db"]


def test_records_are_read_back_in_their_order(path: Path, journal: Journal) -> None:
    more = [*life(0), Paused(reason="credit", message="é"), *life(1)]
    journal.append(more[:3])
    journal.append([])
    journal.append(more[3:])
    assert journal.load() == [OPENED, *more]
    journal.close()
    with Journal.open(path) as again:
        assert again.load() == [OPENED, *more]
    with Journal.open_read_only(path) as again:
        assert again.load() == [OPENED, *more]


def test_a_message_that_is_not_text_is_kept_as_far_as_it_is(journal: Journal) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    journal.append([planned(0), Paused(reason="input", message=f"“{name}” is missing")])
    assert journal.load()[1:] == [
        planned(0),
        Paused(reason="input", message="“caf?.jsonl” is missing"),
    ]
    journal.append([*life(0)[1:3], Lost(chunk=0, reason=name)])


def test_appending_needs_no_reading_first(path: Path, journal: Journal) -> None:
    journal.append(life(0)[:2])
    journal.close()
    with Journal.open(path) as again:
        again.append(life(0)[2:])
        assert again.load() == [OPENED, *life(0)]


def test_every_commit_is_synchronised_with_the_disk(journal: Journal) -> None:
    database = journal._database
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_what_was_appended_survives_a_kill(path: Path) -> None:
    code = """
        import os, signal, sys
        from batches_core.jobs import Paused, JobOpened, JobOptions
        from batches_jobs._journal import Journal
        opened = JobOpened(job_id="j", options=JobOptions())
        journal = Journal.create(sys.argv[1], opened, salt=b"0" * 16)
        for number in range(20):
            journal.append([Paused(reason="credit", message=str(number))])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with python(code, str(path)) as process:
        out, _ = process.communicate()
        assert (out, process.returncode) == ("", -signal.SIGKILL)
    for opening in (Journal.open_read_only, Journal.open, Journal.open_read_only):
        with opening(path) as journal:
            records = journal.load()
        assert [each.message for each in records[1:] if isinstance(each, Paused)] == [
            str(number) for number in range(20)
        ]


def test_records_are_never_changed_nor_deleted(path: Path, journal: Journal) -> None:
    journal.append(life(0))
    for statement in ("UPDATE record SET data = ''", "DELETE FROM record"):
        with (
            contextlib.closing(sqlite3.connect(path)) as database,
            pytest.raises(sqlite3.IntegrityError, match="records are never"),
        ):
            database.execute(statement)
    assert journal.load() == [OPENED, *life(0)]


def test_an_illegal_record_is_not_written(journal: Journal) -> None:
    journal.append([planned(0)])
    with pytest.raises(LocalProtocolError):
        journal.append([CreateIntended(chunk=0, marker=None), Ended(chunk=0, counts=Counts())])
    assert journal.load() == [OPENED, planned(0)]
    journal.append(life(0)[1:])
    assert journal.load() == [OPENED, *life(0)]


def test_a_journal_can_be_used_from_several_threads(journal: Journal) -> None:
    def append() -> None:
        for _ in range(20):
            journal.append([Paused(reason="credit", message="m")])
            journal.load()

    threads = [threading.Thread(target=append) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(journal.load()) == 81


def test_sixty_thousand_records_are_read_in_seconds(path: Path, journal: Journal) -> None:
    for first in range(0, 15_000, 5000):
        journal.append([each for chunk in range(first, first + 5000) for each in life(chunk)])
    journal.close()
    begun = time.process_time()
    with Journal.open(path) as again:
        assert len(again.load()) == 60_001
    assert time.process_time() - begun < 5  # 0.4 s on one quiet core


def test_a_closed_journal_is_not_used(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed: open it again"):
        journal.load()
    with pytest.raises(JournalError, match="is closed: open it again"):
        journal.append([planned(0)])


# --- what others read --------------------------------------------------------------------


def test_each_record_has_its_time_kind_and_chunk(path: Path, journal: Journal) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    journal.append([*life(0)[:2], Paused(reason="credit", message="m")])
    rows = read(path, "SELECT seq, kind, chunk FROM record")
    assert rows == [
        (1, "opened", None),
        (2, "planned", 0),
        (3, "intended", 0),
        (4, "paused", None),
    ]
    (at,) = read(path, "SELECT at FROM record WHERE seq = 2")[0]
    assert before <= datetime.fromisoformat(at) <= datetime.now(UTC)
    assert read(path, "SELECT data ->> '$.reason' FROM record WHERE seq = 4") == [("credit",)]


def test_the_times_of_all_records_can_be_read(path: Path, journal: Journal) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    journal.append(life(0))
    times = journal.times()
    assert len(times) == len(journal.load())
    assert before <= times[1] <= times[-1] <= datetime.now(UTC)
    with Journal.open_read_only(path) as reader:
        assert reader.times() == times
    with pytest.raises(JournalError, match="is closed"):
        reader.times()


def test_a_damaged_time_is_refused(path: Path, journal: Journal) -> None:
    journal.close()
    edit(path, "UPDATE record SET at = 'noon'")
    with (
        Journal.open(path) as again,
        pytest.raises(JournalError, match=r"damaged.*a record's time"),
    ):
        again.times()


def test_the_chunks_can_be_read_from_their_table(path: Path, journal: Journal) -> None:
    journal.append(life(0))
    journal.append([planned(1), CreateIntended(chunk=1, marker=None)])
    journal.append([Doubted(chunk=1, reason="lost", needs_person=True)])
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute("SELECT * FROM chunk ORDER BY chunk")]
    assert rows[0] == {
        "chunk": 0,
        "state": "ended",
        "round": 0,
        "first_row": 0,
        "rows": 3,
        "content_length": 99,
        "batch_id": "b0",
        "adopted": 0,
        "created_at": "2026-01-02T03:04:05+00:00",
        "expires_at": "2026-01-02T03:04:05+00:00",
        "succeeded": 1,
        "errored": 2,
        "canceled": 0,
        "expired": 0,
        "answered": 0,
        "retried": 0,
        "failed": 0,
        "reason": None,
        "needs_person": 0,
    }
    wanted = ("in doubt", 3, "lost", 1, None)
    assert wanted == tuple(
        rows[1][name] for name in ("state", "first_row", "reason", "needs_person", "batch_id")
    )


def test_rows_that_failed_can_be_read_from_their_table(path: Path, journal: Journal) -> None:
    def leftovers() -> list[tuple[Any, ...]]:
        return read(path, "SELECT row, is_final, round, outcome, type, message FROM leftover")

    journal.append(life(0))
    final = FailedRow(row=2, outcome="expired")
    journal.append([Collected(chunk=0, answered=1, retried=(failed(0),), failed=(final,))])
    assert leftovers() == [
        (0, 0, 1, "errored", "api_error", "no"),
        (2, 1, None, "expired", None, ""),
    ]
    journal.append([ChunkPlanned(chunk=1, count=1, rows=(0,), round=1)])
    assert leftovers() == [(2, 1, None, "expired", None, "")]
    assert read(path, "SELECT first_row, round FROM chunk WHERE chunk = 1") == [(None, 1)]
    journal.append([CreateIntended(chunk=1, marker=None), submitted(1)])
    journal.append([Ended(chunk=1, counts=Counts(errored=1))])
    journal.append([Collected(chunk=1, answered=0, failed=(failed(0, "again"),))])
    assert leftovers() == [
        (0, 1, None, "errored", "api_error", "again"),
        (2, 1, None, "expired", None, ""),
    ]


@st.composite
def histories(draw: st.DrawFn) -> list[list[Record]]:
    """Draw legal records of a few chunks, cut into transactions."""
    state = JobState()
    records: list[Record] = [OPENED]
    state.apply(OPENED)

    def emit(record: Record) -> None:
        state.apply(record)
        records.append(record)

    def is_true() -> bool:
        return draw(st.booleans())

    for _ in range(draw(st.integers(0, 12))):
        if not state.chunks or is_true():
            number = len(state.chunks)
            if (rows := tuple(state.waiting)) and is_true():
                emit(ChunkPlanned(chunk=number, count=len(rows), rows=rows, round=1))
            else:
                emit(ChunkPlanned(chunk=number, count=3, first_row=state.planned_rows))
        chunk = state.chunks[draw(st.integers(0, len(state.chunks) - 1))]
        number = chunk.number
        if chunk.plan.rows:
            rows = chunk.plan.rows
        else:
            rows = tuple(range(chunk.plan.first_row, chunk.plan.first_row + chunk.count))
        kinds = draw(st.lists(st.sampled_from(["retried", "failed", "answered"]), min_size=3))
        retried, lost = (
            tuple(failed(row) for row, own in zip(rows, kinds, strict=False) if own == kind)
            for kind in ("retried", "failed")
        )
        left = chunk.count - len(retried) - len(lost)
        following: dict[str, list[Record]] = {
            "planned": [CreateIntended(chunk=number, marker=None)],
            "being created": [submitted(number), Refused(chunk=number, reason="full")],
            "in flight": [Ended(chunk=number, counts=Counts(succeeded=chunk.count))],
            "ended": [
                Collected(chunk=number, answered=left, retried=retried, failed=lost),
                Lost(chunk=number, reason="gone"),
            ],
        }
        if choices := following.get(chunk.state.value):
            emit(draw(st.sampled_from(choices)))
    groups: list[list[Record]] = []
    while records:
        size = draw(st.integers(1, 5)) if groups else 1
        groups.append(records[:size])
        del records[:size]
    return groups


@settings(max_examples=60)
@given(histories())
def test_the_tables_always_say_what_the_records_say(groups: list[list[Record]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal.db")
        state = JobState()
        state.apply_all(groups[0])
        with Journal.create(path, OPENED, salt=new_salt()) as journal:
            for records in groups[1:]:
                journal.append(records)
                state.apply_all(records)
                chunks = read(path, "SELECT chunk, state, rows, answered FROM chunk")
                assert chunks == [
                    (each.number, each.state.value, each.count, each.answered)
                    for each in state.chunks
                ]
                waiting = read(path, "SELECT row FROM leftover WHERE NOT is_final")
                final = read(path, "SELECT row FROM leftover WHERE is_final")
                assert waiting == [(row,) for row in sorted(state.waiting)]
                assert final == [(row,) for row in sorted(state.failed)]


def test_a_reader_sees_whole_transactions_while_another_process_writes(path: Path) -> None:
    code = """
        import sys
        from batches_core.jobs import *
        from batches_jobs._journal import Journal
        opened = JobOpened(job_id="j", options=JobOptions())
        journal = Journal.create(sys.argv[1], opened, salt=b"0" * 16)
        print("begun", flush=True)
        for chunk in range(300):
            plan = ChunkPlanned(chunk=chunk, count=3, first_row=3 * chunk)
            journal.append([plan, CreateIntended(chunk=chunk, marker=None)])
        print("done", flush=True)
        sys.stdin.readline()
    """
    with python(code, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        lengths: list[int] = []
        with Journal.open_read_only(path) as journal:
            while not lengths or lengths[-1] < 601:
                records = journal.load()
                state = JobState()
                state.apply_all(records)
                status = job_status(state)
                assert status.planned == status.in_flight
                assert len(records) % 2 == 1
                ((chunks,),) = read(path, "SELECT count(*) FROM chunk")
                assert chunks >= len(state.chunks)
                lengths.append(len(records))
            with pytest.raises(JournalError, match="only to be read"):
                journal.append([planned(300)])
        assert lengths == sorted(lengths)
        assert len(set(lengths)) > 3
        process.communicate("\n")


def test_an_open_reader_does_not_hold_the_writer_up(path: Path, journal: Journal) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN")
        assert database.execute("SELECT count(*) FROM record").fetchone() == (1,)
        journal.append(life(0))
        assert database.execute("SELECT count(*) FROM record").fetchone() == (1,)
        database.execute("COMMIT")
        assert database.execute("SELECT count(*) FROM record").fetchone() == (5,)


# --- what is refused ---------------------------------------------------------------------

OPENINGS = pytest.mark.parametrize("opening", [Journal.open, Journal.open_read_only])
Opening = Callable[[Path], Journal]


@OPENINGS
def test_a_missing_journal_is_refused_and_not_made(path: Path, opening: Opening) -> None:
    for each in (path, path / "inner" / "journal.db"):
        with pytest.raises(JournalError, match="does not exist: check the path"):
            opening(each)
    assert names(path.parent) == []


@OPENINGS
@pytest.mark.parametrize(
    "content",
    [b"", b"id,prompt\n" * 1000, b"SQLite format 3\0" + bytes(4000), os.urandom(5000)],
    ids=["empty", "text", "header", "noise"],
)
def test_a_file_of_another_kind_is_refused(path: Path, opening: Opening, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(JournalError, match="not the journal of a job"):
        opening(path)
    assert path.read_bytes() == content


@OPENINGS
def test_the_database_of_another_program_is_refused(path: Path, opening: Opening) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE record(seq)")
    content = path.read_bytes()
    with pytest.raises(JournalError, match="not the journal of a job: choose the folder of a job"):
        opening(path)
    assert path.read_bytes() == content


@OPENINGS
def test_a_newer_format_is_refused(path: Path, journal: Journal, opening: Opening) -> None:
    journal.close()
    edit(path, "UPDATE meta SET value = 2 WHERE name = 'format'; DELETE FROM meta WHERE value <> 2")
    with pytest.raises(JournalError, match=r"has the format 2, .* up to 1: upgrade batches-core"):
        opening(path)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = 0 WHERE name = 'format'",
        "UPDATE meta SET value = 'new' WHERE name = 'format'",
        "DELETE FROM meta WHERE name = 'format'",
        "DELETE FROM meta WHERE name = 'salt'",
        "DROP TABLE meta",
    ],
)
def test_an_unknown_format_is_refused(path: Path, journal: Journal, change: str) -> None:
    journal.close()
    edit(path, change)
    with pytest.raises(JournalError, match="is damaged"):
        Journal.open(path)


def test_records_of_a_newer_format_are_refused(path: Path, journal: Journal) -> None:
    journal.close()
    edit(path, "UPDATE record SET data = json_set(data, '$.format', 7)")
    with (
        Journal.open(path) as again,
        pytest.raises(JournalError, match=r"has the format 7.*upgrade"),
    ):
        again.load()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("DELETE FROM record WHERE seq = 3", "record 3 is missing"),
        ("DELETE FROM record WHERE seq = 1", "record 1 is missing"),
        ("DELETE FROM record", "it has no records"),
        ("UPDATE record SET data = '{' WHERE seq = 4", "record 4: Input data was truncated"),
        ("UPDATE record SET data = 5 WHERE seq = 4", "record 4: "),
        ("UPDATE record SET data = x'ff' WHERE seq = 4", "record 4: "),
        (
            'UPDATE record SET data = \'{"kind":"finished"}\' WHERE seq = 4',
            "record 4: Finished does not fit",
        ),
        ('UPDATE record SET data = \'{"kind":"new"}\' WHERE seq = 4', "record 4: Invalid value"),
    ],
)
def test_damaged_records_are_refused(
    path: Path, journal: Journal, change: str, reason: str
) -> None:
    journal.append(life(0))
    journal.close()
    edit(path, change)
    with Journal.open(path) as again:
        for use in (again.load, lambda: again.append(life(1))):
            with pytest.raises(JournalError, match=f"damaged.*{reason}.*restore") as caught:
                use()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own


@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1])
def test_a_torn_file_is_refused_or_whole(path: Path, journal: Journal, share: float) -> None:
    for chunk in range(50):
        journal.append(life(chunk))
    journal.close()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(JournalError, match="is damaged"), Journal.open(path) as again:
        again.load()
    path.write_bytes(content)
    with Journal.open(path) as again:
        assert len(again.load()) == 201


@pytest.mark.parametrize("share", [0.99, 0.7, 0.3, 0.0])
def test_a_log_that_a_crash_tore_costs_only_what_was_not_durable(
    path: Path, journal: Journal, share: float
) -> None:
    for chunk in range(20):
        journal.append(life(chunk))
    log = path.with_name("journal.db-wal")
    copy = path.parent / "copy"
    copy.mkdir()
    content = log.read_bytes()
    (copy / path.name).write_bytes(path.read_bytes())
    (copy / log.name).write_bytes(content[: int(len(content) * share)])
    with Journal.open(copy / path.name) as torn:
        records = torn.load()
        assert records == journal.load()[: len(records)]
        assert len(records) % 4 == 1
        torn.append(life((len(records) - 1) // 4))


def test_a_journal_that_was_left_in_a_change_is_not_read_but_recovered(
    path: Path, journal: Journal
) -> None:
    journal.append(life(0))
    journal.close()
    copy = path.parent / "copy"
    copy.mkdir()
    # As another program leaves it that is killed while it writes without a write-ahead log.
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = DELETE")
        other.execute("PRAGMA cache_size = 1")
        other.execute("BEGIN IMMEDIATE")
        for number in range(200):
            other.execute("INSERT INTO meta VALUES (?, ?)", (f"name {number}", "x" * 3000))
        for name in names(path.parent):
            if name != "copy":
                (copy / name).write_bytes((path.parent / name).read_bytes())
        other.execute("ROLLBACK")
    assert names(copy) == ["journal.db", "journal.db-journal"]
    with pytest.raises(JournalError, match=r"in the middle of a change .*; run the job again"):
        Journal.open_read_only(copy / path.name)
    with Journal.open(copy / path.name) as recovered:
        assert recovered.load() == [OPENED, *life(0)]
    with Journal.open_read_only(copy / path.name) as recovered:
        assert recovered.load() == [OPENED, *life(0)]


def test_a_new_journal_is_complete_before_it_has_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def rename_complete(draft: Path, target: Path) -> Path:
        assert names(path.parent) == ["journal.db.new"]
        with contextlib.closing(sqlite3.connect(draft)) as database:
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert database.execute("SELECT count(*) FROM record").fetchone() == (1,)
        return rename(draft, target)

    monkeypatch.setattr(Path, "rename", rename_complete)
    Journal.create(path, OPENED, salt=new_salt()).close()


def test_a_journal_is_not_begun_twice(path: Path, journal: Journal) -> None:
    journal.append(life(0))
    with pytest.raises(JournalError, match="exists: open it"):
        Journal.create(path, OPENED, salt=new_salt())
    assert journal.load() == [OPENED, *life(0)]


def test_a_journal_that_another_program_locks_is_refused_and_goes_on_later(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.close()
    monkeypatch.setattr(_journal, "_BUSY_TIMEOUT", 0.05)
    with (
        Journal.open(path) as locked,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="locked by another program, such as"):
            locked.append(life(0))
    with Journal.open(path) as unlocked:
        unlocked.append(life(0))


def test_a_file_system_without_a_write_ahead_log_is_refused(
    path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.close()
    edit(path, "PRAGMA journal_mode = DELETE")
    connect = _journal._connect
    # A database in memory has no such log either.
    monkeypatch.setattr(_journal, "_connect", lambda path, mode: _in_memory(connect(path, mode)))
    with pytest.raises(JobFolderError, match=r"without a write-ahead log.*local disk"):
        Journal.open(path)


def _in_memory(file: sqlite3.Connection) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(file):
        file.backup(memory)
    return memory


@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_journal_in_a_read_only_folder_can_be_read_if_nothing_is_in_its_log(
    tmp_path: Path, end: str
) -> None:
    folder = tmp_path / "old.job"
    folder.mkdir()
    journal = Journal.create(folder / "journal.db", OPENED, salt=new_salt())
    journal.append(life(0))
    if end == "closed":
        journal.close()
    else:
        copy = tmp_path / "killed.job"
        copy.mkdir()
        for name in ("journal.db", "journal.db-wal"):
            (copy / name).write_bytes((folder / name).read_bytes())
        journal.close()
        folder = copy
    code = """
        import os, sys
        from batches_core import BatchesError
        from batches_jobs._journal import Journal
        if os.getuid() == 0:
            os.setuid(65534)  # root may write anywhere
        for opening in (Journal.open_read_only, Journal.open):
            try:
                with opening(sys.argv[1]) as journal:
                    print(len(journal.load()))
                    journal.append(journal.load()[1:2])
            except BatchesError as error:
                print(type(error).__name__, error)
    """
    with read_only(folder), python(code, str(folder / "journal.db")) as process:
        out, _ = process.communicate()
    first, *others = out.splitlines()
    if end == "closed":
        assert first == "5"
        assert "only to be read" in others[0]
    else:
        assert "read-only; copy the whole folder" in first
    assert "read-only; copy the whole folder" in others[-1]


# --- a full disk -------------------------------------------------------------------------


def test_a_full_disk_loses_nothing_and_the_next_open_works(path: Path, journal: Journal) -> None:
    journal.append(life(0))
    (pages,) = journal._database.execute("PRAGMA page_count").fetchone()
    journal._database.execute(f"PRAGMA max_page_count = {pages + 4}")
    chunk = 1
    while chunk < 1000:
        try:
            journal.append(life(chunk))
        except StorageError as error:
            failure = error
            break
        chunk += 1
    assert 1 < chunk < 1000
    assert re.search(r"is full.*everything recorded.*free", str(failure))
    assert journal.load() == [OPENED, *(each for one in range(chunk) for each in life(one))]
    # Whether the last records are in the file is only known after it was opened again.
    journal._database.execute("PRAGMA max_page_count = 100000")
    with pytest.raises(StorageError) as second:
        journal.append(life(chunk))
    assert second.value is failure
    journal.close()
    with Journal.open(path) as again:
        again.append(life(chunk))
        assert len(again.load()) == 1 + 4 * (chunk + 1)


@pytest.mark.parametrize("limit", [0, 5000, 20_000, 40_000, 60_000, 100_000])
def test_a_file_that_cannot_grow_loses_nothing(path: Path, limit: int) -> None:
    code = """
        import resource, signal, sys
        from batches_core.jobs import *
        from batches_jobs._errors import StorageError
        from batches_jobs._journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = int(sys.argv[2])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        done = 0
        try:
            opened = JobOpened(job_id="j", options=JobOptions())
            with Journal.create(sys.argv[1], opened, salt=b"0" * 16) as journal:
                done = 1
                for chunk in range(1000):
                    plan = ChunkPlanned(chunk=chunk, count=3, first_row=3 * chunk)
                    journal.append([plan, CreateIntended(chunk=chunk, marker=None)])
                    done += 2
        except StorageError as error:
            assert "run the job again" in str(error)
            print(done)
    """
    with python(code, str(path), str(limit)) as process:
        out, _ = process.communicate()
    done = int(out)
    if not path.exists():
        assert done == 0
        with Journal.create(path, OPENED, salt=new_salt()) as journal:
            assert journal.load() == [OPENED]
        return
    with Journal.open(path) as journal:
        records = journal.load()
        # The file may hold what could not be confirmed, but never less than what was.
        assert max(done, 1) <= len(records) <= max(done, 1) + 2
        chunk = len(records) // 2
        journal.append([ChunkPlanned(chunk=chunk, count=3, first_row=3 * chunk)])


@pytest.mark.parametrize("step", ["execute", "executemany", "COMMIT"])
def test_an_interrupted_append_ends_the_journal_and_loses_nothing(
    path: Path, journal: Journal, step: str
) -> None:
    class Interrupted:
        def __init__(self, database: sqlite3.Connection) -> None:
            self._database = database

        def __getattr__(self, name: str) -> Any:
            return getattr(self._database, name)

        def execute(self, statement: str, *values: Any) -> Any:
            if step in {"execute", statement}:
                raise KeyboardInterrupt
            return self._database.execute(statement, *values)

        def executemany(self, statement: str, values: Any) -> Any:
            if step == "executemany":
                raise KeyboardInterrupt
            return self._database.executemany(statement, values)

    journal.append(life(0))
    database = journal._database
    stand_in: Any = Interrupted(database)
    journal._database = stand_in
    with pytest.raises(KeyboardInterrupt):
        journal.append(life(1))
    journal._database = database
    with pytest.raises(JournalError, match="after an interruption: run the job again"):
        journal.append(life(1))
    journal.close()
    with Journal.open(path) as again:
        assert again.load() == [OPENED, *life(0)]
        again.append(life(1))


# --- crash points of the creation --------------------------------------------------------


class _CrashError(BaseException):
    """Ends a process at one place, as far as a test can."""


@pytest.mark.parametrize("at", ["rename", "sync_folder", "executescript"])
def test_a_creation_that_is_cut_short_leaves_a_journal_or_none(
    path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def crash(*_: object) -> None:
        raise _CrashError

    with monkeypatch.context() as patch:
        if at == "rename":
            patch.setattr(Path, "rename", crash)
        elif at == "sync_folder":
            patch.setattr(_journal, "sync_folder", crash)
        else:
            patch.setattr(_journal, "_insert", crash)
        with pytest.raises(_CrashError):
            Journal.create(path, OPENED, salt=new_salt())
    if at == "sync_folder":
        with Journal.open(path) as journal:
            assert journal.load() == [OPENED]
    else:
        assert names(path.parent) == ["journal.db.new"]
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(f"journal.db.new{suffix}").write_bytes(b"left behind")
        with Journal.create(path, OPENED, salt=new_salt()) as journal:
            assert journal.load() == [OPENED]
        assert names(path.parent) == ["journal.db"]


def test_a_creation_on_a_full_disk_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(StorageError, match=r"journal\.db could not be written \(No space left"):
        Journal.create(path, OPENED, salt=new_salt())


# --- the key -----------------------------------------------------------------------------


def test_a_key_is_known_again_and_not_kept(path: Path) -> None:
    secret = "sk-ant-secret"
    salt = new_salt()
    key = hash_key(salt, base_url="https://a", credential=secret, workspace="w")
    assert key == hash_key(salt, base_url="https://a", credential=secret, workspace="w")
    others = [
        hash_key(salt, base_url="https://b", credential=secret, workspace="w"),
        hash_key(salt, base_url="https://a", credential="sk-ant-other", workspace="w"),
        hash_key(salt, base_url="https://a", credential=secret, workspace=""),
        hash_key(salt, base_url="https://aw", credential=secret, workspace=""),
        hash_key(new_salt(), base_url="https://a", credential=secret, workspace="w"),
    ]
    assert len({key, *others}) == 6
    opened = JobOpened(job_id="j", options=JobOptions(), key=key)
    with Journal.create(path, opened, salt=salt) as journal:
        (record,) = journal.load()
        assert isinstance(record, JobOpened)
        assert record.key == key
    assert secret.encode() not in path.read_bytes()


def test_the_file_is_marked_as_a_journal(path: Path, journal: Journal) -> None:
    journal.close()
    assert path.read_bytes()[68:72] == b"BJob" == APPLICATION_ID.to_bytes(4)


def test_usage_is_part_of_the_records(journal: Journal) -> None:
    usage = Usage(model="m", answers=1, output_tokens=5)
    collected: Sequence[Record] = [
        Collected(chunk=0, answered=1, usage=(usage,), failed=(failed(1), failed(2)))
    ]
    journal.append([*life(0), *collected])
    assert journal.load()[-1] == collected[0]
