"""get, cancel, delete, list and list_all, as playbooks."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from batches_core import (
    APIStatusError,
    BadRequestError,
    BatchesAPI,
    BatchesError,
    Need,
    NotFoundError,
    Operation,
    PageReceived,
    RemoteProtocolError,
    RetryPolicy,
    RetryScheduled,
    TransportError,
)
from batches_core.call import MAX_ERROR_BODY, MAX_RESPONSE
from tests.support.playbook import KEY, Playbook, api, batch_json, error_json

LIST = "/v1/messages/batches"
ONE = f"{LIST}/msgbatch_1"
GONE = {"id": "msgbatch_1", "type": "message_batch_deleted"}

SIMPLE: dict[str, tuple[Callable[[BatchesAPI], Operation[Any]], str, str, Any]] = {
    "get": (lambda a: a.get("msgbatch_1"), "GET", ONE, batch_json()),
    "cancel": (lambda a: a.cancel("msgbatch_1"), "POST", ONE + "/cancel", batch_json()),
    "delete": (lambda a: a.delete("msgbatch_1"), "DELETE", ONE, GONE),
    "list": (lambda a: a.list(), "GET", LIST, {"data": [batch_json()], "has_more": False}),
}
each = pytest.mark.parametrize(("make", "method", "path", "body"), SIMPLE.values(), ids=SIMPLE)


@each
def test_one_request_one_answer(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str, body: Any
) -> None:
    book = Playbook(make(api()))
    assert book.expect_request(method, path).body is None
    book.respond(body)
    value = book.expect_done()
    assert (value.data[0] if path == LIST else value).id == "msgbatch_1"


@each
@pytest.mark.parametrize(
    "failure", ["unsent", "sent", "in body", 408, 409, 425, 429, 500, 502, 503, 504, 529, "html"]
)
def test_what_may_pass_is_tried_again_after_a_doubled_delay(
    make: Callable[[BatchesAPI], Operation[Any]],
    method: str,
    path: str,
    body: Any,
    failure: int | str,
) -> None:
    book = Playbook(make(api()))
    for delay in (0.5, 1.0):
        book.expect_request(method, path)
        if failure == "html":
            book.respond(b"<html>200, but not ours</html>")
        elif isinstance(failure, int):
            book.respond(b"<html>bad gateway</html>", failure)
        else:
            if failure == "in body":
                book.head()
                book.data(b"{")
            book.lose(sent=failure != "unsent")
        assert book.expect(RetryScheduled).delay == delay
        book.expect_wait(delay)
    book.expect_request(method, path)
    book.respond(body)
    book.expect_done()


@each
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 501, 301, 304])
def test_what_does_not_pass_is_told_at_once(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str, body: Any, status: int
) -> None:
    del body
    book = Playbook(make(api()))
    book.expect_request(method, path)
    book.respond(error_json("some_error", "it says why"), status)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert (caught.value.status, caught.value.type) == (status, "some_error")


def test_the_service_has_the_last_word_on_trying_again() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(error_json("api_error"), 500, [("x-should-retry", "false")])
    with pytest.raises(APIStatusError):
        book.next()

    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(error_json("weird"), 418, [("X-Should-Retry", "true"), ("Retry-After", "4")])
    assert book.expect(RetryScheduled).delay == 4.0


def test_delays_are_shared_out_by_the_jitter() -> None:
    book = Playbook(api(jitter=lambda: 0.25).get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.lose()
    assert book.expect(RetryScheduled).delay == 0.125


# --- bodies ------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"api_key": None, "auth_token": KEY}])
@pytest.mark.parametrize("status", [200, 401, 502])
def test_a_credential_that_an_answer_repeats_is_struck_out(
    status: int, settings: dict[str, Any]
) -> None:
    book = Playbook(api(retry=RetryPolicy(attempts=1), **settings).get("msgbatch_1"))
    book.expect_request("GET", ONE)
    if status == 401:
        book.respond(error_json("authentication_error", f"invalid x-api-key {KEY}"), status)
    else:
        book.respond(f"<html>x-api-key: {KEY}</html>".encode(), status)
    with pytest.raises(BatchesError, match=r"x-api-key:? \[hidden\]") as caught:
        book.next()
    assert KEY not in f"{caught.value!r}{vars(caught.value)}"


def test_the_status_is_looked_at_before_the_body() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(batch_json(), 404)
    with pytest.raises(NotFoundError):
        book.next()


def test_an_error_whose_body_breaks_off_is_still_that_error() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.head(404, [("request-id", "req_9")])
    book.data(b'{"type":"error","er')
    book.lose()
    with pytest.raises(NotFoundError) as caught:
        book.next()
    assert caught.value.request_id == "req_9"
    assert caught.value.body == b'{"type":"error","er'


def test_of_an_endless_error_body_the_beginning_is_read() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.head(400)
    for _ in range(MAX_ERROR_BODY // 1000):
        book.data(b"e" * 1000)
    assert book.next() is Need.DATA
    book.data(b"f" * 1000)
    with pytest.raises(BadRequestError) as caught:
        book.next()
    assert len(caught.value.body) == MAX_ERROR_BODY
    book.data(b"late")  # and what still comes is dropped


@pytest.mark.parametrize("piece", [1 << 20, MAX_RESPONSE + 1])
def test_an_endless_answer_is_cut_off_for_every_cut(piece: int) -> None:
    api_ = api()
    book = Playbook(api_.get("msgbatch_1"))
    for _ in range(3):
        book.expect_request("GET", ONE)
        book.head()
        sent = 0
        while sent <= MAX_RESPONSE:
            assert book.next() is Need.DATA
            book.data(b" " * piece)
            sent += piece
        event = None
        try:
            event = book.next()
        except RemoteProtocolError as error:
            last = error
            break
        assert isinstance(event, RetryScheduled)
        book.expect_wait(event.delay)
    assert "longer than" in str(last)


def test_the_bounds_of_an_answer() -> None:
    assert (MAX_RESPONSE, MAX_ERROR_BODY) == (16_777_216, 65_536)


def test_an_answer_at_the_bound_is_read() -> None:
    book = Playbook(api().list())
    book.expect_request("GET", LIST)
    book.head()
    body = b'{"data":[]}'
    book.data(body + b" " * (MAX_RESPONSE - len(body)))
    book.eof()
    assert book.expect_done().data == []


# --- delete ------------------------------------------------------------------------------


def test_a_404_after_a_delete_of_unknown_outcome_is_success() -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", ONE)
    book.lose(sent=True)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", ONE)
    book.respond(error_json("not_found_error"), 404)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize("first", ["unsent", 429])
def test_a_404_after_a_delete_that_was_not_taken_is_a_404(first: int | str) -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", ONE)
    if first == "unsent":
        book.lose(sent=False)
    else:
        book.respond(b"", 429)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", ONE)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError):
        book.next()


def test_a_batch_that_has_not_finished_canceling_cannot_be_deleted() -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", ONE)
    text = "Batch `msgbatch_1` has not finished canceling. Wait until it has ended."
    book.respond(
        {
            "error": {"message": text, "type": "invalid_request_error"},
            "request_id": "req_7",
            "type": "error",
        },
        400,
        [("x-should-retry", "false")],
    )
    with pytest.raises(BadRequestError, match="has not finished canceling") as caught:
        book.next()
    assert (caught.value.request_id, caught.value.should_retry) == ("req_7", False)


# --- list_all ----------------------------------------------------------------------------


def page(*ids: str, has_more: bool = True, **changes: Any) -> dict[str, Any]:
    cursors = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
    return {"data": [batch_json(i) for i in ids], "has_more": has_more, **cursors, **changes}


def ids(event: PageReceived) -> list[str]:
    return [batch.id for batch in event.page.data]


def test_list_all_walks_the_pages_each_when_it_is_asked_for() -> None:
    book = Playbook(api().list_all(limit=2))
    book.expect_request("GET", f"{LIST}?limit=2")
    book.respond(page("e", "d"))
    assert ids(book.expect(PageReceived)) == ["e", "d"]
    book.expect_request("GET", f"{LIST}?limit=2&after_id=d")
    book.respond(page("c", "b"))
    assert ids(book.expect(PageReceived)) == ["c", "b"]
    book.expect_request("GET", f"{LIST}?limit=2&after_id=b")
    book.respond(page("a", has_more=False))
    assert ids(book.expect(PageReceived)) == ["a"]
    assert book.expect_done() is None


def test_list_all_walks_backwards() -> None:
    book = Playbook(api().list_all(before_id="b"))
    book.expect_request("GET", f"{LIST}?before_id=b")
    book.respond(page("d", "c"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{LIST}?before_id=d")
    book.respond(page("e", has_more=False))
    book.expect(PageReceived)
    book.expect_done()


def test_list_all_goes_on_from_a_cursor() -> None:
    book = Playbook(api().list_all(after_id="c"))
    book.expect_request("GET", f"{LIST}?after_id=c")
    book.respond(page("b", has_more=False))
    book.expect(PageReceived)
    book.expect_done()


@pytest.mark.parametrize(
    "last", [page(), page("a", last_id=None), page("a", has_more=False), {"data": []}]
)
def test_list_all_stops_on_an_empty_page_and_on_a_null_cursor(last: dict[str, Any]) -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", LIST)
    book.respond(page("c", "b"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{LIST}?after_id=b")
    book.respond(last)
    book.expect(PageReceived)
    book.expect_done()


def test_a_cursor_that_comes_again_is_a_fault_of_the_server_and_no_endless_loop() -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", LIST)
    book.respond(page("c", "b"))
    book.expect(PageReceived)
    book.expect_request("GET", f"{LIST}?after_id=b")
    book.respond(page("c", "b"))
    assert ids(book.expect(PageReceived)) == ["c", "b"]
    with pytest.raises(RemoteProtocolError, match="repeats its cursor"):
        book.next()


def test_a_cursor_that_names_the_one_handed_in_is_a_circle_too() -> None:
    book = Playbook(api().list_all(after_id="b"))
    book.expect_request("GET", f"{LIST}?after_id=b")
    book.respond(page("c", "b"))
    book.expect(PageReceived)
    with pytest.raises(RemoteProtocolError, match="repeats its cursor"):
        book.next()


def test_each_page_has_its_own_attempts() -> None:
    book = Playbook(api().list_all())
    cursor = ""
    for name in ("c", "b", "a"):
        for delay in (0.5, 1.0):
            book.expect_request("GET", LIST + cursor)
            book.lose()
            book.expect(RetryScheduled)
            book.expect_wait(delay)
        book.expect_request("GET", LIST + cursor)
        book.respond(page(name, has_more=name != "a"))
        book.expect(PageReceived)
        cursor = f"?after_id={name}"
    book.expect_done()


def test_a_page_that_cannot_be_read_leaves_what_came() -> None:
    book = Playbook(api().list_all())
    book.expect_request("GET", LIST)
    book.respond(page("c"))
    book.expect(PageReceived)
    for delay in (0.5, 1.0):
        book.expect_request("GET", f"{LIST}?after_id=c")
        book.lose()
        book.expect(RetryScheduled)
        book.expect_wait(delay)
    book.expect_request("GET", f"{LIST}?after_id=c")
    book.lose()
    with pytest.raises(TransportError):
        book.next()


def test_an_answer_that_drips_for_ever_is_left() -> None:
    book = Playbook(api(retry=RetryPolicy(attempts=1)).get("msgbatch_1"))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1")
    book.head()
    with pytest.raises(TransportError, match="did not end within 600 s"):  # noqa: PT012
        for _ in range(1000):
            book.now += 1
            book.data(b" ")
            assert book.next() is Need.DATA


def test_an_answer_may_take_all_of_its_time() -> None:
    book = Playbook(api(retry=RetryPolicy(attempts=1)).get("msgbatch_1"), now=1.0)
    book.expect_request("GET", ONE)
    book.head()
    for seconds in (0, 599):
        assert book.next() is Need.DATA
        book.now += seconds
        book.data(b" ")
    assert book.next() is Need.DATA
    book.now += 1
    book.data(b" ")
    with pytest.raises(TransportError, match="did not end"):
        book.next()


@pytest.mark.parametrize("status", [201, 299])
def test_every_success_is_one(status: int) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(batch_json(), status)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize(
    ("status", "is_redirect"), [(300, True), (301, True), (399, True), (400, False)]
)
def test_a_redirect_names_where_it_leads(status: int, *, is_redirect: bool) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(error_json("some_error"), status, [("location", "/elsewhere?signature")])
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert ("a redirect to '/elsewhere'," in str(caught.value)) == is_redirect


def test_an_error_that_fills_its_bound_is_told_without_waiting_for_more() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.head(400)
    book.data(b"e" * MAX_ERROR_BODY)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert len(caught.value.body) == MAX_ERROR_BODY


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_to_delete_is_no_deletion_whatever_came_before(status: int) -> None:
    book = Playbook(api().delete("msgbatch_1"))
    book.expect_request("DELETE", ONE)
    book.lose()
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("DELETE", ONE)
    book.respond(error_json("some_error"), status)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.status == status


# --- how often it was tried --------------------------------------------------------------


def test_what_fails_for_good_tells_after_how_many_attempts() -> None:
    book = Playbook(api().get("msgbatch_1"))
    for delay in (0.5, 1.0):
        book.expect_request("GET", ONE)
        book.lose("reset")
        assert book.expect(RetryScheduled).error.attempts == 1
        book.expect_wait(delay)
    book.expect_request("GET", ONE)
    book.lose("reset")
    with pytest.raises(TransportError, match=r"^reset; .* again \(after 3 attempts\)$") as caught:
        book.next()
    assert caught.value.attempts == 3
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (copied.attempts, str(copied)) == (3, str(caught.value))


def test_what_is_told_at_once_says_nothing_of_attempts() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.attempts == 1
    assert "attempt" not in str(caught.value)


def test_a_refusal_after_a_retry_tells_that_it_was_the_second_attempt() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.lose()
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("GET", ONE)
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError, match=r"\(after 2 attempts\)"):
        book.next()
