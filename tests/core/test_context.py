"""Tests of `context`: the time of an operation, and the deadlines of its exchanges."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from batches_core import (
    BatchState,
    LocalProtocolError,
    Need,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    TransportError,
    WaitUntil,
)
from batches_core.context import OperationContext
from tests.support.deadlines import pass_deadline
from tests.support.playbook import Playbook, api, batch_json

BATCH = "/v1/messages/batches/msgbatch_1"
ONCE = RetryPolicy(attempts=1)


def start_get(**settings: Any) -> Playbook:
    book = Playbook(api(**settings).get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    return book


# --- time --------------------------------------------------------------------------------


def test_the_time_never_runs_backwards_and_is_never_nan() -> None:
    context = OperationContext(RetryPolicy(), lambda: 1.0)
    assert (context.now, context.started) == (-math.inf, -math.inf)
    for now in (10.0, 4.0, 11.0, 10.5):
        context.record_time(now)
    assert (context.now, context.started) == (11.0, 10.0)
    with pytest.raises(LocalProtocolError, match="not a number"):
        context.record_time(math.nan)


def test_timeouts_count_from_the_first_input_if_no_time_was_reported_before() -> None:
    operation = api().wait_for("msgbatch_1", poll_interval=10, timeout=5)
    send = operation.next_event()
    assert isinstance(send, SendRequest)
    # A playbook would report a time before the first input.
    operation.receive_head(send.exchange, 200, [], 70.0)
    operation.receive_data(send.exchange, msgspec.json.encode(batch_json()), 70.0)
    operation.receive_eof(send.exchange, 70.0)
    assert isinstance(operation.next_event(), BatchState)
    assert operation.next_event() == WaitUntil(deadline=73.75)


# --- deadlines ---------------------------------------------------------------------------


def test_an_exchange_has_no_deadline_before_its_head() -> None:
    book = Playbook(api().get("msgbatch_1"))
    assert book.operation.deadline is None
    book.expect_request("GET", BATCH)
    assert book.operation.deadline is None


def test_an_exchange_continues_until_just_before_its_deadline() -> None:
    book = start_get(retry=ONCE)
    book.head()
    assert book.next() is Need.DATA
    book.operation.handle_timeout(book.now + 599.999)
    assert book.next() is Need.DATA
    book.data(b'{"id":"x"}')


def test_the_deadline_of_an_exchange_does_not_apply_to_the_next() -> None:
    book = start_get()
    book.head()
    assert book.next() is Need.DATA
    pass_deadline(book)
    book.expect(RetryScheduled)
    assert book.operation.deadline is None
    book.expect_wait(0.5)
    assert isinstance(send := book.next(), SendRequest)
    assert (send.exchange, book.operation.deadline) == (2, None)


def test_a_response_that_arrived_in_time_is_returned_after_its_deadline() -> None:
    book = start_get(retry=ONCE)
    book.respond(batch_json())
    book.operation.handle_timeout(book.now + 10_000)
    assert book.expect_done().id == "msgbatch_1"


def test_an_input_after_the_deadline_abandons_the_exchange() -> None:
    book = start_get(retry=ONCE)
    book.head()
    assert book.next() is Need.DATA
    book.now += 5000
    book.data(b" ")
    with pytest.raises(TransportError, match="did not end"):
        book.next()
    # Later input is ignored.
    book.data(b"late")
    book.eof()


def test_a_pause_between_exchanges_has_no_deadline() -> None:
    book = Playbook(api().wait_for("msgbatch_1", timeout=500))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect(WaitUntil)
    assert book.operation.deadline is None


def test_the_deadline_of_an_operation_is_read_only() -> None:
    operation: Any = api().get("msgbatch_1")
    with pytest.raises(AttributeError):
        operation.deadline = 5.0


def test_an_exchange_without_a_deadline_continues_at_an_infinite_time() -> None:
    book = start_get(retry=ONCE)
    book.now = float("inf")
    book.operation.handle_timeout(book.now)
    assert book.operation.deadline is None
    assert book.next() is Need.DATA
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"
