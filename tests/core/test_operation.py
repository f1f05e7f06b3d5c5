"""Tests of `operation`: the contract between an operation and its driver."""

from __future__ import annotations

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
    SendRequest,
    WaitUntil,
)
from tests.support.playbook import Playbook, api, batch_json, error_json, result_line

BATCH = "/v1/messages/batches/msgbatch_1"


def test_a_directive_repeats_until_its_input_arrives() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    assert [book.next() for _ in range(3)] == [Need.DATA] * 3
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_the_end_of_an_operation_repeats() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    assert book.expect_done() is book.expect_done()

    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(error_json("not_found_error"), 404)
    with pytest.raises(NotFoundError) as first:
        book.next()
    with pytest.raises(NotFoundError) as second:
        book.next()
    assert first.value is second.value


def test_the_state_advances_when_an_event_is_returned_not_when_bytes_arrive() -> None:
    book = Playbook(api().results_stream("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", BATCH + "/results")
    # Several inputs are queued. None is decoded, and none fails, before `next_event` reaches it.
    book.head()
    book.data(result_line("a"))
    book.data(result_line("b"))
    book.lose("reset")
    assert [i.custom_id for i in book.expect(ResultsReceived).items if i.custom_id] == ["a"]
    assert [i.custom_id for i in book.expect(ResultsReceived).items if i.custom_id] == ["b"]


def test_input_for_an_unknown_exchange_is_a_local_protocol_error() -> None:
    operation = api().get("msgbatch_1")
    with pytest.raises(LocalProtocolError, match="no exchange 1"):
        operation.receive_head(1, 200, [], 0.0)
    with pytest.raises(LocalProtocolError, match="no exchange 0"):
        operation.connection_lost(0, "gone", 0.0, sent=False)
    operation.next_event()
    with pytest.raises(LocalProtocolError, match="has number 1"):
        operation.receive_data(2, b"x", 0.0)


def test_late_input_for_an_abandoned_exchange_is_ignored() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.head(200)
    book.data(b'{"half":')
    book.lose()
    book.next()  # RetryScheduled
    book.expect_wait(0.5)
    book.expect_request("GET", BATCH)
    operation = book.operation
    operation.receive_data(1, b"garbage", book.now)
    operation.receive_eof(1, book.now)
    operation.receive_head(1, 500, [], book.now)
    operation.connection_lost(1, "late", book.now, sent=True)
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_input_after_the_end_of_an_operation_is_ignored() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    book.expect_done()
    book.lose()
    book.operation.receive_data(1, b"late", book.now)
    assert book.expect_done().id == "msgbatch_1"


@pytest.mark.parametrize("order", ["data first", "eof first", "two heads", "data after eof"])
def test_input_out_of_order_raises_at_once_and_changes_nothing(order: str) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    if order == "data first":
        with pytest.raises(LocalProtocolError):
            book.data(b"x")
    elif order == "eof first":
        with pytest.raises(LocalProtocolError):
            book.eof()
    book.respond(batch_json())
    if order == "two heads":
        with pytest.raises(LocalProtocolError):
            book.head()
    elif order == "data after eof":
        with pytest.raises(LocalProtocolError):
            book.data(b"x")
    assert book.expect_done().id == "msgbatch_1"


def test_early_late_and_spurious_timeouts_are_harmless() -> None:
    book = Playbook(api().wait_for("msgbatch_1", poll_interval=30), now=100.0)
    operation = book.operation
    book.expect_request("GET", BATCH)
    operation.handle_timeout(101.0)  # spurious, because the operation waits for a response
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
    book.expect_request("GET", BATCH)


def test_informational_heads_are_skipped() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.head(100)
    book.head(103, [("link", "</x>")])
    assert book.next() is Need.DATA
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_response_headers_may_be_bytes_in_any_case() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.operation.receive_head(1, 503, [(b"Retry-After", b"7")], book.now)
    book.eof()
    book.next()
    book.expect_wait(7.0)


def test_a_header_without_a_value_is_a_local_protocol_error() -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    no_value: Any = None
    with pytest.raises(LocalProtocolError, match="headers must be pairs"):
        book.head(503, [("retry-after", no_value)])


@pytest.mark.parametrize(
    "data",
    [bytearray(b"{"), memoryview(b"{"), "{", None],
    ids=["bytearray", "memoryview", "str", "None"],
)
def test_body_data_that_is_not_bytes_is_a_local_protocol_error(data: Any) -> None:
    book = Playbook(api().get("msgbatch_1"))
    book.expect_request("GET", BATCH)
    book.head()
    with pytest.raises(LocalProtocolError, match="accepts bytes, not"):
        book.data(data)
    book.data(msgspec.json.encode(batch_json()))
    book.eof()
    assert book.expect_done().id == "msgbatch_1"


def test_an_error_of_the_predicate_is_raised_by_each_call() -> None:
    def until(_: object) -> bool:
        raise ZeroDivisionError

    book = Playbook(api().wait_for("msgbatch_1", until=until))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    book.expect(BatchState)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            book.next()


def test_an_interrupted_operation_never_succeeds() -> None:
    def until(_: object) -> bool:
        raise KeyboardInterrupt

    book = Playbook(api().wait_for("msgbatch_1", until=until))
    book.expect_request("GET", BATCH)
    book.respond(batch_json())
    book.expect(BatchState)
    with pytest.raises(KeyboardInterrupt):
        book.next()
    for _ in range(2):
        with pytest.raises(LocalProtocolError, match="interrupted"):
            book.next()


# --- any inputs --------------------------------------------------------------------------


OPERATIONS: dict[str, Any] = {
    "create": lambda: api().create([{"custom_id": "a", "params": {}}]),
    "get": lambda: api().get("msgbatch_1"),
    "list_all": lambda: api().list_all(),
    "delete": lambda: api().delete("msgbatch_1"),
    "wait_for": lambda: api().wait_for("msgbatch_1", timeout=100, max_outage=50),
    "results": lambda: api().results_stream("msgbatch_1"),
}


# Each of these passes one input. The last two parameters are bound when the input is needed.


def head(status: int, retry_after: str, operation: Operation[Any], exchange: int) -> None:
    operation.receive_head(exchange, status, [("retry-after", retry_after)], 0.0)


def data(piece: bytes, operation: Operation[Any], exchange: int) -> None:
    operation.receive_data(exchange, piece, 0.0)


def eof(operation: Operation[Any], exchange: int) -> None:
    operation.receive_eof(exchange, 0.0)


def lost(sent: bool, operation: Operation[Any], exchange: int) -> None:  # noqa: FBT001 - partial passes it by position
    operation.connection_lost(exchange, "gone", 0.0, sent=sent)


#: Pieces of bodies that at least one of the operations can decode.
PIECES = [
    b'{"data":[],"has_more":true}',
    b'{"id":"x","type":"message_batch_deleted"}',
    msgspec.json.encode(batch_json()),
    msgspec.json.encode(batch_json(status="ended")),
    result_line("a"),
    b'{"error":{"type":"api_error"}}',
]
input_lists = st.lists(
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
    """Drive an operation to its end: pass each input when it needs one, and then only losses."""
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
                pass_input = pending.popleft() if pending else partial(lost, True)  # noqa: FBT003 - partial passes it by position
                # An input out of order is refused, and the operation continues unchanged.
                with suppress(LocalProtocolError):
                    pass_input(operation, exchange)
            case _:
                pass
    pytest.fail("the operation did not end")


@given(name=st.sampled_from(sorted(OPERATIONS)), inputs=input_lists)
def test_any_inputs_lead_to_a_value_or_a_documented_error(
    name: str, inputs: list[Callable[[Operation[Any], int], None]]
) -> None:
    error: BatchesError | None = None
    try:
        run(OPERATIONS[name](), inputs)
    except BatchesError as caught:
        error = caught
    assert error is None or (str(error) and not isinstance(error, LocalProtocolError))
