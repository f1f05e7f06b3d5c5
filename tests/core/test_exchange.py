from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import LocalProtocolError
from batches_core.exchange import (
    END_OF_BODY,
    MAX_INFORMATIONAL,
    TRANSITIONS,
    Exchange,
    Head,
    Lost,
    State,
    Trigger,
)

# What each input is on the outside, and how each state is reached.
DO: dict[Trigger, Callable[[Exchange], None]] = {
    Trigger.INFORMATIONAL: lambda x: x.receive_head(103, {}),
    Trigger.HEAD: lambda x: x.receive_head(200, {"a": "b"}),
    Trigger.DATA: lambda x: x.receive_data(b"d"),
    Trigger.EOF: lambda x: x.receive_eof(),
    Trigger.LOST: lambda x: x.connection_lost("gone", sent=False),
    Trigger.ABANDON: lambda x: x.abandon(),
}
WAY: dict[State, list[Trigger]] = {
    State.SENT: [],
    State.BODY: [Trigger.HEAD],
    State.COMPLETE: [Trigger.HEAD, Trigger.EOF],
    State.LOST: [Trigger.LOST],
    State.ABANDONED: [Trigger.ABANDON],
}

# Written down a second time, in full, so that a change of the table has to be meant:
# rows are states, columns informational, head, data, eof, lost, abandon; "." is a protocol error.
TABLE = """
SENT       SENT       BODY       .          .          LOST       ABANDONED
BODY       .          .          BODY       COMPLETE   LOST       ABANDONED
COMPLETE   .          .          .          .          COMPLETE   ABANDONED
LOST       .          .          .          .          LOST       ABANDONED
ABANDONED  ABANDONED  ABANDONED  ABANDONED  ABANDONED  ABANDONED  ABANDONED
"""
EXPECTED = {
    (State[row[0]], trigger): None if cell == "." else State[cell]
    for row in (line.split() for line in TABLE.strip().splitlines())
    for trigger, cell in zip(Trigger, row[1:], strict=True)
}


def reach(state: State) -> Exchange:
    exchange = Exchange(1)
    for trigger in WAY[state]:
        DO[trigger](exchange)
    assert exchange.state is state
    return exchange


@pytest.mark.parametrize(
    ("state", "trigger"),
    list(itertools.product(State, Trigger)),
    ids=lambda value: value.name,
)
def test_every_pair_of_state_and_input(state: State, trigger: Trigger) -> None:
    exchange = reach(state)
    before = list(exchange.inbox)
    expected = EXPECTED[state, trigger]
    if expected is None:
        with pytest.raises(LocalProtocolError, match="and cannot receive"):
            DO[trigger](exchange)
        assert (exchange.state, list(exchange.inbox)) == (state, before)
    else:
        DO[trigger](exchange)
        assert exchange.state is expected


def test_the_table_has_no_other_moves() -> None:
    assert {pair: state for pair, state in EXPECTED.items() if state} == TRANSITIONS


def test_what_came_is_kept_in_order() -> None:
    exchange = Exchange(1)
    for trigger in (
        Trigger.INFORMATIONAL,
        Trigger.HEAD,
        Trigger.DATA,
        Trigger.DATA,
        Trigger.EOF,
        Trigger.LOST,
    ):
        DO[trigger](exchange)
    assert list(exchange.inbox) == [Head(status=200, headers={"a": "b"}), b"d", b"d", END_OF_BODY]


def test_a_loss_is_kept_once_and_a_head_proves_that_the_request_was_sent() -> None:
    exchange = reach(State.BODY)
    exchange.inbox.clear()
    exchange.connection_lost("first", sent=False)
    exchange.connection_lost("second", sent=False)
    assert list(exchange.inbox) == [Lost(reason="first", sent=True)]


def test_giving_up_drops_what_was_not_taken_and_what_still_comes() -> None:
    exchange = reach(State.BODY)
    DO[Trigger.DATA](exchange)
    exchange.abandon()
    for trigger in Trigger:
        DO[trigger](exchange)
    assert not exchange.inbox


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_what_is_no_status_is_refused(status: int) -> None:
    with pytest.raises(LocalProtocolError, match="is not an HTTP status"):
        Exchange(1).receive_head(status, {})


@pytest.mark.parametrize(
    ("status", "state"),
    [(100, State.SENT), (199, State.SENT), (200, State.BODY), (999, State.BODY)],
)
def test_every_status_has_three_digits_and_the_first_are_informational(
    status: int, state: State
) -> None:
    exchange = Exchange(1)
    exchange.receive_head(status, {})
    assert exchange.state is state


def test_data_without_bytes_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="receive_eof"):
        reach(State.BODY).receive_data(b"")


def test_a_flood_of_informational_heads_ends_the_exchange_and_is_no_fault_of_the_driver() -> None:
    exchange = Exchange(1)
    for _ in range(MAX_INFORMATIONAL):
        exchange.receive_head(103, {})
    assert (exchange.state, list(exchange.inbox)) == (State.SENT, [])
    # The driver need not know of the bound: whatever it still passes is dropped.
    exchange.receive_head(103, {})
    exchange.receive_head(103, {})
    exchange.receive_head(200, {})
    exchange.receive_data(b"late")
    exchange.receive_eof()
    exchange.connection_lost("late", sent=False)
    assert list(exchange.inbox) == [
        Lost(reason="more than 100 informational (1xx) heads arrived", sent=True)
    ]
    assert exchange.state is State.ABANDONED


def test_as_many_informational_heads_as_are_allowed_are_passed_over() -> None:
    exchange = Exchange(1)
    for _ in range(MAX_INFORMATIONAL):
        exchange.receive_head(100, {})
    exchange.receive_head(200, {})
    assert list(exchange.inbox) == [Head(status=200, headers={})]


@given(st.lists(st.sampled_from(list(Trigger)), max_size=20))
def test_any_sequence_of_inputs_follows_the_table(inputs: list[Trigger]) -> None:
    exchange = Exchange(1)
    for trigger in inputs:
        before = exchange.state
        expected = EXPECTED[before, trigger]
        try:
            DO[trigger](exchange)
        except LocalProtocolError:
            assert expected is None
            assert exchange.state is before
        else:
            assert exchange.state is expected
    # At most one head, and nothing behind an end.
    kinds = [type(arrival) for arrival in exchange.inbox]
    assert kinds.count(Head) <= 1
    assert not any(event == END_OF_BODY for event in [*exchange.inbox][:-1])
    assert Lost not in kinds[:-1]
