"""Tests of `operations.ledger`: what a process knows of its own creates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batches_core import (
    BatchCreated,
    BatchesAPI,
    CreateLedger,
    CreateMarker,
    InvalidInputError,
    SettlingStarted,
    TransportError,
)
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
    unknown_outcome,
)

REQUESTS = [REQUEST, SECOND_REQUEST]


def two_clients(**settings: Any) -> tuple[BatchesAPI, BatchesAPI]:
    """Make two clients of one process, which share a ledger."""
    ledger = CreateLedger()
    return api(ledger=ledger, **settings), api(ledger=ledger, **settings)


def start_create(client: BatchesAPI, *listed: dict[str, Any], **options: Any) -> Playbook:
    """Start a create of two requests; the operation waits for the response to it.

    `listed` are the batches in the list before the create.
    """
    book = Playbook(client.create(REQUESTS, **options))
    book.expect_marker(*(listed or (EXISTING,)))
    book.expect_request("POST", BATCHES)
    return book


def lose(book: Playbook) -> None:
    """Lose the response to a create, and expect that settling begins."""
    book.lose("read timeout")
    book.expect(SettlingStarted)


def succeed(book: Playbook, batch: dict[str, Any]) -> None:
    """Respond to a create with its batch."""
    book.respond(batch)
    book.expect(BatchCreated)


# --- several creates of one process ------------------------------------------------------


def test_the_batch_of_another_create_is_not_adopted() -> None:
    one, two = two_clients()
    lost = start_create(one, if_unknown="settle", settle_time=0)
    succeed(start_create(two), listed_batch("other"))
    lose(lost)
    listed = listed_batch("new"), listed_batch("other"), EXISTING
    expect_list(lost, *listed)
    assert expect_adoption(lost, *listed) == "new"


def test_no_batch_is_adopted_while_a_create_of_equal_size_is_pending() -> None:
    one, two = two_clients()
    lost = start_create(one, if_unknown="settle")
    pending = start_create(two)
    lose(lost)
    for delay in (1.0, 2.0):
        expect_list(lost, listed_batch("other"), EXISTING)
        lost.expect_wait(delay)
    succeed(pending, listed_batch("other"))
    expect_list(lost, listed_batch("other"), EXISTING)
    lost.expect_wait(4.0)
    listed = listed_batch("new"), listed_batch("other"), EXISTING
    expect_list(lost, *listed)
    assert expect_adoption(lost, *listed) == "new"


def test_two_lost_creates_of_equal_size_and_one_batch_stay_unknown() -> None:
    one, two = two_clients()
    for outcome in (unknown_outcome(on=one), unknown_outcome(on=two)):
        book = Playbook(one.settle(outcome, settle_time=0))
        expect_list(book, listed_batch(), EXISTING)
        error = expect_unknown(book, r"another create .* is unknown too")
        assert [batch.id for batch in error.candidates] == ["new"]


def test_two_lost_creates_without_a_batch_are_both_absent() -> None:
    one, two = two_clients()
    for outcome in (unknown_outcome(on=one), unknown_outcome(on=two)):
        book = Playbook(two.settle(outcome, settle_time=0))
        expect_list(book, EXISTING)
        assert book.expect_done() is None


def test_a_settled_create_no_longer_contests_a_batch() -> None:
    one, two = two_clients()
    outcome, other = unknown_outcome(on=one), unknown_outcome(on=two)
    book = Playbook(one.settle(other, settle_time=0))
    expect_list(book, EXISTING)
    assert book.expect_done() is None
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_a_pending_create_contests_only_batches_of_its_size() -> None:
    one, two = two_clients()
    book = Playbook(two.create([REQUEST]))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    lost = start_create(one, if_unknown="settle")
    lose(lost)
    expect_list(lost, listed_batch(), EXISTING)
    assert expect_adoption(lost, listed_batch(), EXISTING) == "new"


def test_a_lost_create_does_not_contest_a_batch_of_its_own_marker() -> None:
    one, two = two_clients()
    outcome = unknown_outcome(on=one)
    later = start_create(two, listed_batch(), EXISTING)
    later.lose()
    expect_unknown(later, "connection reset")
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


@pytest.mark.parametrize(("seconds", "is_contested"), [(69, True), (71, False)])
def test_a_lost_create_does_not_contest_batches_made_after_it_could_arrive(
    seconds: int, is_contested: Any
) -> None:
    one, two = two_clients()
    unknown_outcome(on=one)  # this create can arrive for 60 s, and clocks differ by 10 s
    later = datetime(2026, 5, 1, 21, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    read_at = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    book = lose_create(EXISTING, on=two, read_at=read_at, settle_time=0)
    batch = listed_batch(at=later.isoformat())
    expect_list(book, batch, EXISTING)
    if is_contested:
        expect_unknown(book, "another create")
    else:
        assert expect_adoption(book, batch, EXISTING) == "new"


@pytest.mark.parametrize(
    ("read_at", "is_contested"),
    [("Fri, 01 May 2026 21:01:09 GMT", True), ("Fri, 01 May 2026 21:01:11 GMT", False)],
)
def test_an_unmarked_lost_create_is_dated_by_the_next_read_of_the_list(
    read_at: str, is_contested: Any
) -> None:
    one, two = two_clients(retry=ONCE)
    book = Playbook(one.create(REQUESTS, if_unmarked="send"))
    book.expect_request("GET", LIST)
    book.respond(error_json("api_error"), 500)
    book.expect_request("POST", BATCHES)
    book.lose()
    expect_unknown(book, "list")
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at=None)
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at="Fri, 01 May 2026 21:00:00 GMT")
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at="Fri, 01 May 2026 21:30:00 GMT")
    batch = listed_batch(at="2026-05-01T21:01:10Z")
    book = lose_create(EXISTING, on=two, read_at=read_at, settle_time=0)
    expect_list(book, batch, EXISTING)
    if is_contested:
        expect_unknown(book, "another create")
    else:
        assert expect_adoption(book, batch, EXISTING) == "new"


def test_a_create_without_effect_contests_no_batch() -> None:
    one, two = two_clients(retry=ONCE)
    unsent = start_create(two)
    unsent.lose("refused", sent=False)
    with pytest.raises(TransportError):
        unsent.next()
    lost = start_create(one, if_unknown="settle")
    lose(lost)
    expect_list(lost, listed_batch(), EXISTING)
    assert expect_adoption(lost, listed_batch(), EXISTING) == "new"


def test_a_batch_with_a_known_id_but_another_time_can_be_adopted() -> None:
    one, two = two_clients()
    succeed(start_create(two), listed_batch(at="2026-05-01T21:00:01Z"))
    outcome = unknown_outcome(on=one)
    assert outcome.marker is not None
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(at="2026-05-01T21:00:02Z"), EXISTING)
    assert expect_adoption(book, listed_batch(at="2026-05-01T21:00:02Z"), EXISTING) == "new"


def test_the_marker_of_an_outcome_names_the_batches_of_other_creates() -> None:
    one, two = two_clients()
    lost = start_create(one)
    for id_, total in (("other", 2), ("other of another size", 3)):
        succeed(start_create(two), listed_batch(id_, total))
    lost.lose()
    error = expect_unknown(lost, "connection reset")
    assert error.marker is not None
    assert error.marker.known_ids == ("other",)


def test_a_ledger_remembers_a_limited_number_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches_core.operations.ledger._REMEMBERED", 2)
    client = api()
    for number in range(3):
        succeed(start_create(client), listed_batch(f"b{number}"))
    book = start_create(client)
    book.lose()
    error = expect_unknown(book, "connection reset")
    assert error.marker is not None
    assert error.marker.known_ids == ("b1", "b2")


# --- settling in the same process --------------------------------------------------------


def test_settling_a_successful_create_returns_its_batch() -> None:
    client = api()
    book = Playbook(client.create(REQUESTS))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    succeed(book, listed_batch())
    settling = Playbook(client.settle(marker))
    assert not settling.expect(BatchCreated).adopted
    assert settling.expect_done().id == "new"


def test_settling_twice_returns_the_same_batch() -> None:
    client = api()
    outcome = unknown_outcome(on=client)
    first = Playbook(client.settle(outcome))
    expect_list(first, listed_batch(), EXISTING)
    assert expect_adoption(first, listed_batch(), EXISTING) == "new"
    second = Playbook(client.settle(outcome))
    second.expect(BatchCreated)
    assert second.expect_done().id == "new"


def test_a_create_under_way_cannot_be_settled() -> None:
    client = api()
    book = Playbook(client.create(REQUESTS))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    with pytest.raises(InvalidInputError, match="still under way in this process"):
        client.settle(marker).next_event()


def marker_of_another_process() -> CreateMarker:
    """Return the marker of the first create of a process that died. Its serial is 0."""
    book = Playbook(api().create(REQUESTS))
    return book.expect_marker(EXISTING, read_at="Fri, 01 May 2026 20:59:55 GMT")


def test_a_marker_of_another_process_with_an_equal_serial_has_its_own_batch() -> None:
    client = api()
    succeed(start_create(client), listed_batch("ours"))
    marker = marker_of_another_process()
    assert marker.serial == 0
    settling = Playbook(client.settle(marker))
    listed = listed_batch("theirs"), listed_batch("ours"), EXISTING
    expect_list(settling, *listed)
    assert expect_adoption(settling, *listed) == "theirs"


def test_settling_a_marker_with_an_equal_serial_keeps_a_create_under_way() -> None:
    client = api()
    under_way = start_create(client)
    settling = Playbook(client.settle(marker_of_another_process(), settle_time=0))
    expect_list(settling, listed_batch(), EXISTING)
    expect_unknown(settling, "another create")
    succeed(under_way, listed_batch())
