"""Reading the results of a whole job: rows, merged files and reconciliation."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    ErroredResult,
    InvalidInputError,
    MalformedResultError,
    Message,
    ResultItem,
    SucceededResult,
    UnknownResult,
)
from batches_core.jobs import (
    ChunkPlanned,
    Collected,
    Finished,
    JobOptions,
    Plan,
    PlanRetry,
    Record,
    Spec,
    Value,
)
from batches_jobs import _output_file, _result_lines, _row_lines
from batches_jobs._collect import collect
from batches_jobs._errors import ResultsFileError, StorageError
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.interface import Input
from batches_jobs._inputs.opening import open_input
from batches_jobs._results import AnsweredRow, JobResults, RowResult, UnansweredRow
from tests.support.job_run import (
    BAD,
    JOB_ID,
    RESULTS,
    Fate,
    Folder,
    JobRun,
    Rows,
    line,
    success,
)
from tests.support.playbook import REQUEST
from transports.files import read_results

#: The fates that are tried again, up to three rounds.
PASSING = {"overloaded", "expired", "rejected", "unreadable", "garbled"}


def options(**changes: Any) -> JobOptions:
    return JobOptions(**{"chunk_rows": 4, "max_waiting": 40, "poll_interval": 1.0, **changes})


def fates(*each: str) -> Fate:
    """Return the fate of row n, the n-th, which after a passing one is a success."""
    return lambda row, attempt: "succeeded" if attempt else each[row % len(each)]


def always(fate: str) -> Fate:
    return lambda _, __: fate


def run(
    tmp_path: Path,
    fate: Fate = always("succeeded"),  # noqa: B008 - a function without state
    *,
    count: int = 10,
    own: list[str | None] | None = None,
    job_options: JobOptions | None = None,
    **changes: Any,
) -> JobRun:
    job_options = job_options or options()
    rows = Rows([f"r{n}" for n in range(count)] if own is None else own, job_options.ids == "map")
    job_run = JobRun(Folder(tmp_path / "a.job"), rows, fate, job_options, **changes)
    job_run.run()
    return job_run


def results(
    job_run: JobRun, records: list[Record] | None = None, **changes: Any
) -> JobResults[Message]:
    records = job_run.records if records is None else records
    return JobResults(job_run.folder, records, job_run.rows, Message, **changes)


def shape(row: RowResult[Any]) -> tuple[Any, ...]:
    failure = None if isinstance(row, AnsweredRow) else row.failure
    return row.row, row.custom_id, failure and failure.outcome, row.chunk


class Short(msgspec.Struct):
    stop_reason: str


class TestRows:
    def test_are_joined_to_their_number_and_custom_id(self, tmp_path: Path) -> None:
        read = [*results(run(tmp_path))]
        assert [(each.row, each.custom_id) for each in read] == [(n, f"r{n}") for n in range(10)]
        first = read[0]
        assert isinstance(first, AnsweredRow)
        assert (first.message.text, first.chunk) == ("fine", 0)

    def test_that_were_sent_again_come_once_and_in_input_order(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("succeeded", "expired", "overloaded"))
        read = [*results(job_run).rows("input")]
        assert [each.row for each in read] == [*range(10)]
        assert all(isinstance(each, AnsweredRow) for each in read)
        assert {each.chunk for each in read if each.row % 3} == {3, 4}

    def test_come_file_by_file_in_any_order(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("succeeded", "expired", "overloaded"))
        by_file, by_row = [*results(job_run).rows("any")], [*results(job_run).rows("input")]
        assert [each.chunk for each in by_file] == sorted(each.chunk for each in by_file)
        assert sorted(map(shape, by_file)) == [*map(shape, by_row)]

    def test_that_failed_have_their_reason_and_result(self, tmp_path: Path) -> None:
        for order in ("input", "any"):
            read = {
                each.row: each
                for each in results(run(tmp_path, fates("invalid", "succeeded"))).rows(order)
            }
            failed = read[2]
            assert isinstance(failed, UnansweredRow)
            assert failed.failure.type == "invalid_request_error"
            assert isinstance(failed.result, ErroredResult)
            assert failed.result.error.request_id == "req_1"

    def test_that_were_rejected_have_the_message_that_was_paid_for(self, tmp_path: Path) -> None:
        read = [*results(run(tmp_path, always("rejected"), count=2))]
        for each in read:
            assert isinstance(each, UnansweredRow)
            assert each.failure.outcome == "rejected"
            assert isinstance(each.result, SucceededResult)
            assert each.result.message.text == BAD

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_with_an_unreadable_line_have_its_bytes(self, tmp_path: Path, order: Any) -> None:
        [each] = results(run(tmp_path, always("unreadable"), count=1)).rows(order)
        assert isinstance(each, UnansweredRow)
        assert isinstance(each.result, MalformedResultError)
        assert (each.result.raw, each.result.line_number) == (
            b'{"custom_id": "r0", "result": 7}',
            1,
        )

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_with_a_line_without_custom_id_have_no_result(self, tmp_path: Path, order: Any) -> None:
        [each] = results(run(tmp_path, always("garbled"), count=1)).rows(order)
        assert isinstance(each, UnansweredRow)
        assert (each.failure.outcome, each.result) == ("unreadable", None)

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_of_lost_chunks_are_lost(self, tmp_path: Path, order: Any) -> None:
        job_run = run(tmp_path, lost=frozenset({1}))
        read = [*results(job_run).rows(order)]
        assert len(read) == 10
        lost = [each for each in read if each.chunk == 1]
        assert [each.row for each in lost] == [4, 5, 6, 7]
        for each in lost:
            assert isinstance(each, UnansweredRow)
            assert each.failure.outcome == "lost"
            assert "archived" in each.failure.message

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_of_a_canceled_job_that_were_not_sent_again_have_failed(
        self, tmp_path: Path, order: Any
    ) -> None:
        job_run = run(tmp_path, always("expired"), cancel_at=17)
        assert isinstance(job_run.records[-1], Finished)
        counts = results(job_run).counts()
        assert (counts.open, counts.failed) == (0, counts.planned)
        read = [*results(job_run).rows(order)]
        assert sorted(each.row for each in read) == [*range(counts.planned)]

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_that_are_not_settled_are_left_out(self, tmp_path: Path, order: Any) -> None:
        job_run = run(tmp_path, fates("succeeded", "expired"))
        first = next(n for n, each in enumerate(job_run.records) if isinstance(each, Collected))
        partial = results(job_run, job_run.records[: first + 1])
        assert [each.row for each in sorted(partial.rows(order), key=lambda e: e.row)] == [0, 2]
        assert partial.counts().open == partial.counts().planned - 2

    def test_keep_their_own_custom_ids_if_these_are_mapped(self, tmp_path: Path) -> None:
        own: list[str | None] = ["x", None, "x", "not valid!"]
        job_run = run(tmp_path, own=own, job_options=options(ids="map"))
        for order in ("input", "any"):
            read = sorted(results(job_run).rows(order), key=lambda each: each.row)
            assert [each.custom_id for each in read] == own

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_have_messages_of_the_callers_type(self, tmp_path: Path, order: Any) -> None:
        job_run = run(tmp_path)
        typed = JobResults(job_run.folder, job_run.records, job_run.rows, Short)
        assert all(
            isinstance(each, AnsweredRow) and each.message.stop_reason == "end_turn"
            for each in typed.rows(order)
        )

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_that_do_not_fit_the_callers_type_are_unreadable(
        self, tmp_path: Path, order: Any
    ) -> None:
        class Stopped(msgspec.Struct):
            stop_reason: int

        job_run = run(tmp_path, count=6)
        typed = JobResults(job_run.folder, job_run.records, job_run.rows, Stopped)
        read = {each.row: each for each in typed.rows(order)}
        assert sorted(read) == [*range(6)]
        each = read[4]
        assert isinstance(each, UnansweredRow)
        assert each.failure.outcome == "unreadable"
        assert isinstance(each.result, MalformedResultError)
        assert each.result.custom_id == "r4"
        # The lines are in the opposite order of the rows.
        assert each.result.line_number == 2

    def test_of_an_unknown_order_are_refused(self, tmp_path: Path) -> None:
        order: Any = "size"
        job_run = run(tmp_path)
        with pytest.raises(InvalidInputError, match="order is 'size': pass 'input' or 'any'"):
            results(job_run).rows(order)
        with pytest.raises(InvalidInputError, match="order is 'size'"):
            results(job_run).merge(tmp_path / "x", order=order)

    @pytest.mark.parametrize("order", ["input", "any"])
    @pytest.mark.parametrize("fate", ["expired", "succeeded"])
    def test_that_a_changed_file_does_not_answer_any_more_are_an_error(
        self, tmp_path: Path, order: Any, fate: str
    ) -> None:
        job_run = run(tmp_path, count=3)
        raw = job_run.folder.raw(0)
        lines = raw.read_bytes().splitlines(keepends=True)
        raw.write_bytes(
            b"".join(lines[:2]) + line("r0" if fate == "expired" else "z", RESULTS[fate])
        )
        with pytest.raises(ResultsFileError, match="has no answer of row 0, which was answered"):
            [*results(job_run).rows(order)]

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_of_a_missing_file_are_an_error_that_names_the_batch(
        self, tmp_path: Path, order: Any
    ) -> None:
        job_run = run(tmp_path)
        job_run.folder.raw(1).unlink()
        with pytest.raises(ResultsFileError, match="is missing: download the results of batch b1 "):
            [*results(job_run).rows(order)]

    def test_over_the_limit_of_a_line_are_unreadable_or_missing(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, count=3)
        job_run.folder.raw(0).write_bytes(
            line("r2", success()) + line("r1", success("y" * 5000)) + line("r0", success())
        )
        read = results(job_run, max_line=1000)
        for order in ("input", "any"):
            with pytest.raises(ResultsFileError, match="no answer of row 1"):
                [*read.rows(order)]

    def test_are_found_before_an_endless_line(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, count=1)
        job_run.folder.raw(0).write_bytes(line("r0", success()) + b"x" * 600_000)
        [each] = results(job_run, max_line=1000).rows("input")
        assert each.row == 0

    @pytest.mark.parametrize("order", ["input", "any"])
    def test_count_by_the_first_line_of_a_custom_id(self, tmp_path: Path, order: Any) -> None:
        job_run = run(tmp_path, count=1)
        raw = job_run.folder.raw(0)
        raw.write_bytes(
            b"\xef\xbb\xbf\n" + line("z", success()) + raw.read_bytes() + line("r0", success("2nd"))
        )
        [each] = results(job_run).rows(order)
        assert isinstance(each, AnsweredRow)
        assert each.message.text == "fine"

    def test_are_read_with_few_open_files_and_indexes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_row_lines, "_INDEXES", 1)
        monkeypatch.setattr(_result_lines, "_OPEN", 1)

        def fate(row: int, attempt: int) -> str:
            return "succeeded" if attempt >= row % 4 else "expired"

        job_run = run(tmp_path, fate, count=40)
        assert [each.row for each in results(job_run)] == [*range(40)]


class TestFailedRows:
    def test_are_listed_without_reading_the_files(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("invalid", "succeeded", "succeeded"), lost=frozenset({2}))
        shutil.rmtree(job_run.folder.path)
        failed = [*results(job_run).failed_rows()]
        assert [(each.row, each.custom_id, each.failure.outcome) for each in failed] == [
            (0, "r0", "errored"),
            (3, "r3", "errored"),
            (6, "r6", "errored"),
            (8, "r8", "lost"),
            (9, "r9", "lost"),
        ]
        assert all(each.result is None for each in failed)

    def test_are_counted_by_reason(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("invalid", "succeeded", "canceled"), lost=frozenset({2}))
        counts = results(job_run).counts()
        assert (counts.rows, counts.planned, counts.answered) == (10, 10, 3)
        assert (counts.failed, counts.lost, counts.open) == (5, 2, 0)
        assert counts.reasons == {"invalid_request_error": 3, "canceled": 2}
        assert results(job_run).status.is_finished


class TestAMergedFile:
    def test_has_the_received_lines_in_input_order(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("succeeded", "expired", "invalid"))
        path = tmp_path / "all.jsonl"
        merged = results(job_run).merge(path)
        lines = path.read_bytes().splitlines()
        assert [json.loads(each)["custom_id"] for each in lines] == [f"r{n}" for n in range(10)]
        received = {
            each
            for raw in (job_run.folder.path / "raw").iterdir()
            for each in raw.read_bytes().splitlines()
        }
        assert set(lines) <= received
        assert (merged.answered, merged.unanswered) == (7, 3)
        assert merged.size == path.stat().st_size
        assert merged.path == path

    def test_has_the_same_lines_in_any_order(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("succeeded", "expired", "rejected", "invalid", "garbled"))
        results(job_run).merge(tmp_path / "1")
        results(job_run).merge(tmp_path / "2", order="any")
        first, second = (tmp_path / each for each in "12")
        assert first.read_bytes() != second.read_bytes()
        assert sorted(first.read_bytes().splitlines()) == sorted(second.read_bytes().splitlines())

    def test_can_leave_out_the_rows_that_were_not_answered(self, tmp_path: Path) -> None:
        path = tmp_path / "answers.jsonl"
        job_run = run(tmp_path, fates("succeeded", "invalid"))
        merged = results(job_run).merge(path, unanswered=False)
        assert (merged.answered, merged.unanswered) == (5, 0)
        assert len(path.read_bytes().splitlines()) == 5

    def test_is_read_like_a_batchs_results(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates("rejected", "garbled", "succeeded", "invalid"), count=4)
        # Give up at once.
        for n, record in enumerate(job_run.records):
            if isinstance(record, Collected):
                job_run.records[n:] = [
                    msgspec.structs.replace(
                        record,
                        failed=tuple(
                            sorted((*record.retried, *record.failed), key=lambda e: e.row)
                        ),
                        retried=(),
                    ),
                    Finished(),
                ]
                break
        path = tmp_path / "all.jsonl"
        results(job_run).merge(path)
        items: list[Any] = [*read_results(path)]
        assert all(isinstance(each, ResultItem) for each in items)
        rejected, garbled, succeeded, invalid = (each.result for each in items)
        assert isinstance(rejected, UnknownResult)
        assert rejected.type == "rejected"
        assert rejected["message"]["content"][0]["text"] == BAD
        assert rejected["error"]["message"] == "accept() returned False"
        assert garbled.type == "unreadable"
        assert isinstance(succeeded, SucceededResult)
        assert isinstance(invalid, ErroredResult)

    def test_has_lost_rows_and_rows_that_were_not_sent(self, tmp_path: Path) -> None:
        path = tmp_path / "all.jsonl"
        job_run = run(tmp_path, lost=frozenset({0}), count=4)
        results(job_run).merge(path)
        types = [json.loads(each)["result"]["type"] for each in path.read_bytes().splitlines()]
        assert types == ["lost"] * 4

    def test_has_own_custom_ids_and_row_numbers_if_these_are_mapped(self, tmp_path: Path) -> None:
        own: list[str | None] = ["x", None, "x", "not valid!", ""]
        job_run = run(
            tmp_path,
            fates("succeeded", "succeeded", "invalid", "rejected", "succeeded"),
            own=own,
            job_options=options(ids="map", rounds=0),
        )
        path = tmp_path / "all.jsonl"
        results(job_run).merge(path)
        merged = [json.loads(each) for each in path.read_bytes().splitlines()]
        assert [each["row"] for each in merged] == [*range(5)]
        assert [each["custom_id"] for each in merged] == [
            "x",
            job_run.rows.sent_id(1),
            "x",
            "not valid!",
            "",
        ]
        assert merged[0]["result"] == RESULTS["succeeded"]
        assert [*merged[0]] == ["custom_id", "row", "result"]
        assert merged[3]["result"]["message"] == RESULTS["rejected"]["message"]

    def test_of_a_row_without_its_answer_is_not_written(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, count=2)
        job_run.folder.raw(0).write_bytes(line("r0", success()))
        with pytest.raises(ResultsFileError, match="no answer of row 1"):
            results(job_run).merge(tmp_path / "all.jsonl")
        assert [each.name for each in tmp_path.iterdir()] == ["a.job"]


class TestMergingAgain:
    def test_replaces_its_own_file(self, tmp_path: Path) -> None:
        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        for _ in range(4):
            results(job_run).merge(path)
        first = path.read_bytes()
        results(job_run).merge(path, order="any")
        assert path.read_bytes() != first
        assert sorted(each.name for each in tmp_path.iterdir()) == ["a.job", "all.jsonl"]

    def test_replaces_it_under_a_relative_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_run = run(tmp_path)
        results(job_run).merge(tmp_path / "all.jsonl")
        monkeypatch.chdir(tmp_path)
        results(job_run).merge("all.jsonl")

    @pytest.mark.parametrize("content", [b"", b"precious\n"])
    def test_does_not_replace_another_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "all.jsonl"
        path.write_bytes(content)
        with pytest.raises(InvalidInputError, match="move it away, or choose another path"):
            results(run(tmp_path)).merge(path)
        assert path.read_bytes() == content

    def test_does_not_replace_a_file_of_another_job(self, tmp_path: Path) -> None:
        path = tmp_path / "all.jsonl"
        results(run(tmp_path)).merge(path)
        (tmp_path / "other").mkdir()
        with pytest.raises(InvalidInputError, match="is not what this job wrote there"):
            results(run(tmp_path / "other")).merge(path)

    @pytest.mark.parametrize(
        "change",
        [
            lambda path: path.write_bytes(path.read_bytes()),
            lambda path: os.utime(path, ns=(1, 1)),
            lambda path: (
                path.rename(path.with_name("x")),
                shutil.copy2(path.with_name("x"), path),
            ),
        ],
        ids=["written", "touched", "copied"],
    )
    def test_does_not_replace_its_file_after_a_change(
        self, tmp_path: Path, change: Callable[[Path], object]
    ) -> None:
        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        results(job_run).merge(path)
        change(path)
        with pytest.raises(InvalidInputError, match="or was changed since"):
            results(job_run).merge(path)

    def test_does_not_follow_a_link(self, tmp_path: Path) -> None:
        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        results(job_run).merge(path)
        (tmp_path / "link").symlink_to(path)
        with pytest.raises(InvalidInputError, match="link is there already"):
            results(job_run).merge(tmp_path / "link")

    def test_does_not_replace_a_file_that_appears_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "all.jsonl"
        publish = _output_file._publish

        def late(part: Path, target: Path) -> None:
            path.write_bytes(b"precious")
            publish(part, target)

        monkeypatch.setattr(_output_file, "_publish", late)
        with pytest.raises(InvalidInputError, match="there already"):
            results(run(tmp_path)).merge(path)
        assert path.read_bytes() == b"precious"
        assert not path.with_name("all.jsonl.merge.part").exists()

    def test_replaces_what_a_crash_left(self, tmp_path: Path) -> None:
        job_run = run(tmp_path)
        path, part = tmp_path / "all.jsonl", tmp_path / "all.jsonl.merge.part"
        part.write_bytes(b"x" * 1_000_000)
        results(job_run).merge(path)
        whole = path.read_bytes()
        # A crash between the two names of one file.
        part.hardlink_to(path)
        results(job_run).merge(tmp_path / "all.jsonl")
        assert path.read_bytes() == whole
        assert not part.exists()

    def test_recognises_the_old_file_after_a_crash_before_the_new_one_has_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        results(job_run).merge(path)

        def crash() -> NoReturn:
            raise KeyboardInterrupt

        original = Path.replace

        def crash_before(name: str) -> Callable[[Path, Path], Path]:
            return lambda old, new: crash() if new.name == name else original(old, new)

        for name in ("merged.json", "all.jsonl") * 3:
            with monkeypatch.context() as patched:
                patched.setattr(Path, "replace", crash_before(name))
                with pytest.raises(KeyboardInterrupt):
                    results(job_run).merge(path)
        results(job_run).merge(path)

    def test_waits_for_nobody(self, tmp_path: Path) -> None:
        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        with (
            _output_file.OutputFile(path, tmp_path / "register"),
            pytest.raises(InvalidInputError, match="is being written by another call"),
        ):
            results(job_run).merge(path)
        assert not path.exists()
        results(job_run).merge(path)

    def test_does_not_need_locks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        job_run = run(tmp_path)
        monkeypatch.setattr(_output_file, "fcntl", None)
        results(job_run).merge(tmp_path / "all.jsonl")

    @pytest.mark.parametrize("code", [errno.ENOTSUP, errno.EACCES])
    def test_tells_a_lock_from_a_system_without_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        job_run = run(tmp_path)
        monkeypatch.setattr(_output_file.fcntl, "flock", refuse)
        if code == errno.ENOTSUP:
            results(job_run).merge(tmp_path / "all.jsonl")
        else:
            with pytest.raises(InvalidInputError, match="another call"):
                results(job_run).merge(tmp_path / "all.jsonl")

    def test_begins_anew_if_the_other_call_has_just_finished(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "all.jsonl"
        same = _output_file._is_same
        calls: list[Path] = []

        def finished(info: os.stat_result, part: Path) -> bool:
            calls.append(part)
            if len(calls) == 1:
                part.rename(tmp_path / "elsewhere")
            return same(info, part)

        monkeypatch.setattr(_output_file, "_is_same", finished)
        results(run(tmp_path)).merge(path)
        assert len(calls) == 2
        assert (tmp_path / "elsewhere").read_bytes() == b""

    def test_closes_its_file_if_it_is_interrupted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        job_run = run(tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(_output_file, "_is_same", interrupt)
            with pytest.raises(KeyboardInterrupt):
                results(job_run).merge(tmp_path / "all.jsonl")
        results(job_run).merge(tmp_path / "all.jsonl")


class TestADisk:
    def test_has_the_whole_file_and_its_registration_before_the_final_name_appears(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "all.jsonl"
        synced: list[tuple[int, bool]] = []
        fsync = os.fsync

        def sync(descriptor: int) -> None:
            fsync(descriptor)
            synced.append((os.fstat(descriptor).st_ino, path.exists()))

        job_run = run(tmp_path)
        monkeypatch.setattr(os, "fsync", sync)
        results(job_run).merge(path)
        register = job_run.folder.path / "merged.json"
        inodes = [each.stat().st_ino for each in (path, register, tmp_path)]
        assert synced == [(inodes[0], False), (inodes[1], False), (inodes[2], True)]

    def test_that_is_full_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_run = run(tmp_path)

        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match=r"all\.jsonl could not be written \(No space"):
            results(job_run).merge(tmp_path / "all.jsonl")
        assert [each.name for each in tmp_path.iterdir()] == ["a.job"]

    def test_that_fails_while_bytes_are_written_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Full(FileIO):
            def write(self, _: object, /) -> int:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        job_run = run(tmp_path)
        monkeypatch.setattr(_output_file, "FileIO", Full)
        monkeypatch.setattr(_output_file, "_GATHERED", 10)
        with pytest.raises(StorageError, match="Input/output error"):
            results(job_run).merge(tmp_path / "all.jsonl")
        assert [each.name for each in tmp_path.iterdir()] == ["a.job"]

    def test_without_the_folder_is_an_error_that_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match=r"because .*nowhere is not a folder"):
            results(run(tmp_path)).merge(tmp_path / "nowhere" / "all.jsonl")

    def test_that_cannot_be_written_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "all.jsonl.merge.part").mkdir()
        with pytest.raises(StorageError, match=r"all\.jsonl could not be written"):
            results(run(tmp_path)).merge(tmp_path / "all.jsonl")

    @pytest.mark.parametrize("code", [errno.EROFS, errno.EIO])
    def test_that_is_read_only_for_the_job_still_allows_a_merge(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        job_run = run(tmp_path)
        path_open = Path.open

        def refuse(path: Path, *args: Any, **options: Any) -> Any:
            if path.name.startswith("merged.json"):
                raise OSError(code, os.strerror(code))
            return path_open(path, *args, **options)

        monkeypatch.setattr(Path, "open", refuse)
        path = tmp_path / "all.jsonl"
        if code == errno.EIO:
            with pytest.raises(StorageError):
                results(job_run).merge(path)
            return
        results(job_run).merge(path)
        with pytest.raises(InvalidInputError, match="there already"):
            results(job_run).merge(path)

    @pytest.mark.parametrize("fails", [False, True])
    def test_without_hard_links_is_written_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: object
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        job_run = run(tmp_path)
        path = tmp_path / "all.jsonl"
        monkeypatch.setattr(os, "link", refuse)
        if fails:
            original = Path.replace
            monkeypatch.setattr(
                Path, "replace", lambda old, new: refuse() if new == path else original(old, new)
            )
            with pytest.raises(StorageError):
                results(job_run).merge(path)
            assert not path.exists()
        else:
            results(job_run).merge(path)
            results(job_run).merge(path)

    def test_of_windows_renames_only_to_a_free_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_output_file, "_RENAME_REPLACES", False)
        results(run(tmp_path)).merge(tmp_path / "all.jsonl")


class TestVerify:
    def test_finds_nothing_in_a_finished_job(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, fates(*RESULTS, "unreadable", "garbled"), count=60)
        found = results(job_run).verify()
        assert found.problems == ()
        assert found.is_complete
        assert found.files == len({each.name for each in (job_run.folder.path / "raw").iterdir()})
        counts = found.counts
        assert counts.rows == counts.answered + counts.failed + counts.lost

    def test_says_that_a_running_job_is_not_complete(self, tmp_path: Path) -> None:
        job_run = run(tmp_path)
        last = max(n for n, each in enumerate(job_run.records) if isinstance(each, Collected))
        found = results(job_run, job_run.records[:last]).verify()
        assert found.problems == ()
        assert not found.is_complete

    @pytest.mark.parametrize(
        ("lines", "problem"),
        [
            (["r0", "r1"], "has 2 results, but its batch has 3"),
            (["r0", "r1", "z"], "holds the results of other requests"),
            (None, "is missing: download the results of batch b0"),
        ],
    )
    def test_names_a_file_that_is_not_its_chunks(
        self, tmp_path: Path, lines: list[str] | None, problem: str
    ) -> None:
        job_run = run(tmp_path, count=3)
        raw = job_run.folder.raw(0)
        if lines is None:
            raw.unlink()
        else:
            raw.write_bytes(b"".join(line(each, success()) for each in lines))
        [found] = results(job_run).verify().problems
        assert found.startswith("chunk 0: ")
        assert problem in found

    def test_names_the_rows_that_are_not_what_the_journal_says(self, tmp_path: Path) -> None:
        job_run = run(
            tmp_path, fates("invalid", "succeeded"), count=16, job_options=options(chunk_rows=16)
        )
        raw = job_run.folder.raw(0)
        raw.write_bytes(
            raw.read_bytes()
            .replace(b'"r0"', b'"x"')
            .replace(b'"r1"', b'"r0"')
            .replace(b'"x"', b'"r1"')
        )
        found = results(job_run).verify()
        assert found.problems == (
            "chunk 0: 2 rows are not what the journal says: row 0 ('r0'), row 1 ('r1')",
        )
        assert not found.is_complete

    def test_lists_a_few_rows_and_all_differences(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, count=8, job_options=options(chunk_rows=8))
        # The counts of the batch are as if all of it had expired.
        at = next(n for n, each in enumerate(job_run.records) if type(each).__name__ == "Ended")
        ended: Any = job_run.records[at]
        job_run.records[at] = msgspec.structs.replace(
            ended, counts=msgspec.structs.replace(ended.counts, succeeded=0, expired=8)
        )
        job_run.folder.raw(0).write_bytes(
            b"".join(line(f"r{n}", {"type": "expired"}) for n in range(8))
        )
        problems = results(job_run).verify().problems
        assert len(problems) == 3
        assert problems[0].startswith("chunk 0: 8 rows are not what the journal says: row 0")
        assert problems[0].endswith("row 4 ('r4'), …")
        assert "the file has 0 answers, and the journal counts 8" in problems[1]
        assert "the tokens of the answers are not those" in problems[2]

    def test_accepts_rows_that_were_lost_from_a_file(self, tmp_path: Path) -> None:
        class Incomplete(JobRun):
            def collect(self, plan: Any, counts: Any) -> Any:  # noqa: ARG002 - a runner that gives up
                raw = self.folder.raw(plan.chunk)
                raw.write_bytes(b"".join(raw.read_bytes().splitlines(keepends=True)[1:]))
                return collect(raw, self.rows.ids(plan))

        rows = Rows([f"r{n}" for n in range(3)])
        job_run = Incomplete(Folder(tmp_path / "a.job"), rows, always("succeeded"), options())
        job_run.run()
        found = results(job_run).verify()
        assert (found.problems, found.is_complete) == ((), True)
        assert [each.row for each in results(job_run).failed_rows()] == [2]

    def test_names_an_input_of_other_rows(self, tmp_path: Path) -> None:
        job_run = run(tmp_path, count=3)

        class Other(Rows):
            def ids(self, plan: Any) -> dict[str, int]:
                return {**super().ids(plan), "r0": 7}

        job_run.rows = Other(job_run.rows.own)
        assert results(job_run).verify().problems == (
            "chunk 0: the custom_ids of the input are not those of its rows",
        )


class StoredRows(Rows):
    """The rows of a real input."""

    def __init__(self, input_: Input, own: list[str | None]) -> None:
        super().__init__(own)
        self._input = input_
        self._sent: dict[int, str] = {}

    def sent_id(self, row: int) -> str:
        return self._sent[row]

    def ids(self, plan: ChunkPlanned) -> dict[str, int]:
        ids = dict(self._input.ids(plan))
        self._sent.update({row: custom_id for custom_id, row in ids.items()})
        return ids

    def custom_ids(self, plan: ChunkPlanned) -> dict[int, str | None]:
        self.ids(plan)
        return dict(self._input.custom_ids(plan))


class StoredRun(JobRun):
    """A run whose chunks are planned by a real input."""

    input: Input

    def _value(self, spec: Spec) -> Value:
        if isinstance(spec, Plan):
            return self.input.plan(spec)
        if isinstance(spec, PlanRetry):
            chunks = [each for each in self.records if isinstance(each, ChunkPlanned)]
            return self.input.plan_retry(spec, chunks)
        return super()._value(spec)


@pytest.mark.parametrize("ids", ["keep", "map"])
@pytest.mark.parametrize("is_spooled", [False, True])
def test_rows_of_a_real_input_and_folder_are_joined(
    tmp_path: Path, ids: Any, is_spooled: object
) -> None:
    own = [f"r{n}" if ids == "keep" or n % 3 else None for n in range(30)]
    folder = JobFolder(tmp_path / "a.job")
    folder.create()
    requests: Any = [{"custom_id": each, "params": REQUEST["params"]} for each in own]
    if not is_spooled:
        (tmp_path / "requests.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, requests)))
        requests = tmp_path / "requests.jsonl"
    input_ = open_input(requests, folder, job_id=JOB_ID, ids=ids)
    rows = StoredRows(input_, own)
    job_run = StoredRun(
        Folder(folder.path), rows, fates("succeeded", "expired", "invalid"), options(ids=ids)
    )
    job_run.input = input_
    job_run.run()
    read = JobResults(folder, job_run.records, input_, Message)
    assert [(each.row, each.custom_id) for each in read] == [*enumerate(own)]
    assert sorted(map(shape, read.rows("any")), key=lambda each: each[0]) == [*map(shape, read)]
    assert read.verify().is_complete
    merged = read.merge(tmp_path / "all.jsonl")
    assert (merged.answered, merged.unanswered) == (20, 10)


@given(seed=st.integers(0, 10**9))
def test_each_row_is_settled_once_in_every_order_and_at_every_moment(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(seed)
    kinds = [*RESULTS, "unreadable", "garbled"]
    weights = [chance.random() ** 3 for _ in kinds]
    count = chance.randint(1, 40)
    job_run = run(
        tmp_path_factory.mktemp("job"),
        lambda _, __: chance.choices(kinds, weights)[0],
        own=[chance.choice(["same", None, f"r{n}"]) for n in range(count)],
        job_options=options(
            chunk_rows=chance.randint(1, 9), ids="map", rounds=chance.randint(0, 3)
        ),
        lost=frozenset(chance.sample(range(12), 2)) if chance.random() < 0.3 else frozenset(),
        cancel_at=chance.randint(1, 40) if chance.random() < 0.3 else None,
    )
    for end in {len(job_run.records), chance.randint(1, len(job_run.records))}:
        read = results(job_run, job_run.records[:end])
        by_row, by_file = [*read.rows("input")], [*read.rows("any")]
        assert [each.row for each in by_row] == sorted({each.row for each in by_row})
        assert sorted(map(shape, by_file), key=lambda each: each[0]) == [*map(shape, by_row)]
        counts = read.counts()
        assert counts.open == counts.planned - len(by_row) >= 0
        assert sum(isinstance(each, AnsweredRow) for each in by_row) == counts.answered
        failed = {each.row: each for each in by_row if isinstance(each, UnansweredRow)}
        assert len(failed) == counts.failed + counts.lost
        listed = [*read.failed_rows()]
        assert {each.row: each.failure for each in listed} == {
            row: each.failure for row, each in failed.items()
        }
        reasons = Counter(each.failure.type or each.failure.outcome for each in failed.values())
        reasons.pop("lost", None)
        assert counts.reasons == reasons
        for each in by_row:
            if isinstance(each, AnsweredRow):
                assert job_run.fates[each.chunk][each.row] == "succeeded"
            elif each.failure.outcome not in {"lost", "canceled"}:
                assert job_run.fates[each.chunk][each.row] != "succeeded"
        assert read.verify().problems == ()
    merged = read.merge(job_run.folder.path / "merged.jsonl")
    assert merged.answered + merged.unanswered == len(by_row)
