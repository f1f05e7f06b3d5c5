from __future__ import annotations

from typing import Any

import pytest

from batches_core import (
    APIStatusError,
    AuthenticationError,
    BatchState,
    InvalidInputError,
    NotFoundError,
    RemoteProtocolError,
    RetryPolicy,
    RetryScheduled,
    TransportError,
    WaitTimeoutError,
    WaitUntil,
)
from tests.support.playbook import Playbook, api, batch_json, error_json

PATH = "/v1/messages/batches/msgbatch_1"


def start(**options: Any) -> Playbook:
    book = Playbook(api().wait_for("msgbatch_1", **options))
    book.expect_request("GET", PATH)
    return book


def poll(book: Playbook, status: str = "in_progress", **changes: Any) -> None:
    book.respond(batch_json(status=status, **changes))
    assert book.expect(BatchState).batch.processing_status == status


def test_it_polls_until_the_batch_has_ended() -> None:
    book = start()
    poll(book)
    book.expect_wait(30.0)
    book.expect_request("GET", PATH)
    poll(book, "canceling")
    book.expect_wait(30.0)
    book.expect_request("GET", PATH)
    poll(book, "ended")
    assert book.expect_done().ended


def test_one_poll_is_always_made_and_can_be_enough() -> None:
    book = start(timeout=0)
    poll(book, "ended")
    assert book.expect_done().ended


def test_an_unknown_status_does_not_end_a_wait_until_the_batch_has_ended() -> None:
    for sign in ("ended_at", "results_url"):
        book = start()
        poll(book, "paused_for_tea")
        book.expect_wait(30.0)
        book.expect_request("GET", PATH)
        poll(book, "paused_for_tea", **{sign: batch_json(status="ended")[sign]})
        assert book.expect_done().processing_status == "paused_for_tea"


def test_a_known_status_that_is_no_end_does_not_end_a_wait_whatever_else_is_told() -> None:
    book = start()
    poll(book, "canceling", ended_at="2026-05-01T20:35:00Z")
    book.expect_wait(30.0)


def test_an_ended_batch_ends_a_wait_without_a_time_and_a_place_of_its_results() -> None:
    book = start()
    poll(book, "ended", ended_at=None, results_url=None)
    assert book.expect_done().ended


def test_the_caller_can_end_a_wait_at_an_unknown_status() -> None:
    book = start(until=lambda batch: batch.processing_status == "paused_for_tea")
    poll(book, "paused_for_tea")
    assert book.expect_done().processing_status == "paused_for_tea"


def test_the_caller_can_say_when_it_is_over() -> None:
    book = start(until=lambda batch: batch.processing_status == "canceling")
    poll(book)
    book.expect_wait(30.0)
    book.expect_request("GET", PATH)
    poll(book, "canceling")
    assert book.expect_done().processing_status == "canceling"


def test_a_poll_takes_its_time_and_the_interval_counts_from_its_answer() -> None:
    book = start(poll_interval=10)
    book.now += 3
    poll(book)
    assert book.expect(WaitUntil).deadline == book.now + 10


def test_many_waits_do_not_poll_in_step() -> None:
    for jitter, seconds in ((0.0, 24.0), (0.5, 27.0), (1.0, 30.0)):
        book = Playbook(api(jitter=lambda share=jitter: share).wait_for("msgbatch_1"))
        book.expect_request("GET", PATH)
        poll(book)
        book.expect_wait(seconds)


def test_it_goes_on_behind_the_time_at_which_the_batch_expires() -> None:
    book = start(poll_interval=3600)
    for _ in range(3 * 24):
        poll(book, expires_at="2026-05-02T20:29:05Z")
        book.expect_wait(3600)
        book.expect_request("GET", PATH)
    poll(book, "ended")
    assert book.expect_done().ended


# --- the deadline ------------------------------------------------------------------------


def test_the_last_poll_comes_so_early_that_it_can_be_answered_by_the_deadline() -> None:
    book = start(poll_interval=30, timeout=70)
    for wait in (30.0, 30.0, 5.0):
        poll(book)
        book.expect_wait(wait)
        book.expect_request("GET", PATH)
    poll(book)
    told = "still 'in_progress' at the last successful poll within 70 s"
    with pytest.raises(WaitTimeoutError, match=told) as caught:
        book.next()
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.batch is not None
    assert caught.value.batch.id == "msgbatch_1"


def test_the_last_poll_can_still_find_it_ended() -> None:
    book = start(poll_interval=30, timeout=10)
    poll(book)
    book.expect_wait(7.5)
    book.expect_request("GET", PATH)
    poll(book, "ended")
    assert book.expect_done().ended


@pytest.mark.parametrize(
    ("timeout", "poll_interval", "seconds"),
    [(100, 50, 5), (12, 50, 3), (100, 2, 2), (0.5, 0.25, 0.125)],
)
def test_the_last_poll_has_the_least_of_three_times(
    timeout: float, poll_interval: float, seconds: float
) -> None:
    book = start(poll_interval=poll_interval, timeout=timeout)
    began, sent = book.now, 0.0
    with pytest.raises(WaitTimeoutError):  # noqa: PT012 - it polls until then
        while True:
            sent = book.now
            poll(book)
            book.expect_wait(min(poll_interval, began + timeout - seconds - book.now))
            book.expect_request("GET", PATH)
    assert sent == book.now == began + timeout - seconds


def test_a_poll_that_comes_back_after_the_deadline_is_the_last() -> None:
    book = start(poll_interval=30, timeout=20)
    book.now += 500
    poll(book)
    with pytest.raises(WaitTimeoutError):
        book.next()


def test_a_timeout_of_zero_is_one_poll() -> None:
    book = start(timeout=0)
    poll(book)
    with pytest.raises(WaitTimeoutError):
        book.next()


def test_the_deadline_comes_also_in_an_outage_and_names_its_cause() -> None:
    book = start(timeout=1.25, poll_interval=60)
    for wait in (0.5, 0.4375):  # the second would be 1 s, but the last poll comes before
        book.lose("no route", sent=False)
        book.expect(RetryScheduled)
        book.expect_wait(wait)
        book.expect_request("GET", PATH)
    book.lose("no route", sent=False)
    told = r"not be read within 1\.25 s; the last poll failed: no route"
    with pytest.raises(WaitTimeoutError, match=told) as caught:
        book.next()
    assert caught.value.batch is None
    assert isinstance(caught.value.__cause__, TransportError)


# --- outages -----------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "html", 429, 500, 502, 503, 529])
def test_an_outage_of_minutes_does_not_end_a_wait(failure: str | int) -> None:
    book = start()
    poll(book)
    book.expect_wait(30.0)
    began = book.now
    delays = []
    while book.now < began + 500:
        book.expect_request("GET", PATH)
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
    book.expect_request("GET", PATH)
    poll(book, "ended")
    assert book.expect_done().ended


def test_an_outage_is_over_after_max_outage_with_a_last_poll_just_then() -> None:
    book = start(max_outage=10)
    began = book.now
    for delay in (0.5, 1, 2, 4, 2.5):
        book.lose("down")
        assert book.expect(RetryScheduled).delay == delay
        book.expect_wait(delay)
        book.expect_request("GET", PATH)
    assert book.now == began + 10
    book.lose("down")
    with pytest.raises(TransportError, match="down"):
        book.next()


def test_outages_are_counted_one_by_one() -> None:
    book = start(max_outage=3, poll_interval=10)
    for _ in range(5):
        for delay in (0.5, 1.0):
            book.lose()
            book.expect(RetryScheduled)
            book.expect_wait(delay)
            book.expect_request("GET", PATH)
        poll(book)
        book.expect_wait(10.0)
        book.expect_request("GET", PATH)
    poll(book, "ended")
    book.expect_done()


def test_a_poll_that_outlasts_max_outage_is_the_last() -> None:
    book = start(max_outage=10)
    book.lose()
    book.expect_wait(book.expect(RetryScheduled).delay)
    book.expect_request("GET", PATH)
    book.now += 60
    book.lose()
    with pytest.raises(TransportError):
        book.next()


def test_no_outage_is_borne_where_none_is_wanted() -> None:
    book = start(max_outage=0)
    book.lose("down")
    with pytest.raises(TransportError):
        book.next()


def test_a_wait_that_the_service_asks_for_is_kept() -> None:
    book = start(poll_interval=5)
    book.respond(error_json("rate_limit_error"), 429, [("retry-after", "77")])
    assert book.expect(RetryScheduled).delay == 77.0
    book.expect_wait(77.0)


@pytest.mark.parametrize("settings", [{}, {"jitter": float}])
def test_neither_an_answer_nor_a_policy_can_make_a_wait_a_hot_loop(
    settings: dict[str, Any],
) -> None:
    at_once = RetryPolicy(initial_delay=0)
    operation = api(retry=at_once, **settings).wait_for("msgbatch_1", max_outage=600)
    book = Playbook(operation)
    began, polls = book.now, 0
    while book.now < began + 600:
        book.expect_request("GET", PATH)
        book.respond(b"", 503, [("retry-after", "0")])
        book.expect_wait(book.expect(RetryScheduled).delay)
        polls += 1
    assert polls < 60


def test_polls_that_are_to_be_frequent_stay_so_in_an_outage() -> None:
    book = Playbook(api(jitter=float).wait_for("msgbatch_1", poll_interval=0.125))
    for _ in range(3):
        book.expect_request("GET", PATH)
        book.lose()
        assert book.expect(RetryScheduled).delay == 0.125
        book.expect_wait(0.125)


@pytest.mark.parametrize("until", [3, "ended"])
def test_a_predicate_that_is_none_is_refused(until: Any) -> None:
    with pytest.raises(InvalidInputError, match="until is a function"):
        api().wait_for("msgbatch_1", until=until)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_what_does_not_pass_ends_the_wait(status: int) -> None:
    book = start()
    book.respond(error_json("authentication_error"), status)
    with pytest.raises(AuthenticationError):
        book.next()


def test_a_404_passes_in_the_first_minute_and_between_good_answers() -> None:
    book = start(poll_interval=50)
    for _ in range(5):
        book.respond(error_json("not_found_error"), 404, [("x-should-retry", "false")])
        book.expect_wait(book.expect(RetryScheduled).delay)
        book.expect_request("GET", PATH)
        poll(book)
        book.expect_wait(50.0)
        book.expect_request("GET", PATH)
    poll(book, "ended")
    assert book.expect_done().ended


def test_a_batch_that_is_gone_for_a_minute_is_gone() -> None:
    book = start(poll_interval=3600)
    poll(book)
    book.expect_wait(3600)
    began = book.now
    with pytest.raises(NotFoundError, match=r"\(after \d+ attempts\)"):  # noqa: PT012 - it is asked for until then
        while True:
            book.expect_request("GET", PATH)
            book.respond(error_json("not_found_error"), 404)
            book.expect_wait(book.expect(RetryScheduled).delay)
    assert 60 <= book.now - began < 100


@pytest.mark.parametrize(("seconds", "passes"), [(59.5, True), (60.0, False)])
def test_the_minute_in_which_a_404_passes_is_one(seconds: float, *, passes: bool) -> None:
    book = start()
    book.now += seconds
    book.respond(error_json("not_found_error"), 404)
    if passes:
        book.expect(RetryScheduled)
    else:
        with pytest.raises(NotFoundError):
            book.next()


def test_an_id_that_does_not_exist_is_told_within_a_minute_or_so() -> None:
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
            book.expect_request("GET", PATH)
    assert 60 <= book.now - began <= 90


def test_a_batch_that_cannot_be_read_is_an_outage_not_a_crash() -> None:
    book = start(max_outage=0.5)
    book.respond(b'{"id":"msgbatch_1"}')
    book.expect(RetryScheduled)
    book.expect_wait(0.5)
    book.expect_request("GET", PATH)
    book.respond(b'{"id":"msgbatch_1"}')
    with pytest.raises(RemoteProtocolError, match="not a batch"):
        book.next()


@pytest.mark.parametrize(
    "options",
    [
        {"poll_interval": 0},
        {"poll_interval": -1},
        {"poll_interval": float("nan")},
        {"poll_interval": float("inf")},
        {"timeout": -1},
        {"timeout": "60"},
        {"poll_interval": None},
        {"timeout": float("nan")},
        {"max_outage": -0.1},
    ],
)
def test_times_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="in seconds"):
        api().wait_for("msgbatch_1", **options)


def test_an_outage_that_ends_a_wait_tells_after_how_many_polls() -> None:
    book = start(max_outage=3)
    for delay in (0.5, 1.0, 1.5):
        book.lose("down")
        book.expect(RetryScheduled)
        book.expect_wait(delay)
        book.expect_request("GET", PATH)
    book.lose("down")
    with pytest.raises(TransportError, match=r"down.*\(after 4 attempts\)"):
        book.next()


def test_an_answer_that_asks_for_no_wait_leaves_the_delay_to_the_policy() -> None:
    book = start()
    delays = []
    for _ in range(5):
        book.respond(error_json("rate_limit_error"), 429, [("retry-after", "0")])
        delays.append(book.expect(RetryScheduled).delay)
        book.expect_wait(delays[-1])
        book.expect_request("GET", PATH)
    assert delays == [0.5, 1, 2, 4, 8]


def test_time_reported_between_a_failure_and_its_pause_does_not_move_the_deadline() -> None:
    operation = api().wait_for("msgbatch_1", timeout=90)
    book = Playbook(operation)
    book.expect_request("GET", PATH)
    book.respond(error_json("api_error"), status=503)
    book.expect(RetryScheduled)
    operation.handle_timeout(1090.0)
    event = book.next()
    assert not isinstance(event, WaitUntil) or event.deadline <= 1090.0
