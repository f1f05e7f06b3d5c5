"""Tests of `operations.delivered`: which results are new, and which are missing or unexpected."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core import (
    IncompleteResultsError,
    InvalidInputError,
    ResultsInterrupted,
    ResultsReceived,
    RetryPolicy,
)
from tests.support.playbook import Playbook, api, result_line
from tests.support.results_playbook import RESULTS, ended_batch, start_reading
from tests.support.results_steps import (
    expect_another_reading,
    raw_result,
    read_raw_results,
    received_ids,
)

ONCE = RetryPolicy(attempts=1)
A, B, C = result_line("a"), result_line("b"), result_line("c")


# --- repeated and malformed lines --------------------------------------------------------


def test_a_repeated_result_is_delivered_once() -> None:
    book = start_reading(2)
    book.head()
    book.data(A + A)
    assert received_ids(book) == ["a"]
    book.data(A)
    book.data(A + B)
    assert received_ids(book) == ["b"]
    book.eof()
    book.expect_done()


def test_only_additional_equal_malformed_lines_are_delivered_on_rereading() -> None:
    line = b"malformed\n"
    book = start_reading(5)
    book.head()
    book.data(line + A + line)
    book.lose()
    assert received_ids(book) == [None, "a", None]
    expect_another_reading(book, 1)
    book.respond(line + A + line + line + B)
    assert received_ids(book) == [None, "b"]
    book.expect_done()


def test_a_malformed_result_is_delivered_again_when_it_can_be_read() -> None:
    book = start_reading(2)
    book.head()
    book.data(b'{"custom_id":"a","resXlt":{}}\n')
    book.lose()
    assert received_ids(book) == ["a"]
    expect_another_reading(book, 0)
    # The malformed line of the first reading does not count in the second.
    book.respond(A)
    assert received_ids(book) == ["a"]
    expect_another_reading(book, 1)
    book.respond(A + B)
    assert received_ids(book) == ["b"]
    book.expect_done()


def test_a_result_that_arrives_whole_and_malformed_counts_once() -> None:
    malformed = b'{"custom_id":"a","result":{"type":"succeeded"}}\n'
    book = start_reading(2, settings={"retry": ONCE})
    book.respond(A + malformed)
    assert received_ids(book) == ["a", "a"]
    with pytest.raises(IncompleteResultsError, match="1 of 2 results"):
        book.next()

    book = start_reading(3)
    book.head()
    book.data(A + B)
    book.lose()
    assert received_ids(book) == ["a", "b"]
    expect_another_reading(book, 2)
    book.respond(malformed + B)
    assert received_ids(book) == ["a"]
    assert isinstance(expect_another_reading(book, 2, 1.0), IncompleteResultsError)
    book.respond(A + B + C)
    assert received_ids(book) == ["c"]
    book.expect_done()


def test_malformed_lines_with_and_without_an_id_each_count_once() -> None:
    book = start_reading(total=7, settings={"retry": ONCE})
    malformed = b"".join(b'{"custom_id":"%c","result":5}\n' % name for name in b"cde")
    book.respond(A + B + malformed + b"{\n")
    assert received_ids(book) == ["a", "b", "c", "d", "e", None]
    with pytest.raises(IncompleteResultsError, match="6 of 7 results"):
        book.next()


# --- expected ids ------------------------------------------------------------------------


def test_results_with_exactly_the_expected_ids_are_complete() -> None:
    book = start_reading(expected=iter(["b", "a", "b"]))
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


def test_missing_and_unexpected_ids_are_named() -> None:
    book = start_reading(total=3, settings={"retry": ONCE}, expected=["z", "a", "y"])
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    with pytest.raises(
        IncompleteResultsError, match=r"2 of 3 .*; missing .*: z, y; unexpected .*: b"
    ) as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == (("z", "y"), ("b",))
    assert (caught.value.received, caught.value.expected) == (2, 3)


def test_results_are_read_again_before_ids_are_reported_missing() -> None:
    book = start_reading(expected=["a", "b"])
    book.respond(A)
    assert received_ids(book) == ["a"]
    error = expect_another_reading(book, delivered=1)
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == ("b",)
    book.respond(A + B)
    assert received_ids(book) == ["b"]
    book.expect_done()


def test_an_id_that_the_batch_does_not_count_is_not_read_again() -> None:
    book = start_reading(total=2, expected=["a", "b", "c"])
    book.respond(A + B)
    received_ids(book)
    with pytest.raises(
        IncompleteResultsError, match=r"missing ids \(1\): c; the received"
    ) as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == (("c",), ())


def test_an_unexpected_result_is_delivered_and_named() -> None:
    book = start_reading(total=2, expected=["a"])
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    with pytest.raises(IncompleteResultsError, match=r"unexpected ids \(1\): b; .*check") as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == ((), ("b",))


def test_a_malformed_line_with_an_expected_id_is_not_missing() -> None:
    book = start_reading(total=2, expected=["a", "b"])
    book.respond(A + b'{"custom_id":"b","result":5}\n')
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


def test_malformed_lines_with_unexpected_ids_are_named() -> None:
    book = start_reading(total=3, expected=["a"])
    malformed = b'{"custom_id":"b","result":5}\n{"custom_id":"x","result":5}\n'
    book.respond(A + B + malformed)
    assert received_ids(book) == ["a", "b", "b", "x"]
    with pytest.raises(IncompleteResultsError) as caught:
        book.next()
    assert caught.value.unexpected == ("b", "x")


def test_a_malformed_line_without_an_id_leaves_an_expected_id_missing() -> None:
    book = start_reading(total=2, expected=["a", "b"])
    book.respond(A + b"{\n")
    assert received_ids(book) == ["a", None]
    with pytest.raises(IncompleteResultsError) as caught:
        book.next()
    assert caught.value.missing == ("b",)


def test_an_incomplete_results_error_names_ten_of_many_missing_ids() -> None:
    ids = [f"r{n}" for n in range(30)]
    book = start_reading(total=0, expected=ids)
    book.respond(b"")
    with pytest.raises(
        IncompleteResultsError, match=r"missing ids \(30\): r0, r1, .*r9, …; "
    ) as caught:
        book.next()
    assert caught.value.missing == tuple(ids)


# --- ids delivered before ----------------------------------------------------------------


def start_raw(total: int, *, retry: RetryPolicy | None = None, **options: Any) -> Playbook:
    """Start reading raw results; the operation waits for the response to its request for them."""
    book = Playbook(api(retry=retry).raw_results(ended_batch(total), **options))
    book.expect_request("GET", RESULTS)
    return book


def test_results_delivered_before_are_skipped() -> None:
    assert read_raw_results(A + B + C, 3, delivered=["b", "a"]) == [raw_result(C)]
    assert read_raw_results(A + B, 2, delivered=iter(["a", "b"])) == []


def test_ids_delivered_before_from_another_batch_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"1 of the custom_ids .* belong to another"):
        read_raw_results(A + B, 2, delivered=["a", "x"])


def test_an_id_of_another_batch_does_not_replace_a_missing_result() -> None:
    book = start_raw(2, delivered=["x"], resume=False)
    book.respond(A)
    assert received_ids(book) == ["a"]
    with pytest.raises(IncompleteResultsError, match="1 of 2 results of batch"):
        book.next()


def test_an_id_delivered_before_counts_only_after_a_reading_shows_it() -> None:
    book = start_raw(2, delivered=["a"])
    book.lose()
    assert book.expect(ResultsInterrupted).delivered == 1


@pytest.mark.parametrize(("total", "is_complete"), [(2, True), (3, False), (4, False)])
def test_a_loss_counts_delivered_ids_of_another_batch_as_missing(
    total: int, *, is_complete: bool
) -> None:
    book = start_raw(total, delivered=["x"])
    book.head()
    book.data(A + B)
    book.expect(ResultsReceived)
    book.lose()
    if is_complete:
        with pytest.raises(InvalidInputError, match="another batch"):
            book.next()
    else:
        book.expect(ResultsInterrupted)


def lose_after_first_result(book: Playbook) -> None:
    """Respond with one result, lose the connection, and expect an interruption."""
    book.head()
    book.data(A)
    book.expect(ResultsReceived)
    book.lose()
    book.expect(ResultsInterrupted)


def test_a_loss_after_one_of_two_new_results_is_an_interruption() -> None:
    lose_after_first_result(start_raw(3, delivered=["x"]))


def test_a_reading_with_the_last_new_result_restarts_the_count_of_attempts() -> None:
    book = start_raw(2, retry=RetryPolicy(attempts=2), delivered=["x"])
    book.lose()
    book.expect_wait(book.expect(ResultsInterrupted).delay)
    book.expect_request("GET", RESULTS)
    lose_after_first_result(book)
