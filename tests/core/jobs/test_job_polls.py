"""Polling: one list shows every batch in flight; what it lacks is read by itself, or is lost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from batches_core import RequestCounts
from batches_core.jobs import (
    CancelSent,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Counts,
    CreateIntended,
    Doubted,
    Ended,
    Get,
    InputEnded,
    JobPaused,
    Lost,
    Paused,
    Plan,
    Poll,
    PollResult,
    Record,
    Submitted,
    Trouble,
)
from tests.support.job_playbook import (
    CREATED,
    ROWS,
    JobPlaybook,
    batch_of,
    histories,
    history,
    intended,
    marker,
    not_found,
    outage,
    plans,
    submitted,
)

ONE, TWO = plans(ROWS, ROWS)
END = InputEnded(rows=2 * ROWS)


def in_flight(**options: Any) -> JobPlaybook:
    """A job whose two chunks are in flight."""
    return JobPlaybook(*histories([ONE, TWO], ChunkState.SUBMITTED), END, **options)


def poll_shows(book: JobPlaybook, *shown: int, ended: tuple[int, ...] = ()) -> None:
    """The next poll shows these chunks' batches."""
    batches = [batch_of((ONE, TWO)[n], "ended" if n in ended else "in_progress") for n in shown]
    book.expect_run(Poll).succeed(PollResult(batches=tuple(batches)))


# --- the list ----------------------------------------------------------------------------


def test_one_list_shows_every_batch_in_flight() -> None:
    book = in_flight()
    poll = book.expect_run(Poll)
    assert poll.spec.batch_ids == ("msgbatch_0", "msgbatch_1")
    book.expect_idle()


def test_the_list_is_read_back_to_the_oldest_batch_in_flight() -> None:
    one, *later = plans(ROWS, ROWS, ROWS)
    book = JobPlaybook(*history(one, ChunkState.ENDED), *histories(later, ChunkState.SUBMITTED))
    book.expect_run(Collect)
    assert book.expect_run(Poll).spec.since == CREATED + timedelta(minutes=1)


def test_the_list_is_read_again_after_the_poll_interval() -> None:
    book = in_flight(poll_interval=45.0)
    poll_shows(book, 0, 1)
    book.expect_wait(45.0)
    poll_shows(book, 0, 1)
    book.expect_wait(45.0)
    book.expect_run(Poll)


def test_the_interval_begins_with_the_end_of_a_poll() -> None:
    book = in_flight()
    poll = book.expect_run(Poll)
    book.sleep(20.0)
    poll.succeed(PollResult(batches=(batch_of(ONE), batch_of(TWO))))
    book.expect_wait(30.0)


def test_a_batch_that_has_ended_is_recorded_with_its_counts() -> None:
    book = in_flight()
    counts = RequestCounts(succeeded=4, errored=3, canceled=2, expired=1)
    ended = batch_of(ONE, "ended")
    shown = msgspec.structs.replace(ended, request_counts=counts)
    book.expect_run(Poll).succeed(PollResult(batches=(shown, batch_of(TWO))))
    book.expect_record(Ended(chunk=0, counts=Counts(succeeded=4, errored=3, canceled=2, expired=1)))


def test_a_batch_that_is_being_canceled_has_not_ended() -> None:
    book = in_flight()
    shown = (batch_of(ONE, "canceling"), batch_of(TWO, "a status of tomorrow"))
    book.expect_run(Poll).succeed(PollResult(batches=shown))
    book.expect_wait(30.0)


def test_a_poll_that_fails_is_repeated_with_a_backoff() -> None:
    book = in_flight()
    for delay in (5.0, 10.0, 20.0):
        book.expect_run(Poll).fail(outage())
        trouble = book.expect_news(Trouble)
        assert (trouble.chunk, trouble.delay) == (None, delay)
        book.expect_wait(delay)
    poll_shows(book, 0, 1)
    book.expect_wait(30.0)
    book.expect_run(Poll).fail(outage())
    assert book.expect_news(Trouble).delay == 5.0


def test_nothing_is_polled_when_nothing_is_in_flight() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.COLLECTED))
    book.expect_run(Plan)
    book.sleep(1000.0)
    book.expect_idle()


# --- the batches that the list does not show ---------------------------------------------


def test_a_batch_that_the_list_does_not_show_is_read_by_itself() -> None:
    book = in_flight()
    poll_shows(book, 1)
    get = book.expect_run(Get)
    assert get.spec == Get(chunk=0, batch_id="msgbatch_0")
    book.expect_wait(30.0)
    book.expect_run(Poll)
    book.expect_idle()
    get.succeed(batch_of(ONE, "ended"))
    book.expect_persist(Ended)
    assert book.expect_run(Collect).spec.batch_id == "msgbatch_0"


def test_it_is_read_once_for_each_poll_that_does_not_show_it() -> None:
    book = in_flight()
    for _ in range(2):
        poll_shows(book, 1)
        book.expect_run(Get).succeed(batch_of(ONE))
        book.expect_wait(30.0)
    poll_shows(book, 0, 1)
    book.expect_wait(30.0)


def test_a_batch_that_a_later_poll_shows_need_not_be_read_by_itself_any_more() -> None:
    book = in_flight()
    poll_shows(book, 1)
    book.expect_run(Get).fail(outage())
    book.expect_news(Trouble)
    book.sleep(30.0)
    get = book.expect_run(Get)
    poll_shows(book, 0, 1)
    get.fail(outage())
    book.expect_news(Trouble)
    book.expect_wait(30.0)
    book.expect_run(Poll)


def test_batches_that_the_list_does_not_show_are_read_in_the_order_of_their_chunks() -> None:
    book = in_flight()
    poll_shows(book)
    assert [book.expect_run(Get).spec.chunk for _ in range(2)] == [0, 1]
    book.expect_wait(30.0)


# --- batches that are not found ----------------------------------------------------------


def is_not_found(book: JobPlaybook) -> None:
    """The batch of chunk 0 is read and not found."""
    get = book.expect_run(Get)
    assert get.spec.chunk == 0
    get.fail(not_found())


def test_a_404_that_passes_does_no_harm() -> None:
    book = in_flight()
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.expect_wait(5.0)
    book.expect_run(Get).succeed(batch_of(ONE))
    book.expect_wait(25.0)


def test_a_404_that_stays_for_ten_minutes_loses_the_chunk() -> None:
    book = in_flight()
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(599.0)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(10.0)
    is_not_found(book)
    (lost,) = book.expect_persist(Lost)
    assert isinstance(lost, Lost)
    assert lost.chunk == 0
    assert "not_found_error" in lost.reason


@pytest.mark.parametrize("more", [(), (CancelSent(chunk=0),)], ids=["submitted", "canceling"])
def test_a_404_that_stays_opens_the_doubt_of_an_adopted_batch_again(
    more: tuple[Record, ...],
) -> None:
    adopted = Submitted(chunk=0, batch_id="b", created_at=CREATED, expires_at=CREATED, adopted=True)
    book = JobPlaybook(ONE, intended(ONE), adopted, *more, *history(TWO, ChunkState.SUBMITTED), END)
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(600.0)
    is_not_found(book)
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert (doubt.chunk, doubt.candidates, doubt.needs_person) == (0, ("b",), True)


def test_the_ten_minutes_begin_anew_when_the_batch_was_seen() -> None:
    book = in_flight()
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(590.0)
    get = book.expect_run(Get)
    poll_shows(book, 0, 1)
    get.fail(not_found())
    book.expect_news(Trouble)
    book.sleep(599.0)
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(20.0)
    is_not_found(book)
    book.expect_persist(Lost)


def test_a_404_that_stays_pauses_the_job_if_none_of_its_batches_is_visible() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), InputEnded(rows=ROWS))
    poll_shows(book)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(600.0)
    is_not_found(book)
    (paused,) = book.expect_persist(Paused)
    assert paused == Paused(
        reason="credential",
        message="batch msgbatch_0 cannot be read, nor any other that was created with the same "
        "key: use that key, or another of its workspace",
    )
    assert book.expect_news(JobPaused).reason == "credential"
    assert book.state_of(0) is ChunkState.SUBMITTED


def test_a_batch_of_another_key_does_not_show_that_a_missing_one_is_lost() -> None:
    other = msgspec.structs.replace(marker(ONE), scope="the key of an earlier run")
    book = JobPlaybook(
        ONE,
        CreateIntended(chunk=0, marker=other),
        submitted(ONE),
        *history(TWO, ChunkState.SUBMITTED),
        END,
    )
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(600.0)
    is_not_found(book)
    book.expect_persist(Paused)
    assert book.state_of(0) is ChunkState.SUBMITTED


def test_a_batch_that_was_read_by_itself_shows_that_the_key_is_the_right_one() -> None:
    book = in_flight()
    poll_shows(book)
    one, two = book.expect_run(Get), book.expect_run(Get)
    one.fail(not_found())
    two.succeed(batch_of(TWO))
    book.expect_news(Trouble)
    book.sleep(600.0)
    is_not_found(book)
    book.expect_persist(Lost)


def test_an_end_that_a_late_404_contradicts_stands() -> None:
    book = in_flight()
    poll_shows(book, 1)
    is_not_found(book)
    book.expect_news(Trouble)
    book.sleep(600.0)
    get = book.expect_run(Get)
    poll_shows(book, 0, 1, ended=(0,))
    book.expect_persist(Ended)
    book.expect_run(Collect).fail(not_found())
    book.sleep(5.0)
    book.expect_news(Trouble)
    book.expect_run(Collect).succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    book.sleep(600.0)
    get.fail(not_found())
    assert book.state_of(0) is ChunkState.COLLECTED
