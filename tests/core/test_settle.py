"""What became of a create whose answer was lost."""

from __future__ import annotations

import contextlib
import pickle
from datetime import UTC, datetime, timedelta
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
    InvalidInputError,
    MessageBatch,
    OutcomeUnknownError,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    SettlingPolicy,
    SettlingStarted,
    TransportError,
    WaitUntil,
)
from batches_core.marker import Fit
from tests.support.playbook import KEY, READ_AT, REQUEST, Playbook, api, batch_json, error_json
from tests.support.settling_playbook import (
    BATCHES,
    EXISTING,
    LIST,
    ONCE,
    SECOND_REQUEST,
    expect_adoption,
    expect_list,
    expect_unknown,
    listed_batch,
    lose_create,
    page_json,
    unknown_outcome,
)

# --- the marker --------------------------------------------------------------------------


def test_the_marker_tells_what_the_list_showed_and_where_and_can_be_kept() -> None:
    on = api(workspace_id="wrkspc_1")
    book = Playbook(on.create([REQUEST]))
    older = batch_json("older", created_at="2026-05-01T19:00:00Z")
    marker = book.expect_marker(older, EXISTING, has_more=True, organization="org")
    assert marker.requests == 1
    assert marker.listed_ids == ("older", "old")
    assert f"{marker.newest_created_at}" == "2026-05-01 20:00:00+00:00"
    assert f"{marker.oldest_created_at}" == "2026-05-01 19:00:00+00:00"
    assert f"{marker.read_at}" == "2026-05-01 21:00:00+00:00"
    assert (marker.base_url, marker.workspace_id) == (on.base_url, "wrkspc_1")
    assert (marker.organization_id, marker.scope) == ("org", on.scope)
    assert pickle.loads(pickle.dumps(marker)) == marker  # noqa: S301 - our own bytes
    assert msgspec.json.decode(msgspec.json.encode(marker), type=CreateMarker) == marker


def test_a_page_that_is_the_whole_list_leaves_nothing_older() -> None:
    marker = Playbook(api().create([REQUEST])).expect_marker(EXISTING)
    assert marker.newest_created_at is not None
    assert marker.oldest_created_at is None


def test_the_time_in_which_a_request_can_arrive_counts_from_the_question_for_the_list() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    book.expect_request("GET", LIST)
    book.now += 19.0  # the answer was dated at its start, and came slowly
    book.respond({"data": []}, headers=[("date", "Fri, 01 May 2026 21:00:00 GMT")])
    book.expect(CreateMarked)
    book.expect_request("POST", BATCHES)
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.arrives_within == 79.0


def test_the_marker_lists_all_batches_that_are_within_the_clock_slack_of_the_newest() -> None:
    book = Playbook(api().create([REQUEST]))
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch("b1", at="2026-05-01T20:59:59Z"), has_more=True))
    book.expect_request("GET", LIST + "&after_id=b1")
    older = listed_batch("b3", at="2026-05-01T20:59:48Z")
    book.respond(page_json(listed_batch("b2", at="2026-05-01T20:59:50Z"), older, has_more=True))
    marker = book.expect(CreateMarked).marker
    assert marker.listed_ids == ("b1", "b2", "b3")


def test_the_marker_ends_with_an_empty_page_or_after_so_many_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = Playbook(api().create([REQUEST]))
    book.expect_request("GET", LIST)
    book.respond({"data": [], "has_more": True, "last_id": "b0"})
    assert book.expect(CreateMarked).marker.newest_created_at is None

    monkeypatch.setattr("batches_core.operations.create._MAX_LISTED", 1)
    book = Playbook(api().create([REQUEST]))
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch("b1"), listed_batch("b2"), has_more=True))
    assert book.expect(CreateMarked).marker.listed_ids == ("b1", "b2")


def test_the_scope_names_url_workspace_and_credential_and_shows_none_of_them() -> None:
    scopes = {
        api().scope,
        api(workspace_id="w").scope,
        api(api_key="sk-another-key-1234").scope,
        api(base_url="https://other.test").scope,
    }
    assert len(scopes) == 4
    assert api().scope == api(max_line=5).scope
    assert not any(KEY in scope for scope in scopes)


@pytest.mark.parametrize("if_unknown", ["raise", "settle"])
def test_nothing_is_sent_if_the_list_cannot_be_read_before(if_unknown: Any) -> None:
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


def test_it_is_sent_without_a_marker_only_if_that_is_asked_for() -> None:
    book = Playbook(api(retry=ONCE).create([REQUEST], if_unmarked="send"))
    book.expect_request("GET", LIST)
    book.respond(error_json("api_error"), 500)
    book.expect_request("POST", BATCHES)
    book.lose()
    error = expect_unknown(book, r"look for it with list\(\)")
    assert error.marker is None
    with pytest.raises(InvalidInputError, match=r"cannot be settled.*list_all\(\)"):
        api().settle(error)


def test_the_outcome_keeps_for_how_long_the_request_can_still_arrive() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST], settle_time=30.0))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now += 100.0
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.arrives_within == 130.0


# --- at once -----------------------------------------------------------------------------


@pytest.mark.parametrize("newest", [(), (EXISTING,)], ids=["in an empty workspace", "after others"])
def test_the_one_that_is_newer_and_as_large_is_adopted(newest: tuple[dict[str, Any]]) -> None:
    book = lose_create(*newest)
    expect_list(book, listed_batch("other", 3), listed_batch(), *newest)
    assert expect_adoption(book, listed_batch("other", 3), listed_batch(), *newest) == "new"


def test_it_is_looked_for_until_the_list_shows_it() -> None:
    book = lose_create(EXISTING)
    for delay in (1.0, 2.0, 4.0, 8.0, 15.0):
        expect_list(book, EXISTING)
        book.expect_wait(delay)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_another_that_is_listed_first_is_not_taken_for_it() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("others"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch(), listed_batch("others"), EXISTING)
    with pytest.raises(OutcomeUnknownError, match="several batches fit") as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["new", "others"]


def test_one_that_goes_away_again_is_not_it() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("others"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, EXISTING)
    book.expect_wait(2.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


@pytest.mark.parametrize("other", ["a", "z"])
def test_one_that_is_listed_in_the_place_of_another_has_to_stay_alone_as_long(other: str) -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("m"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch(other), EXISTING)
    assert expect_adoption(book, listed_batch(other), EXISTING) == other


def test_a_look_that_takes_long_counts_for_the_time_alone() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch(), EXISTING)
    book.expect_wait(10.0)
    book.expect_request("GET", LIST)
    book.now += 3
    book.respond(page_json(listed_batch(), EXISTING))
    assert book.expect(BatchCreated).adopted


def test_a_look_that_outlasts_the_settling_time_is_followed_by_one_last() -> None:
    book = lose_create(EXISTING, settle_time=2.0)
    book.expect_request("GET", LIST)
    book.now += 5
    book.respond(page_json(EXISTING))
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)


def test_the_last_look_adopts_only_what_was_alone_for_ten_seconds() -> None:
    book = lose_create(EXISTING, settle_time=3.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=10.0) == "new"


def test_one_that_first_shows_at_the_last_look_is_watched_for_ten_seconds_more() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=10.0) == "new"


def test_one_that_takes_the_place_of_another_after_the_settling_time_is_not_adopted() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch("one"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch("two"), EXISTING)
    error = expect_unknown(book, "one after the other")
    assert [batch.id for batch in error.candidates] == ["two", "one"]


def test_one_that_fitted_and_is_gone_proves_no_absence() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch(), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, EXISTING)
    expect_unknown(book, "batch new fitted, but is not in the list any more")


@pytest.mark.parametrize(
    ("batches", "has_more", "newest"),
    [([], True, (EXISTING,)), ([], True, ())],
    ids=["an empty page", "no end of an empty list"],
)
def test_a_list_that_breaks_off_proves_nothing(
    batches: list[dict[str, Any]], has_more: Any, newest: tuple[dict[str, Any], ...]
) -> None:
    book = lose_create(*newest, settle_time=0, retry=ONCE)
    book.expect_request("GET", LIST)
    book.respond(page_json(*batches, has_more=has_more))
    expect_unknown(book, "could not be read: the list does not reach back")


def test_a_list_without_an_end_is_left_after_so_many_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batches_core.operations.settle._MAX_PAGES", 3)
    book = lose_create(EXISTING, settle_time=0, retry=ONCE)
    cursor = ""
    for number in range(3):
        book.expect_request("GET", LIST + cursor)
        book.respond(page_json(listed_batch(f"b{number}", 5), has_more=True))
        cursor = f"&after_id=b{number}"
    with pytest.raises(OutcomeUnknownError, match="does not reach back"):
        book.next()


def test_a_later_refusal_does_not_hide_that_an_earlier_try_is_unknown() -> None:
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


@pytest.mark.parametrize(
    "status", [500, 503], ids=["the service failed", "a proxy stood in for it"]
)
def test_an_answer_that_does_not_say_is_settled_like_a_lost_one(status: int) -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST], if_unknown="settle"))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.respond(error_json("api_error"), status)
    book.expect(SettlingStarted)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_a_refusal_is_not_settled() -> None:
    book = Playbook(api().create([REQUEST], if_unknown="settle"))
    book.expect_marker()
    book.expect_request("POST", BATCHES)
    book.respond(error_json("authentication_error"), 401)
    with pytest.raises(AuthenticationError):
        book.next()


def test_where_there_is_none_it_is_sent_again() -> None:
    book = lose_create(EXISTING, settle_time=2.0)
    for delay in (1.0, 1.0):
        expect_list(book, EXISTING)
        book.expect_wait(delay)
    expect_list(book, EXISTING)
    retry = book.expect(RetryScheduled)
    assert isinstance(retry.error, OutcomeUnknownError)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.respond(listed_batch("second"))
    assert not book.expect(BatchCreated).adopted
    assert book.expect_done().id == "second"


def test_it_is_sent_again_no_more_often_than_the_policy_says() -> None:
    book = lose_create(EXISTING, settle_time=0, retry=RetryPolicy(attempts=2))
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose()
    book.expect(SettlingStarted)
    expect_list(book, EXISTING)
    with pytest.raises(OutcomeUnknownError, match=r"call settle\(\) with this error") as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)


def test_a_late_one_of_the_first_try_is_seen_after_the_second() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose()
    book.expect(SettlingStarted)
    expect_list(book, listed_batch("second"), listed_batch("first"), EXISTING)
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["second", "first"]


def test_several_that_fit_are_named_and_none_is_taken() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("one"), listed_batch("two"), EXISTING)
    with pytest.raises(
        OutcomeUnknownError, match=r"which of 2 batches.*one, two.*before you create"
    ) as caught:
        book.next()
    assert [batch.id for batch in caught.value.candidates] == ["one", "two"]
    assert caught.value.marker is not None
    assert caught.value.marker.listed_ids == ("old",)


def test_the_walk_goes_over_pages_past_the_marker_by_the_clock_slack_and_no_further() -> None:
    book = lose_create(EXISTING)
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch("other", 3), EXISTING, has_more=True))
    book.expect_request("GET", LIST + "&after_id=old")
    within = listed_batch("within", 3, at="2026-05-01T19:59:51Z")
    past = listed_batch("past", at="2026-05-01T19:59:49Z")
    book.respond(page_json(within, listed_batch(), past, has_more=True))
    assert expect_adoption(book, listed_batch(), EXISTING, past) == "new"


# --- order and clocks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    ["2026-05-01T20:59:50Z", "2026-05-01T20:59:59.9Z", "2026-05-01T21:00:00Z"],
    ids=["ten seconds of skew", "a tenth of a second of skew", "equal stamps"],
)
@pytest.mark.parametrize("is_behind", [False, True])
def test_the_batch_is_found_also_behind_the_marker(at: str, is_behind: Any) -> None:
    newest = listed_batch("old", at="2026-05-01T21:00:00Z")
    shown = (newest, listed_batch(at=at)) if is_behind else (listed_batch(at=at), newest)
    book = lose_create(newest)
    expect_list(book, *shown)
    assert expect_adoption(book, *shown) == "new"


def test_an_older_batch_of_equal_size_on_the_markers_page_is_known_to_be_older() -> None:
    twin = listed_batch("twin", at="2026-05-01T20:59:58Z")
    newest = listed_batch("newest", at="2026-05-01T20:59:59Z")
    book = lose_create(newest, twin, settle_time=0, retry=ONCE)
    expect_list(book, newest, twin)
    expect_unknown(book, "read timeout")  # none fits; one attempt leaves none to send it again


def test_the_batch_is_found_after_the_marker_was_deleted() -> None:
    older = listed_batch("older", at="2026-05-01T19:59:59Z")
    book = lose_create(EXISTING, older)
    expect_list(book, listed_batch(), older)
    assert expect_adoption(book, listed_batch(), older) == "new"


@pytest.mark.parametrize("seconds", [-3600, -11])
def test_what_only_the_date_header_excludes_is_undecided_and_never_absent(seconds: int) -> None:
    at = datetime(2026, 5, 1, 21, 0, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    book = lose_create(settle_time=0)
    expect_list(book, listed_batch(at=at.isoformat()))
    error = expect_unknown(book, r"whether this batch of 2 requests.*clocks disagree.*new")
    assert [batch.id for batch in error.candidates] == ["new"]


def test_what_may_be_older_than_a_full_page_is_undecided() -> None:
    newest = listed_batch("newest", 3, at="2026-05-01T20:59:59Z")
    oldest = listed_batch("oldest", 3, at="2026-05-01T20:59:58Z")
    book = lose_create(newest, oldest, has_more=True, settle_time=0)
    expect_list(book, newest, oldest, listed_batch(at="2026-05-01T20:59:57Z"))
    assert expect_unknown(book, "clocks disagree").candidates[0].id == "new"


@pytest.mark.parametrize("read_at", [None, READ_AT, "Fri, 31 Dec 9999 23:59:59 GMT"])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("has_more", [False, True])
def test_the_ends_of_the_calendar_are_dates_like_others(
    read_at: str | None, at: str, has_more: Any
) -> None:
    book = lose_create(listed_batch("old", at=at), read_at=read_at, settle_time=0)
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch(at=at), listed_batch("old", at=at), has_more=has_more))
    # Which of these it is depends on the dates; that it is one of them does not.
    with contextlib.suppress(OutcomeUnknownError):
        assert isinstance(book.next(), RetryScheduled | SendRequest | WaitUntil)


@pytest.mark.parametrize("seconds", [1e300, float("inf")], ids=["settle_time", "clock"])
def test_times_beyond_any_calendar_leave_the_outcome_to_be_settled(seconds: float) -> None:
    settle_time = seconds if seconds < float("inf") else 60.0
    book = Playbook(api().create([REQUEST, SECOND_REQUEST], settle_time=settle_time))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now = max(book.now, seconds if seconds == float("inf") else 0.0)
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.fit(msgspec.convert(listed_batch(), MessageBatch)) is Fit.LIKELY


def test_without_a_date_a_fresh_create_is_settled_by_order_alone() -> None:
    book = lose_create(EXISTING, read_at=None)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_without_a_date_a_later_settling_decides_nothing() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    marker = book.expect_marker(EXISTING, read_at=None)
    book.expect_request("POST", BATCHES)
    book = Playbook(api().settle(marker))
    expect_list(book, listed_batch(), EXISTING)
    expect_unknown(book, "clocks disagree")


def test_batches_that_are_known_to_be_others_are_left_out_also_those_of_meanwhile() -> None:
    known = ["one"]
    operation = api().create([REQUEST, SECOND_REQUEST], if_unknown="settle", known_ids=known)
    book = Playbook(operation)
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.lose()
    error = book.expect(SettlingStarted).error
    assert error.marker is not None
    assert error.marker.known_ids == ("one",)
    book.expect_request("GET", LIST)
    known.append("two")
    book.respond(page_json(listed_batch("two"), listed_batch("one"), EXISTING))
    book.expect_wait(1.0)
    shown = listed_batch(), listed_batch("two"), listed_batch("one"), EXISTING
    expect_list(book, *shown)
    assert expect_adoption(book, *shown) == "new"


def test_an_outage_while_it_is_looked_for_is_waited_out() -> None:
    book = lose_create(EXISTING, retry=ONCE)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    book.expect_wait(1.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_known_ids_stay_known_where_the_last_look_fails() -> None:
    operation = api(retry=ONCE).settle(unknown_outcome(), settle_time=0, known_ids=["mine"])
    book = Playbook(operation)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    error = expect_unknown(book, "no route")
    assert error.marker is not None
    assert error.marker.known_ids == ("mine",)


def test_an_outage_to_the_end_leaves_the_outcome_unknown() -> None:
    book = lose_create(EXISTING, retry=ONCE, settle_time=1.0)
    for _ in range(2):
        book.expect_request("GET", LIST)
        book.lose("no route", sent=False)
        if book.now == 1000.0:
            book.expect_wait(1.0)
    with pytest.raises(
        OutcomeUnknownError, match=r"list could not be read: no route.*settle"
    ) as caught:
        book.next()
    assert caught.value.marker is not None


def test_a_refusal_to_list_leaves_it_unknown_at_once() -> None:
    book = lose_create(EXISTING)
    book.expect_request("GET", LIST)
    book.respond(error_json("authentication_error"), 401)
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, AuthenticationError)


# --- later -------------------------------------------------------------------------------


def test_an_outcome_is_settled_later_and_elsewhere() -> None:
    elsewhere = pickle.loads(pickle.dumps(unknown_outcome()))  # noqa: S301 - our own bytes
    assert isinstance(elsewhere.__cause__, TransportError)
    for outcome in (elsewhere, elsewhere.marker):
        book = Playbook(api().settle(outcome))
        expect_list(book, listed_batch(), EXISTING)
        assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_settled_to_none_the_create_can_be_sent_again() -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=1))
    expect_list(book, EXISTING)
    book.expect_wait(1.0)
    expect_list(book, EXISTING)
    assert book.expect_done() is None


def later(outcome: Any = None, **settings: Any) -> Playbook:
    return Playbook(api().settle(outcome or unknown_outcome(), **{"settle_time": 0, **settings}))


@pytest.mark.parametrize(
    ("at", "fit"),
    [
        ("2026-05-01T21:01:10Z", "adopted"),  # 60 s of settling time and 10 s of slack
        ("2026-05-01T21:01:11Z", "undecided"),
        ("2026-05-01T22:01:00Z", "undecided"),
        ("2026-05-01T22:01:01Z", "another"),
        ("2026-05-02T20:00:00Z", "another"),
    ],
)
def test_what_was_made_after_the_request_could_arrive_is_no_candidate(at: str, fit: str) -> None:
    book = later()
    expect_list(book, listed_batch(at=at), EXISTING)
    if fit == "adopted":
        assert expect_adoption(book, listed_batch(at=at), EXISTING) == "new"
    elif fit == "undecided":
        expect_unknown(book, "clocks disagree")
    else:
        assert book.expect_done() is None


@pytest.mark.parametrize(
    ("at", "is_adopted"), [("2026-05-01T22:00:00Z", True), ("2026-05-01T22:00:01Z", False)]
)
def test_after_a_death_nothing_later_than_an_hour_is_adopted_or_excluded(
    at: str, is_adopted: Any
) -> None:
    marker = Playbook(api().create([REQUEST, SECOND_REQUEST])).expect_marker(EXISTING)
    assert marker.arrives_within is None
    book = later(marker)
    expect_list(book, listed_batch(at=at), EXISTING)
    if is_adopted:
        assert expect_adoption(book, listed_batch(at=at), EXISTING) == "new"
    else:
        expect_unknown(book, "clocks disagree")


# --- another list ----------------------------------------------------------------------------


OTHER = {"api_key": "sk-test-other-9876543210"}
OLDER = listed_batch("elsewhere", 5, at="2026-05-01T10:00:00Z")


@pytest.mark.parametrize("shown", [(OLDER,), (), (listed_batch(), OLDER)], ids=len)
def test_another_keys_list_without_the_markers_page_proves_nothing(
    shown: tuple[dict[str, Any], ...],
) -> None:
    book = Playbook(api(**OTHER).settle(unknown_outcome(), settle_time=0))
    expect_list(book, *shown)
    expect_unknown(book, "may be another workspace's: use the credential")


def test_another_key_of_the_same_workspace_is_known_by_the_markers_page() -> None:
    book = Playbook(api(**OTHER).settle(unknown_outcome(), settle_time=0))
    expect_list(book, EXISTING)
    assert book.expect_done() is None


def test_an_older_batch_without_the_markers_page_proves_no_absence_under_the_same_key() -> None:
    book = later()
    expect_list(book, OLDER)
    expect_unknown(book, "has none of the batches from before")


@pytest.mark.parametrize("settings", [{}, {**OTHER, "workspace_id": "w"}], ids=["key", "workspace"])
def test_a_deleted_marker_with_nothing_older_is_settled_at_the_end_of_the_right_list(
    settings: Any,
) -> None:
    outcome = unknown_outcome(on=api(workspace_id=settings.get("workspace_id")))
    book = Playbook(api(**settings).settle(outcome, settle_time=0))
    expect_list(book)
    assert book.expect_done() is None


def test_another_organizations_list_ends_the_settling_at_once() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    marker = book.expect_marker(EXISTING, organization="ours")
    book.expect_request("POST", BATCHES)
    book = Playbook(api().settle(marker))
    expect_list(book, EXISTING, headers=(("anthropic-organization-id", "theirs"),))
    expect_unknown(book, "another organization's: use the credential")


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"base_url": "https://other.test"}, "settle it with that base_url"),
        ({"workspace_id": "there"}, "settle it with that workspace_id"),
    ],
)
def test_an_outcome_of_another_destination_is_refused_at_once(settings: Any, advice: str) -> None:
    outcome = unknown_outcome(on=api(workspace_id="here"))
    with pytest.raises(InvalidInputError, match=advice):
        api(**settings).settle(outcome)


# --- what is passed --------------------------------------------------------------------------


def test_settled_with_what_is_known_elsewhere() -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=0, known_ids={"new"}))
    expect_list(book, listed_batch(), EXISTING)
    assert book.expect_done() is None


@pytest.mark.parametrize("outcome", [None, "msgbatch_1", TransportError("no", sent=True)])
def test_settle_takes_an_outcome(outcome: Any) -> None:
    with pytest.raises(InvalidInputError, match="OutcomeUnknownError of a create, or its marker"):
        api().settle(outcome)


@pytest.mark.parametrize(
    "settings",
    [
        {"if_unknown": "retry"},
        {"if_unknown": None},
        {"if_unmarked": "no"},
        {"settle_time": -1},
        {"known_ids": "msgbatch_1"},
    ],
)
def test_what_to_do_is_checked_at_once(settings: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"if_unknown|if_unmarked|settle_time|known_ids"):
        api().create([REQUEST], **settings)


def test_no_event_or_error_of_a_create_shows_the_credential() -> None:
    error = unknown_outcome()
    for shown in (error, error.marker, CreateMarked(marker=CreateMarker(requests=1))):
        assert KEY not in f"{shown!r} {shown}"


def test_the_settling_time_counts_from_the_first_time_that_is_told() -> None:
    operation = api().settle(unknown_outcome(), settle_time=1.5)
    for now, wait in ((1000.0, 1001.0), (1001.0, 1001.5), (1001.5, None)):
        send = operation.next_event()
        assert isinstance(send, SendRequest)
        operation.receive_head(send.exchange, 200, [], now)
        operation.receive_data(send.exchange, msgspec.json.encode(page_json(EXISTING)), now)
        operation.receive_eof(send.exchange, now)
        event = operation.next_event()
        if wait is None:
            assert event == Done(value=None)
        else:
            assert event == WaitUntil(deadline=wait)
            operation.handle_timeout(wait)


def test_the_times_of_settling_can_be_shortened() -> None:
    quick = SettlingPolicy(settle_time=3.0, alone=0.5, first_look=0.25, longest_look=0.5)
    on = api(settling=quick)
    book = Playbook(on.settle(unknown_outcome(on=on)))
    for delay in (0.25, 0.5, 0.5):
        expect_list(book, EXISTING)
        book.expect_wait(delay)
    expect_list(book, listed_batch(), EXISTING)
    # It was lost here a moment ago, and the batch is none of another create.
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=0.5) == "new"


@pytest.mark.parametrize(
    "figures",
    [{"alone": -1}, {"settle_time": float("inf")}, {"first_look": 0}, {"longest_look": "1"}],
)
def test_a_settling_policy_refuses_odd_figures(figures: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be a number of seconds"):
        SettlingPolicy(**figures)


def test_settling_is_a_settling_policy() -> None:
    with pytest.raises(InvalidInputError, match="settling must be a SettlingPolicy, not 60: pass"):
        api(settling=60)
