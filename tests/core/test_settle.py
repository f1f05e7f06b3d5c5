"""What became of a create whose answer was lost."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from batches_core import (
    AuthenticationError,
    BatchCreated,
    CreateMarked,
    CreateMarker,
    InternalServerError,
    InvalidRequest,
    OutcomeUnknown,
    RetryPolicy,
    RetryScheduled,
    SettlingStarted,
    TransportError,
)
from tests.playbook import KEY, REQUEST, Playbook, api, batch_json, error_json

PATH = "/v1/messages/batches"
LIST = PATH + "?limit=100"
ONCE = RetryPolicy(attempts=1)
BEFORE = batch_json("old", created_at="2026-05-01T20:00:00Z")
SECOND = {**REQUEST, "custom_id": "b"}


def made(id_: str = "new", total: int = 2, at: str = "2026-05-01T21:00:00Z") -> dict[str, Any]:
    counts = {"processing": total, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return batch_json(id_, created_at=at, request_counts=counts)


def page(*batches: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    last = batches[-1]["id"] if batches else None
    return {"data": batches, "has_more": has_more, "first_id": None, "last_id": last}


def lost(
    *newest: dict[str, Any], retry: RetryPolicy | None = None, settle_time: float = 60.0
) -> Playbook:
    """A create that is to be settled, and whose answer is lost."""
    operation = api(retry=retry).create(
        [REQUEST, SECOND], if_unknown="settle", settle_time=settle_time
    )
    book = Playbook(operation)
    book.mark(*newest)
    book.expect_request("POST", PATH)
    book.lose("read timeout")
    started = book.expect(SettlingStarted)
    assert (started.error.reason, started.settle_time) == ("read timeout", settle_time)
    return book


def looks(book: Playbook, *batches: dict[str, Any]) -> None:
    book.expect_request("GET", LIST)
    book.answer(page(*batches))


def adopted(book: Playbook) -> str:
    created = book.expect(BatchCreated)
    assert created.adopted
    assert book.expect_done() == created.batch
    return created.batch.id


# --- the marker --------------------------------------------------------------------------


def test_the_marker_is_the_newest_batch_and_can_be_kept() -> None:
    book = Playbook(api().create([REQUEST], known_ids=["x"]))
    marker = book.mark(BEFORE)
    assert (marker.requests, marker.newest_id) == (1, "old")
    assert marker.newest_created_at is not None
    assert pickle.loads(pickle.dumps(marker)) == marker  # noqa: S301 - our own bytes
    assert msgspec.json.decode(msgspec.json.encode(marker), type=CreateMarker) == marker


def test_without_settling_a_list_that_fails_is_done_without() -> None:
    book = Playbook(api().create([REQUEST]))
    book.expect_request("GET", PATH + "?limit=1")
    book.answer(error_json("api_error"), 500)
    book.expect_request("POST", PATH)
    book.lose()
    with pytest.raises(OutcomeUnknown, match=r"look for it with list\(\)") as caught:
        book.next()
    assert caught.value.marker is None
    with pytest.raises(InvalidRequest, match=r"cannot be settled.*list_all\(\)"):
        api().settle(caught.value)


def test_with_settling_nothing_is_sent_before_the_list_was_read() -> None:
    operation = api().create([REQUEST], if_unknown="settle")
    book = Playbook(operation)
    for delay in (0.5, 1.0):
        book.expect_request("GET", PATH + "?limit=1")
        book.answer(error_json("api_error"), 500)
        book.expect(RetryScheduled)
        book.expect_wait(delay)
    book.expect_request("GET", PATH + "?limit=1")
    book.answer(error_json("api_error"), 500)
    with pytest.raises(InternalServerError) as caught:
        book.next()
    assert caught.value.__notes__ == [
        "this was the look at the list before the create: nothing was created"
    ]


# --- at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [(), (BEFORE,)], ids=["in an empty workspace", "after others"])
def test_the_one_that_is_newer_and_as_large_is_adopted(newest: tuple[dict[str, Any]]) -> None:
    book = lost(*newest)
    looks(book, made("other", 3), made(), *newest)
    assert adopted(book) == "new"


def test_it_is_looked_for_until_the_list_shows_it() -> None:
    book = lost(BEFORE)
    for delay in (1.0, 2.0, 4.0, 8.0, 15.0):
        looks(book, BEFORE)
        book.expect_wait(delay)
    looks(book, made(), BEFORE)
    assert adopted(book) == "new"


@pytest.mark.parametrize(
    "status", [500, 503], ids=["the service failed", "a proxy stood in for it"]
)
def test_an_answer_that_does_not_say_is_settled_like_a_lost_one(status: int) -> None:
    book = Playbook(api().create([REQUEST, SECOND], if_unknown="settle"))
    book.mark(BEFORE)
    book.expect_request("POST", PATH)
    book.answer(error_json("api_error"), status)
    book.expect(SettlingStarted)
    looks(book, made(), BEFORE)
    assert adopted(book) == "new"


def test_a_refusal_is_not_settled() -> None:
    book = Playbook(api().create([REQUEST], if_unknown="settle"))
    book.mark()
    book.expect_request("POST", PATH)
    book.answer(error_json("authentication_error"), 401)
    with pytest.raises(AuthenticationError):
        book.next()


def test_where_there_is_none_it_is_sent_again() -> None:
    book = lost(BEFORE, settle_time=2.0)
    for delay in (1.0, 1.0):
        looks(book, BEFORE)
        book.expect_wait(delay)
    looks(book, BEFORE)
    retry = book.expect(RetryScheduled)
    assert isinstance(retry.error, OutcomeUnknown)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.answer(made("second"))
    assert not book.expect(BatchCreated).adopted
    assert book.expect_done().id == "second"


def test_it_is_sent_again_no_more_often_than_the_policy_says() -> None:
    book = lost(BEFORE, settle_time=0, retry=RetryPolicy(attempts=2))
    looks(book, BEFORE)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.lose()
    book.expect(SettlingStarted)
    looks(book, BEFORE)
    with pytest.raises(OutcomeUnknown, match=r"call settle\(\) with this error") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)


def test_a_late_one_of_the_first_try_is_seen_after_the_second() -> None:
    book = lost(BEFORE, settle_time=0)
    looks(book, BEFORE)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.lose()
    book.expect(SettlingStarted)
    looks(book, made("second"), made("first"), BEFORE)
    with pytest.raises(OutcomeUnknown) as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["second", "first"]


def test_several_that_fit_are_named_and_none_is_taken() -> None:
    book = lost(BEFORE)
    looks(book, made("one"), made("two"), BEFORE)
    with pytest.raises(OutcomeUnknown, match=r"which of 2 batches.*one, two.*not create") as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["one", "two"]
    assert caught.value.marker is not None
    assert caught.value.marker.newest_id == "old"


def test_the_walk_goes_over_pages_to_the_marker_and_no_further() -> None:
    book = lost(BEFORE)
    book.expect_request("GET", LIST)
    book.answer(page(made("other", 3), has_more=True))
    book.expect_request("GET", LIST + "&after_id=other")
    book.answer(page(made(), BEFORE, made("older", at="2026-05-01T19:00:00Z"), has_more=True))
    assert adopted(book) == "new"


def test_a_marker_that_was_deleted_meanwhile_is_known_by_its_time() -> None:
    book = lost(BEFORE)
    looks(book, made(), made("older", at="2026-05-01T19:59:59Z"))
    assert adopted(book) == "new"


def test_one_as_old_as_the_marker_is_not_passed_over() -> None:
    book = lost(BEFORE)
    looks(book, made(at="2026-05-01T20:00:00Z"), BEFORE)
    assert adopted(book) == "new"


def test_batches_that_are_known_to_be_others_are_left_out_also_those_of_meanwhile() -> None:
    known = ["one"]
    operation = api().create([REQUEST, SECOND], if_unknown="settle", known_ids=known)
    book = Playbook(operation)
    book.mark(BEFORE)
    book.expect_request("POST", PATH)
    book.lose()
    error = book.expect(SettlingStarted).error
    assert error.marker is not None
    assert error.marker.known_ids == ("one",)
    book.expect_request("GET", LIST)
    known.append("two")
    book.answer(page(made("two"), made("one"), BEFORE))
    book.expect_wait(1.0)
    looks(book, made(), made("two"), made("one"), BEFORE)
    assert adopted(book) == "new"


def test_an_outage_while_it_is_looked_for_is_waited_out() -> None:
    book = lost(BEFORE, retry=ONCE)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    book.expect_wait(1.0)
    looks(book, made(), BEFORE)
    assert adopted(book) == "new"


def test_an_outage_to_the_end_leaves_the_outcome_unknown() -> None:
    book = lost(BEFORE, retry=ONCE, settle_time=1.0)
    for _ in range(2):
        book.expect_request("GET", LIST)
        book.lose("no route", sent=False)
        if book.now == 1000.0:
            book.expect_wait(1.0)
    with pytest.raises(OutcomeUnknown, match=r"list could not be read: no route.*settle") as caught:
        book.next()
    assert caught.value.marker is not None


def test_a_refusal_to_list_leaves_it_unknown_at_once() -> None:
    book = lost(BEFORE)
    book.expect_request("GET", LIST)
    book.answer(error_json("authentication_error"), 401)
    with pytest.raises(OutcomeUnknown) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, AuthenticationError)


# --- later -------------------------------------------------------------------------------


def unknown() -> OutcomeUnknown:
    book = Playbook(api().create([REQUEST, SECOND]))
    book.mark(BEFORE)
    book.expect_request("POST", PATH)
    book.lose("read timeout")
    with pytest.raises(OutcomeUnknown, match=r"read timeout\); call settle\(\)") as caught:
        book.next()
    return caught.value


def test_an_outcome_is_settled_later_and_elsewhere() -> None:
    elsewhere = pickle.loads(pickle.dumps(unknown()))  # noqa: S301 - our own bytes
    for outcome in (elsewhere, elsewhere.marker):
        book = Playbook(api().settle(outcome))
        looks(book, made(), BEFORE)
        assert adopted(book) == "new"


def test_settled_to_none_the_create_can_be_sent_again() -> None:
    book = Playbook(api().settle(unknown(), settle_time=1))
    looks(book, BEFORE)
    book.expect_wait(1.0)
    looks(book, BEFORE)
    assert book.expect_done() is None


def test_settled_with_what_is_known_elsewhere() -> None:
    book = Playbook(api().settle(unknown(), settle_time=0, known_ids={"new"}))
    looks(book, made(), BEFORE)
    assert book.expect_done() is None


@pytest.mark.parametrize("outcome", [None, "msgbatch_1", TransportError("no", sent=True)])
def test_settle_takes_an_outcome(outcome: Any) -> None:
    with pytest.raises(InvalidRequest, match="OutcomeUnknown of a create, or its marker"):
        api().settle(outcome)


@pytest.mark.parametrize(
    "settings", [{"if_unknown": "retry"}, {"if_unknown": None}, {"settle_time": -1}]
)
def test_what_to_do_is_checked_at_once(settings: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"if_unknown|settle_time"):
        api().create([REQUEST], **settings)


def test_no_event_or_error_of_a_create_shows_the_credential() -> None:
    error = unknown()
    for shown in (error, error.marker, CreateMarked(marker=CreateMarker(requests=1))):
        assert KEY not in f"{shown!r} {shown}"
