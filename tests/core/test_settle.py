"""What became of a create whose answer was lost."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from batches_core import (
    AuthenticationError,
    BatchCreated,
    CreateMarked,
    CreateMarker,
    Done,
    InternalServerError,
    InvalidRequest,
    OutcomeUnknown,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    SettlingStarted,
    TransportError,
    WaitUntil,
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


def adopted(book: Playbook, *shown: dict[str, Any], alone_for: float = 10.0) -> str:
    """It is the only one that fits for a while, at the second look as at the first."""
    book.expect_wait(alone_for)
    looks(book, *shown)
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


def test_the_marker_is_the_first_of_a_page_that_is_longer_than_asked_for() -> None:
    book = Playbook(api().create([REQUEST]))
    assert book.mark(BEFORE, batch_json("older")).newest_id == "old"


def test_without_settling_a_list_that_fails_is_done_without() -> None:
    book = Playbook(api(retry=RetryPolicy(attempts=2)).create([REQUEST]))
    book.expect_request("GET", PATH + "?limit=1")
    book.answer(error_json("api_error"), 500)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
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
    assert adopted(book, made("other", 3), made(), *newest) == "new"


def test_it_is_looked_for_until_the_list_shows_it() -> None:
    book = lost(BEFORE)
    for delay in (1.0, 2.0, 4.0, 8.0, 15.0):
        looks(book, BEFORE)
        book.expect_wait(delay)
    looks(book, made(), BEFORE)
    assert adopted(book, made(), BEFORE) == "new"


def test_another_that_is_listed_first_is_not_taken_for_it() -> None:
    book = lost(BEFORE)
    looks(book, made("others"), BEFORE)
    book.expect_wait(10.0)
    looks(book, made(), made("others"), BEFORE)
    with pytest.raises(OutcomeUnknown, match="several fit") as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["new", "others"]


def test_one_that_goes_away_again_is_not_it() -> None:
    book = lost(BEFORE)
    looks(book, made("others"), BEFORE)
    book.expect_wait(10.0)
    looks(book, BEFORE)
    book.expect_wait(2.0)
    looks(book, made(), BEFORE)
    assert adopted(book, made(), BEFORE) == "new"


@pytest.mark.parametrize("other", ["a", "z"])
def test_one_that_is_listed_in_the_place_of_another_has_to_stay_alone_as_long(other: str) -> None:
    book = lost(BEFORE)
    looks(book, made("m"), BEFORE)
    book.expect_wait(10.0)
    looks(book, made(other), BEFORE)
    assert adopted(book, made(other), BEFORE) == other


def test_a_look_that_takes_long_counts_for_the_time_alone() -> None:
    book = lost(BEFORE)
    looks(book, made(), BEFORE)
    book.expect_wait(10.0)
    book.expect_request("GET", LIST)
    book.now += 3
    book.answer(page(made(), BEFORE))
    assert book.expect(BatchCreated).adopted


def test_a_look_that_outlasts_the_settling_time_is_followed_by_one_last() -> None:
    book = lost(BEFORE, settle_time=2.0)
    book.expect_request("GET", LIST)
    book.now += 5
    book.answer(page(BEFORE))
    looks(book, BEFORE)
    book.expect(RetryScheduled)


def test_at_the_end_of_the_settling_time_the_only_one_is_it() -> None:
    book = lost(BEFORE, settle_time=3.0)
    looks(book, made(), BEFORE)
    assert adopted(book, made(), BEFORE, alone_for=3.0) == "new"


def test_nothing_is_adopted_while_another_create_is_in_doubt() -> None:
    doubts = [True]
    operation = api().create([REQUEST, SECOND], if_unknown="settle", is_contested=lambda: doubts[0])
    book = Playbook(operation)
    book.mark(BEFORE)
    book.expect_request("POST", PATH)
    book.lose()
    book.expect(SettlingStarted)
    for delay in (1.0, 2.0):
        looks(book, made(), BEFORE)
        book.expect_wait(delay)
    doubts[0] = False
    looks(book, made(), BEFORE)
    assert adopted(book, made(), BEFORE) == "new"


def test_in_doubt_to_the_end_it_is_unknown() -> None:
    operation = api().settle(unknown(), settle_time=1.0, is_contested=lambda: True)
    book = Playbook(operation)
    looks(book, made(), BEFORE)
    book.expect_wait(1.0)
    looks(book, made(), BEFORE)
    with pytest.raises(OutcomeUnknown, match=r"another create .* in doubt") as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["new"]


def test_in_doubt_but_without_a_batch_it_was_not_created() -> None:
    book = Playbook(api().settle(unknown(), settle_time=0, is_contested=lambda: True))
    looks(book, BEFORE)
    assert book.expect_done() is None


@pytest.mark.parametrize(
    ("pages", "newest"),
    [
        ([([], True)], (BEFORE,)),
        ([([], False)], (BEFORE,)),
        ([([], True)], ()),
        ([([made("other", 3)], False)], (BEFORE,)),
    ],
    ids=["an empty page", "an empty workspace", "no end of an empty one", "another workspace"],
)
def test_a_list_that_does_not_reach_the_marker_proves_nothing(
    pages: list[tuple[list[dict[str, Any]], bool]], newest: tuple[dict[str, Any], ...]
) -> None:
    book = lost(*newest, settle_time=0, retry=ONCE)
    for batches, has_more in pages:
        book.expect_request("GET", LIST)
        book.answer(page(*batches, has_more=has_more))
    with pytest.raises(OutcomeUnknown, match="could not be read: the list does not reach back"):
        book.next()


def test_a_list_without_an_end_is_left_after_so_many_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batches_core.creation._MAX_PAGES", 3)
    book = lost(BEFORE, settle_time=0, retry=ONCE)
    cursor = ""
    for number in range(3):
        book.expect_request("GET", LIST + cursor)
        book.answer(page(made(f"b{number}", 5), has_more=True))
        cursor = f"&after_id=b{number}"
    with pytest.raises(OutcomeUnknown, match="does not reach back"):
        book.next()


@pytest.mark.parametrize(("seconds", "is_it"), [(-11, False), (-9, True), (0, True)])
def test_what_is_older_than_the_look_is_not_it(seconds: int, is_it: Any) -> None:
    look = datetime(2026, 5, 1, 21, 0, 0, tzinfo=UTC)
    book = Playbook(api().create([REQUEST, SECOND], if_unknown="settle", settle_time=0))
    book.expect_request("GET", PATH + "?limit=1")
    book.answer({"data": []}, headers=[("date", format_datetime(look, usegmt=True))])
    assert book.expect(CreateMarked).marker.read_at == look
    book.expect_request("POST", PATH)
    book.lose()
    book.expect(SettlingStarted)
    looks(book, made(at=(look + timedelta(seconds=seconds)).isoformat()))
    if is_it:
        assert book.expect(BatchCreated).adopted
    else:
        book.expect(RetryScheduled)


def test_a_later_refusal_does_not_hide_that_an_earlier_try_is_unknown() -> None:
    book = lost(BEFORE, settle_time=0, retry=RetryPolicy(attempts=2))
    looks(book, BEFORE)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", PATH)
    book.lose("refused", sent=False)
    with pytest.raises(OutcomeUnknown, match=r"refused\); call settle") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)
    assert caught.value.marker is not None


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
    assert adopted(book, made(), BEFORE) == "new"


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
    older = made("older", at="2026-05-01T19:00:00Z")
    book.answer(page(made(), BEFORE, older, has_more=True))
    assert adopted(book, made(), BEFORE, older) == "new"


def test_a_marker_that_was_deleted_meanwhile_is_known_by_its_time() -> None:
    book = lost(BEFORE)
    shown = made(), made("older", at="2026-05-01T19:59:59Z")
    looks(book, *shown)
    assert adopted(book, *shown) == "new"


def test_one_as_old_as_the_marker_is_not_passed_over() -> None:
    book = lost(BEFORE)
    shown = made(at="2026-05-01T20:00:00Z"), BEFORE
    looks(book, *shown)
    assert adopted(book, *shown) == "new"


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
    shown = made(), made("two"), made("one"), BEFORE
    looks(book, *shown)
    assert adopted(book, *shown) == "new"


def test_an_outage_while_it_is_looked_for_is_waited_out() -> None:
    book = lost(BEFORE, retry=ONCE)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    book.expect_wait(1.0)
    looks(book, made(), BEFORE)
    assert adopted(book, made(), BEFORE) == "new"


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
    assert isinstance(elsewhere.__cause__, TransportError)
    for outcome in (elsewhere, elsewhere.marker):
        book = Playbook(api().settle(outcome))
        looks(book, made(), BEFORE)
        assert adopted(book, made(), BEFORE) == "new"


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


def test_the_settling_time_counts_from_the_first_time_that_is_told() -> None:
    operation = api().settle(unknown(), settle_time=1.5)
    for now, wait in ((1000.0, 1001.0), (1001.0, 1001.5), (1001.5, None)):
        send = operation.next_event()
        assert isinstance(send, SendRequest)
        operation.receive_head(send.exchange, 200, [], now)
        operation.receive_data(send.exchange, msgspec.json.encode(page(BEFORE)), now)
        operation.receive_eof(send.exchange, now)
        event = operation.next_event()
        if wait is None:
            assert event == Done(value=None)
        else:
            assert event == WaitUntil(deadline=wait)
            operation.handle_timeout(wait)
