"""Tests of `marker`: what is recorded before a create, and which batches the create can have made.

Creates make the markers here, and settling compares batches with them. `test_settle` tests how a
list of batches decides an outcome.
"""

from __future__ import annotations

import contextlib
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from batches_core import (
    CreateMarked,
    CreateMarker,
    MessageBatch,
    OutcomeUnknownError,
    RetryScheduled,
    SendRequest,
    WaitUntil,
)
from batches_core.marker import Fit
from tests.support.playbook import READ_AT, REQUEST, Playbook, api, batch_json
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

# --- the recorded list -------------------------------------------------------------------


def test_a_marker_records_the_list_and_its_destination_and_can_be_stored() -> None:
    client = api(workspace_id="wrkspc_1")
    book = Playbook(client.create([REQUEST]))
    older = batch_json("older", created_at="2026-05-01T19:00:00Z")
    marker = book.expect_marker(older, EXISTING, has_more=True, organization="org")
    assert marker.requests == 1
    assert marker.listed_ids == ("older", "old")
    assert f"{marker.newest_created_at}" == "2026-05-01 20:00:00+00:00"
    assert f"{marker.oldest_created_at}" == "2026-05-01 19:00:00+00:00"
    assert f"{marker.read_at}" == "2026-05-01 21:00:00+00:00"
    assert (marker.base_url, marker.workspace_id) == (client.base_url, "wrkspc_1")
    assert (marker.organization_id, marker.scope) == ("org", client.scope)
    assert pickle.loads(pickle.dumps(marker)) == marker  # noqa: S301 - our own bytes
    assert msgspec.json.decode(msgspec.json.encode(marker), type=CreateMarker) == marker


def test_a_marker_of_the_whole_list_has_no_oldest_time() -> None:
    marker = Playbook(api().create([REQUEST])).expect_marker(EXISTING)
    assert marker.newest_created_at is not None
    assert marker.oldest_created_at is None


def test_a_marker_lists_every_batch_within_the_clock_slack_of_the_newest() -> None:
    book = Playbook(api().create([REQUEST]))
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch("b1", at="2026-05-01T20:59:59Z"), has_more=True))
    book.expect_request("GET", LIST + "&after_id=b1")
    older = listed_batch("b3", at="2026-05-01T20:59:48Z")
    book.respond(page_json(listed_batch("b2", at="2026-05-01T20:59:50Z"), older, has_more=True))
    marker = book.expect(CreateMarked).marker
    assert marker.listed_ids == ("b1", "b2", "b3")


def test_a_marker_ends_at_an_empty_page_or_at_a_limit_of_batches(
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


def test_a_marker_records_how_long_the_create_can_still_arrive() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST], settle_time=30.0))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now += 100.0
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.arrives_within == 130.0


def test_the_arrival_time_of_a_create_counts_from_the_list_request() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    book.expect_request("GET", LIST)
    book.now += 19.0  # the response is dated at its start, and arrives slowly
    book.respond({"data": []}, headers=[("date", "Fri, 01 May 2026 21:00:00 GMT")])
    book.expect(CreateMarked)
    book.expect_request("POST", BATCHES)
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.arrives_within == 79.0


# --- order and clocks --------------------------------------------------------------------


@pytest.mark.parametrize(
    "at",
    ["2026-05-01T20:59:50Z", "2026-05-01T20:59:59.9Z", "2026-05-01T21:00:00Z"],
    ids=["ten seconds of skew", "a tenth of a second of skew", "equal times"],
)
@pytest.mark.parametrize(
    "is_after_marker", [False, True], ids=["listed before the marker", "listed after the marker"]
)
def test_the_batch_of_a_lost_create_is_found_despite_skewed_clocks(
    at: str, is_after_marker: Any
) -> None:
    newest = listed_batch("old", at="2026-05-01T21:00:00Z")
    listed = (newest, listed_batch(at=at)) if is_after_marker else (listed_batch(at=at), newest)
    book = lose_create(newest)
    expect_list(book, *listed)
    assert expect_adoption(book, *listed) == "new"


def test_a_batch_of_equal_size_in_the_marker_is_not_a_candidate() -> None:
    older = listed_batch("older", at="2026-05-01T20:59:58Z")
    newest = listed_batch("newest", at="2026-05-01T20:59:59Z")
    book = lose_create(newest, older, settle_time=0, retry=ONCE)
    expect_list(book, newest, older)
    # There is no candidate, and the policy has no attempt left to send the create again.
    expect_unknown(book, "read timeout")


def test_the_batch_of_a_lost_create_is_found_after_its_marker_was_deleted() -> None:
    older = listed_batch("older", at="2026-05-01T19:59:59Z")
    book = lose_create(EXISTING, older)
    expect_list(book, listed_batch(), older)
    assert expect_adoption(book, listed_batch(), older) == "new"


@pytest.mark.parametrize("seconds", [-3600, -11])
def test_a_batch_excluded_only_by_the_date_header_leaves_the_outcome_unknown(
    seconds: int,
) -> None:
    at = datetime(2026, 5, 1, 21, 0, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    book = lose_create(settle_time=0)
    expect_list(book, listed_batch(at=at.isoformat()))
    error = expect_unknown(book, r"whether this batch of 2 requests.*clocks disagree.*new")
    assert [batch.id for batch in error.candidates] == ["new"]


def test_a_batch_that_may_be_older_than_the_marker_leaves_the_outcome_unknown() -> None:
    newest = listed_batch("newest", 3, at="2026-05-01T20:59:59Z")
    oldest = listed_batch("oldest", 3, at="2026-05-01T20:59:58Z")
    book = lose_create(newest, oldest, has_more=True, settle_time=0)
    expect_list(book, newest, oldest, listed_batch(at="2026-05-01T20:59:57Z"))
    assert expect_unknown(book, "clocks disagree").candidates[0].id == "new"


@pytest.mark.parametrize("read_at", [None, READ_AT, "Fri, 31 Dec 9999 23:59:59 GMT"])
@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("has_more", [False, True], ids=["whole list", "more pages"])
def test_the_first_and_last_dates_of_the_calendar_do_not_overflow_a_marker(
    read_at: str | None, at: str, has_more: Any
) -> None:
    book = lose_create(listed_batch("old", at=at), read_at=read_at, settle_time=0)
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch(at=at), listed_batch("old", at=at), has_more=has_more))
    # Each combination of dates leads to one of these outcomes.
    with contextlib.suppress(OutcomeUnknownError):
        assert isinstance(book.next(), RetryScheduled | SendRequest | WaitUntil)


@pytest.mark.parametrize(
    ("settle_time", "clock"),
    [(1e300, 1000.0), (60.0, float("inf"))],
    ids=["settle time", "clock"],
)
def test_times_beyond_the_calendar_leave_an_outcome_that_can_be_settled(
    settle_time: float, clock: float
) -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST], settle_time=settle_time))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now = clock
    book.lose("read timeout")
    error = expect_unknown(book, "read timeout")
    assert error.marker is not None
    assert error.marker.fit(msgspec.convert(listed_batch(), MessageBatch)) is Fit.LIKELY


def test_without_a_date_a_fresh_create_is_settled_by_the_list_alone() -> None:
    book = lose_create(EXISTING, read_at=None)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_without_a_date_a_later_settling_adopts_nothing() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    marker = book.expect_marker(EXISTING, read_at=None)
    book.expect_request("POST", BATCHES)
    book = Playbook(api().settle(marker))
    expect_list(book, listed_batch(), EXISTING)
    expect_unknown(book, "clocks disagree")


# --- the time to arrive ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "outcome"),
    [
        ("2026-05-01T21:01:10Z", "adopted"),  # 60 s of settle time, and 10 s of clock slack
        ("2026-05-01T21:01:11Z", "unknown"),
        ("2026-05-01T22:01:00Z", "unknown"),
        ("2026-05-01T22:01:01Z", "absent"),
        ("2026-05-02T20:00:00Z", "absent"),
    ],
)
def test_a_batch_made_after_the_create_could_arrive_is_not_adopted(at: str, outcome: str) -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=0))
    expect_list(book, listed_batch(at=at), EXISTING)
    if outcome == "adopted":
        assert expect_adoption(book, listed_batch(at=at), EXISTING) == "new"
    elif outcome == "unknown":
        expect_unknown(book, "clocks disagree")
    else:
        assert book.expect_done() is None


@pytest.mark.parametrize(
    ("at", "is_adopted"), [("2026-05-01T22:00:00Z", True), ("2026-05-01T22:00:01Z", False)]
)
def test_a_marker_without_a_time_to_arrive_decides_the_first_hour_only(
    at: str, is_adopted: Any
) -> None:
    # The process died before the outcome was known.
    marker = Playbook(api().create([REQUEST, SECOND_REQUEST])).expect_marker(EXISTING)
    assert marker.arrives_within is None
    book = Playbook(api().settle(marker, settle_time=0))
    expect_list(book, listed_batch(at=at), EXISTING)
    if is_adopted:
        assert expect_adoption(book, listed_batch(at=at), EXISTING) == "new"
    else:
        expect_unknown(book, "clocks disagree")
