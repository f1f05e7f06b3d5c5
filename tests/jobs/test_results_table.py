"""A job's results as a table: its columns, its formats, and the input's own columns."""

from __future__ import annotations

import csv
import io
import json
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

import duckdb
import msgspec
import pyarrow as pa  # type: ignore[import-untyped] # it has no types
import pyarrow.parquet as pq  # type: ignore[import-untyped] # likewise
import pytest

from batches_core import InvalidInputError
from batches_core.lowlevel import message_decoder
from batches_jobs._errors import InputChangedError, JournalError, ResultsFileError
from batches_jobs._inputs.rows import open_rows
from batches_jobs._job_reader import JobReader
from batches_jobs._results import AnsweredRow
from batches_jobs._table import parquet_format, text_formats
from batches_jobs._table.columns import Column, joined_columns
from batches_jobs._table.own_columns import infer_columns
from batches_jobs._template import Template
from tests.jobs.store_support import lines, request
from tests.support.job_run import line, success, usage
from tests.support.stored_job import Answer, store_job

NAMES = [
    *("row", "custom_id", "type", "text", "content", "stop_reason", "model"),
    *("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens"),
    *("cache_write_1h_tokens", "error_type", "error_message", "batch_id", "round"),
]
TEMPLATE = Template("m", "Classify: {text}", max_tokens=5, id_column="id")


def numbered(row: int, _attempt: int) -> dict[str, Any]:
    return success(f"answer {row}")


def mixed(row: int, attempt: int) -> str | dict[str, Any]:
    """Answer rows 0 and 5 and so on; let others expire once, fail, be rejected or unreadable."""
    fates = ("expired", "invalid", "rejected", "unreadable")
    if row % 5 == 0 or (row % 5 == 1 and attempt):
        return numbered(row, attempt)
    return fates[row % 5 - 1]


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    table = JobReader(path).table(**options)
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in table.rows()]


def requests_job(tmp_path: Path, count: int = 10, answer: Answer = mixed, **options: Any) -> Path:
    return store_job(
        tmp_path / "a.job", [request(f"r{n}") for n in range(count)], answer, **options
    )


def write_csv(path: Path, count: int = 10) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text", "stars", "Model"])
        rows.writerows([f"x{n}", f'"good", {n}\né', n % 5 or "", "k"] for n in range(count))
    return path


def csv_job(tmp_path: Path, count: int = 10, answer: Answer = mixed, **options: Any) -> Path:
    rows = open_rows(write_csv(tmp_path / "a.csv", count), TEMPLATE)
    return store_job(tmp_path / "a.job", rows, answer, **options)


class TestColumns:
    def test_are_flat_and_named(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path)
        assert [column.name for column in JobReader(path).table().columns] == NAMES

    def test_of_an_answer(self, tmp_path: Path) -> None:
        counted = usage(
            cache_read_input_tokens=3,
            cache_creation_input_tokens=7,
            cache_creation={"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 2},
        )
        answer = success("é\n", usage=counted, stop_reason="max_tokens")
        [row] = read(requests_job(tmp_path, 1, lambda *_: answer))
        content = row.pop("content")
        assert json.loads(bytes(content)) == [{"type": "text", "text": "é\n"}]
        assert row == {
            "row": 0,
            "custom_id": "r0",
            "type": "succeeded",
            "text": "é\n",
            "stop_reason": "max_tokens",
            "model": "claude-haiku-4-5",
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_read_tokens": 3,
            "cache_write_5m_tokens": 5,
            "cache_write_1h_tokens": 2,
            "error_type": None,
            "error_message": None,
            "batch_id": "b0",
            "round": 0,
        }

    def test_of_failed_rows_have_the_reason(self, tmp_path: Path) -> None:
        rows = read(requests_job(tmp_path, 5))
        assert [row["type"] for row in rows] == [
            *("succeeded", "succeeded", "errored", "rejected", "unreadable")
        ]
        assert (rows[2]["error_type"], rows[2]["error_message"]) == ("invalid_request_error", "no")
        assert (rows[2]["text"], rows[2]["content"], rows[2]["output_tokens"]) == (None, None, None)
        # A rejected answer was paid for.
        assert (rows[3]["text"], rows[3]["output_tokens"]) == ("bad", 5)
        assert rows[4]["error_type"] == "unreadable"

    def test_say_in_which_batch_and_round_a_row_was_settled(self, tmp_path: Path) -> None:
        rows = read(requests_job(tmp_path, 5))
        assert (rows[0]["round"], rows[1]["round"], rows[3]["round"]) == (0, 1, 3)
        assert rows[0]["batch_id"] == "b0"
        assert rows[1]["batch_id"] not in {"b0", "b1"}

    def test_of_lost_and_unsent_rows(self, tmp_path: Path) -> None:
        lost = read(requests_job(tmp_path, 6, numbered, lost=frozenset({1})))
        assert [row["type"] for row in lost] == ["succeeded"] * 4 + ["lost"] * 2
        path = store_job(tmp_path / "b.job", [request("r")], lambda *_: "expired", cancel_at=3)
        assert {(row["type"], row["error_type"]) for row in read(path)} == {
            ("canceled", "canceled")
        }

    def test_have_the_callers_own_ids(self, tmp_path: Path) -> None:
        own = ["same", "same", None, 5]
        path = store_job(tmp_path / "a.job", [request(each) for each in own], ids="map")
        assert [row["custom_id"] for row in read(path)] == ["same", "same", None, "5"]

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ([{"type": "text", "text": "a"}, {"type": "thinking", "text": "no"}], "a"),
            ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
            ("a string", "a string"),
            (["a", {"type": "text", "text": "b"}, 5], "ab"),
            ([], ""),
            (None, ""),
            ([{"type": "text", "text": 5}], ""),
            (7, ""),
        ],
    )
    def test_of_irregular_messages_have_the_text_of_their_message(
        self, tmp_path: Path, content: Any, text: str
    ) -> None:
        answer = success(content=content)
        [row] = read(requests_job(tmp_path, 1, lambda *_: answer))
        assert row["text"] == text
        expected: Any = message_decoder().decode_line(line("x", answer)).result
        assert expected.message.text == text

    def test_of_an_answer_with_a_lone_surrogate_show_its_escape(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path, 1)
        raw = JobReader(path).folder.raw(0)
        raw.write_bytes(raw.read_bytes().replace(b"answer 0", rb"\ud83d!"))
        [row] = read(path)
        assert row["text"] == r"\ud83d!"
        for name in ("x.jsonl", "x.csv", "x.parquet"):
            JobReader(path).write_table(JobReader(path).table(), tmp_path / name, None)

    @pytest.mark.parametrize("message", ["{}", '{"usage": {"input_tokens": "x"}, "model": 5}'])
    def test_of_an_answer_without_the_usual_fields_are_missing(
        self, tmp_path: Path, message: str
    ) -> None:
        path = requests_job(tmp_path, 1)
        raw = JobReader(path).folder.raw(0)
        raw.write_bytes(
            b'{"custom_id": "r0", "result": {"type": "succeeded", "message": %b}}\n'
            % message.encode()
        )
        [row] = read(path)
        assert (row["type"], row["model"], row["stop_reason"]) == ("succeeded", None, None)
        assert (row["text"], row["content"], row["output_tokens"]) == ("", None, 0)


class TestOptions:
    def test_include_only_answered_or_failed_rows(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path)
        assert [row["row"] for row in read(path, include="answered")] == [0, 1, 5, 6]
        assert [row["row"] for row in read(path, include="failed")] == [2, 3, 4, 7, 8, 9]

    def test_select_columns_in_any_order(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path, 1)
        assert [[*row.items()] for row in read(path, select=["text", "row"])] == [
            [("text", "answer 0"), ("row", 0)]
        ]

    @pytest.mark.parametrize(
        ("select", "problem"),
        [
            (
                ["txt"],
                "select has 'txt', which is no column: the columns are row, custom_id, type,",
            ),
            (["row", "row"], "select has 'row' several times"),
            ([], "select is empty"),
        ],
    )
    def test_select_no_wrong_columns(self, tmp_path: Path, select: Any, problem: str) -> None:
        with pytest.raises(InvalidInputError, match=problem):
            JobReader(requests_job(tmp_path, 1)).table(select=select)

    def test_order_rows_by_the_input_or_the_files(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path)
        by_file = [row["row"] for row in read(path, order="any")]
        assert by_file != sorted(by_file) == [row["row"] for row in read(path)] == [*range(10)]

    def test_that_are_unknown_are_refused(self, tmp_path: Path) -> None:
        reader = JobReader(requests_job(tmp_path, 1))
        wrong: Any = "some"
        with pytest.raises(
            InvalidInputError, match="include is 'some': pass one of all, answered,"
        ):
            reader.table(include=wrong)
        with pytest.raises(InvalidInputError, match="order is 'some'"):
            reader.table(order=wrong)
        with pytest.raises(InvalidInputError, match="format is 'some': pass one of jsonl, csv, pa"):
            reader.write_table(reader.table(), tmp_path / "x.csv", wrong)
        with pytest.raises(
            InvalidInputError, match=r"has the suffix '.txt', which is not that of a"
        ):
            reader.write_table(reader.table(), tmp_path / "x.txt", None)


class TestOwnColumns:
    def test_are_joined_to_each_row(self, tmp_path: Path) -> None:
        path = csv_job(tmp_path)
        rows = read(path)
        assert [*rows[0]] == [
            *("row", "custom_id", "id", "input_text", "stars", "input_Model"),
            *NAMES[2:],
        ]
        assert [(row["row"], row["custom_id"], row["id"]) for row in rows] == [
            (n, f"x{n}", f"x{n}") for n in range(10)
        ]
        assert rows[5]["input_text"] == '"good", 5\né'
        assert rows[5]["text"] == "answer 5"
        assert rows[5]["stars"] == ""

    def test_are_joined_to_failed_rows_and_in_any_order(self, tmp_path: Path) -> None:
        path = csv_job(tmp_path)
        failed = read(path, include="failed", order="any")
        assert [row["id"] for row in failed] == ["x2", "x3", "x4", "x7", "x8", "x9"]

    def test_with_taken_names_get_a_prefix_until_they_are_free(self) -> None:
        names = ["row", "input_row", "TEXT", "own", "input_tokens", "input_type", "type"]
        joined = joined_columns([Column(name) for name in names])
        own = {column.own_name: column.name for column in joined if column.own_name is not None}
        assert own == {
            "row": "input_row",
            "input_row": "input_input_row",
            "TEXT": "input_TEXT",
            "own": "own",
            "input_tokens": "input_input_tokens",
            "input_type": "input_type",
            "type": "input_input_type",
        }

    def test_are_not_read_if_none_is_selected(self, tmp_path: Path) -> None:
        path = csv_job(tmp_path)
        (tmp_path / "a.csv").unlink()
        assert len(read(path, own_columns=False)) == 10
        with pytest.raises(InvalidInputError, match=r"a.csv cannot be read"):
            read(path)

    def test_are_found_if_the_file_was_moved(self, tmp_path: Path) -> None:
        path = csv_job(tmp_path)
        (tmp_path / "a.csv").rename(tmp_path / "b.csv")
        table = JobReader(path, input_path=tmp_path / "b.csv").table(select=["id", "text"])
        assert next(table.rows()) == ("x0", "answer 0")

    def test_of_a_changed_file_are_refused(self, tmp_path: Path) -> None:
        path = csv_job(tmp_path)
        text = (tmp_path / "a.csv").read_text("utf-8")
        (tmp_path / "a.csv").write_text(text.replace("good", "baad"), "utf-8")
        with pytest.raises(
            InputChangedError, match=r"chunk 0 \(rows 0 to 3\) is not what was sent"
        ):
            read(path)
        (tmp_path / "a.csv").write_text(text[: text.index("x9")], "utf-8")
        with pytest.raises(
            InputChangedError, match=r"chunk 2 \(rows 8 to 9\) is not what was sent"
        ):
            read(path)

    def test_of_a_file_that_was_written_again_with_the_same_rows_are_joined(
        self, tmp_path: Path
    ) -> None:
        path = csv_job(tmp_path)
        text = (tmp_path / "a.csv").read_text("utf-8")
        (tmp_path / "a.csv").unlink()
        (tmp_path / "a.csv").write_text(text, "utf-8")
        assert len(read(path)) == 10

    def test_of_a_file_that_changes_between_two_readings_are_refused(self, tmp_path: Path) -> None:
        reader = JobReader(csv_job(tmp_path))
        table = reader.table()
        assert len([*table.rows()]) == 10
        text = (tmp_path / "a.csv").read_text("utf-8")
        (tmp_path / "a.csv").write_text(text.replace("good", "baad"), "utf-8")
        for again in (table, reader.table()):
            with pytest.raises(InputChangedError, match="chunk 0 "):
                [*again.rows()]

    def test_of_a_file_that_changes_while_it_is_read_are_refused(self, tmp_path: Path) -> None:
        rows = JobReader(csv_job(tmp_path)).table().rows()
        next(rows)
        text = (tmp_path / "a.csv").read_text("utf-8")
        (tmp_path / "a.csv").write_text(text.replace("good", "baad"), "utf-8")
        with pytest.raises(InputChangedError, match="it was changed while it was read"):
            assert len([*rows]) == 9

    def test_of_parquet_keep_their_types(self, tmp_path: Path) -> None:
        rows = {
            "text": pa.array(["a", "b"]),
            "n": pa.array([1, None], pa.int32()),
            "price": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
            "day": pa.array([date(2026, 1, 2), None]),
            "at": pa.array([datetime(2026, 1, 2, tzinfo=UTC), None], pa.timestamp("ms", "UTC")),
            "tags": pa.array([["x"], None], pa.list_(pa.string())),
            "who": pa.array([{"a": 1}, None], pa.struct([("a", pa.int8())])),
            "kind": pa.array(["k", "l"]).dictionary_encode(),
        }
        pq.write_table(pa.table(rows), tmp_path / "a.parquet")
        source = open_rows(tmp_path / "a.parquet", Template("m", "{text}"))
        reader = JobReader(store_job(tmp_path / "a.job", source))
        reader.write_table(reader.table(), tmp_path / "out.parquet", None)
        out = pq.read_table(tmp_path / "out.parquet")
        given = pa.table(rows).rename_columns(["input_text", *[*rows][1:]])
        assert out.select(given.schema.names).equals(given)
        for name in ("out.jsonl", "out.csv"):
            reader.write_table(reader.table(), tmp_path / name, None)
        first = json.loads((tmp_path / "out.jsonl").read_bytes().splitlines()[0])
        assert (first["n"], first["price"], first["day"]) == (1, "1.10", "2026-01-02")
        assert (first["tags"], first["who"]) == (["x"], {"a": 1})
        with (tmp_path / "out.csv").open(newline="") as file:
            row = next(csv.DictReader(file))
        assert (row["n"], row["tags"], row["at"]) == ("1", '["x"]', "2026-01-02T00:00:00+00:00")

    @pytest.mark.parametrize(
        ("values", "type_"),
        [
            ([None], "str"),
            (["a", None], "str"),
            ([1, None, 2**62], "int"),
            ([1, 2.5], "float"),
            ([2**60, 2.5], "json"),
            ([2**64], "json"),
            ([float("inf")], "json"),
            ([True, False], "bool"),
            ([True, 1], "json"),
            (["a", 1], "json"),
            ([[1]], "json"),
            ([{"a": 1}, None], "json"),
        ],
    )
    def test_of_jsonl_have_a_type_that_keeps_every_value(
        self, values: list[Any], type_: str
    ) -> None:
        [column] = infer_columns(iter([{"a": value} for value in values]))
        assert column == Column("a", cast("Any", type_))

    def test_of_jsonl_are_those_of_all_rows(self, tmp_path: Path) -> None:
        own = [{"text": "a", "n": 1}, {"text": "b", "f": 1}, {"text": "c", "f": 0.5, "m": [1]}]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, own)))
        source = open_rows(tmp_path / "a.jsonl", Template("m", "{text}"))
        reader = JobReader(store_job(tmp_path / "a.job", source))
        select = ["input_text", "n", "f", "m"]
        reader.write_table(reader.table(select=select), tmp_path / "o.parquet", None)
        assert pq.read_table(tmp_path / "o.parquet").to_pylist() == [
            {"input_text": "a", "n": 1, "f": None, "m": None},
            {"input_text": "b", "n": None, "f": 1.0, "m": None},
            {"input_text": "c", "n": None, "f": 0.5, "m": "[1]"},
        ]
        reader.write_table(reader.table(select=select), tmp_path / "o.jsonl", None)
        last = json.loads((tmp_path / "o.jsonl").read_bytes().splitlines()[-1])
        assert last == {"input_text": "c", "n": None, "f": 0.5, "m": [1]}


class TestFormats:
    def test_have_equal_rows(self, tmp_path: Path) -> None:
        reader = JobReader(csv_job(tmp_path))
        for name in ("o.jsonl", "o.csv", "o.parquet"):
            written = reader.write_table(reader.table(), tmp_path / name, None)
            assert (written.rows, written.path) == (10, tmp_path / name)
            assert written.size == (tmp_path / name).stat().st_size
        by_parquet = pq.read_table(tmp_path / "o.parquet").to_pylist()
        by_json = [json.loads(each) for each in (tmp_path / "o.jsonl").read_bytes().splitlines()]
        with (tmp_path / "o.csv").open(encoding="utf-8", newline="") as file:
            by_csv = [*csv.DictReader(file)]
        for each in by_json:
            content = each["content"]
            each["content"] = None if content is None else json.dumps(content)
        for each in by_parquet:
            content = each["content"]
            each["content"] = None if content is None else json.dumps(json.loads(content))
        assert by_json == by_parquet
        for own, other in zip(by_csv, by_parquet, strict=True):
            own["content"] = own["content"] and json.dumps(json.loads(own["content"]))
            assert own == {
                name: "" if value is None else str(value) for name, value in other.items()
            }

    @pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
    def test_are_read_by_duckdb(self, tmp_path: Path, name: str) -> None:
        reader = JobReader(csv_job(tmp_path))
        reader.write_table(reader.table(), tmp_path / name, None)
        with duckdb.connect() as database:
            found = database.execute(
                f"SELECT sum(output_tokens), count(*), count(error_type) "  # noqa: S608 - a path of the test
                f"FROM '{tmp_path / name}' WHERE id LIKE 'x%'"
            ).fetchone()
        assert found == (30, 10, 6)

    def test_have_one_value_on_a_line_if_one_column_is_selected(self, tmp_path: Path) -> None:
        reader = JobReader(requests_job(tmp_path, 3, numbered))
        out = io.BytesIO()
        written = reader.write_table(reader.table(select=["text"]), out, None)
        assert out.getvalue() == b'"answer 0"\n"answer 1"\n"answer 2"\n'
        assert (written.rows, written.size, written.path) == (3, len(out.getvalue()), None)
        out = io.BytesIO()
        reader.write_table(reader.table(select=["text"]), out, "csv")
        assert out.getvalue() == b"text\r\nanswer 0\r\nanswer 1\r\nanswer 2\r\n"

    def test_go_to_a_stream_that_cannot_seek(self, tmp_path: Path) -> None:
        reader = JobReader(requests_job(tmp_path))

        class Pipe(io.RawIOBase):
            data = b""

            def writable(self) -> bool:
                return True

            def write(self, data: Any, /) -> int:
                Pipe.data += bytes(data)
                return len(data)

        reader.write_table(reader.table(), cast("BinaryIO", Pipe()), "parquet")
        assert pq.read_table(io.BytesIO(Pipe.data)).num_rows == 10

    def test_leave_the_error_of_a_broken_pipe_to_the_caller(self, tmp_path: Path) -> None:
        reader = JobReader(requests_job(tmp_path))
        for format_ in ("jsonl", "csv", "parquet"):
            receiving, sending = os.pipe()
            os.close(receiving)
            with pytest.raises(BrokenPipeError), open(sending, "wb", buffering=0) as pipe:  # noqa: PTH123 - a descriptor
                reader.write_table(reader.table(), pipe, format_)

    def test_have_types_and_the_same_schema_without_rows(self, tmp_path: Path) -> None:
        reader = JobReader(csv_job(tmp_path, 3, numbered))
        schemas = []
        for include in ("all", "failed"):
            name = tmp_path / f"{include}.parquet"
            reader.write_table(reader.table(include=cast("Any", include)), name, None)
            schemas.append(pq.read_schema(name))
        assert schemas[0] == schemas[1]
        types = {field.name: str(field.type) for field in schemas[0]}
        assert (types["row"], types["text"], types["output_tokens"]) == ("int64", "string", "int64")
        assert types["stars"] == "string"
        assert not schemas[0].field("row").nullable

    @pytest.mark.parametrize(("limit", "groups"), [("_ROWS", [4, 4, 2]), ("_BYTES", [1] * 10)])
    def test_have_row_groups_of_bounded_size(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, groups: list[int]
    ) -> None:
        monkeypatch.setattr(parquet_format, limit, 4)
        reader = JobReader(csv_job(tmp_path))
        reader.write_table(reader.table(), tmp_path / "o.parquet", None)
        data = pq.ParquetFile(tmp_path / "o.parquet").metadata
        assert [data.row_group(at).num_rows for at in range(data.num_row_groups)] == groups

    def test_replace_only_what_the_job_wrote(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path)
        for _ in range(2):
            reader = JobReader(path)
            reader.write_table(reader.table(), tmp_path / "o.csv", None)
        (tmp_path / "o.csv").write_text("mine")
        with pytest.raises(InvalidInputError, match="is not what this job wrote there"):
            reader.write_table(reader.table(), tmp_path / "o.csv", None)
        assert (tmp_path / "o.csv").read_text() == "mine"

    @pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
    def test_leave_no_file_after_an_error(self, tmp_path: Path, name: str) -> None:
        path = requests_job(tmp_path)
        raw = JobReader(path).folder.raw(0)
        raw.write_bytes(raw.read_bytes()[:-30])
        out = tmp_path / "out"
        out.mkdir()
        with pytest.raises(ResultsFileError):
            JobReader(path).write_table(JobReader(path).table(), out / name, None)
        assert [*out.iterdir()] == []

    def test_of_csv_are_written_in_pieces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = requests_job(tmp_path, 9, lambda row, _: success("x" * (9 - row)))
        out = io.BytesIO()
        monkeypatch.setattr(text_formats, "_GATHERED", 1)
        JobReader(path).write_table(JobReader(path).table(select=["text"]), out, "csv")
        assert out.getvalue().split() == [b"text", *(b"x" * n for n in range(9, 0, -1))]

    def test_of_csv_quote_a_lone_carriage_return(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path, 1, lambda *_: success('a\rb,"c"\n'))
        reader = JobReader(path)
        reader.write_table(reader.table(select=["row", "text"]), tmp_path / "o.csv", None)
        with (tmp_path / "o.csv").open(newline="") as file:
            assert [*csv.reader(file)][1] == ["0", 'a\rb,"c"\n']


class TestFailedRequests:
    def test_are_the_lines_of_the_input_byte_for_byte(self, tmp_path: Path) -> None:
        sent = [each.replace(b", ", b",  ") for each in lines(10)]
        (tmp_path / "a.jsonl").write_bytes(b"\r\n".join(sent))
        reader = JobReader(store_job(tmp_path / "a.job", tmp_path / "a.jsonl", mixed))
        assert [*reader.failed_requests()] == [sent[n] for n in (2, 3, 4, 7, 8, 9)]

    def test_have_the_callers_own_ids(self, tmp_path: Path) -> None:
        own = ["same", "same", None]
        path = store_job(
            tmp_path / "a.job", [request(each) for each in own], lambda *_: "invalid", ids="map"
        )
        failed = [json.loads(each) for each in JobReader(path).failed_requests()]
        assert failed == [request(each) for each in own]

    def test_include_lost_and_unsent_rows(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path, 6, numbered, lost=frozenset({0}))
        ids = [json.loads(each)["custom_id"] for each in JobReader(path).failed_requests()]
        assert ids == ["r0", "r1", "r2", "r3"]

    def test_can_be_written_and_run_again(self, tmp_path: Path) -> None:
        reader = JobReader(requests_job(tmp_path))
        written = reader.write_failed_requests(tmp_path / "failed.jsonl")
        out = io.BytesIO()
        streamed = reader.write_failed_requests(out)
        assert out.getvalue() == (tmp_path / "failed.jsonl").read_bytes()
        assert (
            (written.rows, written.size)
            == (streamed.rows, streamed.size)
            == (6, len(out.getvalue()))
        )
        again = store_job(tmp_path / "b.job", tmp_path / "failed.jsonl", numbered)
        assert [row["custom_id"] for row in read(again)] == ["r2", "r3", "r4", "r7", "r8", "r9"]

    def test_of_a_job_without_failures_are_none(self, tmp_path: Path) -> None:
        assert [*JobReader(requests_job(tmp_path, 3, numbered)).failed_requests()] == []

    def test_of_a_changed_input_are_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines(3)))
        path = store_job(tmp_path / "a.job", tmp_path / "a.jsonl", mixed)
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines(3, system="x")))
        with pytest.raises(InputChangedError):
            [*JobReader(path).failed_requests()]

    def test_are_found_if_the_input_was_moved(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines(3)))
        path = store_job(tmp_path / "a.job", tmp_path / "a.jsonl", mixed)
        moved = (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
        assert [*JobReader(path, input_path=moved).failed_requests()] == [lines(3)[2]]
        with pytest.raises(InvalidInputError, match=r"a.jsonl cannot be read"):
            [*JobReader(path).failed_requests()]


class TestJobReader:
    def test_reads_results_of_any_message_type(self, tmp_path: Path) -> None:
        class Short(msgspec.Struct):
            stop_reason: str

        [row] = JobReader(requests_job(tmp_path, 1)).results(Short)
        assert isinstance(row, AnsweredRow)
        assert row.message == Short("end_turn")

    def test_of_a_missing_job_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="does not exist"):
            JobReader(tmp_path / "no.job")

    def test_changes_nothing_but_the_register(self, tmp_path: Path) -> None:
        path = requests_job(tmp_path)
        before = {each: each.stat().st_mtime_ns for each in path.rglob("*") if each.is_file()}
        reader = JobReader(path)
        read(path)
        reader.report()
        # SQLite leaves empty files beside the journal.
        after = {e: e.stat().st_mtime_ns for e in path.rglob("*") if e.is_file()}
        assert {e: at for e, at in after.items() if not e.name.startswith("journal.db-")} == before
        assert reader.status.is_finished


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def answers(row: int, _attempt: int) -> dict[str, Any]:
        return success(f"{row}" * 50)

    def source(count: int) -> Iterator[dict[str, Any]]:
        for n in range(count):
            yield request(f"r{n}")

    class Nothing(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any, /) -> int:
            return len(data)

    def peak_of(reader: JobReader, format_: Any) -> int:
        tracemalloc.start()
        reader.write_table(reader.table(), cast("BinaryIO", Nothing()), format_)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peaks = []
    for count in (500, 5000):
        path = store_job(tmp_path / f"{count}.job", source(count), answers, chunk_rows=250)
        for format_ in ("jsonl", "csv"):
            # The smaller one of two: a thread of the library can take memory at any time.
            reader = JobReader(path)
            peaks.append(min(peak_of(reader, format_), peak_of(reader, format_)))
    assert max(peaks[2:]) < 1.3 * max(peaks[:2]), peaks
