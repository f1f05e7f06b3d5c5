from __future__ import annotations

import json

import pytest

from batches_core import (
    APIStatusError,
    BadRequestError,
    BatchCreated,
    ConflictError,
    InvalidInputError,
    Need,
    OutcomeUnknownError,
    OverloadedError,
    RateLimitError,
    RemoteProtocolError,
    RequestTooLargeError,
    RetryPolicy,
    RetryScheduled,
    TransportError,
)
from batches_core.call import certainly_had_no_effect, may_have_had_effect
from tests.support.playbook import Playbook, api, batch_json, error_json

PATH = "/v1/messages/batches"
REQUESTS = [
    {"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": [], "new": [1]}},
    {"custom_id": "b", "params": {}},
]

# As the service sent it on 2026-05-01.
LIVE = (
    b'{"archived_at":null,"cancel_initiated_at":null,"created_at":"2026-05-01T20:29:05.358585'
    b'+00:00","ended_at":null,"expires_at":"2026-05-02T20:29:05.358585+00:00","id":'
    b'"msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX","processing_status":"in_progress","request_counts":'
    b'{"canceled":0,"errored":0,"expired":0,"processing":1,"succeeded":0},"results_url":null,'
    b'"type":"message_batch"}'
)


def start() -> Playbook:
    book = Playbook(api().create(REQUESTS))
    book.expect_marker()
    book.expect_request("POST", PATH)
    return book


def test_it_posts_the_envelope_and_gives_the_batch() -> None:
    book = Playbook(api().create(REQUESTS))
    book.expect_marker()
    request = book.expect_request("POST", PATH)
    assert request.body is not None
    body = b"".join(request.body)
    assert json.loads(body) == {"requests": REQUESTS}
    assert dict(request.headers)["content-length"] == str(len(body))
    assert dict(request.headers)["content-type"] == "application/json"
    book.respond(LIVE)
    assert not book.expect(BatchCreated).adopted
    batch = book.expect_done()
    assert batch.id == "msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX"
    assert batch.request_counts.total == 1
    assert not batch.ended


def test_bad_input_is_refused_before_there_is_an_operation() -> None:
    with pytest.raises(
        InvalidInputError, match=r"requests\.1\.custom_id: 'a' is already the id of requests"
    ):
        api().create([REQUESTS[0], {**REQUESTS[1], "custom_id": "a"}])


def test_it_is_sent_again_where_nothing_of_it_left() -> None:
    book = start()
    book.lose("no route", sent=False)
    retry = book.expect(RetryScheduled)
    assert (retry.retry, retry.delay) == (1, 0.5)
    book.expect_wait(0.5)
    again = book.expect_request("POST", PATH)
    assert again.body is not None
    assert json.loads(b"".join(again.body)) == {"requests": REQUESTS}
    book.respond(batch_json())
    book.expect(BatchCreated)
    assert book.expect_done().id == "msgbatch_1"


def test_three_attempts_in_all() -> None:
    book = start()
    book.lose("no route", sent=False)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.lose("no route", sent=False)
    book.expect(RetryScheduled)
    book.expect_wait(1.0)
    book.expect_request("POST", PATH)
    book.lose("no route", sent=False)
    with pytest.raises(
        TransportError, match="no route; the request was not sent completely"
    ) as caught:
        book.next()
    assert not isinstance(caught.value, OutcomeUnknownError)


SURELY_NOT_TAKEN = [
    (429, "rate_limit_error", {}),
    (529, "overloaded_error", {}),
    (425, "invalid_request_error", {"x-should-retry": "true"}),
    (409, "conflict_error", {"x-should-retry": "true"}),
]


@pytest.mark.parametrize(("status", "type_", "headers"), SURELY_NOT_TAKEN)
def test_it_is_sent_again_where_the_service_says_that_it_was_not_taken(
    status: int, type_: str, headers: dict[str, str]
) -> None:
    book = start()
    book.respond(error_json(type_), status, headers.items())
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.respond(batch_json())
    book.expect(BatchCreated)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
@pytest.mark.parametrize(
    "headers",
    [{}, {"x-should-retry": "false"}, {"x-should-retry": "true"}, {"retry-after": "1"}],
)
def test_a_server_error_leaves_the_outcome_unknown_whatever_it_advises(
    status: int, headers: dict[str, str]
) -> None:
    book = start()
    book.respond(error_json("api_error", "it broke"), status, headers.items())
    with pytest.raises(OutcomeUnknownError, match=r"2 requests.*it broke.*twice") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, APIStatusError)
    assert caught.value.requests == 2
    assert caught.value.sent


@pytest.mark.parametrize("how", ["before the head", "after the head", "in the body", "no json"])
def test_an_answer_that_is_lost_leaves_the_outcome_unknown(how: str) -> None:
    book = start()
    cause: type[Exception] = TransportError
    if how == "before the head":
        book.lose("read timeout", sent=True)
    elif how == "after the head":
        book.head()
        book.lose()
    elif how == "in the body":
        book.head()
        book.data(LIVE[:100])
        book.lose()
    else:
        book.respond(b"<html>a login page</html>")
        cause = RemoteProtocolError
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, cause)


def test_a_body_cut_by_a_clean_end_leaves_the_outcome_unknown() -> None:
    book = start()
    book.respond(LIVE[:-5])
    with pytest.raises(OutcomeUnknownError, match="not a batch"):
        book.next()


def test_an_answer_that_does_not_come_to_its_end_leaves_the_outcome_unknown() -> None:
    book = start()
    book.head()
    book.data(LIVE[:9])
    assert book.next() is Need.DATA
    book.now += 601
    book.data(LIVE[9:20])
    with pytest.raises(OutcomeUnknownError, match="did not end"):
        book.next()


@pytest.mark.parametrize("status", [408, 500, 503, 504])
def test_advice_to_retry_does_not_prove_that_a_request_had_no_effect(status: int) -> None:
    error = APIStatusError(status=status, message="no", should_retry=True)
    assert not certainly_had_no_effect(error)
    assert may_have_had_effect(error)


REFUSED = [
    (400, "invalid_request_error", BadRequestError),
    (409, "conflict_error", ConflictError),
    (413, "request_too_large", RequestTooLargeError),
    (425, "invalid_request_error", BadRequestError),
    (418, "teapot_error", APIStatusError),
    (499, "teapot_error", APIStatusError),
]


@pytest.mark.parametrize(("status", "type_", "kind"), REFUSED)
def test_a_refusal_is_what_it_is_and_is_not_sent_again(
    status: int, type_: str, kind: type[APIStatusError]
) -> None:
    book = start()
    book.respond(error_json(type_, "no way"), status)
    with pytest.raises(kind, match="no way"):
        book.next()


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimitError), (529, OverloadedError)], ids=str
)
def test_the_services_word_not_to_retry_is_taken(status: int, kind: type[APIStatusError]) -> None:
    book = start()
    book.respond(b"", status, [("x-should-retry", "false")])
    with pytest.raises(kind):
        book.next()


def test_a_spend_limit_does_not_pass() -> None:
    book = start()
    details = {"error_code": "enforced_spend_limit_reached"}
    book.respond(error_json("rate_limit_error", details=details), 429)
    with pytest.raises(RateLimitError, match="next month") as caught:
        book.next()
    assert caught.value.error_code == "enforced_spend_limit_reached"


def test_an_unknown_outcome_after_a_safe_retry_is_still_unknown() -> None:
    book = start()
    book.respond(error_json("overloaded_error"), 529)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.lose()
    with pytest.raises(OutcomeUnknownError):
        book.next()


def test_one_attempt_means_no_retry() -> None:
    book = Playbook(api(retry=RetryPolicy(attempts=1)).create(REQUESTS))
    book.expect_marker()
    book.expect_request("POST", PATH)
    book.lose(sent=False)
    with pytest.raises(TransportError):
        book.next()


def test_a_redirect_is_a_refusal_that_names_its_target() -> None:
    book = start()
    book.respond(b"", 307, [("location", "https://elsewhere.test/")])
    with pytest.raises(APIStatusError, match=r"redirect to 'https://elsewhere\.test/'") as caught:
        book.next()
    assert caught.value.status == 307
