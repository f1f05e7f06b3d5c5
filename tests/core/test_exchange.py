"""Tests of `exchange`: the legal order of a response's parts."""

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

#: The method that causes each trigger.
APPLY: dict[Trigger, Callable[[Exchange], None]] = {
    Trigger.INFORMATIONAL: lambda x: x.receive_head(103, {}),
    Trigger.HEAD: lambda x: x.receive_head(200, {"a": "b"}),
    Trigger.DATA: lambda x: x.receive_data(b"d"),
    Trigger.EOF: lambda x: x.receive_eof(),
    Trigger.LOST: lambda x: x.connection_lost("gone", sent=False),
    Trigger.ABANDON: lambda x: x.abandon(),
}
#: The triggers that lead to each state.
TRIGGERS_TO: dict[State, list[Trigger]] = {
    State.SENT: [],
    State.BODY: [Trigger.HEAD],
    State.COMPLETE: [Trigger.HEAD, Trigger.EOF],
    State.LOST: [Trigger.LOST],
    State.ABANDONED: [Trigger.ABANDON],
}
#: `TRANSITIONS` a second time and in full, so that every change of it is deliberate. The rows are
#: states, the columns are informational, head, data, eof, lost, abandon. "." is a protocol error.
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


def exchange_in(state: State) -> Exchange:
    exchange = Exchange(1)
    for trigger in TRIGGERS_TO[state]:
        APPLY[trigger](exchange)
    assert exchange.state is state
    return exchange


@pytest.mark.parametrize(
    ("state", "trigger"),
    list(itertools.product(State, Trigger)),
    ids=lambda value: value.name,
)
def test_each_trigger_in_each_state_of_an_exchange_follows_the_table(
    state: State, trigger: Trigger
) -> None:
    exchange = exchange_in(state)
    before = list(exchange.inbox)
    expected = EXPECTED[state, trigger]
    if expected is None:
        with pytest.raises(LocalProtocolError, match="and cannot receive"):
            APPLY[trigger](exchange)
        assert (exchange.state, list(exchange.inbox)) == (state, before)
    else:
        APPLY[trigger](exchange)
        assert exchange.state is expected


def test_transitions_lists_exactly_the_legal_transitions() -> None:
    assert {pair: state for pair, state in EXPECTED.items() if state} == TRANSITIONS


@given(st.lists(st.sampled_from(list(Trigger)), max_size=20))
def test_any_sequence_of_triggers_moves_an_exchange_by_the_table(triggers: list[Trigger]) -> None:
    exchange = Exchange(1)
    for trigger in triggers:
        before = exchange.state
        expected = EXPECTED[before, trigger]
        try:
            APPLY[trigger](exchange)
        except LocalProtocolError:
            assert expected is None
            assert exchange.state is before
        else:
            assert exchange.state is expected
    # At most one head, and no event after the end or a loss.
    events = [*exchange.inbox]
    assert [type(event) for event in events].count(Head) <= 1
    assert END_OF_BODY not in events[:-1]
    assert Lost not in [type(event) for event in events[:-1]]


def test_the_events_of_an_exchange_are_queued_in_order() -> None:
    exchange = Exchange(1)
    for trigger in (
        Trigger.INFORMATIONAL,
        Trigger.HEAD,
        Trigger.DATA,
        Trigger.DATA,
        Trigger.EOF,
        Trigger.LOST,
    ):
        APPLY[trigger](exchange)
    assert list(exchange.inbox) == [Head(status=200, headers={"a": "b"}), b"d", b"d", END_OF_BODY]


def test_a_loss_is_queued_once_and_a_head_proves_the_request_was_sent() -> None:
    exchange = exchange_in(State.BODY)
    exchange.inbox.clear()
    exchange.connection_lost("first", sent=False)
    exchange.connection_lost("second", sent=False)
    assert list(exchange.inbox) == [Lost(reason="first", sent=True)]


def test_an_abandoned_exchange_drops_its_events_and_ignores_inputs() -> None:
    exchange = exchange_in(State.BODY)
    APPLY[Trigger.DATA](exchange)
    exchange.abandon()
    for trigger in Trigger:
        APPLY[trigger](exchange)
    assert not exchange.inbox


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_a_number_that_is_not_an_http_status_is_refused(status: int) -> None:
    with pytest.raises(LocalProtocolError, match="is not an HTTP status"):
        Exchange(1).receive_head(status, {})


@pytest.mark.parametrize(
    ("status", "state"),
    [(100, State.SENT), (199, State.SENT), (200, State.BODY), (999, State.BODY)],
)
def test_only_a_status_below_200_is_informational(status: int, state: State) -> None:
    exchange = Exchange(1)
    exchange.receive_head(status, {})
    assert exchange.state is state


def test_empty_body_data_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="receive_eof"):
        exchange_in(State.BODY).receive_data(b"")


def test_up_to_100_informational_heads_are_skipped() -> None:
    exchange = Exchange(1)
    for _ in range(MAX_INFORMATIONAL):
        exchange.receive_head(100, {})
    exchange.receive_head(200, {})
    assert list(exchange.inbox) == [Head(status=200, headers={})]


def test_more_than_100_informational_heads_are_a_loss_not_a_driver_error() -> None:
    exchange = Exchange(1)
    for _ in range(MAX_INFORMATIONAL):
        exchange.receive_head(103, {})
    assert (exchange.state, list(exchange.inbox)) == (State.SENT, [])
    # The driver need not know the limit, so further inputs are ignored.
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
