"""Tests of `operations.settle`: whether a create whose response was lost made a batch."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest

from batches_core import (
    AuthenticationError,
    BatchCreated,
    Done,
    InvalidInputError,
    OutcomeUnknownError,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    SettlingPolicy,
    SettlingStarted,
    TransportError,
    WaitUntil,
)
from tests.support.ids import readable
from tests.support.playbook import REQUEST, Playbook, api, error_json
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

# --- looks at the list -------------------------------------------------------------------


@pytest.mark.parametrize("older", [(), (EXISTING,)], ids=["an empty list before", "an older batch"])
def test_the_only_newer_batch_of_equal_size_is_adopted(older: tuple[dict[str, Any]]) -> None:
    book = lose_create(*older)
    expect_list(book, listed_batch("other", 3), listed_batch(), *older)
    assert expect_adoption(book, listed_batch("other", 3), listed_batch(), *older) == "new"


def test_looks_are_repeated_at_growing_delays_until_the_batch_appears() -> None:
    book = lose_create(EXISTING)
    for delay in (1.0, 2.0, 4.0, 8.0, 15.0):
        expect_list(book, EXISTING)
        book.expect_wait(delay)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_a_second_candidate_leaves_the_outcome_unknown() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("other"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch(), listed_batch("other"), EXISTING)
    error = expect_unknown(book, "several batches fit")
    assert [batch.id for batch in error.candidates] == ["new", "other"]


def test_a_candidate_that_disappears_is_not_adopted() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("other"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, EXISTING)
    book.expect_wait(2.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


@pytest.mark.parametrize("second", ["a", "z"], ids=["an earlier id", "a later id"])
def test_a_candidate_that_replaces_another_must_stay_alone_as_long(second: str) -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("m"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch(second), EXISTING)
    assert expect_adoption(book, listed_batch(second), EXISTING) == second


def test_the_duration_of_a_look_counts_as_time_alone() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch(), EXISTING)
    book.expect_wait(10.0)
    book.expect_request("GET", LIST)
    book.now += 3
    book.respond(page_json(listed_batch(), EXISTING))
    assert book.expect(BatchCreated).adopted


def test_several_candidates_are_named_and_none_is_adopted() -> None:
    book = lose_create(EXISTING)
    expect_list(book, listed_batch("one"), listed_batch("two"), EXISTING)
    error = expect_unknown(book, r"which of 2 batches.*one, two.*before you create")
    assert [batch.id for batch in error.candidates] == ["one", "two"]
    assert error.marker is not None
    assert error.marker.listed_ids == ("old",)


def test_a_look_reads_past_the_marker_by_the_clock_slack_and_no_further() -> None:
    book = lose_create(EXISTING)
    book.expect_request("GET", LIST)
    book.respond(page_json(listed_batch("other", 3), EXISTING, has_more=True))
    book.expect_request("GET", LIST + "&after_id=old")
    within = listed_batch("within", 3, at="2026-05-01T19:59:51Z")
    past = listed_batch("past", at="2026-05-01T19:59:49Z")
    book.respond(page_json(within, listed_batch(), past, has_more=True))
    assert expect_adoption(book, listed_batch(), EXISTING, past) == "new"


def test_known_ids_are_excluded_even_if_added_during_settling() -> None:
    known_ids = ["one"]
    operation = api().create([REQUEST, SECOND_REQUEST], if_unknown="settle", known_ids=known_ids)
    book = Playbook(operation)
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.lose()
    error = book.expect(SettlingStarted).error
    assert error.marker is not None
    assert error.marker.known_ids == ("one",)
    book.expect_request("GET", LIST)
    known_ids.append("two")
    book.respond(page_json(listed_batch("two"), listed_batch("one"), EXISTING))
    book.expect_wait(1.0)
    listed = listed_batch(), listed_batch("two"), listed_batch("one"), EXISTING
    expect_list(book, *listed)
    assert expect_adoption(book, *listed) == "new"


# --- the end of the settle time ----------------------------------------------------------


def test_a_look_that_outlasts_the_settle_time_is_followed_by_a_last_one() -> None:
    book = lose_create(EXISTING, settle_time=2.0)
    book.expect_request("GET", LIST)
    book.now += 5
    book.respond(page_json(EXISTING))
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)


def test_a_candidate_late_in_the_settle_time_must_be_alone_for_10_s() -> None:
    book = lose_create(EXISTING, settle_time=3.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=10.0) == "new"


def test_a_candidate_of_the_last_look_must_be_alone_for_10_s() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=10.0) == "new"


def test_a_candidate_that_replaces_another_after_the_settle_time_is_not_adopted() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch("one"), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, listed_batch("two"), EXISTING)
    error = expect_unknown(book, "one after the other")
    assert [batch.id for batch in error.candidates] == ["two", "one"]


def test_a_candidate_that_disappears_does_not_prove_absence() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, listed_batch(), EXISTING)
    book.expect_wait(10.0)
    expect_list(book, EXISTING)
    expect_unknown(book, "batch new fitted, but is not in the list any more")


@pytest.mark.parametrize("older", [(EXISTING,), ()], ids=["an older batch", "an empty list before"])
def test_a_list_that_breaks_off_does_not_prove_absence(older: tuple[dict[str, Any], ...]) -> None:
    book = lose_create(*older, settle_time=0, retry=ONCE)
    book.expect_request("GET", LIST)
    book.respond(page_json(has_more=True))
    expect_unknown(book, "could not be read: the list does not reach back")


def test_an_endless_list_is_read_up_to_a_limit_of_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batches_core.operations.settle._MAX_PAGES", 3)
    book = lose_create(EXISTING, settle_time=0, retry=ONCE)
    cursor = ""
    for number in range(3):
        book.expect_request("GET", LIST + cursor)
        book.respond(page_json(listed_batch(f"b{number}", 5), has_more=True))
        cursor = f"&after_id=b{number}"
    expect_unknown(book, "does not reach back")


# --- the create after settling -----------------------------------------------------------


@pytest.mark.parametrize(
    "status", [500, 503], ids=["500 of the service", "503 of the service or a proxy"]
)
def test_a_server_error_is_settled_like_a_lost_response(status: int) -> None:
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


def test_a_create_that_made_no_batch_is_sent_again() -> None:
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


def test_a_create_is_sent_again_only_while_the_policy_has_attempts() -> None:
    book = lose_create(EXISTING, settle_time=0, retry=RetryPolicy(attempts=2))
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose()
    book.expect(SettlingStarted)
    expect_list(book, EXISTING)
    error = expect_unknown(book, r"call settle\(\) with this error")
    assert isinstance(error.__cause__, TransportError)


def test_a_late_batch_of_the_first_attempt_is_seen_after_the_second() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("POST", BATCHES)
    book.lose()
    book.expect(SettlingStarted)
    expect_list(book, listed_batch("second"), listed_batch("first"), EXISTING)
    error = expect_unknown(book, "several batches fit")
    assert [batch.id for batch in error.candidates] == ["second", "first"]


# --- outages -----------------------------------------------------------------------------


def test_an_outage_during_settling_is_waited_out() -> None:
    book = lose_create(EXISTING, retry=ONCE)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    book.expect_wait(1.0)
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_an_outage_until_the_last_look_leaves_the_outcome_unknown() -> None:
    book = lose_create(EXISTING, retry=ONCE, settle_time=1.0)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    book.expect_wait(1.0)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    error = expect_unknown(book, r"list could not be read: no route.*settle")
    assert error.marker is not None


def test_known_ids_are_kept_in_the_marker_if_the_last_look_fails() -> None:
    operation = api(retry=ONCE).settle(unknown_outcome(), settle_time=0, known_ids=["mine"])
    book = Playbook(operation)
    book.expect_request("GET", LIST)
    book.lose("no route", sent=False)
    error = expect_unknown(book, "no route")
    assert error.marker is not None
    assert error.marker.known_ids == ("mine",)


def test_a_refusal_to_list_leaves_the_outcome_unknown_at_once() -> None:
    book = lose_create(EXISTING)
    book.expect_request("GET", LIST)
    book.respond(error_json("authentication_error"), 401)
    error = expect_unknown(book, "could not be read")
    assert isinstance(error.__cause__, AuthenticationError)


# --- settling later ----------------------------------------------------------------------


def test_an_outcome_can_be_settled_later_and_in_another_process() -> None:
    error = pickle.loads(pickle.dumps(unknown_outcome()))  # noqa: S301 - our own bytes
    assert isinstance(error.__cause__, TransportError)
    for outcome in (error, error.marker):
        book = Playbook(api().settle(outcome))
        expect_list(book, listed_batch(), EXISTING)
        assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_a_later_settling_that_proves_absence_returns_none() -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=1))
    expect_list(book, EXISTING)
    book.expect_wait(1.0)
    expect_list(book, EXISTING)
    assert book.expect_done() is None


def test_a_later_settling_excludes_known_ids() -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=0, known_ids={"new"}))
    expect_list(book, listed_batch(), EXISTING)
    assert book.expect_done() is None


def test_the_settle_time_counts_from_the_first_input() -> None:
    operation = api().settle(unknown_outcome(), settle_time=1.5)
    for now, next_look_at in ((1000.0, 1001.0), (1001.0, 1001.5), (1001.5, None)):
        send = operation.next_event()
        assert isinstance(send, SendRequest)
        operation.receive_head(send.exchange, 200, [], now)
        operation.receive_data(send.exchange, msgspec.json.encode(page_json(EXISTING)), now)
        operation.receive_eof(send.exchange, now)
        event = operation.next_event()
        if next_look_at is None:
            assert event == Done(value=None)
        else:
            assert event == WaitUntil(deadline=next_look_at)
            operation.handle_timeout(next_look_at)


# --- the list of another credential ------------------------------------------------------


OTHER_KEY = {"api_key": "sk-test-other-9876543210"}
OLDER_BATCH = listed_batch("elsewhere", 5, at="2026-05-01T10:00:00Z")


@pytest.mark.parametrize(
    "listed",
    [(OLDER_BATCH,), (), (listed_batch(), OLDER_BATCH)],
    ids=["an older batch", "no batch", "a batch that fits"],
)
def test_the_list_of_another_key_without_the_marker_proves_nothing(
    listed: tuple[dict[str, Any], ...],
) -> None:
    book = Playbook(api(**OTHER_KEY).settle(unknown_outcome(), settle_time=0))
    expect_list(book, *listed)
    expect_unknown(book, "may be another workspace's: use the credential")


def test_the_list_of_another_key_with_the_marker_proves_absence() -> None:
    book = Playbook(api(**OTHER_KEY).settle(unknown_outcome(), settle_time=0))
    expect_list(book, EXISTING)
    assert book.expect_done() is None


def test_an_older_batch_without_the_marker_does_not_prove_absence() -> None:
    book = Playbook(api().settle(unknown_outcome(), settle_time=0))
    expect_list(book, OLDER_BATCH)
    expect_unknown(book, "has none of the batches from before")


@pytest.mark.parametrize(
    "settings", [{}, {**OTHER_KEY, "workspace_id": "w"}], ids=["same key", "same workspace"]
)
def test_a_deleted_marker_is_settled_at_the_end_of_the_right_list(
    settings: Any,
) -> None:
    outcome = unknown_outcome(on=api(workspace_id=settings.get("workspace_id")))
    book = Playbook(api(**settings).settle(outcome, settle_time=0))
    expect_list(book)
    assert book.expect_done() is None


def test_the_list_of_another_organization_ends_settling_at_once() -> None:
    book = Playbook(api().create([REQUEST, SECOND_REQUEST]))
    marker = book.expect_marker(EXISTING, organization="ours")
    book.expect_request("POST", BATCHES)
    book = Playbook(api().settle(marker))
    expect_list(book, EXISTING, headers=(("anthropic-organization-id", "theirs"),))
    expect_unknown(book, "another organization's: use the credential")


# --- the policy --------------------------------------------------------------------------


def test_a_settling_policy_can_shorten_each_time_of_settling() -> None:
    quick = SettlingPolicy(settle_time=3.0, alone=0.5, first_look=0.25, longest_look=0.5)
    client = api(settling=quick)
    book = Playbook(client.settle(unknown_outcome(on=client)))
    for delay in (0.25, 0.5, 0.5):
        expect_list(book, EXISTING)
        book.expect_wait(delay)
    expect_list(book, listed_batch(), EXISTING)
    # The ledger knows no other create that may have made the batch.
    assert expect_adoption(book, listed_batch(), EXISTING, alone_for=0.5) == "new"


@pytest.mark.parametrize(
    "times",
    [{"alone": -1}, {"settle_time": float("inf")}, {"first_look": 0}, {"longest_look": "1"}],
    ids=readable,
)
def test_a_settling_policy_refuses_an_invalid_time(times: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be a number of seconds"):
        SettlingPolicy(**times)
