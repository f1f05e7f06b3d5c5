from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    BatchesError,
    BatchState,
    Done,
    LocalProtocolError,
    Need,
    NotFoundError,
    Operation,
    ResultsReceived,
    RetryPolicy,
    SendRequest,
    WaitUntil,
)
from batches_core.context import OperationContext
from tests.support.playbook import Playbook, api, batch_json, error_json, result_line

GET = "/v1/messages/batches/msgbatch_1"


def test_the_same_directive_is_handed_out_until_its_input_comes() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    assert [book.next() for _ in range(3)] == [Need.DATA] * 3
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_the_end_repeats() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(batch_json())
    assert book.expect_done() is book.expect_done()

    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError) as first:
        book.next()
    with pytest.raises(NotFoundError) as second:
        book.next()
    assert first.value is second.value


def test_state_moves_as_an_event_is_handed_over_not_when_bytes_come() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", GET + "/results")
    # All at once: nothing is decoded, and nothing goes wrong, before it is asked for.
    book.head()
    book.data(result_line("a"))
    book.data(result_line("b"))
    book.lose("reset")
    assert [i.custom_id for i in book.expect(ResultsReceived).items if i.custom_id] == ["a"]
    assert [i.custom_id for i in book.expect(ResultsReceived).items if i.custom_id] == ["b"]


def test_input_for_an_exchange_that_was_never_handed_out_is_a_local_error() -> None:
    operation = api().get("msgbatch_1")
    with pytest.raises(LocalProtocolError, match="no exchange 1"):
        operation.receive_head(1, 200, [], 0.0)
    with pytest.raises(LocalProtocolError, match="no exchange 0"):
        operation.connection_lost(0, "gone", 0.0, sent=False)
    operation.next_event()
    with pytest.raises(LocalProtocolError, match="has number 1"):
        operation.receive_data(2, b"x", 0.0)


def test_late_input_for_an_exchange_that_was_given_up_is_dropped() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.head(200)
    book.data(b'{"half":')
    book.lose()
    book.next()  # RetryScheduled
    book.expect_wait(0.5)
    book.expect_request("GET", GET)
    late = book.operation
    late.receive_data(1, b"garbage", book.now)
    late.receive_eof(1, book.now)
    late.receive_head(1, 500, [], book.now)
    late.connection_lost(1, "late", book.now, sent=True)
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_input_after_the_end_is_dropped() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.respond(batch_json())
    book.expect_done()
    book.lose()
    book.operation.receive_data(1, b"late", book.now)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize("when", ["data first", "eof first", "two heads", "data after eof"])
def test_a_driver_that_breaks_the_order_is_told_at_once_and_nothing_is_lost(when: str) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    if when == "data first":
        with pytest.raises(LocalProtocolError):
            book.data(b"x")
    elif when == "eof first":
        with pytest.raises(LocalProtocolError):
            book.eof()
    book.respond(batch_json())
    if when == "two heads":
        with pytest.raises(LocalProtocolError):
            book.head()
    elif when == "data after eof":
        with pytest.raises(LocalProtocolError):
            book.data(b"x")
    assert book.expect_done().id == "msgbatch_1"


def test_early_late_and_spurious_timeouts_are_harmless() -> None:
    book = Playbook(api().wait_for("msgbatch_1", poll_interval=30), now=100.0)
    operation = book.operation
    book.expect_request("GET", GET)
    operation.handle_timeout(101.0)  # spurious: nothing waits for it
    assert book.next() is Need.DATA
    book.now = 101.0
    book.respond(batch_json())
    book.expect(BatchState)
    wait = book.expect(WaitUntil)
    assert wait.deadline == 131.0
    for early in (101.0, 115.0, 130.999):
        operation.handle_timeout(early)
        assert book.next() == wait
    operation.handle_timeout(5000.0)  # late
    book.now = 5000.0
    book.expect_request("GET", GET)


def test_a_clock_that_runs_backwards_is_not_followed() -> None:
    channel = OperationContext(RetryPolicy(), lambda: 1.0)
    assert (channel.now, channel.started) == (-math.inf, -math.inf)
    for now in (10.0, 4.0, 11.0, 10.5):
        channel.record_time(now)
    assert (channel.now, channel.started) == (11.0, 10.0)
    with pytest.raises(LocalProtocolError, match="not a number"):
        channel.record_time(math.nan)


def test_without_being_told_the_time_first_timeouts_count_from_the_first_input() -> None:
    operation = api().wait_for("msgbatch_1", poll_interval=10, timeout=5)
    send = operation.next_event()
    assert isinstance(send, SendRequest)
    book = Playbook.__new__(Playbook)
    book.operation, book.now, book.exchange = operation, 70.0, 1
    book.respond(batch_json())
    book.expect(BatchState)
    assert book.expect(WaitUntil).deadline == 73.75


def test_informational_heads_are_passed_over() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.head(100)
    book.head(103, [("link", "</x>")])
    assert book.next() is Need.DATA
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_headers_may_be_bytes_in_any_case() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", GET)
    book.operation.receive_head(1, 503, [(b"Retry-After", b"7")], book.now)
    book.eof()
    book.next()
    book.expect_wait(7.0)


def test_a_fault_of_the_users_predicate_comes_out_and_stays() -> None:
    def until(_: object) -> bool:
        raise ZeroDivisionError

    book = Playbook(api().wait_for("msgbatch_1", until=until))
    book.expect_request("GET", GET)
    book.respond(batch_json())
    book.expect(BatchState)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            book.next()


def test_after_an_interruption_in_the_middle_there_is_no_success() -> None:
    def until(_: object) -> bool:
        raise KeyboardInterrupt

    book = Playbook(api().wait_for("msgbatch_1", until=until))
    book.expect_request("GET", GET)
    book.respond(batch_json())
    book.expect(BatchState)
    with pytest.raises(KeyboardInterrupt):
        book.next()
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="interrupted"):
            book.next()


OPERATIONS: dict[str, Any] = {
    "create": lambda: api().create([{"custom_id": "a", "params": {}}]),
    "get": lambda: api().get("msgbatch_1"),
    "list_all": lambda: api().list_all(),
    "delete": lambda: api().delete("msgbatch_1"),
    "wait_for": lambda: api().wait_for("msgbatch_1", timeout=100, max_outage=50),
    "results": lambda: api().results_stream("msgbatch_1"),
}


def head(status: int, retry_after: str, operation: Operation[Any], exchange: int) -> None:
    operation.receive_head(exchange, status, [("retry-after", retry_after)], 0.0)


def data(piece: bytes, operation: Operation[Any], exchange: int) -> None:
    operation.receive_data(exchange, piece, 0.0)


def eof(operation: Operation[Any], exchange: int) -> None:
    operation.receive_eof(exchange, 0.0)


def lost(sent: bool, operation: Operation[Any], exchange: int) -> None:  # noqa: FBT001
    operation.connection_lost(exchange, "gone", 0.0, sent=sent)


PIECES = [
    b'{"data":[],"has_more":true}',
    b'{"id":"x","type":"message_batch_deleted"}',
    msgspec.json.encode(batch_json()),
    msgspec.json.encode(batch_json(status="ended")),
    result_line("a"),
    b'{"error":{"type":"api_error"}}',
]
inputs = st.lists(
    st.one_of(
        st.builds(partial, st.just(head), st.sampled_from([100, 200, 404, 429, 503]), st.just("1")),
        st.builds(partial, st.just(head), st.integers(100, 999), st.text(max_size=5)),
        st.builds(partial, st.just(data), st.sampled_from(PIECES)),
        st.builds(partial, st.just(data), st.binary(min_size=1, max_size=12)),
        st.just(eof),
        st.builds(partial, st.just(lost), st.booleans()),
    ),
    max_size=25,
)


def run(operation: Operation[Any], inputs: list[Callable[[Operation[Any], int], None]]) -> None:
    """Feed inputs to an operation as it asks for them, then losses, until it ends."""
    pending = deque(inputs)
    now, exchange = 0.0, 0
    for _ in range(500):
        match operation.next_event():
            case Done():
                return
            case SendRequest(exchange=number):
                exchange += 1
                assert number == exchange
            case WaitUntil(deadline=deadline):
                assert deadline > now
                now = deadline
                operation.handle_timeout(now)
            case Need.DATA:
                step = pending.popleft() if pending else partial(lost, True)  # noqa: FBT003
                # Out of order is our own mistake here; the operation goes on unharmed.
                with suppress(LocalProtocolError):
                    step(operation, exchange)
            case _:
                pass
    pytest.fail("it did not come to an end")


@given(name=st.sampled_from(sorted(OPERATIONS)), inputs=inputs)
def test_anything_that_comes_gives_a_value_or_a_documented_error(
    name: str, inputs: list[Callable[[Operation[Any], int], None]]
) -> None:
    error: BatchesError | None = None
    try:
        run(OPERATIONS[name](), inputs)
    except BatchesError as caught:
        error = caught
    assert error is None or (str(error) and not isinstance(error, LocalProtocolError))


@pytest.mark.parametrize("data", [bytearray(b"{"), memoryview(b"{"), "{", None])
def test_a_body_is_bytes_and_nothing_that_can_change(data: Any) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1")
    book.head()
    with pytest.raises(LocalProtocolError, match="accepts bytes, not"):
        book.data(data)
    book.data(msgspec.json.encode(batch_json()))
    book.eof()
    assert book.expect_done().id == "msgbatch_1"


def test_a_header_without_a_value_is_the_drivers_fault() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", "/v1/messages/batches/msgbatch_1")
    nothing: Any = None
    with pytest.raises(LocalProtocolError, match="headers must be pairs"):
        book.head(503, [("retry-after", nothing)])
