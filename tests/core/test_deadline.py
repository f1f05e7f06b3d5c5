"""Until when an operation wants its exchange, and what becomes of one that outlasts that."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    APIStatusError,
    BatchState,
    Done,
    LocalProtocolError,
    Need,
    OutcomeUnknownError,
    RateLimitError,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    TransportError,
    WaitTimeoutError,
    WaitUntil,
)
from tests.support.playbook import REQUEST, Playbook, api, batch_json, result_line

ONE = "/v1/messages/batches/msgbatch_1"
ONCE = {"retry": RetryPolicy(attempts=1)}


def pass_deadline(book: Playbook) -> None:
    """Do what a driver does whose exchange outlasts its deadline."""
    assert book.operation.deadline is not None
    book.now = book.operation.deadline
    book.operation.handle_timeout(book.now)


def get(**settings: Any) -> Playbook:
    book = Playbook(api(**settings).get("msgbatch_1"))
    book.expect_request("GET", ONE)
    return book


def wait(**options: Any) -> Playbook:
    book = Playbook(api().wait_for("msgbatch_1", **options))
    book.expect_request("GET", ONE)
    return book


# --- answers -----------------------------------------------------------------------------


def test_there_is_no_deadline_before_an_exchange_nor_for_its_head() -> None:
    book = Playbook(api().get("msgbatch_1"))
    assert book.operation.deadline is None
    book.expect_request("GET", ONE)
    assert book.operation.deadline is None


def test_an_answer_has_ten_minutes_from_its_head() -> None:
    book = get(**ONCE)
    book.now += 100
    book.head()
    assert book.next() is Need.DATA
    assert book.operation.deadline == book.now + 600
    book.data(b" ")
    pass_deadline(book)
    with pytest.raises(TransportError, match="did not end within 600 s") as caught:
        book.next()
    assert caught.value.sent
    assert book.operation.deadline is None


def test_just_before_its_deadline_an_answer_is_still_waited_for() -> None:
    book = get(**ONCE)
    book.head()
    assert book.next() is Need.DATA
    book.operation.handle_timeout(book.now + 599.999)
    assert book.next() is Need.DATA
    book.data(b'{"id":"x"}')


def test_the_deadline_of_an_exchange_is_not_that_of_the_next() -> None:
    book = get()
    book.head()
    assert book.next() is Need.DATA
    pass_deadline(book)
    book.expect(RetryScheduled)
    assert book.operation.deadline is None
    book.expect_wait(0.5)
    assert isinstance(send := book.next(), SendRequest)
    assert (send.exchange, book.operation.deadline) == (2, None)


def test_what_came_in_time_is_used_though_it_is_asked_for_late() -> None:
    book = get(**ONCE)
    book.respond(batch_json())
    book.operation.handle_timeout(book.now + 10_000)
    assert book.expect_done().id == "msgbatch_1"


def test_a_driver_that_ignores_the_deadline_is_told_with_its_next_input() -> None:
    book = get(**ONCE)
    book.head()
    assert book.next() is Need.DATA
    book.now += 5000
    book.data(b" ")
    with pytest.raises(TransportError, match="did not end"):
        book.next()
    book.data(b"late")
    book.eof()


def test_results_may_take_any_time() -> None:
    book = Playbook(api(**ONCE).results_stream("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", f"{ONE}/results")
    book.head()
    for line in (result_line("a"), result_line("b")):
        assert book.operation.deadline is None
        book.now += 100_000
        book.data(line)
        book.next()
    book.eof()
    book.expect_done()


# --- the bodies of errors ----------------------------------------------------------------


def test_the_body_of_an_error_has_ten_seconds_and_the_error_what_came_of_it() -> None:
    book = get(**ONCE)
    book.head(503, [("retry-after", "7")])
    assert book.next() is Need.DATA
    assert book.operation.deadline == book.now + 10
    book.data(b"<html>down")
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="<html>down") as caught:
        book.next()
    assert (caught.value.status, caught.value.body) == (503, b"<html>down")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("honours", [True, False])
def test_an_error_that_drips_for_ever_is_told_after_ten_seconds(*, honours: bool) -> None:
    book = get(**ONCE)
    began = book.now
    book.head(503)
    with pytest.raises(APIStatusError):  # noqa: PT012 - it drips until then
        while True:
            assert book.next() is Need.DATA
            book.now += 0.75
            deadline = book.operation.deadline
            if honours and deadline is not None and book.now >= deadline:
                book.now = deadline
                book.operation.handle_timeout(book.now)
            else:
                book.data(b".")
    assert 10 <= book.now - began <= (10 if honours else 10.75)


def test_an_error_after_a_results_head_is_bounded_too() -> None:
    book = Playbook(api(**ONCE).results_stream("msgbatch_1"))
    book.expect_request("GET", ONE)
    book.respond(batch_json(status="ended"))
    book.expect_request("GET", f"{ONE}/results")
    book.head(500)
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="500"):
        book.next()


# --- creates are not forgotten -----------------------------------------------------------


def create() -> Playbook:
    book = Playbook(api().create([REQUEST]))
    book.expect_marker()
    book.expect_request("POST", "/v1/messages/batches")
    return book


def test_a_create_has_no_deadline_before_its_answer_begins() -> None:
    assert create().operation.deadline is None


@pytest.mark.parametrize("status", [200, 500, 503, 504, 408])
def test_a_create_whose_answer_drips_past_its_deadline_is_unknown(status: int) -> None:
    book = create()
    book.head(status)
    assert book.next() is Need.DATA
    book.data(b"{")
    pass_deadline(book)
    with pytest.raises(OutcomeUnknownError) as caught:
        book.next()
    assert caught.value.marker is not None


def test_a_create_that_was_not_taken_is_that_also_where_the_refusal_drips() -> None:
    book = create()
    book.head(429)
    assert book.next() is Need.DATA
    pass_deadline(book)
    assert isinstance(book.expect(RetryScheduled).error, RateLimitError)


# --- waits -------------------------------------------------------------------------------


def test_a_poll_under_way_at_the_deadline_of_a_wait_is_given_up() -> None:
    book = wait(timeout=3)
    began = book.now
    assert book.operation.deadline == began + 3
    pass_deadline(book)
    told = r"not be read within 3 s; the last poll failed: no response arrived before the deadline"
    with pytest.raises(WaitTimeoutError, match=told) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)
    assert caught.value.__cause__.sent  # for all that anybody knows
    assert caught.value.batch is None
    assert book.operation.deadline is None


def test_a_later_poll_is_given_up_at_the_same_deadline() -> None:
    book = wait(timeout=100, poll_interval=60)
    began = book.now
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect_wait(60)
    book.expect_request("GET", ONE)
    assert book.operation.deadline == began + 100
    book.head()
    assert book.next() is Need.DATA
    book.data(b"{")
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(WaitTimeoutError, match=r"'in_progress'.*no response arrived") as caught:
        book.next()
    assert caught.value.batch is not None


@pytest.mark.parametrize(("timeout", "seconds"), [(3, 3), (10, 10), (20, 10), (500, 10)])
def test_a_dripping_error_holds_no_wait_longer_than_either_bound(
    timeout: float, seconds: float
) -> None:
    book = wait(timeout=timeout)
    book.head(503)
    assert book.next() is Need.DATA
    assert book.operation.deadline == book.now + seconds
    book.data(b".")
    assert book.next() is Need.DATA
    pass_deadline(book)
    if timeout <= 10:
        with pytest.raises(
            WaitTimeoutError, match=f"within {timeout} s; the last poll failed: 503"
        ):
            book.next()
    else:
        assert isinstance(book.expect(RetryScheduled).error, APIStatusError)


def test_a_refusal_that_drips_past_the_deadline_is_still_that_refusal() -> None:
    book = wait(timeout=3)
    book.head(401)
    book.data(b'{"error":{"type":"authentication_error"}}')
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="401 authentication_error"):
        book.next()


def test_a_wait_without_a_timeout_has_no_deadline() -> None:
    assert wait().operation.deadline is None


def test_a_timeout_of_zero_gives_its_one_poll_five_seconds() -> None:
    book = wait(timeout=0)
    assert book.operation.deadline == book.now + 5
    pass_deadline(book)
    with pytest.raises(WaitTimeoutError, match=r"within 0 s.*no response arrived"):
        book.next()


def test_a_wait_that_is_woken_too_late_looks_once_more_and_briefly() -> None:
    book = wait(timeout=60)
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect(WaitUntil)
    book.now += 50_000  # the machine slept
    book.operation.handle_timeout(book.now)
    book.expect_request("GET", ONE)
    assert book.operation.deadline == book.now + 5
    book.respond(batch_json(status="ended"))
    book.expect(BatchState)
    assert book.expect_done().ended


@pytest.mark.parametrize(("timeout", "left"), [(0, 5), (3, 3), (60, 60)])
def test_where_the_time_is_not_told_first_a_deadline_counts_from_the_first_input(
    timeout: float, left: float
) -> None:
    operation = api().wait_for("msgbatch_1", timeout=timeout)
    assert isinstance(operation.next_event(), SendRequest)
    assert (operation.next_event(), operation.deadline) == (Need.DATA, None)
    operation.receive_head(1, 200, [], 70.0)
    assert operation.deadline == 70.0 + left
    assert operation.next_event() is Need.DATA
    operation.handle_timeout(70.0 + left)
    with pytest.raises(WaitTimeoutError):
        operation.next_event()


def test_while_it_sleeps_an_operation_has_no_deadline() -> None:
    book = wait(timeout=500)
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect(WaitUntil)
    assert book.operation.deadline is None


def test_a_deadline_is_only_read() -> None:
    operation: Any = api().get("msgbatch_1")
    with pytest.raises(AttributeError):
        operation.deadline = 5.0


# --- any peer, any driver ----------------------------------------------------------------


@given(
    timeout=st.sampled_from([0.0, 0.5, 3.0, 20.0, 300.0]),
    poll_interval=st.sampled_from([0.25, 5.0, 60.0]),
    told=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["head", "error", "data", "eof", "nothing"]),
            st.floats(0, 30),
        ),
        max_size=40,
    ),
)
def test_a_driver_that_keeps_the_deadline_ends_every_wait_at_it(
    timeout: float, poll_interval: float, steps: list[tuple[str, float]], *, told: bool
) -> None:
    operation = api().wait_for("msgbatch_1", timeout=timeout, poll_interval=poll_interval)
    peer = Peer(operation, steps, told=told)
    with suppress(WaitTimeoutError, TransportError, APIStatusError):
        while True:
            match operation.next_event():
                case Done():
                    break
                case SendRequest(exchange=exchange):
                    peer.exchange = exchange
                    assert exchange < 2000
                case WaitUntil(deadline=until):
                    assert operation.deadline is None
                    peer.now = until
                    operation.handle_timeout(until)
                case Need.DATA:
                    peer.go_on()
    assert peer.now <= 1000.0 + (timeout or 5.0) + 1e-6


class Peer:
    """Does a step at a time, in so many seconds, but never beyond the deadline."""

    def __init__(self, operation: Any, steps: list[tuple[str, float]], *, told: bool) -> None:
        self.operation = operation
        self.steps = iter(steps)
        self.now = 1000.0
        self.exchange = 0
        if told:
            operation.handle_timeout(self.now)

    def go_on(self) -> None:
        kind, seconds = next(self.steps, ("nothing", 1e9))
        deadline = self.operation.deadline
        if deadline is None:
            # Nobody has told the time yet, so this input is the moment at which the wait begins.
            self.play("head")
        elif self.now + seconds >= deadline:
            self.now = deadline
            self.operation.handle_timeout(self.now)
        else:
            self.now += seconds
            self.play(kind)

    def play(self, kind: str) -> None:
        operation, exchange, now = self.operation, self.exchange, self.now
        try:
            match kind:
                case "head":
                    operation.receive_head(exchange, 200, [], now)
                case "error":
                    operation.receive_head(exchange, 503, [], now)
                case "data":
                    operation.receive_data(exchange, b" ", now)
                case "eof":
                    operation.receive_eof(exchange, now)
                case _:
                    operation.handle_timeout(now)
        except LocalProtocolError:
            operation.connection_lost(exchange, "out of order", now, sent=True)


def test_at_the_end_of_time_an_exchange_without_a_deadline_is_still_waited_for() -> None:
    book = get(**ONCE)
    book.now = float("inf")
    book.operation.handle_timeout(book.now)
    assert book.operation.deadline is None
    assert book.next() is Need.DATA
    book.respond(batch_json())
    assert book.expect_done().id == "msgbatch_1"


def test_at_the_end_of_time_a_wait_without_a_timeout_goes_on() -> None:
    book = wait()
    book.now = float("inf")
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect_request("GET", ONE)
    book.respond(batch_json(status="ended"))
    book.expect(BatchState)
    assert book.expect_done().ended
