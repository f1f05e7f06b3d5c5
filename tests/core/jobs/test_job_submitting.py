"""Whether more can be sent for now: a driver may leave when nothing can."""

from __future__ import annotations

from typing import Any

from batches_core.jobs import (
    ChunkState,
    Create,
    Doubted,
    InputEnded,
    Plan,
    Poll,
    PollResult,
    Record,
    Refused,
    RoomChanged,
    Settle,
    Trouble,
)
from tests.support.job_playbook import (
    ROWS,
    JobPlaybook,
    batch_of,
    histories,
    history,
    outage,
    plans,
    status_error,
)

ONE, TWO, THREE = plans(ROWS, 8, 7)
END_OF_ONE, END = InputEnded(rows=ROWS), InputEnded(rows=18)


def waiting(*records: Record, **options: Any) -> JobPlaybook:
    """A job whose poll has been answered, so that it waits for its batches."""
    book = JobPlaybook(*records, **options)
    poll = book.expect_run(Poll)
    poll.succeed(PollResult(batches=tuple(batch_of(plan) for plan in (ONE, TWO, THREE))))
    return book


def test_nothing_more_can_be_sent_when_all_is_sent() -> None:
    book = waiting(*histories([ONE, TWO], ChunkState.SUBMITTED), END)
    book.expect_wait(30.0)
    assert not book.job.is_submitting


def test_nothing_more_can_be_sent_when_the_queue_is_full() -> None:
    book = waiting(*history(ONE, ChunkState.SUBMITTED), TWO, END, max_waiting=12)
    assert not book.job.is_submitting


def test_nothing_more_can_be_sent_after_the_service_says_that_its_queue_is_full() -> None:
    book = JobPlaybook(ONE, END_OF_ONE)
    create = book.expect_run(Create)
    assert book.job.is_submitting
    create.mark(ONE)
    create.fail(status_error(429, "rate_limit_error"))
    book.expect_persist(Refused)
    book.expect_news(RoomChanged)
    book.expect_news(Trouble)
    assert not book.job.is_submitting


def test_more_can_be_sent_after_an_outage() -> None:
    book = JobPlaybook(ONE, END_OF_ONE)
    book.expect_run(Create).fail(outage())
    book.expect_news(Trouble)
    assert book.job.is_submitting


def test_more_can_be_sent_while_an_outcome_is_found_out() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.INTENT), END_OF_ONE)
    settle = book.expect_run(Settle)
    assert book.job.is_submitting
    settle.fail(outage())
    book.expect_news(Trouble)
    assert book.job.is_submitting


def test_more_can_be_sent_while_the_input_is_read() -> None:
    book = JobPlaybook()
    plan = book.expect_run(Plan)
    assert book.job.is_submitting
    plan.fail(outage())
    book.expect_news(Trouble)
    assert book.job.is_submitting


def test_nothing_more_can_be_sent_while_a_person_is_needed() -> None:
    doubt = Doubted(chunk=0, reason="two fit", candidates=("msgbatch_a",), needs_person=True)
    assert not JobPlaybook(*history(ONE, ChunkState.INTENT), doubt, END_OF_ONE).job.is_submitting
    book = JobPlaybook(ONE, END_OF_ONE)
    book.job.pause("budget", "the budget is spent", book.now)
    assert not book.job.is_submitting
    canceled = JobPlaybook(ONE, END_OF_ONE)
    canceled.job.cancel(canceled.now)
    assert not canceled.job.is_submitting
