"""What a process knows of its own creates, and what is known of one that was interrupted."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batches_core import (
    AuthenticationError,
    BatchCreated,
    BatchesAPI,
    CreateLedger,
    CreateMarked,
    CreateMarker,
    CreateOperation,
    InvalidInputError,
    LocalProtocolError,
    MessageBatch,
    OutcomeUnknownError,
    RetryScheduled,
    SettlingStarted,
    TransportError,
)
from tests.support.playbook import KEY, REQUEST, Playbook, api, error_json
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

TWO = [REQUEST, SECOND_REQUEST]


def sharing(**settings: Any) -> tuple[BatchesAPI, BatchesAPI]:
    """Two clients of one process."""
    ledger = CreateLedger()
    return api(ledger=ledger, **settings), api(ledger=ledger, **settings)


def sent(on: BatchesAPI, *listed: dict[str, Any], **how: Any) -> Playbook:
    """A create that waits for its answer."""
    book = Playbook(on.create(TWO, **how))
    book.expect_marker(*(listed or (EXISTING,)))
    book.expect_request("POST", BATCHES)
    return book


def lose(book: Playbook) -> None:
    book.lose("read timeout")
    book.expect(SettlingStarted)


# --- several creates of one process ----------------------------------------------------------


def test_a_batch_that_answered_another_clients_create_is_not_adopted() -> None:
    one, two = sharing()
    settled = sent(one, if_unknown="settle", settle_time=0)
    answered = sent(two)
    answered.respond(listed_batch("theirs"))
    answered.expect(BatchCreated)
    lose(settled)
    expect_list(settled, listed_batch("mine"), listed_batch("theirs"), EXISTING)
    assert (
        expect_adoption(settled, listed_batch("mine"), listed_batch("theirs"), EXISTING) == "mine"
    )


def test_nothing_is_adopted_while_a_create_of_equal_size_is_under_way() -> None:
    one, two = sharing()
    settled = sent(one, if_unknown="settle")
    answered = sent(two)
    lose(settled)
    for delay in (1.0, 2.0):
        expect_list(settled, listed_batch(), EXISTING)
        settled.expect_wait(delay)
    answered.respond(listed_batch())
    answered.expect(BatchCreated)
    expect_list(settled, listed_batch(), EXISTING)
    settled.expect_wait(4.0)
    expect_list(settled, listed_batch("mine"), listed_batch(), EXISTING)
    assert expect_adoption(settled, listed_batch("mine"), listed_batch(), EXISTING) == "mine"


def test_two_lost_creates_of_equal_size_are_undecided() -> None:
    one, two = sharing()
    outcome, other = unknown_outcome(on=one), unknown_outcome(on=two)
    for each in (outcome, other):
        book = Playbook(one.settle(each, settle_time=0))
        expect_list(book, listed_batch(), EXISTING)
        error = expect_unknown(book, r"another create .* is unknown too")
        assert [batch.id for batch in error.candidates] == ["new"]


def test_two_lost_creates_of_which_none_arrived_are_both_absent() -> None:
    one, two = sharing()
    for each in (unknown_outcome(on=one), unknown_outcome(on=two)):
        book = Playbook(two.settle(each, settle_time=0))
        expect_list(book, EXISTING)
        assert book.expect_done() is None


def test_what_is_settled_contests_nothing_any_more() -> None:
    one, two = sharing()
    outcome, other = unknown_outcome(on=one), unknown_outcome(on=two)
    book = Playbook(one.settle(other, settle_time=0))
    expect_list(book, EXISTING)
    assert book.expect_done() is None
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


def test_a_doubt_contests_only_batches_of_its_size() -> None:
    one, two = sharing()
    book = Playbook(two.create([REQUEST]))
    book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    settled = sent(one, if_unknown="settle")
    lose(settled)
    expect_list(settled, listed_batch(), EXISTING)
    assert expect_adoption(settled, listed_batch(), EXISTING) == "new"


def test_a_doubt_does_not_contest_what_its_own_marker_shows_to_be_older() -> None:
    one, two = sharing()
    outcome = unknown_outcome(on=one)
    doubtful = sent(two, listed_batch(), EXISTING)
    doubtful.lose()
    expect_unknown(doubtful, "connection reset")
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"


@pytest.mark.parametrize(("seconds", "is_contested"), [(69, True), (71, False)])
def test_a_doubt_does_not_contest_creates_that_begin_after_it_could_arrive(
    seconds: int, is_contested: Any
) -> None:
    one, two = sharing()
    unknown_outcome(on=one)  # it can arrive for 60 s, and clocks differ by 10 s
    later = datetime(2026, 5, 1, 21, 0, tzinfo=UTC) + timedelta(seconds=seconds)
    read_at = later.strftime("%a, %d %b %Y %H:%M:%S GMT")
    settled = lose_create(EXISTING, on=two, read_at=read_at, settle_time=0)
    batch = listed_batch(at=later.isoformat())
    expect_list(settled, batch, EXISTING)
    if is_contested:
        expect_unknown(settled, "another create")
    else:
        assert expect_adoption(settled, batch, EXISTING) == "new"


@pytest.mark.parametrize(
    "read_at", ["Fri, 01 May 2026 21:01:11 GMT", "Fri, 01 May 2026 21:01:09 GMT"]
)
def test_a_doubt_without_a_marker_is_dated_by_the_next_look_at_the_list(read_at: str) -> None:
    one, two = sharing(retry=ONCE)
    book = Playbook(one.create(TWO, if_unmarked="send"))
    book.expect_request("GET", LIST)
    book.respond(error_json("api_error"), 500)
    book.expect_request("POST", BATCHES)
    book.lose()
    expect_unknown(book, "list")
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at=None)
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at="Fri, 01 May 2026 21:00:00 GMT")
    Playbook(two.create([REQUEST])).expect_marker(EXISTING, read_at="Fri, 01 May 2026 21:30:00 GMT")
    batch = listed_batch(at="2026-05-01T21:01:10Z")
    settled = lose_create(EXISTING, on=two, read_at=read_at, settle_time=0)
    expect_list(settled, batch, EXISTING)
    if ":09" in read_at:
        expect_unknown(settled, "another create")
    else:
        assert expect_adoption(settled, batch, EXISTING) == "new"


def test_a_create_that_surely_had_no_effect_contests_nothing() -> None:
    one, two = sharing(retry=ONCE)
    refused = sent(two)
    refused.lose("refused", sent=False)
    with pytest.raises(TransportError):
        refused.next()
    settled = sent(one, if_unknown="settle")
    lose(settled)
    expect_list(settled, listed_batch(), EXISTING)
    assert expect_adoption(settled, listed_batch(), EXISTING) == "new"


def test_an_id_that_is_used_a_second_time_is_not_taken_for_the_batch_of_before() -> None:
    one, two = sharing()
    answered = sent(two)
    answered.respond(listed_batch(at="2026-05-01T21:00:01Z"))
    answered.expect(BatchCreated)
    outcome = unknown_outcome(on=one)
    assert outcome.marker is not None
    book = Playbook(one.settle(outcome))
    expect_list(book, listed_batch(at="2026-05-01T21:00:02Z"), EXISTING)
    assert expect_adoption(book, listed_batch(at="2026-05-01T21:00:02Z"), EXISTING) == "new"


def test_the_outcome_names_the_batches_of_other_creates_for_another_process() -> None:
    one, two = sharing()
    outcome_of = sent(one)
    for id_, total in (("theirs", 2), ("of another size", 3)):
        book = sent(two)
        book.respond(listed_batch(id_, total))
        book.expect(BatchCreated)
    outcome_of.lose()
    error = expect_unknown(outcome_of, "connection reset")
    assert error.marker is not None
    assert error.marker.known_ids == ("theirs",)


def test_a_ledger_remembers_so_many_batches_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches_core.operations.ledger._REMEMBERED", 2)
    on = api()
    for number in range(3):
        book = sent(on)
        book.respond(listed_batch(f"b{number}"))
        book.expect(BatchCreated)
    book = sent(on)
    book.lose()
    error = expect_unknown(book, "connection reset")
    assert error.marker is not None
    assert error.marker.known_ids == ("b1", "b2")


# --- settling in the same process ------------------------------------------------------------


def test_settling_a_create_that_was_answered_returns_its_batch() -> None:
    on = api()
    book = Playbook(on.create(TWO))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.respond(listed_batch())
    book.expect(BatchCreated)
    again = Playbook(on.settle(marker))
    assert not again.expect(BatchCreated).adopted
    assert again.expect_done().id == "new"


def test_settling_twice_gives_the_same_batch() -> None:
    on = api()
    outcome = unknown_outcome(on=on)
    book = Playbook(on.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"
    again = Playbook(on.settle(outcome))
    again.expect(BatchCreated)
    assert again.expect_done().id == "new"


def test_a_create_that_is_under_way_is_not_settled() -> None:
    on = api()
    book = Playbook(on.create(TWO))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    with pytest.raises(InvalidInputError, match="still under way in this process"):
        on.settle(marker).next_event()


def marked_elsewhere() -> CreateMarker:
    """A marker of a process that died; its first create, as others are of this process."""
    book = Playbook(api().create(TWO))
    return book.expect_marker(EXISTING, read_at="Fri, 01 May 2026 20:59:55 GMT")


def test_a_batch_of_this_process_is_not_taken_for_that_of_a_marker_with_the_same_serial() -> None:
    on = api()
    book = sent(on)
    book.respond(listed_batch("ours"))
    book.expect(BatchCreated)
    marker = marked_elsewhere()
    assert marker.serial == 0
    settled = Playbook(on.settle(marker))
    expect_list(settled, listed_batch("theirs"), listed_batch("ours"), EXISTING)
    assert (
        expect_adoption(settled, listed_batch("theirs"), listed_batch("ours"), EXISTING) == "theirs"
    )


def test_settling_a_marker_with_the_same_serial_does_not_hide_a_create_under_way() -> None:
    on = api()
    here = sent(on)
    settled = Playbook(on.settle(marked_elsewhere(), settle_time=0))
    expect_list(settled, listed_batch(), EXISTING)
    expect_unknown(settled, "another create")
    here.respond(listed_batch())
    here.expect(BatchCreated)


# --- interruptions -----------------------------------------------------------------------------


class Broken(Exception):  # noqa: N818 - whatever a caller's code may raise
    pass


def interrupted(book: Playbook, error: BaseException | None = None) -> BaseException:
    """The driver stops here, with this error."""
    error = error or Broken("pipe")
    assert isinstance(book.operation, CreateOperation)
    book.operation.interrupt(error, book.now)
    return error


def attached(error: BaseException, name: str) -> Any:
    return vars(error)[name]


def test_an_interruption_before_the_create_says_that_nothing_was_created() -> None:
    on = api()
    book = Playbook(on.create(TWO))
    book.expect_marker(EXISTING)
    error = interrupted(book)
    assert error.__notes__ == ["nothing was created: the create was not sent, or it was refused"]
    assert not hasattr(error, "create_outcome")
    assert on.ledger.unfinished() == []


def test_an_interruption_under_way_carries_the_outcome_to_settle() -> None:
    on = api()
    book = sent(on)
    book.now += 5.0
    error = interrupted(book, KeyboardInterrupt())
    outcome = attached(error, "create_outcome")
    assert isinstance(outcome, OutcomeUnknownError)
    assert outcome.marker is not None
    assert outcome.marker.arrives_within == 65.0
    assert "interrupted by KeyboardInterrupt" in str(outcome)
    assert error.__notes__ == [str(outcome)]
    assert KEY not in str(outcome)
    (unfinished,) = on.ledger.unfinished()
    assert str(unfinished) == str(outcome)

    book = Playbook(on.settle(outcome))
    expect_list(book, listed_batch(), EXISTING)
    assert expect_adoption(book, listed_batch(), EXISTING) == "new"
    assert on.ledger.unfinished() == []


def test_an_interruption_after_the_answer_carries_the_batch() -> None:
    on = api()
    book = sent(on)
    book.respond(listed_batch())
    book.expect(BatchCreated)  # and the code that it was handed to raises
    error = interrupted(book)
    batch = attached(error, "created_batch")
    assert isinstance(batch, MessageBatch)
    assert error.__notes__ == ["the batch was created: new; do not create it again"]
    assert on.ledger.unfinished() == [batch]


def test_an_interruption_while_the_outcome_is_settled_carries_it() -> None:
    book = lose_create(EXISTING)
    expect_list(book, EXISTING)
    error = interrupted(book)
    assert attached(error, "create_outcome").reason == "read timeout"


def test_an_interruption_before_a_lost_create_is_sent_again_carries_its_outcome() -> None:
    book = lose_create(EXISTING, settle_time=0)
    expect_list(book, EXISTING)
    book.expect(RetryScheduled)
    assert attached(interrupted(book), "create_outcome")


def test_an_error_that_says_it_all_is_left_as_it_is() -> None:
    book = sent(api())
    book.respond(error_json("authentication_error"), 401)
    with pytest.raises(AuthenticationError) as refused:
        book.next()
    assert not hasattr(interrupted(book, refused.value), "__notes__")

    book = sent(api())
    book.lose()
    error = expect_unknown(book, "connection reset")
    assert not hasattr(interrupted(book, error), "__notes__")


def test_an_error_of_the_driver_carries_the_outcome() -> None:
    error = interrupted(sent(api()), LocalProtocolError("closed"))
    assert attached(error, "create_outcome")


def test_an_error_that_takes_nothing_is_left_as_it_is() -> None:
    class Frozen(BaseException):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    on = api()
    interrupted(sent(on), Frozen())
    assert len(on.ledger.unfinished()) == 1


def test_an_operation_that_is_dropped_under_way_leaves_its_outcome_unknown() -> None:
    on = api()
    book = Playbook(on.create(TWO))
    marker = book.expect_marker(EXISTING)
    book.expect_request("POST", BATCHES)
    book.now += 5.0
    book.operation.handle_timeout(book.now)
    del book
    gc.collect()
    (outcome,) = on.ledger.unfinished()
    assert isinstance(outcome, OutcomeUnknownError)
    assert outcome.marker is not None
    assert (outcome.marker.serial, outcome.marker.arrives_within) == (marker.serial, 65.0)


def test_an_interruption_inside_of_the_operation_leaves_its_outcome_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on = api()
    book = sent(on)
    book.respond(listed_batch())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("batches_core.operations.ledger.PendingCreate.succeed", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        book.next()
    assert attached(interrupted(book, caught.value), "create_outcome")


def test_a_create_whose_marker_was_not_handed_over_was_not_sent() -> None:
    on = api()
    book = Playbook(on.create(TWO))
    book.expect_request("GET", LIST)
    book.respond({"data": [], "has_more": False})
    interrupted(book)
    assert on.ledger.unfinished() == []
    assert isinstance(book.next(), CreateMarked)
