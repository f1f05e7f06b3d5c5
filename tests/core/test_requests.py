"""Tests of `requests`: the body of a create, and what can be passed as requests."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import BatchRequest, PreparedRequests, RequestLike
from batches_core import requests as core_requests
from tests.support.batch_requests import body_of, expect_refusal, places_of, prepare, request_dict


def test_requests_of_mixed_forms_keep_their_order() -> None:
    mixed: list[RequestLike] = [
        request_dict("a"),
        BatchRequest(custom_id="b", params={}),
        b'{"custom_id":"c","params":{}}',
        '{"custom_id":"d","params":{}}',
    ]
    sent = json.loads(body_of(*mixed))
    assert [request["custom_id"] for request in sent["requests"]] == list("abcd")


def test_requests_can_be_an_open_file() -> None:
    lines = "".join(json.dumps(request_dict(name)) + "\n" for name in "abc")
    for file in (io.StringIO(lines), io.BytesIO(lines.encode())):
        body, count = prepare(file)
        assert count == 3
        assert b"".join(body) == b'{"requests":[%s]}' % b",".join(lines.encode().splitlines())


def test_blank_lines_of_requests_are_skipped_but_count_in_the_index() -> None:
    body, count = prepare(
        [b"\n", json.dumps(request_dict("a")), " \t", b"", json.dumps(request_dict("b"))]
    )
    assert count == 2
    assert len(json.loads(b"".join(body))["requests"]) == 2
    assert places_of(expect_refusal([b"\n", "", json.dumps(request_dict("a b"))])) == [
        (2, "custom_id")
    ]


def test_a_byte_order_mark_at_the_start_of_a_binary_file_is_skipped() -> None:
    line = b'{"custom_id":"a","params":{}}'
    assert body_of(b"\xef\xbb\xbf" + line + b"\n") == b'{"requests":[%s]}' % line


def test_a_byte_order_mark_at_the_start_of_a_text_file_is_skipped() -> None:
    line = '{"custom_id":"a","params":{}}'
    assert body_of("\ufeff" + line + "\n") == b'{"requests":[%s]}' % line.encode()


def test_an_iterator_of_requests_is_read_once() -> None:
    read: list[str] = []

    def generate() -> Iterator[dict[str, Any]]:
        for name in "abc":
            read.append(name)
            yield request_dict(name)

    _, count = prepare(generate())
    assert (count, read) == (3, list("abc"))


def test_an_error_of_the_callers_iterator_is_raised_unchanged() -> None:
    def failing() -> Iterator[dict[str, Any]]:
        yield request_dict()
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        prepare(failing())


def test_text_that_cannot_be_decoded_raises_the_error_of_the_file() -> None:
    file = io.TextIOWrapper(io.BytesIO(b'{"custom_id":"\xe9"'), encoding="utf-8")
    with pytest.raises(UnicodeDecodeError):
        prepare(file)


@pytest.mark.parametrize(
    "requests", [[], [b"\n", ""], iter(())], ids=["list", "blank lines", "iterator"]
)
def test_an_empty_iterable_of_requests_is_refused(requests: Iterable[RequestLike]) -> None:
    assert str(expect_refusal(requests)) == "there are no requests: a batch has at least one"


# --- prepared requests -------------------------------------------------------------------


def test_a_requests_source_prepares_its_own_requests() -> None:
    prepared = core_requests.prepare([request_dict("a")])

    class Source:
        def prepare(self) -> PreparedRequests:
            return prepared

    assert core_requests.prepare(Source()) is prepared


def test_prepared_requests_are_returned_unchanged() -> None:
    prepared = core_requests.prepare([request_dict("a")])
    assert core_requests.prepare(prepared) is prepared


# --- the body ----------------------------------------------------------------------------


def test_the_body_of_a_create_has_a_length_and_can_be_iterated_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in (1, 40, 100, 10_000):
        monkeypatch.setattr(core_requests, "_PIECE_SIZE", size)
        body, _ = prepare(request_dict(f"id-{n}", text="é" * n) for n in range(20))
        first, second = b"".join(body), b"".join(body)
        assert first == second
        assert body.content_length == len(first)
        sent = json.loads(first)["requests"]
        assert sent == [request_dict(f"id-{n}", text="é" * n) for n in range(20)]


def test_the_body_of_a_create_is_cut_into_pieces_of_256_kib() -> None:
    body, _ = prepare(request_dict(f"id-{n}", text="x" * 1000) for n in range(1000))
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
def test_the_body_of_a_create_is_the_json_of_its_requests(params: list[dict[str, Any]]) -> None:
    as_dicts = [request_dict(f"id-{n}", **each) for n, each in enumerate(params)]
    forms: list[list[Any]] = [
        as_dicts,
        [BatchRequest(**request) for request in as_dicts],
        [json.dumps(request) for request in as_dicts],
        [msgspec.json.encode(request) for request in as_dicts],
    ]
    for requests in forms:
        assert json.loads(body_of(*requests)) == {"requests": as_dicts}
