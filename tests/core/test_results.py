from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    APIStatusError,
    BatchesError,
    Done,
    IncompleteResultsError,
    InvalidInputError,
    MalformedResultError,
    MessageBatch,
    Need,
    NotFoundError,
    RemoteProtocolError,
    ResultsInterrupted,
    ResultsReceived,
    ResultsUnavailableError,
    RetryPolicy,
    SucceededResult,
    TransportError,
    UnknownResult,
)
from batches_core.jsonl import MAX_LINE
from tests.support.playbook import BASE, Playbook, api, batch_json, error_json, result_line
from tests.support.results_playbook import (
    RESULTS,
    ended_batch,
    ended_batch_json,
    start_reading,
)

GET = "/v1/messages/batches/msgbatch_1"
A, B, C = result_line("a"), result_line("b"), result_line("c")


def received(book: Playbook) -> list[str | None]:
    return [item.custom_id for item in book.expect(ResultsReceived).items]


def again(book: Playbook, delivered: int, delay: float = 0.5) -> BatchesError:
    """The stream tells of its interruption, waits, and reads again."""
    event = book.expect(ResultsInterrupted)
    assert (event.delivered, event.delay) == (delivered, delay)
    book.expect_wait(delay)
    book.expect_request("GET", RESULTS)
    return event.error


# --- where they are ----------------------------------------------------------------------


def test_an_id_is_read_first_and_the_results_url_followed() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(ended_batch_json(results_url=BASE + "/elsewhere/r.jsonl?x=1"))
    request = book.expect_request("GET", "/elsewhere/r.jsonl?x=1")
    assert "x-api-key" in dict(request.headers)
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    book.expect_done()


def test_a_relative_results_url_is_the_apis_own() -> None:
    book = Playbook(api(base_url=BASE + "/gateway/").results_stream("msgbatch_1"))
    book.expect_request("GET", "/gateway" + GET)
    book.respond(ended_batch_json(results_url=RESULTS))
    request = book.expect_request("GET", "/gateway" + RESULTS)
    assert "x-api-key" in dict(request.headers)


def test_a_results_url_that_is_none_is_a_fault_of_the_server() -> None:
    with pytest.raises(RemoteProtocolError, match="cannot be fetched"):
        Playbook(api().results_stream(ended_batch(results_url="file:///etc/passwd"))).next()


def test_a_batch_without_results_url_is_read_again_before_it_is_given_up() -> None:
    stale = msgspec.convert(batch_json(), MessageBatch, strict=False)
    book = Playbook(api().results_stream(stale))
    book.expect_request("GET", GET)
    book.respond(ended_batch_json())
    book.expect_request("GET", RESULTS)


def test_results_before_the_end_and_after_the_archive_are_named() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(batch_json())
    with pytest.raises(ResultsUnavailableError, match=r"no results yet.*wait_for"):
        book.next()

    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(ended_batch_json(results_url=None))
    with pytest.raises(ResultsUnavailableError, match=r"has ended, but.*a little later"):
        book.next()

    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(ended_batch_json(results_url=None, archived_at="2026-05-30T20:29:05Z"))
    with pytest.raises(ResultsUnavailableError, match="were archived at 2026-05-30") as caught:
        book.next()
    assert caught.value.batch.id == "msgbatch_1"


# --- a stream ----------------------------------------------------------------------------


def test_items_come_as_their_lines_do() -> None:
    book = start_reading(3)
    book.head(200, [])  # with no content-type at all
    book.data(A + B[:10])
    assert received(book) == ["a"]
    assert book.next() is Need.DATA
    book.data(B[10:-1])
    assert book.next() is Need.DATA
    book.data(B[-1:] + C[:-1])
    assert received(book) == ["b"]
    book.eof()
    assert received(book) == ["c"]
    assert book.expect_done() is None


def test_a_bad_line_is_one_malformed_result_at_its_place() -> None:
    book = start_reading(3)
    book.respond(A + b'{"custom_id":"b",\n' + C)
    items = book.expect(ResultsReceived).items
    assert [type(item) is MalformedResultError for item in items] == [False, True, False]
    book.expect_done()  # it was told, so nothing is missing in silence


def test_an_unknown_result_type_is_no_success_and_no_error() -> None:
    book = start_reading(1)
    book.respond(b'{"custom_id":"a","result":{"type":"postponed","until":"2027"}}\n')
    (item,) = book.expect(ResultsReceived).items
    assert not isinstance(item, MalformedResultError)
    assert isinstance(item.result, UnknownResult)
    assert (item.result.type, item.result["until"]) == ("postponed", "2027")


class Short(msgspec.Struct):
    id: str


def test_the_type_of_a_message_can_be_chosen() -> None:
    book = start_reading(1, message_type=Short)
    book.respond(A)
    (item,) = book.expect(ResultsReceived).items
    assert not isinstance(item, MalformedResultError)
    assert item.result == SucceededResult(message=Short(id="msg_a"))

    book = start_reading(1, message_type=msgspec.Raw)
    book.respond(A)
    (item,) = book.expect(ResultsReceived).items
    assert not isinstance(item, MalformedResultError)
    assert isinstance(item.result, SucceededResult)
    assert bytes(item.result.message).startswith(b'{"id":"msg_a"')


def test_a_duplicate_line_is_delivered_once() -> None:
    book = start_reading(2)
    book.head()
    book.data(A + A)
    assert received(book) == ["a"]
    book.data(A)
    book.data(A + B)
    assert received(book) == ["b"]
    book.eof()
    book.expect_done()


def test_more_than_was_counted_is_delivered_too() -> None:
    book = start_reading(1)
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    book.expect_done()


def test_a_batch_without_requests_has_no_results() -> None:
    book = start_reading(0)
    book.respond(b"")
    book.expect_done()


def test_the_line_limit_is_the_apis() -> None:
    book = start_reading(2, settings={"max_line": len(A)})
    book.respond(A + result_line("b", "far too long"))
    good, bad = book.expect(ResultsReceived).items
    assert good.custom_id == "a"
    assert isinstance(bad, MalformedResultError)
    assert "max_line" in bad.reason


# --- however it is cut ---------------------------------------------------------------------


def events_and_error(chunks: list[bytes], end: str, max_line: int) -> tuple[list[Any], str]:
    """All items in order, and the error that ended the stream."""
    book = start_reading(3, settings={"max_line": max_line}, resume=False)
    book.head()
    items: list[Any] = []
    inputs = [*chunks, None]
    while True:
        try:
            event = book.next()
        except BatchesError as error:
            return items, f"{type(error).__name__}: {error}"
        if isinstance(event, Done):
            return items, "done"
        if isinstance(event, ResultsReceived):
            items += [
                (item.line_number, item.raw, item.reason, item.custom_id)
                if isinstance(item, MalformedResultError)
                else item
                for item in event.items
            ]
            continue
        assert event is Need.DATA
        if (chunk := inputs.pop(0)) is not None:
            book.data(chunk)
        elif end == "eof":
            book.eof()
        else:
            book.lose("reset")


@given(
    body=st.lists(
        st.sampled_from(
            [A, B, C, A[:-1], B[:30], b"\r\n", b"\n", b"bad\n", b'{"custom_id":"q"}\n', b"\xff\n"]
        )
        | st.binary(max_size=5),
        max_size=7,
    ).map(b"".join),
    cuts=st.lists(st.integers(1, 1500), max_size=10),
    end=st.sampled_from(["eof", "lost"]),
    max_line=st.sampled_from([40, 64 << 20]),
)
def test_any_body_cut_anywhere_gives_the_same_events_and_the_same_error(
    body: bytes, cuts: list[int], end: str, max_line: int
) -> None:
    borders = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[i:j] for i, j in itertools.pairwise(borders)]
    whole = events_and_error([body] if body else [], end, max_line)
    assert events_and_error(chunks, end, max_line) == whole


# --- a stream that breaks ----------------------------------------------------------------


def test_what_was_complete_is_delivered_before_the_break_is_told() -> None:
    book = start_reading(3)
    book.head()
    book.data(A)
    book.data(B + C[:50])
    book.lose("reset")
    assert received(book) == ["a"]
    assert received(book) == ["b"]
    assert isinstance(again(book, 2), TransportError)
    book.respond(A + B + C)
    assert received(book) == ["c"]
    book.expect_done()


@pytest.mark.parametrize("how", ["short", "cut in a line"])
def test_a_clean_end_that_is_too_early_is_read_again(how: str) -> None:
    book = start_reading(2)
    book.respond(A if how == "short" else A + B[:-9])
    assert received(book) == ["a"]
    error = again(book, 1)
    assert isinstance(error, IncompleteResultsError if how == "short" else TransportError)
    book.respond(B + A)  # in another order
    assert received(book) == ["b"]
    book.expect_done()


def test_short_to_the_end_is_an_error_with_the_figures() -> None:
    book = start_reading(3)
    book.respond(A)
    received(book)
    again(book, 1)
    book.respond(A)
    again(book, 1, 1.0)
    book.respond(A)
    with pytest.raises(IncompleteResultsError, match="after 1 of 3") as caught:
        book.next()
    assert (caught.value.received, caught.value.expected) == (1, 3)


def test_a_try_that_brings_something_new_starts_the_count_anew() -> None:
    lines = [result_line(str(n)) for n in range(10)]
    book = start_reading(10)
    for n in range(1, 10):
        book.head()
        book.data(b"".join(lines[:n]))
        book.lose()
        assert received(book) == [str(n - 1)]
        again(book, n)
    book.respond(b"".join(lines))
    assert received(book) == ["9"]
    book.expect_done()


def test_without_resume_the_break_comes_at_once_after_what_was_complete() -> None:
    book = start_reading(2, resume=False)
    book.head()
    book.data(A + B[:5])
    book.lose("reset by peer")
    assert received(book) == ["a"]
    with pytest.raises(TransportError, match="reset by peer"):
        book.next()

    book = start_reading(2, resume=False)
    book.respond(A)
    received(book)
    with pytest.raises(IncompleteResultsError):
        book.next()


@pytest.mark.parametrize("how", ["lost", "cut in a line"])
def test_whatever_breaks_off_was_asked_for(how: str) -> None:
    book = start_reading(2, resume=False)
    book.head()
    book.data(A + B[:5])
    if how == "lost":
        book.lose(sent=False)
    else:
        book.eof()
    assert received(book) == ["a"]
    with pytest.raises(TransportError) as caught:
        book.next()
    assert caught.value.sent


def test_bad_lines_are_not_told_twice_and_equal_ones_not_swallowed() -> None:
    bad = b"bad\n"
    book = start_reading(5)
    book.head()
    book.data(bad + A + bad)
    book.lose()
    assert received(book) == [None, "a", None]
    again(book, 1)
    book.respond(bad + A + bad + bad + B)
    assert received(book) == [None, "b"]
    book.expect_done()


def test_a_line_that_was_broken_on_the_way_is_delivered_when_it_comes_whole() -> None:
    book = start_reading(2)
    book.head()
    book.data(b'{"custom_id":"a","resXlt":{}}\n')
    book.lose()
    assert received(book) == ["a"]
    again(book, 0)
    book.respond(A)  # the broken line was not the missing one's stand-in
    assert received(book) == ["a"]
    again(book, 1)
    book.respond(A + B)
    assert received(book) == ["b"]
    book.expect_done()


def test_one_request_is_not_counted_twice_where_its_line_came_whole_and_broken() -> None:
    broken = b'{"custom_id":"a","result":{"type":"succeeded"}}\n'
    book = start_reading(2, settings={"retry": RetryPolicy(attempts=1)})
    book.respond(A + broken)
    assert received(book) == ["a", "a"]
    with pytest.raises(IncompleteResultsError, match="after 1 of 2"):
        book.next()

    book = start_reading(3)
    book.head()
    book.data(A + B)
    book.lose()
    assert received(book) == ["a", "b"]
    again(book, 2)
    book.respond(broken + B)
    assert received(book) == ["a"]
    assert isinstance(again(book, 2, 1.0), IncompleteResultsError)
    book.respond(A + B + C)
    assert received(book) == ["c"]
    book.expect_done()


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_head_that_may_pass_is_tried_again(status: int) -> None:
    book = start_reading(1)
    book.respond(error_json("api_error", "later"), status)
    again(book, 0)
    book.respond(A)
    assert received(book) == ["a"]
    book.expect_done()


def test_a_head_that_does_not_pass_is_told_at_once() -> None:
    book = start_reading(1)
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError):
        book.next()


def test_results_that_stay_away_are_a_404() -> None:
    book = start_reading(1, settings={"retry": RetryPolicy(attempts=2)})
    book.respond(error_json("not_found_error"), 404)
    again(book, 0)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError):
        book.next()


# --- what is no results file ---------------------------------------------------------------


def test_a_page_with_lines_enough_is_not_taken_for_results() -> None:
    book = start_reading(total=2)
    book.respond(b"<html>\n<body>\nBad Gateway\n</html>\n")
    assert received(book) == [None] * 4
    error = again(book, delivered=0)
    assert "holds no results" in str(error)
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    book.expect_done()


@pytest.mark.parametrize("body", [b"", b"\n\n"])
def test_a_file_without_lines_is_short(body: bytes) -> None:
    book = start_reading(total=2)
    book.respond(body)
    error = again(book, delivered=0)
    assert isinstance(error, IncompleteResultsError)
    assert (error.received, error.expected) == (0, 2)


def test_a_file_without_end_is_left() -> None:
    book = start_reading(total=1, settings={"retry": RetryPolicy(attempts=1)})
    book.head()
    book.data(A)
    assert received(book) == ["a"]
    # Every line of it is there already, so nothing is handed out, and nothing is missing.
    for _ in range(92):
        assert book.next() is Need.DATA
        book.data(A * 11)
    book.expect_done()


def test_a_file_without_end_that_is_short_as_well_is_an_error() -> None:
    book = start_reading(total=2, settings={"retry": RetryPolicy(attempts=1)})
    book.head()
    book.data(A * 1005)
    assert received(book) == ["a"]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines, for a batch of 2"):
        book.next()


@pytest.mark.parametrize(("lines", "is_left"), [(1008, False), (1009, True)])
def test_the_bound_of_a_file_is_that_of_each_reading(lines: int, *, is_left: bool) -> None:
    book = start_reading(total=4)
    book.head()
    book.data(A)
    book.lose()
    assert received(book) == ["a"]
    again(book, 1)
    book.head()
    book.data(A * lines)
    if is_left:
        assert "more than 1,008 lines" in str(book.expect(ResultsInterrupted).error)
    else:
        assert book.next() is Need.DATA


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \t\n", b"\n\r\n \n" * 300])
def test_blank_lines_without_end_are_lines_too(blank: bytes) -> None:
    book = start_reading(total=2, settings={"retry": RetryPolicy(attempts=1)})
    book.head()
    book.data(A)
    assert received(book) == ["a"]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines, for a batch of 2"):  # noqa: PT012
        for _ in range(1004):
            book.data(blank)
            assert book.next() is Need.DATA


def test_blank_lines_without_end_behind_all_results_take_nothing_away() -> None:
    book = start_reading(total=1)
    book.head()
    book.data(A + b"\n" * 1001)
    assert received(book) == ["a"]
    assert book.next() is Need.DATA
    book.data(b"\n")
    book.expect_done()


def test_a_reading_delivers_no_line_beyond_its_bound_however_it_is_cut() -> None:
    ids = [f"r{number}" for number in range(1010)]
    book = start_reading(total=2, settings={"retry": RetryPolicy(attempts=1)})
    book.head()
    book.data(b"".join(map(result_line, ids)))
    assert received(book) == ids[:1004]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines"):
        book.next()


@pytest.mark.parametrize("piece", [b"x", b" ", b"\r"])
@pytest.mark.parametrize("max_line", [1000, MAX_LINE])
def test_a_line_without_end_is_left_after_four_times_the_longest(
    piece: bytes, max_line: int
) -> None:
    settings = {"retry": RetryPolicy(attempts=1), "max_line": max_line}
    book = start_reading(total=2, settings=settings)
    book.head()
    book.data(A)
    assert received(book) == ["a"]
    chunk = piece * (1 << 20)
    for _ in range(256):
        book.data(chunk)
        assert book.next() is Need.DATA
    book.data(piece)
    with pytest.raises(RemoteProtocolError, match="line 2 has more than 268,435,456 bytes"):
        book.next()


def test_lines_over_a_small_limit_are_no_reason_to_leave_the_file() -> None:
    book = start_reading(total=3, settings={"max_line": 1000})
    long = result_line("b", "x" * 9000)
    book.respond(A + long + C)
    assert received(book) == ["a", None, "c"]
    book.expect_done()


def test_the_bound_of_a_file_grows_with_its_batch() -> None:
    ids = [f"r{number}" for number in range(600)]
    book = start_reading(total=600)
    book.head()
    book.data(b"".join(map(result_line, ids[1:])) * 3)
    assert received(book) == ids[1:]
    book.data(result_line(ids[0]))
    assert received(book) == ids[:1]
    book.eof()
    book.expect_done()


def test_unreadable_lines_are_counted_one_by_one() -> None:
    book = start_reading(total=7, settings={"retry": RetryPolicy(attempts=1)})
    bad = b"".join(b'{"custom_id":"%c","result":5}\n' % name for name in b"cde")
    book.respond(A + B + bad + b"{\n")
    assert received(book) == ["a", "b", "c", "d", "e", None]
    with pytest.raises(IncompleteResultsError, match="after 6 of 7"):
        book.next()


def test_ids_that_are_made_up_are_no_progress() -> None:
    book = start_reading(total=1)
    tries = 0
    with pytest.raises(TransportError):  # noqa: PT012 - it is read again until then
        while True:
            tries += 1
            book.head()
            book.data(result_line(f"x{tries}") + result_line(f"y{tries}"))
            received(book)
            book.lose()
            event = book.expect(ResultsInterrupted)
            book.expect_wait(event.delay)
            book.expect_request("GET", RESULTS)
    assert tries <= 4


def test_a_break_after_everything_came_is_none() -> None:
    book = start_reading(total=2)
    book.head()
    book.data(A + B)
    assert received(book) == ["a", "b"]
    book.lose()
    book.expect_done()


def test_without_resuming_an_opening_that_fails_is_still_tried_again() -> None:
    book = start_reading(total=2, resume=False)
    book.respond(error_json("overloaded_error"), 529)
    again(book, delivered=0)
    book.head()
    book.data(A)
    assert received(book) == ["a"]
    book.lose()
    with pytest.raises(TransportError):
        book.next()


# --- held against the ids that were requested ----------------------------------------------


def test_all_that_were_expected() -> None:
    book = start_reading(expected=iter(["b", "a", "b"]))
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    book.expect_done()


def test_the_missing_and_the_unexpected_are_named() -> None:
    book = start_reading(
        total=3, settings={"retry": RetryPolicy(attempts=1)}, expected=["z", "a", "y"]
    )
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    with pytest.raises(
        IncompleteResultsError, match=r"2 of 3; 2 .* missing: z, y; 1 .*: b"
    ) as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == (("z", "y"), ("b",))
    assert (caught.value.received, caught.value.expected) == (2, 3)


def test_they_are_read_again_before_they_are_said_to_be_missing() -> None:
    book = start_reading(expected=["a", "b"])
    book.respond(A)
    assert received(book) == ["a"]
    error = again(book, delivered=1)
    assert isinstance(error, IncompleteResultsError)
    assert error.missing == ("b",)
    book.respond(A + B)
    assert received(book) == ["b"]
    book.expect_done()


def test_what_the_batch_itself_does_not_count_is_not_read_again() -> None:
    book = start_reading(total=2, expected=["a", "b", "c"])
    book.respond(A + B)
    received(book)
    with pytest.raises(IncompleteResultsError, match="missing: c; the received") as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == (("c",), ())


def test_a_result_that_nobody_asked_for_is_given_and_named() -> None:
    book = start_reading(total=2, expected=["a"])
    book.respond(A + B)
    assert received(book) == ["a", "b"]
    with pytest.raises(IncompleteResultsError, match=r"1 were not expected: b; .*check") as caught:
        book.next()
    assert (caught.value.missing, caught.value.unexpected) == ((), ("b",))


def test_an_unreadable_line_that_names_its_id_is_not_missing() -> None:
    book = start_reading(total=2, expected=["a", "b"])
    book.respond(A + b'{"custom_id":"b","result":5}\n')
    assert received(book) == ["a", "b"]
    book.expect_done()


def test_unreadable_lines_of_ids_that_nobody_asked_for_are_named_too() -> None:
    book = start_reading(total=3, expected=["a"])
    broken = b'{"custom_id":"b","result":5}\n{"custom_id":"x","result":5}\n'
    book.respond(A + B + broken)
    assert received(book) == ["a", "b", "b", "x"]
    with pytest.raises(IncompleteResultsError) as caught:
        book.next()
    assert caught.value.unexpected == ("b", "x")


def test_an_unreadable_line_without_an_id_leaves_one_missing() -> None:
    book = start_reading(total=2, expected=["a", "b"])
    book.respond(A + b"{\n")
    assert received(book) == ["a", None]
    with pytest.raises(IncompleteResultsError) as caught:
        book.next()
    assert caught.value.missing == ("b",)


def test_of_many_ids_some_are_spelled_out() -> None:
    ids = [f"r{n}" for n in range(30)]
    book = start_reading(total=0, expected=ids)
    book.respond(b"")
    with pytest.raises(IncompleteResultsError, match=r"30 .* missing: r0, r1, .*r9, …; ") as caught:
        book.next()
    assert caught.value.missing == tuple(ids)


@pytest.mark.parametrize("expected", ["abc", [b"a"], [None], [{"custom_id": "a"}]])
def test_what_is_expected_are_ids(expected: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected must be a list of custom_ids"):
        api().results_stream("msgbatch_1", expected=expected)


def test_an_event_that_is_kept_keeps_no_part_of_the_file() -> None:
    book = start_reading(total=2)
    book.head()
    book.data(A + B[:10])
    received(book)
    book.lose()
    assert book.expect(ResultsInterrupted).error.__traceback__ is None


def test_results_that_stay_short_tell_how_often_they_were_read() -> None:
    book = start_reading(2)
    book.respond(A)
    assert received(book) == ["a"]
    again(book, 1)
    book.respond(A)
    again(book, 1, 1.0)
    book.respond(A)
    with pytest.raises(IncompleteResultsError, match=r"\(after 3 attempts\)$") as caught:
        book.next()
    assert caught.value.attempts == 3
