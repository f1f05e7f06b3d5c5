"""Tests of `operations.create`: when a create is sent, retried, and of unknown outcome."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from batches_core import (
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    BatchCreated,
    BatchesAPI,
    ConflictError,
    CreateMarked,
    CreateMarker,
    CreateOperation,
    InternalServerError,
    InvalidInputError,
    LocalProtocolError,
    MessageBatch,
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
from tests.support.deadlines import pass_deadline
from tests.support.ids import readable
from tests.support.playbook import KEY, REQUEST, Playbook, api, batch_json, error_json
from tests.support.settling_playbook import (
    BATCHES,
    EXISTING,
    LIST,
    ONCE,
    expect_adoption,
    expect_list,
    expect_unknown,
    listed_batch,
    lose_create,
    unknown_outcome,
)

REQUESTS = [
    {"custom_id": "a", "params": {"model": "m", "max_tokens": 1, "messages": [], "new": [1]}},
    {"custom_id": "b", "params": {}},
]
#: A batch as the service sent it on 2026-05-01, in response to its create.
LIVE_BATCH = (
    b'{"archived_at":null,"cancel_initiated_at":null,"created_at":"2026-05-01T20:29:05.358585'
    b'+00:00","ended_at":null,"expires_at":"2026-05-02T20:29:05.358585+00:00","id":'
    b'"msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX","processing_status":"in_progress","request_counts":'
    b'{"canceled":0,"errored":0,"expired":0,"processing":1,"succeeded":0},"results_url":null,'
    b'"type":"message_batch"}'
)


def start(client: BatchesAPI | None = None) -> Playbook:
    """Start a create of two requests; the operation waits for the response to it."""
    book = Playbook((client or api()).create(REQUESTS))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    return book


def test_create_posts_its_requests_and_returns_the_batch() -> None:
    book = Playbook(api().create(REQUESTS))
    book.expect_marker()
    request = book.expect_request("POST", BATCHES)
    assert request.body is not None
    body = b"".join(request.body)
    assert json.loads(body) == {"requests": REQUESTS}
    assert dict(request.headers)["content-length"] == str(len(body))
    assert dict(request.headers)["content-type"] == "application/json"
    book.respond(LIVE_BATCH)
    assert not book.expect(BatchCreated).adopted
    batch = book.expect_done()
    assert batch.id == "msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX"
    assert batch.request_counts.total == 1
    assert not batch.ended


# --- retries -----------------------------------------------------------------------------


def test_create_is_retried_if_it_was_not_sent_completely() -> None:
    book = start()
    book.lose("no route", sent=False)
    retry = book.expect(RetryScheduled)
    assert (retry.retry, retry.delay) == (1, 0.5)
    book.expect_wait(0.5)
    request = book.expect_request("POST", BATCHES)
    assert request.body is not None
    assert json.loads(b"".join(request.body)) == {"requests": REQUESTS}
    book.respond(batch_json())
    book.expect(BatchCreated)
    assert book.expect_done().id == "msgbatch_1"


def test_create_makes_at_most_three_attempts() -> None:
    book = start()
    book.lose("no route", sent=False)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose("no route", sent=False)
    book.expect(RetryScheduled)
    book.expect_wait(1.0)
    book.expect_request("POST", BATCHES)
    book.lose("no route", sent=False)
    with pytest.raises(
        TransportError, match="no route; the request was not sent completely"
    ) as caught:
        book.next()
    assert not isinstance(caught.value, OutcomeUnknownError)


REFUSALS_THAT_MAY_PASS = [
    (429, "rate_limit_error", {}),
    (529, "overloaded_error", {}),
    (425, "invalid_request_error", {"x-should-retry": "true"}),
    (409, "conflict_error", {"x-should-retry": "true"}),
]


@pytest.mark.parametrize(("status", "type_", "headers"), REFUSALS_THAT_MAY_PASS, ids=readable)
def test_create_is_retried_after_a_refusal_that_may_pass(
    status: int, type_: str, headers: dict[str, str]
) -> None:
    book = start()
    book.respond(error_json(type_), status, headers.items())
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.respond(batch_json())
    book.expect(BatchCreated)
    assert book.expect_done().id == "msgbatch_1"


def test_create_is_not_retried_by_a_policy_of_one_attempt() -> None:
    book = start(api(retry=ONCE))
    book.lose(sent=False)
    with pytest.raises(TransportError):
        book.next()


REFUSALS = [
    (400, "invalid_request_error", BadRequestError),
    (409, "conflict_error", ConflictError),
    (413, "request_too_large", RequestTooLargeError),
    (425, "invalid_request_error", BadRequestError),
    (418, "teapot_error", APIStatusError),
    (499, "teapot_error", APIStatusError),
]


@pytest.mark.parametrize(("status", "type_", "kind"), REFUSALS, ids=readable)
def test_create_is_not_retried_after_a_refusal(
    status: int, type_: str, kind: type[APIStatusError]
) -> None:
    book = start()
    book.respond(error_json(type_, "no way"), status)
    with pytest.raises(kind, match="no way"):
        book.next()


@pytest.mark.parametrize(
    ("status", "kind"), [(429, RateLimitError), (529, OverloadedError)], ids=readable
)
def test_create_is_not_retried_if_x_should_retry_is_false(
    status: int, kind: type[APIStatusError]
) -> None:
    book = start()
    book.respond(b"", status, [("x-should-retry", "false")])
    with pytest.raises(kind):
        book.next()


def test_create_is_not_retried_after_the_spend_limit_is_reached() -> None:
    book = start()
    details = {"error_code": "enforced_spend_limit_reached"}
    book.respond(error_json("rate_limit_error", details=details), 429)
    with pytest.raises(RateLimitError, match="next month") as caught:
        book.next()
    assert caught.value.error_code == "enforced_spend_limit_reached"


def test_a_redirect_of_a_create_is_an_error_that_names_its_target() -> None:
    book = start()
    book.respond(b"", 307, [("location", "https://elsewhere.test/")])
    with pytest.raises(APIStatusError, match=r"redirect to 'https://elsewhere\.test/'") as caught:
        book.next()
    assert caught.value.status == 307


# --- unknown outcomes --------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 599])
@pytest.mark.parametrize(
    "headers",
    [{}, {"x-should-retry": "false"}, {"x-should-retry": "true"}, {"retry-after": "1"}],
    ids=readable,
)
def test_a_server_error_leaves_the_outcome_unknown_despite_its_advice(
    status: int, headers: dict[str, str]
) -> None:
    book = start()
    book.respond(error_json("api_error", "it broke"), status, headers.items())
    with pytest.raises(OutcomeUnknownError, match=r"2 requests.*it broke.*twice") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, APIStatusError)
    assert caught.value.requests == 2
    assert caught.value.sent


@pytest.mark.parametrize(
    "failure",
    ["lost before the head", "lost after the head", "lost in the body", "not JSON"],
)
def test_a_lost_or_unreadable_response_leaves_the_outcome_unknown(failure: str) -> None:
    book = start()
    cause: type[Exception] = TransportError
    if failure == "lost before the head":
        book.lose("read timeout", sent=True)
    elif failure == "lost after the head":
        book.head()
        book.lose()
    elif failure == "lost in the body":
        book.head()
        book.data(LIVE_BATCH[:100])
        book.lose()
    else:
        book.respond(b"<html>a login page</html>")
        cause = RemoteProtocolError
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, cause)


def test_a_truncated_response_leaves_the_outcome_unknown() -> None:
    book = start()
    book.respond(LIVE_BATCH[:-5])
    with pytest.raises(OutcomeUnknownError, match="not a batch"):
        book.next()


def test_a_response_that_does_not_end_leaves_the_outcome_unknown() -> None:
    book = start()
    book.head()
    book.data(LIVE_BATCH[:9])
    assert book.next() is Need.DATA
    book.now += 601
    book.data(LIVE_BATCH[9:20])
    with pytest.raises(OutcomeUnknownError, match="did not end"):
        book.next()


def test_a_loss_after_a_safe_retry_leaves_the_outcome_unknown() -> None:
    book = start()
    book.respond(error_json("overloaded_error"), 529)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose()
    with pytest.raises(OutcomeUnknownError):
        book.next()


def test_a_later_refusal_does_not_hide_an_earlier_unknown_outcome() -> None:
    book = lose_create(EXISTING, settle_time=0, retry=RetryPolicy(attempts=2))
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose("refused", sent=False)
    with pytest.raises(OutcomeUnknownError, match=r"refused\); call settle") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)
    assert caught.value.marker is not None


def test_a_create_has_no_deadline_before_its_head() -> None:
    assert start().operation.deadline is None


@pytest.mark.parametrize("status", [200, 500, 503, 504, 408])
def test_a_response_that_drips_past_its_deadline_leaves_the_outcome_unknown(status: int) -> None:
    book = start()
    book.head(status)
    assert book.next() is Need.DATA
    book.data(b"{")
    pass_deadline(book)
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert caught.value.marker is not None


def test_a_429_whose_body_drips_past_its_deadline_is_still_a_refusal() -> None:
    book = start()
    book.head(429)
    assert book.next() is Need.DATA
    pass_deadline(book)
    assert isinstance(book.expect(RetryScheduled).error, RateLimitError)


def test_no_event_or_error_of_a_create_shows_the_credential() -> None:
    error = unknown_outcome()
    for value in (error, error.marker, CreateMarked(marker=CreateMarker(requests=1))):
        assert KEY not in f"{value!r} {value}"


# --- creates without a marker ------------------------------------------------------------


@pytest.mark.parametrize("if_unknown", ["raise", "settle"])
def test_create_is_not_sent_if_the_list_cannot_be_read(if_unknown: Any) -> None:
    book = Playbook(api().create([REQUEST], if_unknown=if_unknown))
    for delay in (0.5, 1.0):
        book.expect_request("GET", LIST)
        book.respond(error_json("api_error"), 500)
        book.expect(RetryScheduled)
        book.expect_wait(delay)
    book.expect_request("GET", LIST)
    book.respond(error_json("api_error"), 500)
    with pytest.raises(InternalServerError) as caught:
        book.next()
    (note,) = caught.value.__notes__
    assert "nothing was created" in note
    assert 'if_unmarked="send"' in note


def test_an_unmarked_create_is_sent_only_if_the_caller_allows_it() -> None:
    book = Playbook(api(retry=ONCE).create([REQUEST], if_unmarked="send"))
    book.expect_request("GET", LIST)
    book.respond(error_json("api_error"), 500)
    book.expect_request("POST", BATCHES)
    book.lose()
    error = expect_unknown(book, r"look for it with list_all\(\)")
    assert error.marker is None
    with pytest.raises(InvalidInputError, match=r"cannot be settled.*list_all\(\)"):
        api().settle(error)


# --- interruptions -----------------------------------------------------------------------


def interrupt(book: Playbook, error: BaseException | None = None) -> BaseException:
    """Stop driving a create because of an error, by default one of the caller's own."""
    error = error or OSError("broken pipe")
    assert isinstance(book.operation, CreateOperation)
    book.operation.interrupt(error, book.now)
    return error


def attached(error: BaseException, name: str) -> Any:
    return vars(error)[name]


def test_an_interruption_before_the_create_is_sent_says_nothing_was_created() -> None:
    client = api()
    book = Playbook(client.create(REQUESTS))
    book.expect_marker(EXISTING)
    error = interrupt(book)
    assert error.__notes__ == ["nothing was created: the create was not sent, or it was refused"]
    assert not hasattr(error, "create_outcome")
    assert client.ledger.unfinished() == []


def test_an_interruption_of_a_sent_create_carries_the_outcome_to_settle() -> None:
    client = api()
    book = start(client)
    book.now += 5.0
    error = interrupt(book, KeyboardInterrupt())
    outcome = attached(error, "create_outcome")
    assert isinstance(outcome, OutcomeUnknownError)
    assert outcome.marker is not None
    assert outcome.marker.arrives_within == 65.0
    assert "interrupted by KeyboardInterrupt" in str(outcome)
    assert error.__notes__ == [str(outcome)]
    assert KEY not in str(outcome)
    (unfinished,) = client.ledger.unfinished()
    assert str(unfinished) == str(outcome)

    book = Playbook(client.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"
    assert client.ledger.unfinished() == []


def test_an_interruption_after_the_response_to_a_create_carries_the_batch() -> None:
    client = api()
    book = start(client)
    book.respond(listed_batch())
    book.expect(BatchCreated)
    # The caller's handler of this event raises.
    error = interrupt(book)
    batch = attached(error, "created_batch")
    assert isinstance(batch, MessageBatch)
    assert error.__notes__ == ["the batch was created: new; do not create it again"]
    assert client.ledger.unfinished() == [batch]


def test_an_interruption_during_settling_carries_the_outcome() -> None:
    book = lose_create(EXISTING)
    expect_list(book, EXISTING)
    error = interrupt(book)
    assert attached(error, "create_outcome").reason == "read timeout"


def test_an_interruption_before_a_lost_create_is_retried_carries_its_outcome() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    assert attached(interrupt(book), "create_outcome")


def test_an_interruption_inside_a_create_carries_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = start()
    book.respond(listed_batch())

    def raise_interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batches_core.operations.ledger.PendingCreate.succeed", raise_interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        book.next()
    assert attached(interrupt(book, caught.value), "create_outcome")


def test_a_local_protocol_error_carries_the_outcome_of_a_create() -> None:
    error = interrupt(start(), LocalProtocolError("closed"))
    assert attached(error, "create_outcome")


def test_an_error_of_the_create_itself_gets_no_note() -> None:
    book = start()
    book.respond(error_json("authentication_error"), 401)
    with pytest.raises(AuthenticationError) as caught:
        book.next()
    assert not hasattr(interrupt(book, caught.value), "__notes__")

    book = start()
    book.lose()
    error = expect_unknown(book, "connection reset")
    assert not hasattr(interrupt(book, error), "__notes__")


def test_an_error_that_cannot_be_changed_leaves_the_outcome_in_the_ledger() -> None:
    class Frozen(BaseException):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    client = api()
    interrupt(start(client), Frozen())
    assert len(client.ledger.unfinished()) == 1


def test_a_sent_create_that_is_collected_leaves_its_outcome_in_the_ledger() -> None:
    client = api()
    book = Playbook(client.create(REQUESTS))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now += 5.0
    book.operation.handle_timeout(book.now)
    del book
    gc.collect()
    (outcome,) = client.ledger.unfinished()
    assert isinstance(outcome, OutcomeUnknownError)
    assert outcome.marker is not None
    assert (outcome.marker.serial, outcome.marker.arrives_within) == (marker.serial, 65.0)


def test_a_create_interrupted_before_its_marker_was_returned_was_not_sent() -> None:
    client = api()
    book = Playbook(client.create(REQUESTS))
    book.expect_request("GET", LIST)
    book.respond({"data": [], "has_more": False})
    interrupt(book)
    assert client.ledger.unfinished() == []
    assert isinstance(book.next(), CreateMarked)
