"""Tests of `operations.wait`: when a wait polls, what it retries, and when it ends."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import (
    APIStatusError,
    AuthenticationError,
    BatchState,
    Done,
    LocalProtocolError,
    MessageBatch,
    Need,
    NotFoundError,
    Operation,
    RemoteProtocolError,
    RetryPolicy,
    RetryScheduled,
    SendRequest,
    TransportError,
    WaitTimeoutError,
    WaitUntil,
)
from tests.support.deadlines import pass_deadline
from tests.support.playbook import Playbook, api, batch_json, error_json

BATCH = "/v1/messages/batches/msgbatch_1"


def start(**options: Any) -> Playbook:
    book = Playbook(api().wait_for("msgbatch_1", **options))
    book.expect_request("GET", BATCH)
    return book


def respond_with_state(book: Playbook, status: str = "in_progress", **changes: Any) -> None:
    """Respond to a poll, and expect that the state is reported."""
    book.respond(batch_json(status=status, **changes))
    assert book.expect(BatchState).batch.processing_status == status


def test_a_wait_polls_until_the_batch_has_ended() -> None:
    book = start()
    respond_with_state(book)
    book.expect_wait(30.0)
    book.expect_request("GET", BATCH)
    respond_with_state(book, "canceling")
    book.expect_wait(30.0)
    book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


def test_a_wait_polls_at_its_interval_until_its_predicate_is_true() -> None:
    def is_canceling(batch: MessageBatch) -> bool:
        return batch.processing_status == "canceling"

    book = start(poll_interval=7, until=is_canceling)
    respond_with_state(book)
    book.expect_wait(7)
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="canceling"))
    assert book.expect(BatchState).batch == book.expect_done()


def test_the_poll_interval_counts_from_the_previous_response() -> None:
    book = start(poll_interval=10)
    book.now += 3
    respond_with_state(book)
    assert book.expect(WaitUntil).deadline == book.now + 10


def test_the_jitter_shortens_the_poll_interval_by_up_to_a_fifth() -> None:
    for jitter, seconds in ((0.0, 24.0), (0.5, 27.0), (1.0, 30.0)):
        book = Playbook(api(jitter=lambda share=jitter: share).wait_for("msgbatch_1"))
        book.expect_request("GET", BATCH)
        respond_with_state(book)
        book.expect_wait(seconds)


def test_a_wait_continues_after_the_expiry_time_of_the_batch() -> None:
    book = start(poll_interval=3600)
    for _ in range(3 * 24):
        respond_with_state(book, expires_at="2026-05-02T20:29:05Z")
        book.expect_wait(3600)
        book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


# --- when it ends ------------------------------------------------------------------------


def test_an_unknown_status_ends_a_wait_only_with_ended_at_or_results_url() -> None:
    for field in ("ended_at", "results_url"):
        book = start()
        respond_with_state(book, "paused_for_tea")
        book.expect_wait(30.0)
        book.expect_request("GET", BATCH)
        respond_with_state(book, "paused_for_tea", **{field: batch_json(status="ended")[field]})
        assert book.expect_done().processing_status == "paused_for_tea"


def test_the_canceling_status_does_not_end_a_wait_despite_an_ended_at() -> None:
    book = start()
    respond_with_state(book, "canceling", ended_at="2026-05-01T20:35:00Z")
    book.expect_wait(30.0)


def test_the_ended_status_ends_a_wait_without_ended_at_and_results_url() -> None:
    book = start()
    respond_with_state(book, "ended", ended_at=None, results_url=None)
    assert book.expect_done().ended


def test_the_predicate_can_end_a_wait_at_an_unknown_status() -> None:
    book = start(until=lambda batch: batch.processing_status == "paused_for_tea")
    respond_with_state(book, "paused_for_tea")
    assert book.expect_done().processing_status == "paused_for_tea"


def test_the_predicate_can_end_a_wait_before_the_batch_has_ended() -> None:
    book = start(until=lambda batch: batch.processing_status == "canceling")
    respond_with_state(book)
    book.expect_wait(30.0)
    book.expect_request("GET", BATCH)
    respond_with_state(book, "canceling")
    assert book.expect_done().processing_status == "canceling"


# --- polls before the deadline -----------------------------------------------------------


def test_the_last_poll_leaves_time_for_its_response_before_the_deadline() -> None:
    book = start(poll_interval=30, timeout=70)
    for seconds in (30.0, 30.0, 5.0):
        respond_with_state(book)
        book.expect_wait(seconds)
        book.expect_request("GET", BATCH)
    respond_with_state(book)
    message = "still 'in_progress' at the last successful poll within 70 s"
    with pytest.raises(WaitTimeoutError, match=message) as caught:
        book.next()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.batch is not None
    assert caught.value.batch.id == "msgbatch_1"


def test_a_wait_can_succeed_at_its_last_poll() -> None:
    book = start(poll_interval=30, timeout=10)
    respond_with_state(book)
    book.expect_wait(7.5)
    book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


@pytest.mark.parametrize(
    ("timeout", "poll_interval", "seconds"),
    [(100, 50, 5), (12, 50, 3), (100, 2, 2), (0.5, 0.25, 0.125)],
)
def test_the_last_poll_precedes_the_deadline_by_the_least_of_three_times(
    timeout: float, poll_interval: float, seconds: float
) -> None:
    book = start(poll_interval=poll_interval, timeout=timeout)
    began, last_poll_at = book.now, 0.0
    with pytest.raises(WaitTimeoutError):  # noqa: PT012 - it polls until then
        while True:
            last_poll_at = book.now
            respond_with_state(book)
            book.expect_wait(min(poll_interval, began + timeout - seconds - book.now))
            book.expect_request("GET", BATCH)
    assert last_poll_at == book.now == began + timeout - seconds


def test_a_poll_that_returns_after_the_deadline_is_the_last() -> None:
    book = start(poll_interval=30, timeout=20)
    book.now += 500
    respond_with_state(book)
    with pytest.raises(WaitTimeoutError):
        book.next()


def test_a_timeout_of_zero_allows_one_poll() -> None:
    book = start(timeout=0)
    respond_with_state(book)
    with pytest.raises(WaitTimeoutError):
        book.next()


def test_the_one_poll_of_a_timeout_of_zero_can_succeed() -> None:
    book = start(timeout=0)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


def test_the_deadline_ends_a_wait_in_an_outage_and_names_its_cause() -> None:
    book = start(timeout=1.25, poll_interval=60)
    for seconds in (0.5, 0.4375):  # the second would be 1 s, but the last poll is due earlier
        book.lose("no route", sent=False)
        book.expect(RetryScheduled)
        book.expect_wait(seconds)
        book.expect_request("GET", BATCH)
    book.lose("no route", sent=False)
    message = r"not be read within 1\.25 s; the last poll failed: no route"
    with pytest.raises(WaitTimeoutError, match=message) as caught:
        book.next()
    assert caught.value.batch is None
    assert isinstance(caught.value.__cause__, TransportError)


def test_time_reported_between_a_failure_and_its_pause_does_not_move_the_deadline() -> None:
    book = start(timeout=90)
    book.respond(error_json("api_error"), status=503)
    book.expect(RetryScheduled)
    book.operation.handle_timeout(1090.0)
    event = book.next()
    assert not isinstance(event, WaitUntil) or event.deadline <= 1090.0


# --- polls under way at the deadline -----------------------------------------------------


def test_a_wait_without_a_timeout_has_no_deadline() -> None:
    assert start().operation.deadline is None


def test_a_poll_under_way_at_the_deadline_is_abandoned() -> None:
    book = start(timeout=3)
    began = book.now
    assert book.operation.deadline == began + 3
    pass_deadline(book)
    problem = "no response arrived before the deadline"
    message = f"not be read within 3 s; the last poll failed: {problem}"
    with pytest.raises(WaitTimeoutError, match=message) as caught:
        book.next()
    assert isinstance(caught.value.__cause__, TransportError)
    # The driver has not said otherwise, so the request may have been sent.
    assert caught.value.__cause__.sent
    assert caught.value.batch is None
    assert book.operation.deadline is None


def test_a_later_poll_is_abandoned_at_the_same_deadline() -> None:
    book = start(timeout=100, poll_interval=60)
    began = book.now
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect_wait(60)
    book.expect_request("GET", BATCH)
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
def test_an_error_body_that_drips_is_limited_by_10_s_and_the_timeout(
    timeout: float, seconds: float
) -> None:
    book = start(timeout=timeout)
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


def test_a_refusal_whose_body_drips_past_the_deadline_is_still_raised() -> None:
    book = start(timeout=3)
    book.head(401)
    book.data(b'{"error":{"type":"authentication_error"}}')
    assert book.next() is Need.DATA
    pass_deadline(book)
    with pytest.raises(APIStatusError, match="401 authentication_error"):
        book.next()


def test_the_one_poll_of_a_timeout_of_zero_may_take_5_s() -> None:
    book = start(timeout=0)
    assert book.operation.deadline == book.now + 5
    pass_deadline(book)
    with pytest.raises(WaitTimeoutError, match=r"within 0 s.*no response arrived"):
        book.next()


def test_a_wait_that_wakes_too_late_polls_once_more_for_5_s() -> None:
    book = start(timeout=60)
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect(WaitUntil)
    book.now += 50_000  # the machine was suspended
    book.operation.handle_timeout(book.now)
    book.expect_request("GET", BATCH)
    assert book.operation.deadline == book.now + 5
    book.respond(batch_json(status="ended"))
    book.expect(BatchState)
    assert book.expect_done().ended


@pytest.mark.parametrize(("timeout", "time_left"), [(0, 5), (3, 3), (60, 60)])
def test_the_deadline_of_a_wait_counts_from_the_first_input(
    timeout: float, time_left: float
) -> None:
    operation = api().wait_for("msgbatch_1", timeout=timeout)
    assert isinstance(operation.next_event(), SendRequest)
    assert (operation.next_event(), operation.deadline) == (Need.DATA, None)
    operation.receive_head(1, 200, [], 70.0)
    assert operation.deadline == 70.0 + time_left
    assert operation.next_event() is Need.DATA
    operation.handle_timeout(70.0 + time_left)
    with pytest.raises(WaitTimeoutError):
        operation.next_event()


def test_a_wait_without_a_timeout_continues_at_an_infinite_time() -> None:
    book = start()
    book.now = float("inf")
    book.respond(batch_json())
    book.expect(BatchState)
    book.expect_request("GET", BATCH)
    book.respond(batch_json(status="ended"))
    book.expect(BatchState)
    assert book.expect_done().ended


class SlowPeer:
    """A peer whose inputs each take some seconds, and a driver that keeps the deadline.

    `steps` are the inputs and their seconds. `reports_start` says whether the driver reports the
    time before the first of them.
    """

    def __init__(
        self, operation: Operation[Any], steps: list[tuple[str, float]], *, reports_start: bool
    ) -> None:
        self.operation = operation
        self.steps = iter(steps)
        self.now = 1000.0
        self.exchange = 0
        if reports_start:
            operation.handle_timeout(self.now)

    def step(self) -> None:
        """Pass the next input, or the deadline if that is earlier."""
        input_, seconds = next(self.steps, ("nothing", 1e9))
        deadline = self.operation.deadline
        if deadline is None:
            # No time was reported yet, so the wait begins with this input.
            self.pass_input("head")
        elif self.now + seconds >= deadline:
            self.now = deadline
            self.operation.handle_timeout(self.now)
        else:
            self.now += seconds
            self.pass_input(input_)

    def pass_input(self, input_: str) -> None:
        """Pass an input; lose the connection instead if the input is out of order."""
        operation, exchange, now = self.operation, self.exchange, self.now
        try:
            match input_:
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


@given(
    timeout=st.sampled_from([0.0, 0.5, 3.0, 20.0, 300.0]),
    poll_interval=st.sampled_from([0.25, 5.0, 60.0]),
    reports_start=st.booleans(),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["head", "error", "data", "eof", "nothing"]),
            st.floats(0, 30),
        ),
        max_size=40,
    ),
)
def test_a_driver_that_keeps_the_deadline_ends_every_wait_by_it(
    timeout: float, poll_interval: float, steps: list[tuple[str, float]], *, reports_start: bool
) -> None:
    operation = api().wait_for("msgbatch_1", timeout=timeout, poll_interval=poll_interval)
    peer = SlowPeer(operation, steps, reports_start=reports_start)
    with suppress(WaitTimeoutError, TransportError, APIStatusError):
        while True:
            match operation.next_event():
                case Done():
                    break
                case SendRequest(exchange=exchange):
                    peer.exchange = exchange
                    assert exchange < 2000
                case WaitUntil(deadline=end_of_pause):
                    assert operation.deadline is None
                    peer.now = end_of_pause
                    operation.handle_timeout(end_of_pause)
                case Need.DATA:
                    peer.step()
    assert peer.now <= 1000.0 + (timeout or 5.0) + 1e-6


# --- outages -----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "html", 429, 500, 502, 503, 529])
def test_an_outage_of_minutes_does_not_end_a_wait(failure: str | int) -> None:
    book = start()
    respond_with_state(book)
    book.expect_wait(30.0)
    began = book.now
    delays = []
    while book.now < began + 500:
        book.expect_request("GET", BATCH)
        if failure == "lost":
            book.lose()
        elif failure == "html":
            book.respond(b"<html>")
        else:
            assert isinstance(failure, int)
            book.respond(b"<html>", failure)
        delays.append(book.expect(RetryScheduled).delay)
        book.expect_wait(delays[-1])
    assert delays[:8] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


def test_an_outage_ends_a_wait_with_a_last_poll_after_max_outage() -> None:
    book = start(max_outage=10)
    began = book.now
    for delay in (0.5, 1, 2, 4, 2.5):
        book.lose("down")
        assert book.expect(RetryScheduled).delay == delay
        book.expect_wait(delay)
        book.expect_request("GET", BATCH)
    assert book.now == began + 10
    book.lose("down")
    with pytest.raises(TransportError, match="down"):
        book.next()


def test_max_outage_limits_each_outage_by_itself() -> None:
    book = start(max_outage=3, poll_interval=10)
    for _ in range(5):
        for delay in (0.5, 1.0):
            book.lose()
            book.expect(RetryScheduled)
            book.expect_wait(delay)
            book.expect_request("GET", BATCH)
        respond_with_state(book)
        book.expect_wait(10.0)
        book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    book.expect_done()


def test_a_poll_that_outlasts_max_outage_is_the_last() -> None:
    book = start(max_outage=10)
    book.lose()
    book.expect_wait(book.expect(RetryScheduled).delay)
    book.expect_request("GET", BATCH)
    book.now += 60
    book.lose()
    with pytest.raises(TransportError):
        book.next()


def test_a_max_outage_of_zero_allows_no_failed_poll() -> None:
    book = start(max_outage=0)
    book.lose("down")
    with pytest.raises(TransportError):
        book.next()


def test_an_outage_that_ends_a_wait_counts_its_polls() -> None:
    book = start(max_outage=3)
    for delay in (0.5, 1.0, 1.5):
        book.lose("down")
        book.expect(RetryScheduled)
        book.expect_wait(delay)
        book.expect_request("GET", BATCH)
    book.lose("down")
    with pytest.raises(TransportError, match=r"down.*\(after 4 attempts\)"):
        book.next()


def test_a_batch_that_cannot_be_decoded_counts_as_an_outage() -> None:
    book = start(max_outage=0.5)
    book.respond(b'{"id":"msgbatch_1"}')
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("GET", BATCH)
    book.respond(b'{"id":"msgbatch_1"}')
    with pytest.raises(RemoteProtocolError, match="not a batch"):
        book.next()


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refused_poll_ends_a_wait_at_once(status: int) -> None:
    book = start()
    book.respond(error_json("authentication_error"), status)
    with pytest.raises(AuthenticationError):
        book.next()


# --- delays in an outage -----------------------------------------------------------------


def test_a_failed_poll_is_retried_after_the_retry_after_of_the_service() -> None:
    book = start(poll_interval=5)
    book.respond(error_json("rate_limit_error"), 429, [("retry-after", "77")])
    assert book.expect(RetryScheduled).delay == 77.0
    book.expect_wait(77.0)


def test_a_retry_after_of_zero_leaves_the_delay_of_a_poll_to_the_policy() -> None:
    book = start()
    delays = []
    for _ in range(5):
        book.respond(error_json("rate_limit_error"), 429, [("retry-after", "0")])
        delays.append(book.expect(RetryScheduled).delay)
        book.expect_wait(delays[-1])
        book.expect_request("GET", BATCH)
    assert delays == [0.5, 1, 2, 4, 8]


@pytest.mark.parametrize("settings", [{}, {"jitter": float}], ids=["no jitter", "least jitter"])
def test_a_wait_never_becomes_a_busy_loop(settings: dict[str, Any]) -> None:
    no_delay = RetryPolicy(initial_delay=0)
    operation = api(retry=no_delay, **settings).wait_for("msgbatch_1", max_outage=600)
    book = Playbook(operation)
    began, polls = book.now, 0
    while book.now < began + 600:
        book.expect_request("GET", BATCH)
        book.respond(b"", 503, [("retry-after", "0")])
        book.expect_wait(book.expect(RetryScheduled).delay)
        polls += 1
    assert polls < 60


def test_frequent_polls_stay_frequent_in_an_outage() -> None:
    # `float` is a jitter that returns 0.
    book = Playbook(api(jitter=float).wait_for("msgbatch_1", poll_interval=0.125))
    for _ in range(3):
        book.expect_request("GET", BATCH)
        book.lose()
        assert book.expect(RetryScheduled).delay == 0.125
        book.expect_wait(0.125)


# --- 404s --------------------------------------------------------------------------------


def test_a_404_is_retried_in_the_first_minute_and_between_successful_polls() -> None:
    book = start(poll_interval=50)
    for _ in range(5):
        book.respond(error_json("not_found_error"), 404, [("x-should-retry", "false")])
        book.expect_wait(book.expect(RetryScheduled).delay)
        book.expect_request("GET", BATCH)
        respond_with_state(book)
        book.expect_wait(50.0)
        book.expect_request("GET", BATCH)
    respond_with_state(book, "ended")
    assert book.expect_done().ended


@pytest.mark.parametrize(("seconds", "is_retried"), [(59.5, True), (60.0, False)])
def test_a_404_is_retried_for_60_s_after_the_start_of_a_wait(
    seconds: float, *, is_retried: bool
) -> None:
    book = start()
    book.now += seconds
    book.respond(error_json("not_found_error"), 404)
    if is_retried:
        book.expect(RetryScheduled)
    else:
        with pytest.raises(NotFoundError):
            book.next()


def test_a_404_that_lasts_for_60_s_ends_a_wait() -> None:
    book = start(poll_interval=3600)
    respond_with_state(book)
    book.expect_wait(3600)
    began = book.now
    with pytest.raises(NotFoundError, match=r"\(after \d+ attempts\)"):  # noqa: PT012 - it is polled until then
        while True:
            book.expect_request("GET", BATCH)
            book.respond(error_json("not_found_error"), 404)
            book.expect_wait(book.expect(RetryScheduled).delay)
    assert 60 <= book.now - began < 100


def test_an_unknown_id_ends_a_wait_within_90_s() -> None:
    book = start()
    began = book.now
    error: APIStatusError | None = None
    while error is None:
        book.respond(error_json("not_found_error"), 404)
        try:
            event = book.expect(RetryScheduled)
        except NotFoundError as caught:
            error = caught
        else:
            book.expect_wait(event.delay)
            book.expect_request("GET", BATCH)
    assert 60 <= book.now - began <= 90
