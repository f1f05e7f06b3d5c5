"""Tests of `request_checker`: every problem of the requests, with its place, and the limits."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
import pytest

from batches_core import InvalidInputError, RequestProblem, request_checker
from batches_core.request_checker import RequestChecker
from tests.support.batch_requests import body_of, expect_refusal, places_of, prepare, request_dict
from tests.support.ids import readable

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"


def nested(depth: int) -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(depth), [])


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
    ids=readable,
)
def test_params_that_ask_for_nothing_unsupported_are_accepted(params: dict[str, Any]) -> None:
    assert json.loads(body_of(request_dict("a", **params))) == {
        "requests": [request_dict("a", **params)]
    }


@pytest.mark.parametrize("custom_id", [*ALPHABET, ALPHABET, "0", "a" * 64])
def test_every_legal_custom_id_is_accepted(custom_id: str) -> None:
    assert len(custom_id) in {1, 64}
    body_of(request_dict(custom_id))


# --- problems ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "field", "text"),
    [
        ({"params": {}}, "custom_id", "is missing"),
        ({"custom_id": None, "params": {}}, "custom_id", "is missing"),
        (request_dict(5), "custom_id", "must be a str, not int"),
        (request_dict(""), "custom_id", "'' is not 1 to 64"),
        (request_dict("a b"), "custom_id", "'a b' is not 1 to 64"),
        (request_dict("a\n"), "custom_id", r"'a\n' is not 1 to 64"),
        (request_dict("é"), "custom_id", "is not 1 to 64"),
        (request_dict("a" * 65), "custom_id", "… with 65 characters is not 1 to 64"),
        (request_dict("a" * 9999), "custom_id", "a'… with 9,999 characters is not 1 to 64 letters"),
        ({"custom_id": "a"}, "params", "is missing"),
        ({"custom_id": "a", "params": None}, "params", "must be a JSON object"),
        ({"custom_id": "a", "params": []}, "params", "must be a JSON object"),
        ({"custom_id": "a", "params": "{}"}, "params", "must be a JSON object"),
        (request_dict("a", stream=True), "params.stream", "cannot stream"),
        (request_dict("a", stream="yes"), "params.stream", "cannot stream"),
        (request_dict("a", stream=""), "params.stream", "cannot stream"),
        (request_dict("a", speed="fast"), "params.speed", "cannot be chosen"),
        (request_dict("a", max_tokens=0), "params.max_tokens", "max_tokens=0"),
        (request_dict("a", max_tokens=0.0), "params.max_tokens", "max_tokens=0"),
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
        (request_dict("a", x="\ud800"), None, "cannot be written as JSON"),
        (request_dict("\ud800"), None, "cannot be written as JSON"),
        (request_dict("a", x={object()}), None, "cannot be written as JSON"),
        (request_dict("a", x={("a", "b"): 1}), None, "cannot be written as JSON"),
        pytest.param(
            request_dict("a", x=nested(100_000)),
            None,
            "cannot be written as JSON",
            id="dict nested too deep",
        ),
        (None, None, "must be a dict, a BatchRequest, or one request as JSON"),
        (5, None, "not int"),
        ([request_dict()], None, "not list"),
        (bytearray(b"{}"), None, "not bytearray"),
    ],
    ids=readable,
)
def test_a_problem_of_a_request_is_reported_with_its_index_and_field(
    request_: Any, field: str | None, text: str
) -> None:
    error = expect_refusal([request_dict("first"), request_, request_dict("last")])
    [problem] = error.problems
    assert (problem.index, problem.field) == (1, field)
    assert text in problem.message
    assert len(problem.message) < 500
    if isinstance(request_, dict) and field is not None:
        line = msgspec.json.encode(request_)
        error_of_line = expect_refusal([request_dict("first"), line, request_dict("last")])
        assert error_of_line.problems == error.problems


def test_all_problems_are_reported_in_order() -> None:
    error = expect_refusal(
        [
            request_dict("a", stream=True, speed="fast", max_tokens=0),
            request_dict("b"),
            {},
            b"no JSON",
            object(),
            request_dict("a b", stream=True),
        ]
    )
    assert places_of(error) == [
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


def test_a_repeated_custom_id_is_reported_with_its_first_use() -> None:
    a, b = request_dict("a"), request_dict("b")
    error = expect_refusal([a, b, a, b"\n", json.dumps(a)])
    assert error.problems == tuple(
        RequestProblem(
            message="'a' is already the id of requests.0", index=index, field="custom_id"
        )
        for index in (2, 4)
    )


@pytest.mark.parametrize(
    ("number", "kept", "omitted"), [(99, 99, 0), (100, 100, 0), (250, 100, 150)]
)
def test_the_first_100_problems_are_kept_and_the_others_counted(
    number: int, kept: int, omitted: int
) -> None:
    error = expect_refusal([request_dict("a b")] * number)
    assert (len(error.problems), error.omitted) == (kept, omitted)
    assert places_of(error) == [(index, "custom_id") for index in range(kept)]
    assert str(error).startswith(f"{number} problems")


def test_problems_of_lines_are_reported_with_line_numbers() -> None:
    checker = RequestChecker(lines=True)
    line = json.dumps(request_dict("a")).encode()
    sent = list(checker.check([b"\xef\xbb\xbf " + line, b"\n", line, b"{"]))
    with pytest.raises(InvalidInputError) as caught:
        checker.finish()
    assert [(problem.line, problem.index) for problem in caught.value.problems] == [
        (3, None),
        (4, None),
    ]
    assert str(caught.value.problems[0]) == "line 3, custom_id: 'a' is already the id of line 1"
    assert str(caught.value.problems[1]).startswith("line 4: is not JSON")
    assert sent[0] == line
    assert checker.count == 3


def test_problems_of_a_later_part_name_the_lines_of_the_whole_input() -> None:
    checker = RequestChecker(lines=True, first=1000)
    line = json.dumps(request_dict("a")).encode()
    assert list(checker.check([line, b"", line])) == [line, line]
    with pytest.raises(InvalidInputError) as caught:
        checker.finish()
    assert str(caught.value) == "line 1003, custom_id: 'a' is already the id of line 1001"


@pytest.mark.parametrize("line", [b"id,prompt", b"[", b"\xef\xbb\xbf{}"])
def test_a_later_part_does_not_show_what_kind_of_input_it_is(line: bytes) -> None:
    checker = RequestChecker(lines=True, first=1000)
    list(checker.check([line]))
    with pytest.raises(InvalidInputError, match=r"^line 1001: (is not|must be a) JSON"):
        checker.finish()


# --- limits ------------------------------------------------------------------------------


@pytest.fixture
def limit_of_ten_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_checker, "MAX_REQUESTS", 10)


def test_the_limits_of_a_batch_are_those_of_the_service() -> None:
    assert (request_checker.MAX_REQUESTS, request_checker.MAX_BYTES) == (100_000, 256_000_000)


@pytest.mark.usefixtures("limit_of_ten_requests")
def test_the_limit_of_requests_is_exact() -> None:
    _, count = prepare(["\n", *(request_dict(f"id-{n}") for n in range(10)), b"\n"])
    assert count == 10
    error = expect_refusal(["\n", *(request_dict(f"id-{n}") for n in range(11))])
    assert places_of(error) == [(11, None)]
    assert "more than 10 requests, the limit of one batch: split" in str(error)


@pytest.mark.usefixtures("limit_of_ten_requests")
def test_no_request_beyond_the_limit_is_read_and_earlier_problems_are_reported() -> None:
    endless = (
        request_dict("a b") if n == 3 else 5 if n == 4 else request_dict(f"id-{n}")
        for n in range(1000)
    )
    assert places_of(expect_refusal(endless)) == [(3, "custom_id"), (4, None), (10, None)]
    assert next(endless) == request_dict("id-11")


@pytest.mark.parametrize("number", [1, 2, 5])
def test_the_limit_of_the_body_size_is_exact(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [request_dict(f"id-{n}", x="é" * n) for n in range(number)]
    size = prepare(requests)[0].content_length
    monkeypatch.setattr(request_checker, "MAX_BYTES", size)
    assert prepare(requests)[0].content_length == size
    monkeypatch.setattr(request_checker, "MAX_BYTES", size - 1)
    error = expect_refusal([*requests, object()])
    if number == 1:
        assert "requests.0: this request alone" in str(error)
        return
    assert places_of(error) == [(number - 1, None)]
    assert f"has {size:,} bytes, over the limit of {size - 1:,}: split" in str(error)


def test_a_request_over_the_limit_is_reported_and_the_others_are_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_checker, "MAX_BYTES", 100)
    body = json.dumps({"requests": [request_dict("x", t="")]}, separators=(",", ":"))
    largest = request_dict("x", t="x" * (100 - len(body)))
    assert prepare([largest])[0].content_length == 100
    too_large = request_dict("large", text="x" * 100)
    for form, size in ((too_large, 142), (json.dumps(too_large), 146)):
        error = expect_refusal([request_dict("a"), form, request_dict("b c")])
        assert places_of(error) == [(1, None), (2, "custom_id")]
        assert error.problems[0].message == (
            f"this request alone has {size} bytes, over the limit of 100 for a whole batch: "
            "make it smaller, or leave it out"
        )
        assert "split" not in str(error)
