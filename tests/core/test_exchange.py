from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import LocalProtocolError
from batches_core.exchange import (
    MAX_INFORMATIONAL,
    MOVES,
    Eof,
    Exchange,
    Head,
    Input,
    Lost,
    State,
)

# What each input is on the outside, and how each state is reached.
DO: dict[Input, Callable[[Exchange], None]] = {
    Input.INFORMATIONAL: lambda x: x.receive_head(103, {}),
    Input.HEAD: lambda x: x.receive_head(200, {"a": "b"}),
    Input.DATA: lambda x: x.receive_data(b"d"),
    Input.EOF: lambda x: x.receive_eof(),
    Input.LOST: lambda x: x.connection_lost("gone", sent=False),
    Input.ABANDON: lambda x: x.abandon(),
}
WAY: dict[State, list[Input]] = {
    State.SENT: [],
    State.BODY: [Input.HEAD],
    State.COMPLETE: [Input.HEAD, Input.EOF],
    State.LOST: [Input.LOST],
    State.ABANDONED: [Input.ABANDON],
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
    (State[row[0]], input_): None if cell == "." else State[cell]
    for row in (line.split() for line in TABLE.strip().splitlines())
    for input_, cell in zip(Input, row[1:], strict=True)
}


def reach(state: State) -> Exchange:
    exchange = Exchange(1)
    for input_ in WAY[state]:
        DO[input_](exchange)
    assert exchange.state is state
    return exchange


@pytest.mark.parametrize(
    ("state", "input_"),
    list(itertools.product(State, Input)),
    ids=lambda value: value.name,
)
def test_every_pair_of_state_and_input(state: State, input_: Input) -> None:
    exchange = reach(state)
    before = list(exchange.inbox)
    expected = EXPECTED[state, input_]
    if expected is None:
        with pytest.raises(LocalProtocolError, match="cannot come now"):
            DO[input_](exchange)
        assert (exchange.state, list(exchange.inbox)) == (state, before)
    else:
        DO[input_](exchange)
        assert exchange.state is expected


def test_the_table_has_no_other_moves() -> None:
    assert {pair: state for pair, state in EXPECTED.items() if state} == MOVES


def test_what_came_is_kept_in_order() -> None:
    exchange = Exchange(1)
    for input_ in (Input.INFORMATIONAL, Input.HEAD, Input.DATA, Input.DATA, Input.EOF, Input.LOST):
        DO[input_](exchange)
    assert list(exchange.inbox) == [Head(status=200, headers={"a": "b"}), b"d", b"d", Eof()]


def test_a_loss_is_kept_once_and_a_head_proves_that_the_request_was_sent() -> None:
    exchange = reach(State.BODY)
    exchange.inbox.clear()
    exchange.connection_lost("first", sent=False)
    exchange.connection_lost("second", sent=False)
    assert list(exchange.inbox) == [Lost(reason="first", sent=True)]


def test_giving_up_drops_what_was_not_taken_and_what_still_comes() -> None:
    exchange = reach(State.BODY)
    DO[Input.DATA](exchange)
    exchange.abandon()
    for input_ in Input:
        DO[input_](exchange)
    assert not exchange.inbox


@pytest.mark.parametrize("status", [-1, 0, 99, 1000])
def test_what_is_no_status_is_refused(status: int) -> None:
    with pytest.raises(LocalProtocolError, match="no HTTP status"):
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
    # The driver need not know of the bound: whatever it still hands in is dropped.
    exchange.receive_head(103, {})
    exchange.receive_head(103, {})
    exchange.receive_head(200, {})
    exchange.receive_data(b"late")
    exchange.receive_eof()
    exchange.connection_lost("late", sent=False)
    assert list(exchange.inbox) == [Lost(reason="there is no end of 1xx heads", sent=True)]
    assert exchange.state is State.ABANDONED


def test_as_many_informational_heads_as_are_allowed_are_passed_over() -> None:
    exchange = Exchange(1)
    for _ in range(MAX_INFORMATIONAL):
        exchange.receive_head(100, {})
    exchange.receive_head(200, {})
    assert list(exchange.inbox) == [Head(status=200, headers={})]


@given(st.lists(st.sampled_from(list(Input)), max_size=20))
def test_any_sequence_of_inputs_follows_the_table(inputs: list[Input]) -> None:
    exchange = Exchange(1)
    for input_ in inputs:
        before = exchange.state
        expected = EXPECTED[before, input_]
        try:
            DO[input_](exchange)
        except LocalProtocolError:
            assert expected is None
            assert exchange.state is before
        else:
            assert exchange.state is expected
    # At most one head, and nothing behind an end.
    kinds = [type(arrival) for arrival in exchange.inbox]
    assert kinds.count(Head) <= 1
    assert not any(kind in {Eof, Lost} for kind in kinds[:-1])
