"""Tables of rows as the requests of a job, and reading their rows again."""

from __future__ import annotations

import importlib
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped] # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # likewise
import pytest

from batches_core import InvalidInputError
from batches_core.jobs import ChunkPlanned, JobOpened, JobOptions
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.opening import open_input
from batches_jobs._inputs.reopening import reopen_input
from batches_jobs._inputs.rows import open_rows
from batches_jobs._inputs.table import table_description
from batches_jobs._job_reader import JobReader
from batches_jobs._template import Template
from tests.jobs.store_support import JOB_ID, folder_in, plan_all, plan_next, sent_requests
from tests.support.stored_job import store_job

TEMPLATE = Template("m", "Classify: {review}", max_tokens=5, id_column="id")
ROWS = [{"id": f"r{n}", "review": f"good, {n}\né"} for n in range(7)]


def write(path: Path, rows: list[dict[str, Any]] = ROWS) -> Path:
    """Write a table in the format of its suffix."""
    match path.suffix:
        case ".csv" | ".tsv":
            between = "," if path.suffix == ".csv" else "\t"
            lines = [between.join(rows[0])]
            lines += [between.join(f'"{value}"' for value in row.values()) for row in rows]
            path.write_text("\n".join(lines), "utf-8")
        case ".jsonl" | ".ndjson":
            path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def prompts(input_: Any, plans: list[ChunkPlanned]) -> list[tuple[str, str]]:
    return [
        (request["custom_id"], request["params"]["messages"][0]["content"])
        for plan in plans
        for request in sent_requests(input_, plan)
    ]


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.tsv", "a.jsonl", "a.ndjson", "a.parquet"])
def test_each_row_is_a_request_in_every_format(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name.lower()).rename(tmp_path / name)
    input_ = open_input(open_rows(path, TEMPLATE), folder_in(tmp_path), job_id=JOB_ID)
    assert prompts(input_, plan_all(input_, 3)) == [
        (row["id"], f"Classify: {row['review']}") for row in ROWS
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.parquet"])
def test_the_rows_can_be_read_again_with_the_numbers_of_their_requests(
    tmp_path: Path, name: str
) -> None:
    source = open_rows(write(tmp_path / name), TEMPLATE)
    assert [dict(row) for row in source.rows()] == ROWS == [dict(row) for row in source.rows()]
    assert [json.loads(bytes(each))["custom_id"] for _, each in source.read()] == [  # type: ignore[arg-type] # templates make bytes
        row["id"] for row in ROWS
    ]


def test_a_row_has_the_number_of_its_request_if_there_are_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("review\n\na\n\n\nb\n")
    source = open_rows(path, Template("m", "{review}"))
    input_ = open_input(source, folder_in(tmp_path), job_id=JOB_ID)
    assert prompts(input_, plan_all(input_, 5)) == [("0", "a"), ("1", "b")]
    assert [*source.rows()] == [{"review": "a"}, {"review": "b"}]


def test_the_format_can_be_passed_if_the_suffix_does_not_say_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv").rename(tmp_path / "a.txt")
    with pytest.raises(
        InvalidInputError, match=r"has the suffix '.txt', .* pass format, one of cs"
    ):
        open_rows(path, TEMPLATE)
    assert len([*open_rows(path, TEMPLATE, format="csv").rows()]) == 7


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst", ".zip"])
def test_a_compressed_file_is_refused_with_the_command_that_unpacks_it(
    tmp_path: Path, suffix: str
) -> None:
    with pytest.raises(InvalidInputError, match=r"is compressed: unpack it first, for example wi"):
        open_rows(tmp_path / f"a.csv{suffix}", TEMPLATE)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "a.csv",
            b"id,text\n1,x\n",
            r"a.csv has no column 'review' \(named in the prompt\): its c",
        ),
        ("a.csv", b"", r"a.csv has no first row that names the columns"),
        ("a.csv", b"id,review,id\n", r"a.csv has several columns 'id'"),
        ("a.csv", b"id,review\n1,x\n2\n", r"line 3: has 1 fields, and there are 2 columns"),
        ("a.csv", b"id,review\n1,\xff\n", r"a.csv is not text in utf-8-sig"),
        ("a.csv", b"id,review\n1,\n", r"line 2: is empty in 'review', so its prompt would have no"),
        ("a.jsonl", b'{"id": 1, "review": "x"}\n\n{"id": 2}\n', r"line 3: has no column 'review'"),
        ("a.jsonl", b"[1]\n", r"line 1: is a list: each line is a JSON object"),
        ("a.jsonl", b'{"id": 1\n', r"line 1: is not JSON"),
        ("a.jsonl", b'{"id": "\xff"}\n', r"line 1: is not JSON"),
        ("a.jsonl", b"\n", r"a.jsonl has no requests"),
        ("a.parquet", b"PAR1", r"a.parquet cannot be read as Parquet"),
    ],
)
def test_a_bad_table_is_an_error_with_its_place(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=problem):
        plan_all(open_input(open_rows(path, TEMPLATE), folder_in(tmp_path), job_id=JOB_ID), 5)


def test_a_bad_row_of_parquet_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [*ROWS, {"id": "x", "review": None}])
    input_ = open_input(open_rows(path, TEMPLATE), folder_in(tmp_path), job_id=JOB_ID)
    with pytest.raises(InvalidInputError, match=r"^requests.7: is empty in 'review'"):
        plan_all(input_, 50)


def test_a_missing_table_is_an_error(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            open_rows(tmp_path / name, TEMPLATE)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        next(open_rows(tmp_path / "a.jsonl", TEMPLATE).rows())


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    format_: Any = "xlsx"
    with pytest.raises(InvalidInputError, match="format is 'xlsx': pass one of csv, tsv, jsonl, p"):
        open_rows(tmp_path / "a.csv", TEMPLATE, format=format_)


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError(name="pyarrow")

    path = write(tmp_path / "a.parquet")
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'batches-core\[parquet\]'"):
        open_rows(path, TEMPLATE)


def test_values_of_parquet_have_their_text_in_the_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    row = {"n": 3, "ok": True, "day": date(2026, 1, 2), "tags": ["a", "b"], "none": None}
    pq.write_table(pa.Table.from_pylist([row]), path)
    source = open_rows(path, Template("m", "{n} {ok} {day} {tags} <{none}>"))
    input_ = open_input(source, folder_in(tmp_path), job_id=JOB_ID)
    assert prompts(input_, plan_all(input_, 1)) == [("0", '3 true 2026-01-02 ["a","b"] <>')]


class TestResuming:
    def begin(self, tmp_path: Path, template: Template = TEMPLATE) -> tuple[JobFolder, str, Any]:
        folder = folder_in(tmp_path)
        source = open_rows(write(tmp_path / "a.csv"), template)
        input_ = open_input(source, folder, job_id=JOB_ID)
        plan = plan_next(input_, [], 3).plan
        assert plan is not None
        return folder, input_.describe(), plan

    def test_goes_on_with_the_same_table_and_template(self, tmp_path: Path) -> None:
        folder, described, plan = self.begin(tmp_path)
        again = open_input(open_rows(tmp_path / "a.csv", TEMPLATE), folder, job_id=JOB_ID)
        again.resume(described, [plan], ended=False)
        plans = plan_all(again, 3, [plan])
        assert [custom_id for custom_id, _ in prompts(again, plans)] == [row["id"] for row in ROWS]

    @pytest.mark.parametrize("ended", [True, False])
    def test_is_refused_with_a_changed_template(self, tmp_path: Path, ended: bool) -> None:  # noqa: FBT001 - a parameter of the test
        folder, described, plan = self.begin(tmp_path)
        other = Template("m", "Rate: {review}", max_tokens=5, id_column="id")
        again = open_input(open_rows(tmp_path / "a.csv", other), folder, job_id=JOB_ID)
        with pytest.raises(InputChangedError) as caught:
            again.resume(described, [plan], ended=ended)
        assert "the template was changed after the job read it" in str(caught.value)
        assert "the job was begun with prompt='Classify: {review}'" in str(caught.value)

    def test_is_refused_with_changed_rows(self, tmp_path: Path) -> None:
        folder, described, plan = self.begin(tmp_path)
        write(tmp_path / "a.csv", [*ROWS[:1], {"id": "r1", "review": "bad"}, *ROWS[2:]])
        again = open_input(open_rows(tmp_path / "a.csv", TEMPLATE), folder, job_id=JOB_ID)
        again.resume(described, [plan], ended=False)
        with pytest.raises(InputChangedError, match=r"chunk 0 \(rows 0 to 2\) is not what was pla"):
            plan_next(again, [plan], 3)

    def test_is_refused_with_another_format(self, tmp_path: Path) -> None:
        folder, described, plan = self.begin(tmp_path)
        rows = open_rows(write(tmp_path / "a.jsonl"), TEMPLATE)
        again = open_input(rows, folder, job_id=JOB_ID)
        with pytest.raises(InvalidInputError, match="begun with an input of the kind 'csv rows'"):
            again.resume(described, [plan], ended=False)

    @pytest.mark.parametrize("is_moved", [False, True])
    def test_needs_only_the_journal_and_the_file(
        self,
        tmp_path: Path,
        is_moved: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        folder, source, plan = self.begin(tmp_path)
        opened = JobOpened(job_id=JOB_ID, options=JobOptions(), source=source)
        path = (tmp_path / "a.csv").rename(tmp_path / "b.csv") if is_moved else None
        again = reopen_input(opened, folder, path=path)
        again.resume(source, [plan], ended=False)
        plans = plan_all(again, 3, [plan])
        assert [custom_id for custom_id, _ in prompts(again, plans)] == [row["id"] for row in ROWS]
        assert again.describe() == source

    def test_without_the_file_sends_only_what_was_read(self, tmp_path: Path) -> None:
        folder, source, plan = self.begin(tmp_path)
        (tmp_path / "a.csv").unlink()
        opened = JobOpened(job_id=JOB_ID, options=JobOptions(), source=source)
        again = reopen_input(opened, folder)
        again.resume(source, [plan], ended=False)
        assert len(sent_requests(again, plan)) == 3
        with pytest.raises(InvalidInputError, match=r"a.csv cannot be read"):
            plan_next(again, [plan], 3)

    def test_of_other_inputs_has_no_table(self) -> None:
        assert table_description('{"kind":"jsonl","path":"a"}') is None
        assert table_description("") is None


class OneByOne(io.RawIOBase):
    """A pipe that returns a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, 7))


class TestOpenFiles:
    def open(self, file: Any, copy: Path) -> Any:
        return open_rows(file, TEMPLATE, format="csv", copy_to=copy)

    def test_are_copied_before_the_first_request(self, tmp_path: Path) -> None:
        data = write(tmp_path / "a.csv").read_bytes()
        folder = folder_in(tmp_path)
        source = self.open(OneByOne(data), folder.rows("csv"))
        assert folder.rows("csv").read_bytes() == data
        assert [dict(row) for row in source.rows()] == ROWS
        # The folder still counts as one without a job.
        folder.create()

    def test_with_the_same_bytes_resume_a_job(self, tmp_path: Path) -> None:
        data, copy = write(tmp_path / "a.csv").read_bytes(), tmp_path / "copy.csv"
        for _ in range(2):
            assert len([*self.open(OneByOne(data), copy).rows()]) == 7

    @pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\n", lambda d: b"x" + d])
    def test_with_other_bytes_are_refused(self, tmp_path: Path, change: Any) -> None:
        data, copy = write(tmp_path / "a.csv").read_bytes(), tmp_path / "copy.csv"
        self.open(OneByOne(data), copy)
        with pytest.raises(InputChangedError, match=r"which was copied to .*copy.csv, was changed"):
            self.open(OneByOne(change(data)), copy)
        assert copy.read_bytes() == data

    def test_are_found_if_the_folder_of_the_job_was_moved(self, tmp_path: Path) -> None:
        data = write(tmp_path / "a.csv").read_bytes()
        folder = folder_in(tmp_path)
        source = self.open(OneByOne(data), folder.rows("csv"))
        store_job(folder.path, source)
        moved = folder.path.rename(tmp_path / "moved.job")
        ids = [*JobReader(moved).table(select=["id"]).rows()]
        assert ids == [(row["id"],) for row in ROWS]

    def test_need_a_format_and_a_place_for_the_copy(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInputError, match="pass format, one of csv, tsv, jsonl, parquet"):
            open_rows(io.BytesIO(b""), TEMPLATE, copy_to=tmp_path / "x")
        with pytest.raises(InvalidInputError, match="and copy_to"):
            open_rows(io.BytesIO(b""), TEMPLATE, format="csv")

    def test_that_cannot_be_copied_leave_nothing_behind(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError):
            self.open(OneByOne(b"x"), tmp_path / "missing" / "copy.csv")

        class Broken(OneByOne):
            def read(self, size: int = -1, /) -> bytes:
                if data := super().read(size):
                    return data
                raise OSError(5, "Input/output error")

        with pytest.raises(InvalidInputError, match=r"cannot be read \(Input/output error\)"):
            self.open(Broken(b"x" * 20), tmp_path / "copy.csv")
        assert [*tmp_path.iterdir()] == []

    def test_of_a_slower_second_start_replace_nothing(self, tmp_path: Path) -> None:
        data, copy = write(tmp_path / "a.csv").read_bytes(), tmp_path / "copy.csv"

        class Slow(OneByOne):
            """While it is read, another start of the job copies its rows."""

            def read(self, size: int = -1, /) -> bytes:
                if not copy.exists():
                    outer.open(OneByOne(data), copy)
                return super().read(size)

        outer = self
        with pytest.raises(InputChangedError, match="it differs near byte"):
            self.open(Slow(data + b"8,other,x\n"), copy)
        assert copy.read_bytes() == data
        assert len([*self.open(Slow(data), copy).rows()]) == 7
        assert [each.name for each in tmp_path.glob("copy*")] == ["copy.csv"]
