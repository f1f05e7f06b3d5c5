"""The lines of a results file as they came, and a reading that is gone on with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batches_core import (
    Done,
    InvalidInputError,
    MalformedResultError,
    MessageBatch,
    Need,
    RawResult,
    ResultsInterrupted,
    ResultsReceived,
    RetryPolicy,
    SendRequest,
)
from tests.support.playbook import Playbook, api, batch_json, result_line

A, B, C = result_line("a"), result_line("b"), result_line("c")
#: No result that this version knows, but a line of its own, with an id.
ODD = b'{"custom_id": "o",  "result": {"type":"new"}, "x": 1e5}'


def batch(total: int) -> MessageBatch:
    counts = {"processing": 0, "succeeded": total}
    return msgspec.convert(batch_json(status="ended", request_counts=counts), MessageBatch)


def read(body: bytes, total: int, size: int = 10_000, **options: Any) -> list[Any]:
    """Read it in pieces of this size."""
    operation = api().raw_results(batch(total), **options)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    found: list[Any] = []
    while not isinstance(event := operation.next_event(), Done):
        if isinstance(event, SendRequest):
            operation.receive_head(event.exchange, 200, [], 0)
        elif event is Need.DATA:
            if pieces:
                operation.receive_data(1, pieces.pop(0), 0)
            else:
                operation.receive_eof(1, 0)
        else:
            assert isinstance(event, ResultsReceived)
            found += event.items
    return found


def raw(line: bytes) -> RawResult:
    custom_id = msgspec.json.decode(line)["custom_id"]
    return RawResult(custom_id=custom_id, raw=line.rstrip(b"\r\n"))


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_is_given_as_it_is_however_it_was_cut(size: int, end: bytes) -> None:
    lines = [A.strip(), ODD, B.strip()]
    assert read(end.join([*lines, b""]), 3, size) == [raw(line) for line in lines]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_with_half_a_surrogate_pair_is_kept_byte_for_byte(size: int, end: bytes) -> None:
    half, named = ODD.replace(b"new", b"\\ud83d"), ODD.replace(b'"o"', b'"\\udc00"')
    found = read(b"\r\n".join([A.strip(), half, named]) + end, 3, size)
    ids = ["a", "o", "\\udc00"]
    assert [(item.custom_id, item.raw) for item in found] == [
        *zip(ids, [A.strip(), half, named], strict=True)
    ]


@pytest.mark.parametrize("size", [1, 10_000])
def test_what_is_no_line_of_its_own_is_malformed(size: int) -> None:
    two = A.strip() + B
    found = read(two + C + b"[]\n", 2, size)
    assert [type(each) for each in found] == [MalformedResultError, RawResult, MalformedResultError]
    assert [type(each) for each in read(two + C, 2, size)] == [MalformedResultError, RawResult]


def test_what_is_there_already_is_passed_over() -> None:
    assert read(A + B + C, 3, delivered=["b", "a"]) == [raw(C)]
    assert read(A + B, 2, delivered=iter(["a", "b"])) == []


def test_what_is_there_of_another_batch_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"1 of the custom_ids .* belong to another"):
        read(A + B, 2, delivered=["a", "x"])


def test_what_was_there_before_does_not_make_up_for_what_is_missing() -> None:
    book = Playbook(api().raw_results(batch(2), delivered=["x"], resume=False))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    book.respond(A)
    assert [item.custom_id for item in book.expect(ResultsReceived).items] == ["a"]
    with pytest.raises(Exception, match="ended after 1 of 2"):
        book.next()


def test_what_no_reading_has_shown_does_not_make_a_file_complete() -> None:
    book = Playbook(api().raw_results(batch(2), delivered=["a"]))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    book.lose()
    assert book.expect(ResultsInterrupted).delivered == 1


@pytest.mark.parametrize(("total", "is_complete"), [(2, True), (3, False), (4, False)])
def test_a_break_counts_what_was_there_of_another_batch_as_missing(
    total: int, *, is_complete: bool
) -> None:
    book = Playbook(api().raw_results(batch(total), delivered=["x"]))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    book.head()
    book.data(A + B)
    book.expect(ResultsReceived)
    book.lose()
    if is_complete:
        with pytest.raises(InvalidInputError, match="another one"):
            book.next()
    else:
        book.expect(ResultsInterrupted)


def breaks_off_behind_a(book: Playbook) -> None:
    """The file breaks off behind its first line, and is to be read again."""
    book.head()
    book.data(A)
    book.expect(ResultsReceived)
    book.lose()
    book.expect(ResultsInterrupted)


def test_a_break_behind_one_of_two_is_no_end() -> None:
    book = Playbook(api().raw_results(batch(3), delivered=["x"]))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    breaks_off_behind_a(book)


def test_a_reading_that_brings_the_last_one_to_come_was_worth_it() -> None:
    api_ = api(retry=RetryPolicy(attempts=2))
    book = Playbook(api_.raw_results(batch(2), delivered=["x"]))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    book.lose()
    book.expect_wait(book.expect(ResultsInterrupted).delay)
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1/results")
    breaks_off_behind_a(book)


@pytest.mark.parametrize("name", ["expected", "delivered"])
@pytest.mark.parametrize("ids", ["abc", [b"a"], [5]])
def test_ids_are_ids(name: str, ids: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be a list of custom_ids"):
        api().raw_results("msgbatch_1", **{name: ids})
