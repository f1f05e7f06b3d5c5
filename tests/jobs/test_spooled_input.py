"""Inputs that cannot be read again in place: they are copied to the folder of the job."""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import tracemalloc
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import BatchRequest, InvalidInputError, RequestLike
from batches_core.jobs import ChunkPlanned, Ids, job_tag, wire_id
from batches_core.lowlevel import prepare
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import JobFolder
from batches_jobs._inputs import files, spool_file
from batches_jobs._inputs.interface import Input
from batches_jobs._inputs.jsonl import JSONLInput
from batches_jobs._inputs.opening import open_input
from batches_jobs._inputs.parquet import ParquetSource
from batches_jobs._inputs.sources import (
    CSVSource,
    IterableSource,
    LinesSource,
    MissingSource,
)
from batches_jobs._inputs.spooled import SpooledInput
from transports.files import RequestsFile

from .store_support import (
    JOB_ID,
    body,
    folder_in,
    gather,
    line,
    lines,
    names,
    plan_all,
    plan_next,
    python,
    request,
    sent_requests,
)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return folder_in(tmp_path)


@pytest.fixture
def make(folder: JobFolder) -> Callable[..., Input]:
    def make(requests: object, ids: Ids = "keep") -> Input:
        return open_input(requests, folder, job_id=JOB_ID, ids=ids)

    return make


Make = Callable[..., Input]


def requests(count: int) -> list[dict[str, Any]]:
    return [request(f"r{number}") for number in range(count)]


# --- iterables ---------------------------------------------------------------------------


def test_requests_are_copied_before_they_are_planned(make: Make, folder: JobFolder) -> None:
    wanted = requests(5)
    input_ = make(each for each in wanted)
    chunks: list[ChunkPlanned] = []
    for number, count in enumerate([2, 2, 1]):
        plan = plan_next(input_, chunks, 2).plan
        assert plan is not None
        chunks.append(plan)
        assert (plan.chunk, plan.first_row, plan.count) == (number, 2 * number, count)
        data = folder.spool(number).read_bytes()
        assert [json.loads(each) for each in data.splitlines()] == wanted[2 * number :][:count]
        assert plan.digest == hashlib.sha256(data).hexdigest()
        assert plan.end - plan.start == len(data)
        assert sent_requests(input_, plan) == wanted[2 * number :][:count]
        assert input_.ids(plan) == {f"r{row}": row for row in range(2 * number, 2 * number + count)}
    assert names(folder.spool(0).parent) == [f"00000{number}.jsonl" for number in range(3)]
    assert repr(input_) == "SpooledInput('the iterable of requests')"


@pytest.mark.parametrize("rows", [2, 3])
def test_the_end_is_known_when_the_source_says_so(make: Make, rows: int) -> None:
    input_ = make(requests(6))
    chunks = plan_all(input_, rows)
    assert sum(each.count for each in chunks) == 6
    assert plan_next(input_, chunks, rows).ended
    assert len(names(folder_of(input_).spool(0).parent)) == 6 // rows


def folder_of(input_: Input) -> JobFolder:
    assert isinstance(input_, (SpooledInput, JSONLInput))
    return input_._folder


def test_every_form_of_a_request_is_copied_as_one_line(make: Make, folder: JobFolder) -> None:
    params = {"model": "m", "messages": []}
    forms: list[RequestLike] = [
        {"custom_id": "a", "params": params},
        BatchRequest(custom_id="b", params=params),
        types.MappingProxyType({"custom_id": "c", "params": params}),
        '{"custom_id": "d",\n "params":\r\n {"x": "\\n"}}',
        b' {"custom_id": "e", "params": {"n": 1e5}} \r\n',
        "",
        b"\n",
        "\n",
        b'{"custom_id": "f", "params": {}}',
    ]
    input_ = make(forms)
    (plan,) = plan_all(input_, 100)
    assert plan.count == 6
    assert list(input_.ids(plan)) == list("abcdef")
    assert len(folder.spool(0).read_bytes().splitlines()) == 6
    assert sent_requests(input_, plan)[3] == {"custom_id": "d", "params": {"x": "\n"}}
    assert b'{"custom_id": "e", "params": {"n": 1e5}}' in body(input_, plan)


def test_no_request_is_made_before_it_is_needed(make: Make) -> None:
    made: list[int] = []

    def making() -> Iterator[dict[str, Any]]:
        for number in range(9):
            made.append(number)
            yield request(f"r{number}")

    input_ = make(making())
    assert made == []
    plan_next(input_, [], 3)
    assert made == [0, 1, 2]


def test_a_chunk_ends_before_its_body_is_too_large(folder: JobFolder) -> None:
    size = len(lines(1)[0])
    limit = len('{"requests":[]}') + 3 * size + 2
    input_ = SpooledInput(
        IterableSource(lines(8)), folder, job_id=JOB_ID, ids="keep", max_bytes=limit
    )
    chunks = plan_all(input_, 100)
    assert [each.count for each in chunks] == [3, 3, 2]
    assert [one["custom_id"] for each in chunks for one in sent_requests(input_, each)] == [
        f"r{number}" for number in range(8)
    ]


def test_an_id_of_the_next_chunk_is_not_compared_with_those_of_this_one(folder: JobFolder) -> None:
    rows = [line("a"), line("b"), line("a")]
    limit = len('{"requests":[]}') + 2 * len(rows[0]) + 1
    input_ = SpooledInput(IterableSource(rows), folder, job_id=JOB_ID, max_bytes=limit)
    assert [input_.ids(each) for each in plan_all(input_, 100)] == [{"a": 0, "b": 1}, {"a": 2}]


def test_a_bad_request_of_the_next_chunk_is_not_a_problem_of_this_one(make: Make) -> None:
    good = request("r0", x="x" * 100)
    input_ = make([good, {"custom_id": "a", "params": {"x": object()}}])
    first = plan_next(input_, [], 1).plan
    assert first is not None
    with pytest.raises(InvalidInputError, match=r"^requests\.1\.params\.x: .*type object"):
        plan_next(input_, [first], 1)


def test_a_bad_request_that_finds_its_chunk_full_begins_the_next_one(folder: JobFolder) -> None:
    rows = [line("a"), object()]
    limit = len('{"requests":[]}') + len(line("a"))
    input_ = SpooledInput(
        IterableSource(rows),  # type: ignore[arg-type]  # what is refused
        folder,
        job_id=JOB_ID,
        max_bytes=limit,
    )
    first = plan_next(input_, [], 5).plan
    assert first is not None
    assert first.count == 1
    with pytest.raises(InvalidInputError, match=r"^requests\.1: must be a dict"):
        plan_next(input_, [first], 5)


def test_mapped_ids_lead_back_to_their_rows(make: Make, folder: JobFolder) -> None:
    own: list[Any] = ["a", "a", "é" * 100, 5, None]
    input_ = make([request(each) for each in own], ids="map")
    chunks = plan_all(input_, 2)
    ids = [one["custom_id"] for each in chunks for one in sent_requests(input_, each)]
    assert ids == [wire_id(job_tag(JOB_ID), row) for row in range(5)]
    back = {row: each for chunk in chunks for row, each in input_.custom_ids(chunk).items()}
    assert back == {0: "a", 1: "a", 2: "é" * 100, 3: "5", 4: None}
    plan = gather(input_, chunks, [1, 4])
    assert [one["custom_id"] for one in sent_requests(input_, plan)] == [ids[1], ids[4]]
    assert input_.custom_ids(plan) == {1: "a", 4: None}
    assert len(folder.retry(3).read_bytes().splitlines()) == 2


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(texts, min_size=1, max_size=12),
    st.lists(st.integers(1, 5), min_size=1),
    st.integers(1, 1000),
    st.sampled_from([1, 100, 262_144]),
    st.sampled_from(["keep", "map"]),
    st.data(),
)
def test_every_request_is_in_one_chunk_and_a_job_goes_on_after_any_of_them(  # noqa: PLR0917 - drawn
    contents: list[str],
    sizes: list[int],
    max_bytes: int,
    gathered: int,
    ids: Ids,
    data: st.DataObject,
) -> None:
    wanted = [request(f"r{number}", system=each) for number, each in enumerate(contents)]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_file, "_GATHERED", gathered)
        folder = folder_in(Path(name))

        def fresh() -> SpooledInput:
            source = IterableSource(iter(wanted))
            return SpooledInput(source, folder, job_id=JOB_ID, ids=ids, max_bytes=max_bytes)

        chunks = plan_all(fresh(), sizes)
        done = data.draw(st.integers(0, len(chunks)))
        input_ = fresh()
        input_.resume(input_.describe(), chunks[:done], ended=False)
        assert len(names(folder.spool(0).parent)) == done
        assert plan_all(input_, sizes, chunks[:done]) == chunks
        sent = [one for each in chunks for one in sent_requests(input_, each)]
        assert [one["params"] for one in sent] == [one["params"] for one in wanted]


# --- problems ----------------------------------------------------------------------------


def test_problems_name_the_place_in_the_whole_iterable(make: Make) -> None:
    input_ = make([*requests(3), "", "{", request("a"), request("a")])
    first = plan_next(input_, [], 3).plan
    assert first is not None
    with pytest.raises(InvalidInputError) as caught:
        plan_next(input_, [first], 10)
    assert [(each.index, each.line) for each in caught.value.problems] == [(4, None), (6, None)]
    assert "requests.6.custom_id: 'a' is already the id of requests.5" in str(caught.value)
    assert "correct it, or pass ids='map'" in str(caught.value)
    with pytest.raises(InvalidInputError) as again:
        plan_next(input_, [first], 10)
    assert again.value is caught.value
    assert names(folder_of(input_).spool(0).parent) == ["000000.jsonl"]


def test_a_request_that_is_nested_too_deeply_to_map_its_id_is_a_problem(
    make: Make, folder: JobFolder
) -> None:
    deep = b'{"custom_id":"own","params":{"messages":%b%b}}' % (b"[" * 100_000, b"]" * 100_000)
    rows = [line("a"), deep, line("b"), deep]
    with pytest.raises(InvalidInputError) as caught:
        plan_all(make(iter(rows), ids="map"), 10)
    assert [each.index for each in caught.value.problems] == [1, 3]
    assert "nested too deeply to replace its custom_id" in caught.value.problems[0].message
    limit = len(deep)
    small = SpooledInput(IterableSource(rows), folder, job_id=JOB_ID, ids="map", max_bytes=limit)
    first = plan_next(small, [], 10).plan
    assert first is not None
    assert first.count == 1
    with pytest.raises(InvalidInputError, match=r"^requests\.1: is nested too deeply"):
        plan_next(small, [first], 10)


@pytest.mark.parametrize("none", [[], ["", "\n"]])
def test_an_empty_source_is_an_error(make: Make, none: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="the iterable of requests has no requests"):
        plan_next(make(none), [], 10)


def test_an_iterable_that_fails_is_not_taken_for_one_that_ended(make: Make) -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield from requests(3)
        raise ConnectionError("the database is gone")

    input_ = make(failing())
    first = plan_next(input_, [], 2).plan
    assert first is not None
    for _ in range(2):
        with pytest.raises(
            InvalidInputError,
            match=r"failed at its item 3 \(ConnectionError: the database is gone\): correct",
        ) as caught:
            plan_next(input_, [first], 2)
    assert isinstance(caught.value.__cause__, ConnectionError)
    again = make(requests(5))
    again.resume(input_.describe(), [first], ended=False)
    assert [each.count for each in plan_all(again, 2, [first])] == [2, 2, 1]


def test_an_interrupted_iterable_is_not_taken_for_one_that_ended(make: Make) -> None:
    def interrupted() -> Iterator[dict[str, Any]]:
        yield from requests(3)
        raise KeyboardInterrupt

    input_ = make(interrupted())
    with pytest.raises(KeyboardInterrupt):
        plan_next(input_, [], 10)
    with pytest.raises(InvalidInputError, match="cannot be continued after an interruption: run"):
        plan_next(input_, [], 10)


def test_a_plan_that_was_dropped_is_not_skipped_over(make: Make) -> None:
    input_ = make(requests(9))
    plan_next(input_, [], 3)
    with pytest.raises(InvalidInputError, match="cannot be continued"):
        plan_next(input_, [], 3)


@pytest.mark.parametrize("what", [5, None, b"{}", {"custom_id": "a"}, BatchRequest])
def test_what_is_no_input_is_refused(make: Make, what: object) -> None:
    if what is BatchRequest:
        what = BatchRequest(custom_id="a", params={})
    with pytest.raises(InvalidInputError, match="must be a path or an iterable of requests, not"):
        make(what)


def test_what_is_for_one_batch_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInputError, match="PreparedRequests, which is for one batch"):
        make(prepare(lines(1)))


def test_an_input_is_chosen_by_what_it_is(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"\n".join(lines(3)))
    for each in (path, str(path), RequestsFile(path)):
        assert repr(make(each)) == f"JSONLInput({str(path)!r})"
    with path.open("rb") as file:
        input_ = make(file)
        assert repr(input_) == f"SpooledInput({str(path)!r})"
        assert json.loads(input_.describe()) == {"kind": "lines"}
    with path.open() as text:
        input_ = make(text)
        assert json.loads(input_.describe()) == {"kind": "iterable"}
        assert plan_all(input_, 9)[0].count == 3


# --- resuming ----------------------------------------------------------------------------


def test_a_file_that_was_read_to_its_end_is_not_read_again_unless_it_has_changed(
    make: Make, tmp_path: Path
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id\n" + "".join(f"r{n}\n" for n in range(5)))
    calls: list[str] = []

    def to_request(row: Mapping[str, Any]) -> RequestLike:
        calls.append(row["id"])
        return request(row["id"])

    def source() -> CSVSource:
        return CSVSource(path, to_request)

    input_ = make(source())
    described = input_.describe()
    chunks = plan_all(input_, 2)
    calls.clear()
    again = make(source())
    again.resume(described, chunks, ended=True)
    assert not calls
    assert [len(sent_requests(again, each)) for each in chunks] == [2, 2, 1]
    assert gather(again, chunks, [0, 4]).rows == (0, 4)
    path.touch()
    make(source()).resume(described, chunks, ended=True)
    assert len(calls) == 5
    path.write_text("id\nr0\nr1\nr2\nother\nr4\n")
    with pytest.raises(InputChangedError, match=r"chunk 1 \(rows 2 to 3\) is not what was"):
        make(source()).resume(described, chunks, ended=True)


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ([*requests(4), request("new")], r"chunk 2 \(rows 4 to 4\) is not what was planned"),
        (requests(6), "it has more than the 5 rows of the job"),
        (requests(4), r"it ends in chunk 2 \(rows 4 to 4\), after 4 rows"),
        ([], r"it ends in chunk 0 \(rows 0 to 1\), after 0 rows"),
    ],
)
def test_other_requests_for_a_job_that_has_read_its_input_are_refused(
    make: Make, other: list[Any], place: str
) -> None:
    input_ = make(requests(5))
    chunks = plan_all(input_, 2)
    make(requests(5)).resume(input_.describe(), chunks, ended=True)
    with pytest.raises(InputChangedError, match=place):
        make(other).resume(input_.describe(), chunks, ended=True)


def test_an_iterator_that_an_earlier_run_has_used_up_changes_nothing(make: Make) -> None:
    rows = iter(requests(5))
    input_ = make(rows)
    chunks = plan_all(input_, 2)
    again = make(rows)
    again.resume(input_.describe(), chunks, ended=True)
    assert [len(sent_requests(again, each)) for each in chunks] == [2, 2, 1]


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ([*requests(2), request("xx"), *requests(9)[3:]], r"chunk 1 \(rows 2 to 3\) is not what"),
        ([request("new"), *requests(9)], r"chunk 0 \(rows 0 to 1\) is not what was planned"),
        (requests(3), r"it ends in chunk 1 \(rows 2 to 3\), after 3 rows"),
        ([*requests(2), {"custom_id": "r2", "params": object()}, *requests(9)], r"chunk 1 "),
    ],
)
def test_a_changed_source_is_told_with_the_chunk(
    make: Make, other: list[RequestLike], place: str
) -> None:
    input_ = make(requests(9))
    chunks = [plan_next(input_, [], 2).plan]
    assert chunks[0] is not None
    planned = plan_all(input_, 2, [chunks[0]])[:2]
    again = make(other)
    again.resume(input_.describe(), planned, ended=False)
    for _ in range(2):
        with pytest.raises(InputChangedError, match=f"^the iterable of requests .*{place}"):
            plan_next(again, planned, 2)


def test_blank_lines_are_no_change(make: Make) -> None:
    input_ = make(lines(5))
    chunks = plan_all(input_, 2)[:2]
    again = make(["", lines(1)[0], b"\n", *lines(5)[1:]])
    again.resume(input_.describe(), chunks, ended=False)
    assert len(plan_all(again, 2, chunks)) == 3


def test_an_input_of_another_kind_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInputError, match="of the kind 'lines', and this one is 'iterable'"):
        make(requests(3)).resume('{"kind":"lines"}', [], ended=False)


def test_retries_between_the_chunks_of_the_input_are_skipped(make: Make) -> None:
    input_ = make(requests(9))
    first = plan_next(input_, [], 3).plan
    assert first is not None
    retry = gather(input_, [first], [1])
    chunks = plan_all(input_, 3, [first, retry])
    assert [each.first_row for each in chunks] == [0, 0, 3, 6]
    again = make(requests(9))
    again.resume(input_.describe(), chunks[:3], ended=False)
    assert plan_all(again, 3, chunks[:3]) == chunks


# --- crash points and full disks ---------------------------------------------------------


class _CrashError(BaseException):
    """Ends a process at one place, as far as a test can."""


@pytest.mark.parametrize("at", ["write", "fsync", "replace", "sync_folder"])
def test_a_crash_at_any_step_leaves_a_job_that_goes_on(
    make: Make, folder: JobFolder, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def crash(*_: object) -> None:
        raise _CrashError

    input_ = make(requests(9))
    first = plan_next(input_, [], 3).plan
    assert first is not None
    with monkeypatch.context() as patch:
        # A crash also runs no clean-up.
        patch.setattr(spool_file.SpoolFile, "__exit__", lambda *_: None)
        owner: Any = {"replace": Path, "sync_folder": spool_file}.get(at, os)
        patch.setattr(owner, at, crash)
        with pytest.raises(_CrashError):
            plan_next(input_, [first], 3)
    left = "000001.jsonl" if at == "sync_folder" else "000001.jsonl.part"
    assert names(folder.spool(0).parent) == ["000000.jsonl", left]
    again = make(requests(9))
    again.resume(input_.describe(), [first], ended=False)
    assert names(folder.spool(0).parent) == ["000000.jsonl"]
    assert [each.count for each in plan_all(again, 3, [first])] == [3, 3, 3]


def test_a_kill_while_it_copies_leaves_a_job_that_goes_on(folder: JobFolder) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from tests.jobs.store_support import *
        from batches_jobs._inputs.opening import open_input
        from batches_jobs._inputs import spool_file
        spool_file._GATHERED = 1
        def requests():
            yield from (request(f"r{number}") for number in range(5))
            os.kill(os.getpid(), signal.SIGKILL)
        input_ = open_input(requests(), JobFolder(sys.argv[1]), job_id=JOB_ID)
        first = plan_next(input_, [], 3).plan
        print(first.digest, flush=True)
        plan_next(input_, [first], 3)
    """
    with python(code, str(folder.path)) as process:
        out, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert names(folder.spool(0).parent) == ["000000.jsonl", "000001.jsonl.part"]
    assert folder.spool(0).with_name("000001.jsonl.part").stat().st_size > 0
    data = folder.spool(0).read_bytes()
    assert hashlib.sha256(data).hexdigest() == out.strip()


@pytest.mark.parametrize("at", ["open", "write", "fsync", "replace"])
def test_a_full_disk_is_told_and_the_next_run_goes_on(
    make: Make, folder: JobFolder, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    input_ = make(requests(9))
    first = plan_next(input_, [], 3).plan
    assert first is not None
    with monkeypatch.context() as patch:
        owner: Any = Path if at == "replace" else os
        patch.setattr(owner, at, full)
        with pytest.raises(
            StorageError, match=r"000001\.jsonl could not be written \(No space left on device\)"
        ):
            plan_next(input_, [first], 3)
    assert names(folder.spool(0).parent) == ["000000.jsonl"]
    with pytest.raises(
        InvalidInputError, match="cannot be continued after a failure to write: run"
    ):
        plan_next(input_, [first], 3)
    assert len(sent_requests(input_, first)) == 3
    again = make(requests(9))
    again.resume(input_.describe(), [first], ended=False)
    assert [each.count for each in plan_all(again, 3, [first])] == [3, 3, 3]


def test_a_write_that_is_done_in_parts_is_whole(
    make: Make, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:10]))
    input_ = make(requests(9))
    (plan,) = plan_all(input_, 100)
    assert sent_requests(input_, plan) == requests(9)
    assert names(folder.spool(0).parent) == ["000000.jsonl"]


def test_a_real_limit_of_the_system_is_told(folder: JobFolder) -> None:
    code = """
        import resource, signal, sys
        from tests.jobs.store_support import *
        from batches_jobs._errors import StorageError
        from batches_jobs._inputs.opening import open_input
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        input_ = open_input(lines(100), JobFolder(sys.argv[1]), job_id=JOB_ID)
        try:
            plan_next(input_, [], 100)
        except StorageError as error:
            print(error)
    """
    with python(code, str(folder.path)) as process:
        out, _ = process.communicate()
    assert "000000.jsonl could not be written (File too large)" in out
    assert names(folder.spool(0).parent) == []


def test_a_changed_or_missing_copy_is_named(make: Make, folder: JobFolder) -> None:
    input_ = make(requests(9))
    chunks = plan_all(input_, 3)
    copy = folder.spool(1)
    data = copy.read_bytes()
    copy.write_bytes(data.replace(b"r4", b"xx"))
    uses: list[Callable[[], object]] = [
        lambda: body(input_, chunks[1]),
        lambda: input_.ids(chunks[1]),
        lambda: input_.custom_ids(chunks[1]),
        lambda: gather(input_, chunks, [1, 4]),
    ]
    for use in uses:
        with pytest.raises(InputChangedError, match=r"000001\.jsonl .*chunk 1 \(rows 3 to 5\)"):
            use()
    copy.unlink()
    for use in uses:
        with pytest.raises(InvalidInputError, match=r"000001\.jsonl cannot be read .*put it back"):
            use()
    copy.write_bytes(data)
    for use in uses:
        use()


# --- lines of a stream -------------------------------------------------------------------


def test_lines_of_a_stream_are_named_by_their_numbers(make: Make) -> None:
    data = b"\xef\xbb\xbf" + b"\r\n".join([*lines(2), b"", lines(3)[2], b"{", b"", line("r2")])
    input_ = make(io.BytesIO(data))
    first = plan_next(input_, [], 2).plan
    assert first is not None
    with pytest.raises(InvalidInputError) as caught:
        plan_next(input_, [first], 10)
    assert [(each.line, each.index) for each in caught.value.problems] == [(5, None), (7, None)]
    assert "line 7, custom_id: 'r2' is already the id of line 4" in str(caught.value)


def test_a_compressed_file_that_was_opened_is_a_stream(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines(5))))
    with gzip.open(path) as file:
        input_ = make(file)
        chunks = plan_all(input_, 2)
    assert [one["custom_id"] for each in chunks for one in sent_requests(input_, each)] == [
        f"r{number}" for number in range(5)
    ]


def test_a_stream_of_another_kind_is_told_once(make: Make) -> None:
    with pytest.raises(InvalidInputError, match=r"^this looks like a gzip file"):
        plan_next(make(io.BytesIO(gzip.compress(b"\n".join(lines(500))))), [], 10)


def test_a_line_over_the_limit_ends_a_stream_with_its_number(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 3000)
    monkeypatch.setattr(files, "_USUAL_LINE", 500)
    fits = line("fits", system="x" * 2000)
    stream = io.BytesIO(b"\n".join([fits, b"[" + b" " * 5000, fits]))
    input_ = make(stream)
    first = plan_next(input_, [], 1).plan
    assert first is not None
    assert body(input_, first) == b'{"requests":[' + fits + b"]}"
    with pytest.raises(
        InvalidInputError, match=r"^line 2: has 5,002 bytes, over the limit of 3,000"
    ):
        plan_next(input_, [first], 1)


def test_standard_input_is_read_forward(folder: JobFolder) -> None:
    code = """
        import sys
        from tests.jobs.store_support import *
        from batches_jobs._inputs.opening import open_input
        input_ = open_input(sys.stdin.buffer, JobFolder(sys.argv[1]), job_id=JOB_ID)
        print(input_, [each.count for each in plan_all(input_, 2)])
    """
    with python(code, str(folder.path)) as process:
        out, _ = process.communicate("\n".join(each.decode() for each in lines(5)))
    assert out == "SpooledInput('<stdin>') [2, 2, 1]\n"


# --- CSV ---------------------------------------------------------------------------------


def to_request(row: Any) -> RequestLike:
    return request(row["id"], system=row["prompt"])


def csv_source(tmp_path: Path, data: str | bytes, **options: Any) -> CSVSource:
    path = tmp_path / "data.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return CSVSource(path, to_request, **options)


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("id,prompt\na,one\nb,two\n", {}),
        ("\ufeffid,prompt\r\na,one\r\n\r\nb,two", {}),
        ("id;prompt\na;one\nb;two\n", {"delimiter": ";"}),
        ("id,prompt\na,one\nb,two\n".encode("utf-16"), {"encoding": "utf-16"}),
    ],
)
def test_each_row_of_a_csv_file_becomes_a_request(
    make: Make, tmp_path: Path, data: str | bytes, options: dict[str, Any]
) -> None:
    input_ = make(csv_source(tmp_path, data, **options))
    (plan,) = plan_all(input_, 100)
    sent = sent_requests(input_, plan)
    assert [(one["custom_id"], one["params"]["system"]) for one in sent] == [
        ("a", "one"),
        ("b", "two"),
    ]
    described = json.loads(input_.describe())
    assert (described["kind"], described["path"]) == ("csv", str(tmp_path / "data.csv"))


def test_fields_of_a_csv_file_can_be_long_and_have_line_breaks(make: Make, tmp_path: Path) -> None:
    long = 'x,"' * 100_000
    quoted = long.replace('"', '""')
    source = csv_source(tmp_path, f'id,prompt\na,"1\n2\r\n3"\nb,"{quoted}"\n\na,c\n')
    input_ = make(source)
    first = plan_next(input_, [], 2).plan
    assert first is not None
    sent = sent_requests(input_, first)
    assert [one["params"]["system"] for one in sent] == ["1\n2\r\n3", long]
    input_ = make(source)
    with pytest.raises(InvalidInputError) as caught:
        plan_next(input_, [], 3)
    (problem,) = caught.value.problems
    assert (problem.line, problem.index, problem.field) == (7, 2, "custom_id")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "has no first row that names the columns"),
        ("\nid,prompt\n", "has no first row that names the columns"),
        ("id,id\na,b\n", "has several columns 'id'"),
        ("id,prompt\na,b\n\nc,d,e\n", "line 4: has 3 fields, and there are 2 columns"),
        ('id,prompt\n"a\nb",c\nd\n', "line 4: has 1 fields, and there are 2 columns"),
        ('id,prompt\na,"b\n', "line 2: is not CSV: unexpected end of data"),
        ('id,prompt\na,"b"c\n', "line 2: is not CSV: ',' expected after '\"'"),
        (b"id,prompt\na,b\n\xff,c\n", r"is not text in utf-8-sig \(invalid start byte, after line"),
        ("name,prompt\na,b\n", "line 2: the function that makes requests raised KeyError: 'id'"),
        ("id,prompt\n", "data.csv has no requests"),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_told(
    make: Make, tmp_path: Path, data: str | bytes, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        plan_all(make(csv_source(tmp_path, data)), 10)


def test_a_csv_file_is_compared_when_a_job_goes_on(make: Make, tmp_path: Path) -> None:
    rows = "".join(f"r{number},p{number}\n" for number in range(9))
    input_ = make(csv_source(tmp_path, "id,prompt\n" + rows))
    chunks = plan_all(input_, 3)
    again = make(csv_source(tmp_path, "id,prompt\n\n" + rows + "new,row\n"))
    again.resume(input_.describe(), chunks[:2], ended=False)
    assert [each.count for each in plan_all(again, 3, chunks[:2])] == [3, 3, 3, 1]
    again = make(csv_source(tmp_path, "id,prompt\n" + rows.replace("p4", "xx")))
    again.resume(input_.describe(), chunks[:2], ended=False)
    with pytest.raises(InputChangedError, match=r"data\.csv was changed.*chunk 1 \(rows 3 to 5\)"):
        plan_next(again, chunks[:2], 3)


def test_a_missing_csv_file_is_told(make: Make, tmp_path: Path) -> None:
    input_ = make(CSVSource(tmp_path / "none.csv", to_request))
    for use in (input_.describe, lambda: plan_next(input_, [], 1)):
        with pytest.raises(InvalidInputError, match=r"none\.csv cannot be read"):
            use()


@pytest.mark.parametrize("kind", [CSVSource, ParquetSource])
def test_a_function_that_cannot_be_called_is_refused(kind: Any) -> None:
    async def asynchronous(row: Any) -> Any:
        return row

    for function in (None, "template", asynchronous):
        with pytest.raises(InvalidInputError, match=r"function (must be a|is an async) function"):
            kind("data", function)


# --- Parquet -----------------------------------------------------------------------------


def parquet(tmp_path: Path, count: int, **options: Any) -> Path:
    pa, pq = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    path = tmp_path / "data.parquet"
    columns = {
        "id": [f"r{number}" for number in range(count)],
        "prompt": [f"é{number}" for number in range(count)],
        "score": [number / 2 for number in range(count)],
    }
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_each_row_of_a_parquet_file_becomes_a_request(make: Make, tmp_path: Path) -> None:
    def with_score(row: Any) -> RequestLike:
        return request(row["id"], system=row["prompt"], score=row["score"])

    path = parquet(tmp_path, 25, row_group_size=10)
    input_ = make(ParquetSource(path, with_score))
    chunks = plan_all(input_, 10)
    assert [each.count for each in chunks] == [10, 10, 5]
    sent = [one for each in chunks for one in sent_requests(input_, each)]
    assert sent[24]["params"]["system"] == "é24"
    assert sent[24]["params"]["score"] == 12
    again = make(ParquetSource(path, with_score))
    again.resume(input_.describe(), chunks[:1], ended=False)
    assert plan_all(again, 10, chunks[:1]) == chunks


def test_only_the_columns_that_are_asked_for_are_read(make: Make, tmp_path: Path) -> None:
    path = parquet(tmp_path, 3)
    seen: list[Any] = []

    def function(row: Any) -> RequestLike:
        seen.append(row)
        return request(row["id"])

    plan_all(make(ParquetSource(path, function, columns=["id"])), 10)
    assert seen == [{"id": "r0"}, {"id": "r1"}, {"id": "r2"}]
    with pytest.raises(InvalidInputError, match=r"requests\.0: the function .* KeyError: 'prompt'"):
        plan_all(make(ParquetSource(path, to_request, columns=["id"])), 10)


def test_a_file_that_is_not_parquet_is_told(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"id,prompt\n" * 10)
    with pytest.raises(InvalidInputError, match=r"cannot be read as Parquet \(.*\): pass another"):
        plan_all(make(ParquetSource(path, to_request)), 10)


def test_parquet_needs_its_extra_and_nothing_else_does() -> None:
    code = """
        import sys
        class Missing:
            def find_spec(self, name, path=None, target=None):
                if name == "pyarrow":
                    raise ModuleNotFoundError("No module named 'pyarrow'", name=name)
        sys.meta_path.insert(0, Missing())
        import tests.jobs.store_support
        from batches_jobs._inputs.opening import open_input
        from batches_jobs._inputs.parquet import ParquetSource
        try:
            ParquetSource("data.parquet", dict)
        except ModuleNotFoundError as error:
            print(error)
    """
    with python(code) as process:
        out, _ = process.communicate()
    assert out == "pyarrow is not installed: pip install 'batches-core[parquet]'\n"


def test_a_broken_pyarrow_is_not_taken_for_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pyarrow\.parquet"):
        ParquetSource("data.parquet", to_request)


# --- memory ------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_source(make: Make) -> None:
    made = (request(f"r{number}", system="x" * 300) for number in range(40_000))
    input_ = make(made)
    tracemalloc.start()
    try:
        chunks = plan_all(input_, 2000)
        for each in chunks[:3]:
            for _ in input_.requests(each).prepare().body:
                pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(chunks) == 20
    assert peak < 4_000_000


def test_each_kind_of_source_has_its_own_name() -> None:
    sources = (CSVSource, IterableSource, LinesSource, MissingSource, ParquetSource)
    kinds = [each.kind for each in sources]
    assert sorted(kinds) == ["csv", "iterable", "lines", "missing", "parquet"]
    assert LinesSource(io.BytesIO()).name == "the file"


def test_iterables_of_any_kind_are_accepted(make: Make) -> None:
    many: list[Iterable[RequestLike]] = [tuple(requests(2)), iter(requests(2)), map(request, "ab")]
    for each in many:
        assert plan_all(make(each), 10)[0].count == 2
