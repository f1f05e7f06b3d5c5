"""Tests of `operations.results`: when a body is read again, and when its results are complete.

`test_delivered` tests which results are new, missing or unexpected.
"""

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
    MalformedResultError,
    MessageBatch,
    Need,
    NotFoundError,
    RawResult,
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
from tests.support.deadlines import pass_deadline
from tests.support.playbook import BASE, KEY, Playbook, api, batch_json, error_json, result_line
from tests.support.results_playbook import RESULTS, ended_batch, ended_batch_json, start_reading
from tests.support.results_steps import (
    expect_another_reading,
    raw_result,
    read_raw_results,
    received_ids,
)

BATCH = "/v1/messages/batches/msgbatch_1"
ONCE = RetryPolicy(attempts=1)
A, B, C = result_line("a"), result_line("b"), result_line("c")
#: A line with a result of an unknown type, and spaces that an encoder would not write.
UNKNOWN_RESULT = b'{"custom_id": "o",  "result": {"type":"new"}, "x": 1e5}'


# --- the address of the results ----------------------------------------------------------


def test_results_of_an_id_are_read_from_the_results_url_of_its_batch() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(ended_batch_json(results_url=BASE + "/elsewhere/r.jsonl?x=1"))
    request = book.expect_request("GET", "/elsewhere/r.jsonl?x=1")
    assert "x-api-key" in dict(request.headers)
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


@pytest.mark.parametrize(
    "batch", ["msgbatch_1", ended_batch(results_url=None)], ids=["an id", "no results_url"]
)
def test_a_batch_without_results_url_is_read_before_its_results(batch: MessageBatch | str) -> None:
    book = Playbook(api().results_stream(batch))
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="ended", results_url="/elsewhere"))
    book.expect_request("GET", "/elsewhere")


def test_a_batch_read_before_its_end_is_read_again_before_its_results() -> None:
    in_progress = msgspec.convert(batch_json(), MessageBatch)
    book = Playbook(api().results_stream(in_progress))
    book.expect_request("GET", BATCH)
    book.respond(ended_batch_json())
    book.expect_request("GET", RESULTS)


def test_a_relative_results_url_belongs_to_the_api() -> None:
    book = Playbook(api(base_url=BASE + "/gateway/").results_stream("msgbatch_1"))
    book.expect_request("GET", "/gateway" + BATCH)
    book.respond(ended_batch_json(results_url=RESULTS))
    request = book.expect_request("GET", "/gateway" + RESULTS)
    assert "x-api-key" in dict(request.headers)


def test_an_invalid_results_url_is_a_remote_protocol_error() -> None:
    with pytest.raises(RemoteProtocolError, match="cannot be fetched"):
        Playbook(api().results_stream(ended_batch(results_url="file:///etc/passwd"))).next()


def test_unavailable_results_are_an_error_that_says_why() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    with pytest.raises(ResultsUnavailableError, match=r"no results yet.*wait_for"):
        book.next()

    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(ended_batch_json(results_url=None))
    with pytest.raises(ResultsUnavailableError, match=r"has ended, but.*a little later"):
        book.next()

    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(ended_batch_json(results_url=None, archived_at="2026-05-30T20:29:05Z"))
    with pytest.raises(ResultsUnavailableError, match="were archived at 2026-05-30") as caught:
        book.next()
    assert caught.value.batch.id == "msgbatch_1"


# --- redirects ---------------------------------------------------------------------------


def start_at(path: str) -> Playbook:
    """Start reading results at this path of the API; the operation waits for the response."""
    book = Playbook(api().results_stream(ended_batch(results_url=path)))
    book.expect_request("GET", path)
    return book


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["/elsewhere?q=1", f"{BASE}/elsewhere?q=1", "elsewhere?q=1"])
def test_a_redirect_at_the_api_is_followed_with_the_credential(status: int, location: str) -> None:
    book = start_at("/r")
    book.respond(b"moved", status, [("location", location)])
    request = book.expect_request("GET", "/elsewhere?q=1")
    assert dict(request.headers)["x-api-key"] == KEY
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


def test_more_than_five_redirects_are_a_remote_protocol_error() -> None:
    book = start_at("/r")
    for _ in range(5):
        book.respond(b"", 307, [("location", "/r")])
        book.expect_request("GET", "/r")
    book.respond(b"", 307, [("location", "/r")])
    event = book.expect(ResultsInterrupted)
    assert isinstance(event.error, RemoteProtocolError)
    assert "more than 5 redirects" in str(event.error)


@pytest.mark.parametrize("location", ["ftp://x.test/r", "https://[/", "https://me:pw@x.test/r"])
def test_a_redirect_to_an_invalid_url_is_a_remote_protocol_error(location: str) -> None:
    book = start_at("/r")
    book.respond(b"", 307, [("location", location)])
    error = book.expect(ResultsInterrupted).error
    assert isinstance(error, RemoteProtocolError)
    assert "pw" not in str(error)


@pytest.mark.parametrize(
    ("status", "headers"),
    [(307, []), (304, [("location", "/r")])],
    ids=["307 without a location", "304 with a location"],
)
def test_a_3xx_status_that_is_not_a_redirect_is_a_status_error(
    status: int, headers: list[tuple[str, str]]
) -> None:
    book = start_at("/r")
    book.respond(b"", status, headers)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.status == status


# --- a complete reading ------------------------------------------------------------------


def test_results_are_delivered_when_their_lines_are_complete() -> None:
    book = start_reading(3)
    book.head(200, [])  # without a content-type, as the service once sent it
    book.data(A + B[:10])
    assert received_ids(book) == ["a"]
    assert book.next() is Need.DATA
    book.data(B[10:-1])
    assert book.next() is Need.DATA
    book.data(B[-1:] + C[:-1])
    assert received_ids(book) == ["b"]
    book.eof()
    assert received_ids(book) == ["c"]
    assert book.expect_done() is None


def test_a_malformed_line_is_delivered_as_one_item_in_its_place() -> None:
    book = start_reading(3)
    book.respond(A + b'{"custom_id":"b",\n' + C)
    items = book.expect(ResultsReceived).items
    assert [type(item) is MalformedResultError for item in items] == [False, True, False]
    book.expect_done()  # the malformed line counts as a result


def test_a_result_of_an_unknown_type_is_delivered_as_such() -> None:
    book = start_reading(1)
    book.respond(b'{"custom_id":"a","result":{"type":"postponed","until":"2027"}}\n')
    (item,) = book.expect(ResultsReceived).items
    assert not isinstance(item, MalformedResultError)
    assert isinstance(item.result, UnknownResult)
    assert (item.result.type, item.result["until"]) == ("postponed", "2027")


class Short(msgspec.Struct):
    id: str


def test_messages_are_decoded_to_the_message_type() -> None:
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


def test_more_results_than_the_batch_counts_are_delivered() -> None:
    book = start_reading(1)
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


def test_a_batch_without_requests_has_no_results() -> None:
    book = start_reading(0)
    book.respond(b"")
    book.expect_done()


def test_a_line_over_max_line_is_malformed() -> None:
    book = start_reading(2, settings={"max_line": len(A)})
    book.respond(A + result_line("b", "far too long"))
    result, too_long = book.expect(ResultsReceived).items
    assert result.custom_id == "a"
    assert isinstance(too_long, MalformedResultError)
    assert "max_line" in too_long.reason


def test_a_results_body_has_no_deadline() -> None:
    book = Playbook(api(retry=ONCE).results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", RESULTS)
    book.head()
    for line in (A, B):
        assert book.operation.deadline is None
        book.now += 100_000
        book.data(line)
        book.next()
    book.eof()
    book.expect_done()


def read_items(chunks: list[bytes], end: str, max_line: int) -> tuple[list[Any], str]:
    """Read results from chunks; return the items, and the error that ended the reading."""
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
def test_items_and_error_do_not_depend_on_how_the_body_is_cut(
    body: bytes, cuts: list[int], end: str, max_line: int
) -> None:
    borders = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[i:j] for i, j in itertools.pairwise(borders)]
    whole = read_items([body] if body else [], end, max_line)
    assert read_items(chunks, end, max_line) == whole


# --- raw results -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_raw_results_are_the_lines_byte_for_byte(size: int, end: bytes) -> None:
    lines = [A.strip(), UNKNOWN_RESULT, B.strip()]
    assert read_raw_results(end.join([*lines, b""]), 3, size) == [
        raw_result(line) for line in lines
    ]


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""], ids=["lf", "crlf", "no line end"])
def test_a_raw_line_with_a_lone_surrogate_is_kept_byte_for_byte(size: int, end: bytes) -> None:
    lines = [
        A.strip(),
        UNKNOWN_RESULT.replace(b"new", b"\\ud83d"),
        UNKNOWN_RESULT.replace(b'"o"', b'"\\udc00"'),
    ]
    items = read_raw_results(b"\r\n".join(lines) + end, 3, size)
    ids = ["a", "o", "\\udc00"]
    assert [(item.custom_id, item.raw) for item in items] == [*zip(ids, lines, strict=True)]


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_raw_line_that_is_not_one_object_is_malformed(size: int) -> None:
    two_on_a_line = A.strip() + B
    items = read_raw_results(two_on_a_line + C, 2, size)
    assert [type(item) for item in items] == [MalformedResultError, RawResult]
    items = read_raw_results(two_on_a_line + C + b"[]\n", 2, size)
    assert [type(item) for item in items] == [MalformedResultError, RawResult, MalformedResultError]


# --- interruptions -----------------------------------------------------------------------


def test_complete_lines_are_delivered_before_the_interruption() -> None:
    book = start_reading(3)
    book.head()
    book.data(A)
    book.data(B + C[:50])
    book.lose("reset")
    assert received_ids(book) == ["a"]
    assert received_ids(book) == ["b"]
    assert isinstance(expect_another_reading(book, 2), TransportError)
    book.respond(A + B + C)
    assert received_ids(book) == ["c"]
    book.expect_done()


@pytest.mark.parametrize("end", ["after a line", "inside a line"])
def test_a_results_body_that_ends_too_early_is_read_again(end: str) -> None:
    book = start_reading(2)
    book.respond(A if end == "after a line" else A + B[:-9])
    assert received_ids(book) == ["a"]
    error = expect_another_reading(book, 1)
    assert isinstance(error, IncompleteResultsError if end == "after a line" else TransportError)
    book.respond(B + A)  # the order may change
    assert received_ids(book) == ["b"]
    book.expect_done()


def test_results_that_stay_incomplete_are_an_error_with_both_counts() -> None:
    book = start_reading(3)
    book.respond(A)
    received_ids(book)
    expect_another_reading(book, 1)
    book.respond(A)
    expect_another_reading(book, 1, 1.0)
    book.respond(A)
    with pytest.raises(IncompleteResultsError, match="1 of 3 results") as caught:
        book.next()
    assert (caught.value.received, caught.value.expected) == (1, 3)


def test_results_that_stay_incomplete_count_their_readings() -> None:
    book = start_reading(2)
    book.respond(A)
    assert received_ids(book) == ["a"]
    expect_another_reading(book, 1)
    book.respond(A)
    expect_another_reading(book, 1, 1.0)
    book.respond(A)
    with pytest.raises(IncompleteResultsError, match=r"\(after 3 attempts\)$") as caught:
        book.next()
    assert caught.value.attempts == 3


def test_a_reading_with_new_results_restarts_the_count_of_attempts() -> None:
    lines = [result_line(str(n)) for n in range(10)]
    book = start_reading(10)
    for n in range(1, 10):
        book.head()
        book.data(b"".join(lines[:n]))
        book.lose()
        assert received_ids(book) == [str(n - 1)]
        expect_another_reading(book, n)
    book.respond(b"".join(lines))
    assert received_ids(book) == ["9"]
    book.expect_done()


def test_more_ids_than_the_batch_counts_are_not_progress() -> None:
    book = start_reading(total=1)
    readings = 0
    with pytest.raises(TransportError):  # noqa: PT012 - it is read again until then
        while True:
            readings += 1
            book.head()
            book.data(result_line(f"x{readings}") + result_line(f"y{readings}"))
            received_ids(book)
            book.lose()
            event = book.expect(ResultsInterrupted)
            book.expect_wait(event.delay)
            book.expect_request("GET", RESULTS)
    assert readings <= 4


def test_a_loss_after_the_last_result_is_not_a_failure() -> None:
    book = start_reading(total=2)
    book.head()
    book.data(A + B)
    assert received_ids(book) == ["a", "b"]
    book.lose()
    book.expect_done()


@pytest.mark.parametrize("end", ["loss", "eof inside a line"])
def test_a_failure_in_the_body_proves_that_the_request_was_sent(end: str) -> None:
    book = start_reading(2, resume=False)
    book.head()
    book.data(A + B[:5])
    if end == "loss":
        book.lose(sent=False)
    else:
        book.eof()
    assert received_ids(book) == ["a"]
    with pytest.raises(TransportError) as caught:
        book.next()
    assert caught.value.sent


def test_an_interruption_of_results_keeps_no_traceback() -> None:
    book = start_reading(total=2)
    book.head()
    book.data(A + B[:10])
    received_ids(book)
    book.lose()
    assert book.expect(ResultsInterrupted).error.__traceback__ is None


def test_without_resume_a_failure_is_raised_after_the_complete_lines() -> None:
    book = start_reading(2, resume=False)
    book.head()
    book.data(A + B[:5])
    book.lose("reset by peer")
    assert received_ids(book) == ["a"]
    with pytest.raises(TransportError, match="reset by peer"):
        book.next()

    book = start_reading(2, resume=False)
    book.respond(A)
    received_ids(book)
    with pytest.raises(IncompleteResultsError):
        book.next()


def test_without_resume_a_failure_before_the_body_is_still_retried() -> None:
    book = start_reading(total=2, resume=False)
    book.respond(error_json("overloaded_error"), 529)
    expect_another_reading(book, delivered=0)
    book.head()
    book.data(A)
    assert received_ids(book) == ["a"]
    book.lose()
    with pytest.raises(TransportError):
        book.next()


def test_an_error_body_in_place_of_results_has_a_deadline() -> None:
    book = Playbook(api(retry=ONCE).results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", RESULTS)
    book.head(500)
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="500"):
        book.next()


@pytest.mark.parametrize("status", [404, 429, 500, 503])
def test_a_request_for_results_is_retried_after_a_status_that_may_pass(status: int) -> None:
    book = start_reading(1)
    book.respond(error_json("api_error", "later"), status)
    expect_another_reading(book, 0)
    book.respond(A)
    assert received_ids(book) == ["a"]
    book.expect_done()


def test_a_request_for_results_is_not_retried_after_other_statuses() -> None:
    book = start_reading(1)
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError):
        book.next()


def test_a_404_of_results_is_raised_after_the_last_attempt() -> None:
    book = start_reading(1, settings={"retry": RetryPolicy(attempts=2)})
    book.respond(error_json("not_found_error"), 404)
    expect_another_reading(book, 0)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError):
        book.next()


# --- bodies that are not results ---------------------------------------------------------


def test_an_html_page_with_enough_lines_is_not_taken_for_results() -> None:
    book = start_reading(total=2)
    book.respond(b"<html>\n<body>\nBad Gateway\n</html>\n")
    assert received_ids(book) == [None] * 4
    error = expect_another_reading(book, delivered=0)
    assert "holds no results" in str(error)
    book.respond(A + B)
    assert received_ids(book) == ["a", "b"]
    book.expect_done()


def test_a_page_in_place_of_the_rest_of_results_is_not_taken_for_results() -> None:
    book = start_reading(total=2)
    book.respond(A)
    assert received_ids(book) == ["a"]
    expect_another_reading(book, delivered=1)
    book.respond(b"<html>Log in</html>\n")
    assert received_ids(book) == [None]
    error = expect_another_reading(book, delivered=1, delay=1.0)
    assert "holds no results" in str(error)
    book.respond(A + B)
    assert received_ids(book) == ["b"]
    book.expect_done()


@pytest.mark.parametrize("body", [b"", b"\n\n"], ids=["empty", "blank lines"])
def test_a_results_body_without_lines_is_incomplete(body: bytes) -> None:
    book = start_reading(total=2)
    book.respond(body)
    error = expect_another_reading(book, delivered=0)
    assert isinstance(error, IncompleteResultsError)
    assert (error.received, error.expected) == (0, 2)


def test_an_endless_results_body_is_not_an_error_after_all_results() -> None:
    book = start_reading(total=1, settings={"retry": ONCE})
    book.head()
    book.data(A)
    assert received_ids(book) == ["a"]
    # Every further line repeats the first result, so there are no items.
    for _ in range(92):
        assert book.next() is Need.DATA
        book.data(A * 11)
    book.expect_done()


def test_an_endless_results_body_with_missing_results_is_an_error() -> None:
    book = start_reading(total=2, settings={"retry": ONCE})
    book.head()
    book.data(A * 1005)
    assert received_ids(book) == ["a"]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines, for a batch of 2"):
        book.next()


@pytest.mark.parametrize(("lines", "is_abandoned"), [(1008, False), (1009, True)])
def test_the_limit_of_lines_in_results_applies_to_each_reading(
    lines: int, *, is_abandoned: bool
) -> None:
    book = start_reading(total=4)
    book.head()
    book.data(A)
    book.lose()
    assert received_ids(book) == ["a"]
    expect_another_reading(book, 1)
    book.head()
    book.data(A * lines)
    if is_abandoned:
        assert "more than 1,008 lines" in str(book.expect(ResultsInterrupted).error)
    else:
        assert book.next() is Need.DATA


def test_the_limit_of_lines_in_results_grows_with_the_batch() -> None:
    ids = [f"r{number}" for number in range(600)]
    book = start_reading(total=600)
    book.head()
    book.data(b"".join(map(result_line, ids[1:])) * 3)
    assert received_ids(book) == ids[1:]
    book.data(result_line(ids[0]))
    assert received_ids(book) == ids[:1]
    book.eof()
    book.expect_done()


@pytest.mark.parametrize(
    "piece",
    [b"\n", b"\r\n", b" \t\n", b"\n\r\n \n" * 300],
    ids=["lf", "crlf", "white space", "many lines"],
)
def test_blank_lines_count_toward_the_limit_of_lines_in_results(piece: bytes) -> None:
    book = start_reading(total=2, settings={"retry": ONCE})
    book.head()
    book.data(A)
    assert received_ids(book) == ["a"]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines, for a batch of 2"):  # noqa: PT012 - it reads until then
        for _ in range(1004):
            book.data(piece)
            assert book.next() is Need.DATA


def test_endless_blank_lines_after_all_results_are_not_an_error() -> None:
    book = start_reading(total=1)
    book.head()
    book.data(A + b"\n" * 1001)
    assert received_ids(book) == ["a"]
    assert book.next() is Need.DATA
    book.data(b"\n")
    book.expect_done()


def test_no_result_beyond_the_limit_of_lines_is_delivered() -> None:
    ids = [f"r{number}" for number in range(1010)]
    book = start_reading(total=2, settings={"retry": ONCE})
    book.head()
    book.data(b"".join(map(result_line, ids)))
    assert received_ids(book) == ids[:1004]
    with pytest.raises(RemoteProtocolError, match="more than 1,004 lines"):
        book.next()


@pytest.mark.parametrize("piece", [b"x", b" ", b"\r"], ids=["text", "spaces", "crs"])
@pytest.mark.parametrize("max_line", [1000, MAX_LINE])
def test_an_endless_line_is_abandoned_after_256_mib(piece: bytes, max_line: int) -> None:
    settings = {"retry": ONCE, "max_line": max_line}
    book = start_reading(total=2, settings=settings)
    book.head()
    book.data(A)
    assert received_ids(book) == ["a"]
    chunk = piece * (1 << 20)
    for _ in range(256):
        book.data(chunk)
        assert book.next() is Need.DATA
    book.data(piece)
    with pytest.raises(RemoteProtocolError, match="line 2 has more than 268,435,456 bytes"):
        book.next()


def test_a_line_over_a_small_max_line_does_not_end_the_reading() -> None:
    book = start_reading(total=3, settings={"max_line": 1000})
    book.respond(A + result_line("b", "x" * 9000) + C)
    assert received_ids(book) == ["a", None, "c"]
    book.expect_done()
