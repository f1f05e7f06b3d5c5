"""Tests of `call`: one exchange, the limits of its response, and the retries of a request."""

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
    RemoteProtocolError,
    RetryPolicy,
    RetryScheduled,
    TransportError,
)
from batches_core.call import (
    MAX_ERROR_BODY,
    MAX_RESPONSE,
    is_safe_to_repeat,
    may_have_had_effect,
)
from tests.support.deadlines import pass_deadline
from tests.support.playbook import KEY, Playbook, api, batch_json, error_json

BATCHES = "/v1/messages/batches"
BATCH = f"{BATCHES}/msgbatch_1"
DELETION = {"id": "msgbatch_1", "type": "message_batch_deleted"}
ONCE = RetryPolicy(attempts=1)
OPERATIONS: dict[str, tuple[Callable[[BatchesAPI], Operation[Any]], str, str, Any]] = {
    "get": (lambda a: a.get("msgbatch_1"), "GET", BATCH, batch_json()),
    "cancel": (lambda a: a.cancel("msgbatch_1"), "POST", BATCH + "/cancel", batch_json()),
    "delete": (lambda a: a.delete("msgbatch_1"), "DELETE", BATCH, DELETION),
    "list": (lambda a: a.list(), "GET", BATCHES, {"data": [batch_json()], "has_more": False}),
}
each_operation = pytest.mark.parametrize(
    ("make", "method", "path", "body"), OPERATIONS.values(), ids=OPERATIONS
)


def start_get(**settings: Any) -> Playbook:
    book = Playbook(api(**settings).get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    return book


# --- retries -----------------------------------------------------------------------------


@each_operation
def test_an_operation_sends_one_request_and_returns_its_value(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str, body: Any
) -> None:
    book = Playbook(make(api()))
    assert book.expect_request(method, path).body is None
    book.respond(body)
    value = book.expect_done()
    assert (value.data[0] if path == BATCHES else value).id == "msgbatch_1"


@each_operation
@pytest.mark.parametrize(
    "failure", ["unsent", "sent", "in body", 408, 409, 425, 429, 500, 502, 503, 504, 529, "html"]
)
def test_a_failure_that_may_pass_is_retried_after_doubled_delays(
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
            book.respond(b"<html>200, but not of the API</html>")
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


@each_operation
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 501, 301, 304])
def test_a_status_that_does_not_pass_is_raised_at_once(
    make: Callable[[BatchesAPI], Operation[Any]], method: str, path: str, body: Any, status: int
) -> None:
    del body
    book = Playbook(make(api()))
    book.expect_request(method, path)
    book.respond(error_json("some_error", "it says why"), status)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert (caught.value.status, caught.value.type) == (status, "some_error")


def test_x_should_retry_overrides_the_status() -> None:
    book = start_get()
    book.respond(error_json("api_error"), 500, [("x-should-retry", "false")])
    with pytest.raises(APIStatusError):
        book.next()

    book = start_get()
    book.respond(error_json("teapot"), 418, [("X-Should-Retry", "true"), ("Retry-After", "4")])
    assert book.expect(RetryScheduled).delay == 4.0


def test_the_jitter_shortens_the_delay_before_a_retry() -> None:
    book = start_get(jitter=lambda: 0.25)
    book.lose()
    assert book.expect(RetryScheduled).delay == 0.125


def test_an_error_after_retries_counts_its_attempts() -> None:
    book = Playbook(api().get("msgbatch_1"))
    for delay in (0.5, 1.0):
        book.expect_request("GET", BATCH)
        book.lose("reset")
        assert book.expect(RetryScheduled).error.attempts == 1
        book.expect_wait(delay)
    book.expect_request("GET", BATCH)
    book.lose("reset")
    with pytest.raises(TransportError, match=r"^reset; .* again \(after 3 attempts\)$") as caught:
        book.next()
    assert caught.value.attempts == 3
    pickled = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (pickled.attempts, str(pickled)) == (3, str(caught.value))


def test_an_error_of_the_first_attempt_does_not_mention_attempts() -> None:
    book = start_get()
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert caught.value.attempts == 1
    assert "attempt" not in str(caught.value)


def test_a_refusal_after_a_retry_counts_two_attempts() -> None:
    book = start_get()
    book.lose()
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("GET", BATCH)
    book.respond(error_json("permission_error"), 403)
    with pytest.raises(APIStatusError, match=r"\(after 2 attempts\)"):
        book.next()


@pytest.mark.parametrize("status", [408, 500, 503, 504])
def test_advice_to_retry_does_not_prove_that_a_request_had_no_effect(status: int) -> None:
    error = APIStatusError(status=status, message="no", should_retry=True)
    assert not is_safe_to_repeat(error)
    assert may_have_had_effect(error)


# --- responses ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 299])
def test_every_2xx_status_is_a_success(status: int) -> None:
    book = start_get()
    book.respond(batch_json(), status)
    assert book.expect_done().id == "msgbatch_1"


def test_the_status_of_a_response_decides_before_its_body_is_decoded() -> None:
    book = start_get()
    book.respond(batch_json(), 404)
    with pytest.raises(NotFoundError):
        book.next()


@pytest.mark.parametrize(
    ("status", "is_redirect"), [(300, True), (301, True), (399, True), (400, False)]
)
def test_only_a_3xx_error_names_the_location_without_its_query(
    status: int, *, is_redirect: bool
) -> None:
    book = start_get()
    book.respond(error_json("some_error"), status, [("location", "/elsewhere?signature")])
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert ("a redirect to '/elsewhere'," in str(caught.value)) == is_redirect


@pytest.mark.parametrize(
    "settings", [{}, {"api_key": None, "auth_token": KEY}], ids=["key", "token"]
)
@pytest.mark.parametrize("status", [200, 401, 502])
def test_a_credential_that_a_response_repeats_is_redacted(
    status: int, settings: dict[str, Any]
) -> None:
    book = start_get(retry=ONCE, **settings)
    if status == 401:
        book.respond(error_json("authentication_error", f"invalid x-api-key {KEY}"), status)
    else:
        book.respond(f"<html>x-api-key: {KEY}</html>".encode(), status)
    with pytest.raises(BatchesError, match=r"x-api-key:? \[hidden\]") as caught:
        book.next()
    assert KEY not in f"{caught.value!r}{vars(caught.value)}"


def test_a_response_is_limited_to_16_mib_and_an_error_body_to_64_kib() -> None:
    assert (MAX_RESPONSE, MAX_ERROR_BODY) == (16_777_216, 65_536)


def test_a_response_of_the_greatest_size_is_read() -> None:
    book = Playbook(api().list())
    book.expect_request("GET", BATCHES)
    book.head()
    body = b'{"data":[]}'
    book.data(body + b" " * (MAX_RESPONSE - len(body)))
    book.eof()
    assert book.expect_done().data == []


@pytest.mark.parametrize("size", [1 << 20, MAX_RESPONSE + 1], ids=["1 MiB", "over the limit"])
def test_an_endless_response_is_abandoned_for_every_size_of_its_pieces(size: int) -> None:
    book = Playbook(api().get("msgbatch_1"))

    def respond_without_end() -> None:
        book.expect_request("GET", BATCH)
        book.head()
        received = 0
        while received <= MAX_RESPONSE:
            assert book.next() is Need.DATA
            book.data(b" " * size)
            received += size

    for _ in range(2):
        respond_without_end()
        book.expect_wait(book.expect(RetryScheduled).delay)
    respond_without_end()
    with pytest.raises(RemoteProtocolError, match="longer than"):
        book.next()


def test_a_response_is_abandoned_600_s_after_its_head() -> None:
    book = start_get(retry=ONCE)
    book.now += 100
    book.head()
    assert book.next() is Need.DATA
    assert book.operation.deadline == book.now + 600
    book.data(b" ")
    pass_deadline(book)
    with pytest.raises(TransportError, match="did not end within 600 s") as caught:
        book.next()
    assert caught.value.sent
    assert book.operation.deadline is None


def test_a_response_that_drips_is_abandoned_after_600_s() -> None:
    book = start_get(retry=ONCE)
    book.head()
    with pytest.raises(TransportError, match="did not end within 600 s"):  # noqa: PT012 - it drips until then
        for _ in range(1000):
            book.now += 1
            book.data(b" ")
            assert book.next() is Need.DATA


def test_a_response_may_take_up_to_600_s() -> None:
    book = start_get(retry=ONCE)
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


# --- error bodies ------------------------------------------------------------------------


def test_an_error_whose_body_breaks_off_is_still_raised() -> None:
    book = start_get()
    book.head(404, [("request-id", "req_9")])
    book.data(b'{"type":"error","er')
    book.lose()
    with pytest.raises(NotFoundError) as caught:
        book.next()
    assert caught.value.request_id == "req_9"
    assert caught.value.body == b'{"type":"error","er'


def test_an_endless_error_body_is_read_up_to_its_limit() -> None:
    book = start_get()
    book.head(400)
    for _ in range(MAX_ERROR_BODY // 1000):
        book.data(b"e" * 1000)
    assert book.next() is Need.DATA
    book.data(b"f" * 1000)
    with pytest.raises(BadRequestError) as caught:
        book.next()
    assert len(caught.value.body) == MAX_ERROR_BODY
    book.data(b"late")  # later input is ignored


def test_an_error_whose_body_reaches_its_limit_is_raised_at_once() -> None:
    book = start_get()
    book.head(400)
    book.data(b"e" * MAX_ERROR_BODY)
    with pytest.raises(APIStatusError) as caught:
        book.next()
    assert len(caught.value.body) == MAX_ERROR_BODY


def test_an_error_body_is_abandoned_after_10_s_and_its_start_is_kept() -> None:
    book = start_get(retry=ONCE)
    book.head(503, [("retry-after", "7")])
    assert book.next() is Need.DATA
    assert book.operation.deadline == book.now + 10
    book.data(b"<html>down")
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="<html>down") as caught:
        book.next()
    assert (caught.value.status, caught.value.body) == (503, b"<html>down")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "keeps_deadline", [True, False], ids=["driver keeps the deadline", "driver ignores it"]
)
def test_an_error_whose_body_drips_is_raised_after_10_s(*, keeps_deadline: bool) -> None:
    book = start_get(retry=ONCE)
    began = book.now
    book.head(503)
    with pytest.raises(APIStatusError):  # noqa: PT012 - it drips until then
        while True:
            assert book.next() is Need.DATA
            book.now += 0.75
            deadline = book.operation.deadline
            if keeps_deadline and deadline is not None and book.now >= deadline:
                pass_deadline(book)
            else:
                book.data(b".")
    assert 10 <= book.now - began <= (10 if keeps_deadline else 10.75)
