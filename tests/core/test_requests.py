"""From a user's requests to a body: what is sent, and every reason why it is not."""

from __future__ import annotations

import bz2
import functools
import gzip
import io
import json
import lzma
import math
import types
from collections import UserDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    BatchRequest,
    Body,
    InvalidInputError,
    PreparedRequests,
    RequestLike,
    RequestProblem,
    request_checker,
)
from batches_core import requests as core_requests
from batches_core.request_checker import RequestChecker

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def prepare(handed_in: Any) -> tuple[Body, int]:
    prepared = core_requests.prepare(handed_in)
    return prepared.body, prepared.count


def one(custom_id: Any = "a", **params: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params}


def body_of(*handed_in: RequestLike) -> bytes:
    body, count = prepare(handed_in)
    assert count == sum(1 for request in handed_in if request not in (b"\n", "\n"))
    return b"".join(body)


def refused(handed_in: Iterable[Any]) -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        prepare(handed_in)
    return caught.value


def places(error: InvalidInputError) -> list[tuple[int | None, str | None]]:
    return [(problem.index, problem.field) for problem in error.problems]


def nested(depth: int) -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


class TestForms:
    @pytest.mark.parametrize(
        ("request_", "sent"),
        [
            (one("a", x=1), b'{"custom_id":"a","params":{"x":1}}'),
            (UserDict(one("a", x=1)), b'{"custom_id":"a","params":{"x":1}}'),
            (
                BatchRequest(custom_id="a", params={"x": 1}),
                b'{"custom_id":"a","params":{"x":1}}',
            ),
            (
                b' {"params": {"x" : 1.0},\t"custom_id":"a", "more": [] }\r\n',
                b'{"params": {"x" : 1.0},\t"custom_id":"a", "more": [] }',
            ),
            (
                '{"custom_id": "a", "params": {"x": "\u00e9"}}\n',
                '{"custom_id": "a", "params": {"x": "\u00e9"}}'.encode(),
            ),
        ],
    )
    def test_a_request_is_sent_as_it_was_handed_in(
        self, request_: RequestLike, sent: bytes
    ) -> None:
        assert body_of(request_) == b'{"requests":[' + sent + b"]}"

    def test_forms_can_be_mixed_and_keep_their_order(self) -> None:
        mixed: list[RequestLike] = [
            one("a"),
            BatchRequest(custom_id="b", params={}),
            b'{"custom_id":"c","params":{}}',
            '{"custom_id":"d","params":{}}',
        ]
        sent = json.loads(body_of(*mixed))
        assert [request["custom_id"] for request in sent["requests"]] == list("abcd")

    def test_an_open_file_will_do(self) -> None:
        lines = "".join(json.dumps(one(name)) + "\n" for name in "abc")
        for file in (io.StringIO(lines), io.BytesIO(lines.encode())):
            body, count = prepare(file)
            assert count == 3
            assert b"".join(body) == b'{"requests":[%s]}' % b",".join(lines.encode().splitlines())

    def test_blank_lines_are_passed_over_but_counted_in_the_index(self) -> None:
        body, count = prepare([b"\n", json.dumps(one("a")), " \t", b"", json.dumps(one("b"))])
        assert count == 2
        assert len(json.loads(b"".join(body))["requests"]) == 2
        assert places(refused([b"\n", "", json.dumps(one("a b"))])) == [(2, "custom_id")]

    def test_an_iterator_is_read_once(self) -> None:
        read: list[str] = []

        def generate() -> Iterator[dict[str, Any]]:
            for name in "abc":
                read.append(name)
                yield one(name)

        _, count = prepare(generate())
        assert (count, read) == (3, list("abc"))

    def test_what_the_users_iterator_raises_is_passed_on(self) -> None:
        def broken() -> Iterator[dict[str, Any]]:
            yield one()
            raise KeyError("lost")

        with pytest.raises(KeyError, match="lost"):
            prepare(broken())

    @pytest.mark.parametrize(
        ("handed_in", "advice"),
        [
            (one(), "put a single request in a list"),
            (BatchRequest(custom_id="a", params={}), "put a single request in a list"),
            ({"requests": [one()]}, "pass the list under its key 'requests'"),
            ("requests.jsonl", "RequestsFile(path) (from transports.files) or open(path, 'rb')"),
            (b"{}", "open(path, 'rb')"),
            (Path("requests.jsonl"), "RequestsFile(path) (from transports.files)"),
            (None, "pass a list"),
            (5, "pass a list"),
        ],
    )
    def test_what_is_no_list_of_requests_is_refused_with_advice(
        self, handed_in: Any, advice: str
    ) -> None:
        kind = type(handed_in).__name__
        told = str(refused(handed_in))
        assert told.startswith(f"requests must be an iterable of requests, not a {kind}: ")
        assert advice in told

    def test_a_byte_order_mark_at_the_start_of_a_file_is_passed_over(self) -> None:
        line = b'{"custom_id":"a","params":{}}'
        assert body_of(b"\xef\xbb\xbf" + line + b"\n") == b'{"requests":[%s]}' % line

    @pytest.mark.parametrize("handed_in", [[], [b"\n", ""], iter(())])
    def test_no_requests_are_refused(self, handed_in: Iterable[RequestLike]) -> None:
        assert str(refused(handed_in)) == "there are no requests: a batch has at least one"


class TestBody:
    def test_is_measured_and_can_be_sent_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in (1, 40, 100, 10_000):
            monkeypatch.setattr(core_requests, "_PIECE_SIZE", size)
            body, _ = prepare(one(f"id-{n}", text="é" * n) for n in range(20))
            first, second = b"".join(body), b"".join(body)
            assert first == second
            assert body.content_length == len(first)
            sent = json.loads(first)["requests"]
            assert sent == [one(f"id-{n}", text="é" * n) for n in range(20)]

    def test_is_cut_into_pieces_that_are_neither_tiny_nor_the_whole(self) -> None:
        body, _ = prepare(one(f"id-{n}", text="x" * 1000) for n in range(1000))
        sizes = [len(piece) for piece in body]
        assert len(sizes) > 2
        assert all(256 * 1024 <= size < 258 * 1024 for size in sizes[:-1])

    @given(
        st.lists(
            st.dictionaries(
                st.text(max_size=5).map("k".__add__),
                st.recursive(
                    st.none()
                    | st.booleans()
                    | st.integers()
                    | st.floats(allow_nan=False, allow_infinity=False)
                    | st.text(),
                    lambda inner: (
                        st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
                    ),
                    max_leaves=6,
                ),
                max_size=3,
            ),
            min_size=1,
            max_size=4,
        )
    )
    def test_is_the_json_of_what_was_handed_in(self, params: list[dict[str, Any]]) -> None:
        wanted = [one(f"id-{n}", **each) for n, each in enumerate(params)]
        forms: list[list[Any]] = [
            wanted,
            [BatchRequest(**request) for request in wanted],
            [json.dumps(request) for request in wanted],
            [msgspec.json.encode(request) for request in wanted],
        ]
        for handed_in in forms:
            assert json.loads(body_of(*handed_in)) == {"requests": wanted}

    @pytest.mark.parametrize(
        "params",
        [
            {"stream": False},
            {"stream": None},
            {"speed": None},
            {"max_tokens": None},
            {"max_tokens": 1},
            {"max_tokens": False},
            {"brand_new": {"stream": True}},
            {},
        ],
    )
    def test_takes_params_that_ask_for_nothing_impossible(self, params: dict[str, Any]) -> None:
        assert json.loads(body_of(one("a", **params))) == {"requests": [one("a", **params)]}

    @pytest.mark.parametrize("custom_id", [*ALPHABET, ALPHABET, "0", "a" * 64])
    def test_takes_every_legal_custom_id(self, custom_id: str) -> None:
        assert len(custom_id) in {1, 64}
        body_of(one(custom_id))


class TestProblems:
    @pytest.mark.parametrize(
        ("request_", "field", "text"),
        [
            ({"params": {}}, "custom_id", "is missing"),
            ({"custom_id": None, "params": {}}, "custom_id", "is missing"),
            (one(5), "custom_id", "must be a str, not int"),
            (one(""), "custom_id", "'' is not 1 to 64"),
            (one("a b"), "custom_id", "'a b' is not 1 to 64"),
            (one("a\n"), "custom_id", r"'a\n' is not 1 to 64"),
            (one("é"), "custom_id", "is not 1 to 64"),
            (one("a" * 65), "custom_id", "… with 65 characters is not 1 to 64"),
            (one("a" * 9999), "custom_id", "a'… with 9,999 characters is not 1 to 64 letters"),
            ({"custom_id": "a"}, "params", "is missing"),
            ({"custom_id": "a", "params": None}, "params", "must be a JSON object"),
            ({"custom_id": "a", "params": []}, "params", "must be a JSON object"),
            ({"custom_id": "a", "params": "{}"}, "params", "must be a JSON object"),
            (one("a", stream=True), "params.stream", "cannot stream"),
            (one("a", stream="yes"), "params.stream", "cannot stream"),
            (one("a", stream=""), "params.stream", "cannot stream"),
            (one("a", speed="fast"), "params.speed", "cannot be chosen"),
            (one("a", max_tokens=0), "params.max_tokens", "max_tokens=0"),
            (one("a", max_tokens=0.0), "params.max_tokens", "max_tokens=0"),
            (b'{"custom_id":"a"}', "params", "is missing"),
            ('{"params":{"stream":true},"custom_id":"a"}', "params.stream", "cannot stream"),
            (b"[]", None, "must be a JSON object with custom_id and params"),
            ("null", None, "must be a JSON object with custom_id and params"),
            (b'{"custom_id":"a","params":{}', None, "is not JSON"),
            (b'{"custom_id":"a","params":{}} {}', None, "is not JSON"),
            (b'{"custom_id":"a","params":{"x":NaN}}', None, "is not JSON"),
            (b'{"custom_id":"\xff","params":{}}', None, "is not JSON"),
            (b'{"custom_id":"a","params":{"x":"\xff"}}', None, "is not JSON"),
            (b'{"custom_id":"a","params":{},"more":"\xff"}', None, "is not JSON"),
            (b"\xef\xbb\xbf{}", None, "is not JSON"),
            pytest.param(
                b'{"custom_id":"a","params":{"x":' + b"[" * 100_000,
                None,
                "is not JSON",
                id="JSON nested too deep",
            ),
            ("\ud800", None, "cannot be encoded as UTF-8"),
            (one("a", x="\ud800"), None, "cannot be written as JSON"),
            (one("\ud800"), None, "cannot be written as JSON"),
            (one("a", x={object()}), None, "cannot be written as JSON"),
            (one("a", x={("a", "b"): 1}), None, "cannot be written as JSON"),
            pytest.param(
                one("a", x=nested(100_000)),
                None,
                "cannot be written as JSON",
                id="dict nested too deep",
            ),
            (None, None, "must be a dict, a BatchRequest, or one request as JSON"),
            (5, None, "not int"),
            ([one()], None, "not list"),
            (bytearray(b"{}"), None, "not bytearray"),
        ],
    )
    def test_is_told_with_index_and_field(
        self, request_: Any, field: str | None, text: str
    ) -> None:
        error = refused([one("first"), request_, one("last")])
        [problem] = error.problems
        assert (problem.index, problem.field) == (1, field)
        assert text in problem.message
        assert len(problem.message) < 500
        if isinstance(request_, dict) and field is not None:
            line = msgspec.json.encode(request_)
            assert refused([one("first"), line, one("last")]).problems == error.problems

    def test_are_all_told_in_order(self) -> None:
        error = refused(
            [
                one("a", stream=True, speed="fast", max_tokens=0),
                one("b"),
                {},
                b"no JSON",
                object(),
                one("a b", stream=True),
            ]
        )
        assert places(error) == [
            (0, "params.stream"),
            (0, "params.speed"),
            (0, "params.max_tokens"),
            (2, "custom_id"),
            (2, "params"),
            (3, None),
            (4, None),
            (5, "custom_id"),
            (5, "params.stream"),
        ]
        assert str(error).startswith("9 problems; nothing was sent\n  requests.0.params.stream: ")

    def test_of_a_repeated_id_name_its_first_use(self) -> None:
        error = refused([one("a"), one("b"), one("a"), b"\n", json.dumps(one("a"))])
        assert error.problems == tuple(
            RequestProblem(
                message="'a' is already the id of requests.0", index=index, field="custom_id"
            )
            for index in (2, 4)
        )

    @pytest.mark.parametrize(
        ("number", "kept", "omitted"), [(99, 99, 0), (100, 100, 0), (250, 100, 150)]
    )
    def test_are_kept_up_to_a_bound_and_counted_beyond(
        self, number: int, kept: int, omitted: int
    ) -> None:
        error = refused([one("a b")] * number)
        assert (len(error.problems), error.omitted) == (kept, omitted)
        assert places(error) == [(index, "custom_id") for index in range(kept)]
        assert str(error).startswith(f"{number} problems")


class NumPyLike:
    """A number as NumPy and its like have them: no subclass of int or float."""

    ndim = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


class Indexed(NumPyLike):
    def __index__(self) -> int:
        return int(self.value)


class Floating(NumPyLike):
    def __float__(self) -> float:
        return float(self.value)


class OnlyIndex:
    def __index__(self) -> int:
        return 3


class OnlyFloat:
    def __float__(self) -> float:
        return 1.5


class Array(Indexed):
    ndim = 1

    def tolist(self) -> list[float]:
        return [self.value]


class Tuned(float):
    """As numpy.float64 is: a float, and yet of another type."""

    def item(self) -> float:
        return float(self)


class TestValuesThatAreNotJSON:
    @pytest.mark.parametrize(
        ("value", "advice"),
        [
            (Indexed(1024), "x.item() or int(x)"),
            (Floating(0.5), "x.item() or float(x)"),
            (OnlyIndex(), "int(x)"),
            (OnlyFloat(), "float(x)"),
            (Tuned(0.5), "x.item() or float(x)"),
            (NumPyLike(1), "x.item()"),
            (Array(1), "x.tolist()"),
        ],
    )
    def test_a_number_of_numpys_kind_is_named_by_its_field_with_the_remedy(
        self, value: Any, advice: str
    ) -> None:
        name = f"{type(value).__module__}.{type(value).__name__}"
        for params, field in (
            ({"max_tokens": value}, "params.max_tokens"),
            ({"a": [{"b": 1}, {"c": (0, value)}]}, "params.a.1.c.1"),
            (types.MappingProxyType({"m": types.MappingProxyType({"k": value})}), "params.m.k"),
        ):
            for request in (
                {"custom_id": "a", "params": params},
                BatchRequest(custom_id="a", params=params),
            ):
                [problem] = refused([one("first"), request]).problems
                assert (problem.index, problem.field) == (1, field)
                told = f"a value of type {name} cannot be written as JSON: pass {advice}"
                assert problem.message == told

    def test_any_other_value_is_named_by_its_field(self) -> None:
        for request in (
            one("a", x=[object()]),
            BatchRequest(custom_id="a", params={"x": [object()]}),
        ):
            [problem] = refused([one("first"), request]).problems
            assert (problem.index, problem.field) == (1, "params.x.0")
            told = "a value of type object cannot be written as JSON: leave it out or convert it"
            assert problem.message == told

    def test_a_custom_id_that_is_no_plain_str_is_named(self) -> None:
        class Name(str):
            __slots__ = ()

            def item(self) -> str:
                return str(self)

        [problem] = refused([{"custom_id": Name("a"), "params": {}}]).problems
        assert problem.field == "custom_id"
        assert problem.message.endswith(".Name cannot be written as JSON: pass x.item() or str(x)")

    def test_a_value_where_it_cannot_be_found_is_told_without_a_field(self) -> None:
        class Strange:
            __slots__ = ()
            __hash__ = object.__hash__

        [problem] = refused([one("a", x={Strange()})]).problems
        assert (problem.index, problem.field) == (0, None)
        assert "Strange cannot be written as JSON" in problem.message

    def test_a_value_is_found_where_params_refer_to_themselves(self) -> None:
        loop: dict[str, Any] = {"a": object()}
        loop["loop"] = loop
        assert places(refused([one("a", x=loop)])) == [(0, "params.x.a")]


def lines_of(text: str, encoding: str = "utf-8") -> list[bytes]:
    return text.encode(encoding).splitlines(keepends=True)


REQUEST_LINES = "".join(json.dumps(one(f"id-{n}")) + "\n" for n in range(300))
CSV = "custom_id,prompt\n" + "".join(f'id-{n},"What is {n}, really?"\n' for n in range(300))
RESULT = '{"custom_id":"id-1","result":{"type":"succeeded","message":{}}}\n'


class TestFilesThatAreNoRequests:
    """Each is one mistake, and is told once: what the file looks like, and what to do."""

    @pytest.mark.parametrize(
        ("lines", "looks", "advice"),
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
            ([RESULT, RESULT], "a file of results", "the requests, not the results"),
            ([RESULT.encode()], "a file of results", "the requests, not the results"),
            ([json.loads(RESULT)] * 3, "a file of results", "the requests, not the results"),
        ],
    )
    def test_are_told_once(self, lines: Iterable[Any], looks: str, advice: str) -> None:
        error = refused(lines)
        [problem] = error.problems
        assert (problem.index, problem.line, problem.field, error.omitted) == (None, None, None, 0)
        assert problem.message.startswith(f"this looks like {looks}")
        assert advice in problem.message
        assert len(problem.message) < 300

    @pytest.mark.parametrize(
        "lines",
        [
            [b"# a comment\n", *lines_of(REQUEST_LINES)],
            [*lines_of(REQUEST_LINES)[:1], *lines_of(CSV)[:1]],
            [*lines_of(REQUEST_LINES)[:1], b"[]"],
            [*lines_of(REQUEST_LINES)[:1], RESULT],
            [b'{"custom_id":"a","params":{}'],
            [b'{"custom_id":"a"}'],
            [b'{"custom_id":"a","params":[],"result":1}'],
            [5],
        ],
    )
    def test_a_single_bad_request_is_told_by_its_place(self, lines: Iterable[Any]) -> None:
        [problem] = refused(lines).problems
        assert problem.index in (0, 1)

    def test_a_file_opened_with_the_wrong_encoding_is_told(self) -> None:
        for data, looks in (
            (gzip.compress(REQUEST_LINES.encode()), "a gzip file"),
            (REQUEST_LINES.encode("utf-16"), "UTF-16 text"),
        ):
            file = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")
            assert f"this looks like {looks}" in str(refused(file))

    def test_any_other_undecodable_text_is_the_files_own_error(self) -> None:
        file = io.TextIOWrapper(io.BytesIO(b'{"custom_id":"\xe9"'), encoding="utf-8")
        with pytest.raises(UnicodeDecodeError):
            prepare(file)

    def test_a_long_one_is_told_once_up_to_the_limit_of_requests(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request_checker, "MAX_REQUESTS", 200)
        [problem] = refused(lines_of(CSV)).problems
        assert problem.message.startswith("this looks like a CSV file")

    def test_nothing_of_one_is_read_after_its_first_line(self) -> None:
        lines = iter(["[\n", *REQUEST_LINES.splitlines()])
        refused(lines)
        assert len(list(lines)) == 300

    def test_a_byte_order_mark_of_a_text_file_is_passed_over(self) -> None:
        line = '{"custom_id":"a","params":{}}'
        assert body_of("\ufeff" + line + "\n") == b'{"requests":[%s]}' % line.encode()


class TestLimits:
    @pytest.fixture
    def ten_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(request_checker, "MAX_REQUESTS", 10)

    @pytest.mark.usefixtures("ten_requests")
    def test_the_number_of_requests_is_exact(self) -> None:
        _, count = prepare(["\n", *(one(f"id-{n}") for n in range(10)), b"\n"])
        assert count == 10
        error = refused(["\n", *(one(f"id-{n}") for n in range(11))])
        assert places(error) == [(11, None)]
        assert "more than 10 requests, the limit of one batch: split" in str(error)

    @pytest.mark.usefixtures("ten_requests")
    def test_nothing_is_read_after_the_limit_and_problems_before_it_are_reported(self) -> None:
        endless = (one("a b") if n == 3 else 5 if n == 4 else one(f"id-{n}") for n in range(1000))
        assert places(refused(endless)) == [(3, "custom_id"), (4, None), (10, None)]
        assert next(endless) == one("id-11")

    @pytest.mark.parametrize("forms", [1, 2, 5])
    def test_the_size_of_the_body_is_exact(
        self, forms: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handed_in = [one(f"id-{n}", x="é" * n) for n in range(forms)]
        size = prepare(handed_in)[0].content_length
        monkeypatch.setattr(request_checker, "MAX_BYTES", size)
        assert prepare(handed_in)[0].content_length == size
        monkeypatch.setattr(request_checker, "MAX_BYTES", size - 1)
        error = refused([*handed_in, object()])
        if forms == 1:
            assert "requests.0: this request alone" in str(error)
            return
        assert places(error) == [(forms - 1, None)]
        assert f"has {size:,} bytes, over the limit of {size - 1:,}: split" in str(error)

    def test_one_request_over_the_size_of_a_batch_is_named_and_the_others_are_checked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(request_checker, "MAX_BYTES", 100)
        largest = one(
            "x", t="x" * (100 - 15 - len(json.dumps(one("x", t=""), separators=(",", ":"))))
        )
        assert prepare([largest])[0].content_length == 100
        large = one("large", text="x" * 100)
        for form, size in ((large, 142), (json.dumps(large), 146)):
            error = refused([one("a"), form, one("b c")])
            assert places(error) == [(1, None), (2, "custom_id")]
            assert error.problems[0].message == (
                f"this request alone has {size} bytes, over the limit of 100 for a whole batch: "
                "make it smaller, or leave it out"
            )
            assert "split" not in str(error)

    def test_are_those_of_the_service(self) -> None:
        assert (request_checker.MAX_REQUESTS, request_checker.MAX_BYTES) == (100_000, 256_000_000)


class TestNumbersThatJsonHasNot:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, (v,)], lambda v: {"x": {"y": v}}])
    def test_are_refused_and_not_sent_as_null(self, value: float, wrap: Any) -> None:
        params = {"temperature": wrap(value)}
        for request in (
            {"custom_id": "a", "params": params},
            BatchRequest(custom_id="a", params=params),
        ):
            with pytest.raises(InvalidInputError, match=r"requests\.0: .*a NaN or an infinity"):
                prepare([request])

    def test_are_found_in_objects_too_and_in_any_depth_without_a_crash(self) -> None:
        class Tuned(msgspec.Struct):
            temperature: float

        with pytest.raises(InvalidInputError, match="a NaN or an infinity"):
            prepare([{"custom_id": "a", "params": {"x": Tuned(math.nan)}}])
        deep: Any = math.nan
        for _ in range(400):
            deep = {"x": (deep, None)}
        with pytest.raises(InvalidInputError, match="a NaN or an infinity"):
            prepare([{"custom_id": "a", "params": deep}])

    def test_are_not_seen_in_json_that_is_passed_on(self) -> None:
        request = {"custom_id": "a", "params": {"tools": msgspec.Raw(b"[null]"), "x": {1.5}}}
        assert b"".join(prepare([request])[0]).endswith(b'{"tools":[null],"x":[1.5]}}]}')

    def test_are_not_seen_where_nesting_is_just_deep(self) -> None:
        deep: Any = None
        for _ in range(900):
            deep = {"x": deep}
        _, count = prepare([{"custom_id": "a", "params": deep}])
        assert count == 1

    def test_are_not_seen_where_there_is_just_a_null(self) -> None:
        body, _ = prepare([{"custom_id": "a", "params": {"system": None, "x": ["null", 1.5]}}])
        assert b"".join(body).endswith(b'"params":{"system":null,"x":["null",1.5]}}]}')


def test_any_mapping_can_stand_for_a_dict_anywhere() -> None:
    inner = types.MappingProxyType({"metadata": types.MappingProxyType({"user_id": "u"})})
    body, _ = prepare([BatchRequest(custom_id="a", params=inner)])
    assert b"".join(body).endswith(b'"params":{"metadata":{"user_id":"u"}}}]}')


class TestLines:
    """Requests that are the lines of a file, and what brings its own body."""

    def test_are_named_by_their_numbers(self) -> None:
        checker = RequestChecker(lines=True)
        line = json.dumps(one("a")).encode()
        given = list(checker.check([b"\xef\xbb\xbf " + line, b"\n", line, b"{"]))
        with pytest.raises(InvalidInputError) as caught:
            checker.finish()
        assert [(problem.line, problem.index) for problem in caught.value.problems] == [
            (3, None),
            (4, None),
        ]
        assert str(caught.value.problems[0]) == "line 3, custom_id: 'a' is already the id of line 1"
        assert str(caught.value.problems[1]).startswith("line 4: is not JSON")
        assert given[0] == line
        assert checker.count == 3

    def test_a_source_prepares_its_own_requests(self) -> None:
        prepared = core_requests.prepare([one("a")])

        class Source:
            def prepare(self) -> PreparedRequests:
                return prepared

        assert core_requests.prepare(Source()) is prepared

    def test_what_is_prepared_is_taken_as_it_is(self) -> None:
        prepared = core_requests.prepare([one("a")])
        assert core_requests.prepare(prepared) is prepared


def test_prepared_requests_are_not_prepared_again() -> None:
    prepared = core_requests.prepare([{"custom_id": "a", "params": {"model": "m"}}])
    assert core_requests.prepare(prepared) is prepared
