"""Tests of `wrong_inputs`: an input without requests is reported as one mistake, with a remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from batches_core import BatchRequest, request_checker
from tests.support.batch_requests import expect_refusal, request_dict
from tests.support.ids import readable


@pytest.mark.parametrize(
    ("requests", "advice"),
    [
        (request_dict(), "put a single request in a list"),
        (BatchRequest(custom_id="a", params={}), "put a single request in a list"),
        ({"requests": [request_dict()]}, "pass the list under its key 'requests'"),
        ("requests.jsonl", "RequestsFile(path) (from transports.files) or open(path, 'rb')"),
        (b"{}", "open(path, 'rb')"),
        (Path("requests.jsonl"), "RequestsFile(path) (from transports.files)"),
        (None, "pass a list"),
        (5, "pass a list"),
    ],
    ids=readable,
)
def test_an_argument_that_is_not_an_iterable_of_requests_is_refused_with_advice(
    requests: Any, advice: str
) -> None:
    kind = type(requests).__name__
    message = str(expect_refusal(requests))
    assert message.startswith(f"requests must be an iterable of requests, not a {kind}: ")
    assert advice in message


def lines_of(text: str, encoding: str = "utf-8") -> list[bytes]:
    return text.encode(encoding).splitlines(keepends=True)


REQUEST_LINES = "".join(json.dumps(request_dict(f"id-{n}")) + "\n" for n in range(300))
CSV = "custom_id,prompt\n" + "".join(f'id-{n},"What is {n}, really?"\n' for n in range(300))
RESULT_LINE = '{"custom_id":"id-1","result":{"type":"succeeded","message":{}}}\n'


@pytest.mark.parametrize(
    ("lines", "format_", "remedy"),
    [
        (lines_of(CSV), "a CSV file or other text", "csv.DictReader"),
        (lines_of(CSV.replace(",", ";")), "a CSV file or other text", "csv.DictReader"),
        (lines_of("\n\n" + CSV), "a CSV file or other text", "csv.DictReader"),
        (lines_of(CSV, "utf-8-sig"), "a CSV file or other text", "csv.DictReader"),
        (
            lines_of("\xe9;\xe8\n" * 300, "latin-1"),
            "a CSV file or other text",
            "csv.DictReader",
        ),
        (io.StringIO(CSV), "a CSV file or other text", "csv.DictReader"),
        (["What is 1?", "What is 2?"], "a CSV file or other text", '{"custom_id": …'),
        ([gzip.compress(REQUEST_LINES.encode())], "a gzip file", "gzip.open(path, 'rb')"),
        ([bz2.compress(REQUEST_LINES.encode())], "a bzip2 file", "bz2.open(path, 'rb')"),
        ([lzma.compress(REQUEST_LINES.encode())], "an xz file", "lzma.open(path, 'rb')"),
        ([b"\x28\xb5\x2f\xfd..."], "a zstandard file", "decompress it"),
        ([b"PK\x03\x04..."], "a zip or Excel file", "one request as JSON on each line"),
        ([b"PAR1..."], "a Parquet file", "one request as JSON on each line"),
        (lines_of(REQUEST_LINES, "utf-16"), "UTF-16 text", "open(path, encoding='utf-16')"),
        (lines_of(REQUEST_LINES, "utf-16-le"), "UTF-16 text", "encoding='utf-16-le'"),
        (lines_of(REQUEST_LINES, "utf-16-be"), "UTF-16 text", "encoding='utf-16-be'"),
        (["[\n", "{}\n", "]\n"], "a JSON array", "json.load(file)"),
        ([b'[{"custom_id":"a","params":{}}]'], "a JSON array", "json.load(file)"),
        ([b' [{"custom_id":"a","params":{}}]'], "a JSON array", "json.load(file)"),
        ([b'{"requests": [\n', b"{}]}"], "the body of a create", "json.load(file)['requests']"),
        (['{ "requests":[]}\n'], "the body of a create", "json.load(file)['requests']"),
        (["{\n", ' "custom_id": "a",\n', "}\n"], "JSON over several lines", "on each line"),
        ([RESULT_LINE, RESULT_LINE], "a file of results", "the requests, not the results"),
        ([RESULT_LINE.encode()], "a file of results", "the requests, not the results"),
        ([json.loads(RESULT_LINE)] * 3, "a file of results", "the requests, not the results"),
    ],
    ids=readable,
)
def test_a_file_of_another_format_is_reported_once_with_a_remedy(
    lines: Iterable[Any], format_: str, remedy: str
) -> None:
    error = expect_refusal(lines)
    [problem] = error.problems
    assert (problem.index, problem.line, problem.field, error.omitted) == (None, None, None, 0)
    assert problem.message.startswith(f"this looks like {format_}")
    assert remedy in problem.message
    assert len(problem.message) < 300


def test_a_file_opened_with_the_wrong_encoding_is_recognised() -> None:
    for data, format_ in (
        (gzip.compress(REQUEST_LINES.encode()), "a gzip file"),
        (REQUEST_LINES.encode("utf-16"), "UTF-16 text"),
    ):
        file = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
        assert f"this looks like {format_}" in str(expect_refusal(file))


def test_a_csv_file_over_the_limit_of_requests_is_reported_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_checker, "MAX_REQUESTS", 200)
    [problem] = expect_refusal(lines_of(CSV)).problems
    assert problem.message.startswith("this looks like a CSV file")


def test_a_wrong_file_is_not_read_past_its_first_line() -> None:
    lines = iter(["[\n", *REQUEST_LINES.splitlines()])
    expect_refusal(lines)
    assert len(list(lines)) == 300


@pytest.mark.parametrize(
    "lines",
    [
        [b"# a comment\n", *lines_of(REQUEST_LINES)],
        [*lines_of(REQUEST_LINES)[:1], *lines_of(CSV)[:1]],
        [*lines_of(REQUEST_LINES)[:1], b"[]"],
        [*lines_of(REQUEST_LINES)[:1], RESULT_LINE],
        [b'{"custom_id":"a","params":{}'],
        [b'{"custom_id":"a"}'],
        [b'{"custom_id":"a","params":[],"result":1}'],
        [5],
    ],
    ids=[
        "a comment before requests",
        "CSV after a request",
        "an array after a request",
        "a result after a request",
        "incomplete JSON",
        "no params",
        "params and a result",
        "an int",
    ],
)
def test_a_single_invalid_request_is_reported_by_its_index(lines: Iterable[Any]) -> None:
    [problem] = expect_refusal(lines).problems
    assert problem.index in (0, 1)
