"""The status of a job: how far it is, as a plain value."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from batches_core.jobs import (
    CancelAsked,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    Doubted,
    DoubtStatus,
    Ended,
    Ending,
    FailedRow,
    Finished,
    InputEnded,
    JobOpened,
    JobOptions,
    JobPaused,
    JobState,
    JobStatus,
    Paused,
    PlanRetry,
    Poll,
    PollResult,
    Record,
    Usage,
    job_status,
    progress_of,
)
from tests.support.job_playbook import (
    CREATED,
    JOB_ID,
    ROWS,
    JobPlaybook,
    batch_of,
    bought_again,
    ended,
    failed_row,
    history,
    intended,
    plans,
    submitted,
)

(PLAN,) = plans(ROWS)


def state_of(*records: Record) -> JobState:
    state = JobState()
    state.apply_all([JobOpened(job_id=JOB_ID, options=JobOptions()), *records])
    return state


def status_after(*records: Record) -> JobStatus:
    status = job_status(state_of(*records))
    assert msgspec.json.decode(msgspec.json.encode(status), type=JobStatus) == status
    return status


def all_states() -> list[Record]:
    """A job with a chunk in every state, of 10, 11 … rows."""
    states = [state for state in ChunkState if state is not ChunkState.NEW]
    chunks = plans(*range(10, 10 + len(states)))
    return [record for pair in zip(chunks, states, strict=True) for record in history(*pair)]


def test_a_new_job_has_nothing() -> None:
    assert status_after() == JobStatus(
        job_id=JOB_ID,
        rows=None,
        planned=0,
        answered=0,
        in_flight=0,
        ended=0,
        to_retry=0,
        failed=0,
        lost=0,
        chunks={},
    )


def test_rows_are_counted_by_where_they_stand() -> None:
    status = status_after(*all_states(), InputEnded(rows=108))
    assert (status.rows, status.planned) == (108, 108)
    assert status.in_flight == 11 + 12 + 13 + 14
    assert (status.ended, status.answered, status.lost) == (15, 16, 17)
    assert status.chunks == {
        "planned": 1,
        "being created": 1,
        "in doubt": 1,
        "in flight": 1,
        "being canceled": 1,
        "ended": 1,
        "collected": 1,
        "lost": 1,
    }


def collected(*retried: FailedRow, failed: tuple[FailedRow, ...] = ()) -> list[Record]:
    answered = ROWS - len(retried) - len(failed)
    usage = (Usage(model="z", answers=1), Usage(model="a", answers=answered - 1))
    record = Collected(chunk=0, answered=answered, retried=retried, failed=failed, usage=usage)
    return [*history(PLAN, ChunkState.ENDED), record]


def test_every_row_is_answered_waits_or_has_failed() -> None:
    failed = tuple(failed_row(row, "invalid_request_error") for row in (4, 5))
    status = status_after(*collected(failed_row(3), failed=failed))
    assert (status.answered, status.to_retry, status.failed) == (7, 1, 2)


def test_failed_rows_are_counted_by_reason_the_most_frequent_first() -> None:
    failed = (
        failed_row(1, "invalid_request_error"),
        FailedRow(row=2, outcome="canceled"),
        failed_row(3, "permission_error"),
        FailedRow(row=4, outcome="canceled"),
        failed_row(5, "permission_error"),
        FailedRow(row=6, outcome="canceled"),
    )
    failures = status_after(*collected(failed=failed)).failures
    assert [*failures.items()] == [
        ("canceled", 3),
        ("permission_error", 2),
        ("invalid_request_error", 1),
    ]


def test_usage_is_in_the_order_of_the_models() -> None:
    assert [usage.model for usage in status_after(*collected()).usage] == ["a", "z"]


def test_a_doubt_says_what_a_person_must_know() -> None:
    doubt = Doubted(chunk=0, reason="read timeout", candidates=("a", "b"), needs_person=True)
    assert status_after(*history(PLAN, ChunkState.INTENT), doubt).doubts == (
        DoubtStatus(
            chunk=0,
            requests=ROWS,
            reason="read timeout",
            candidates=("a", "b"),
            needs_person=True,
        ),
    )


def test_the_next_expiry_is_that_of_the_oldest_batch_in_flight() -> None:
    chunks = plans(10, 10, 10)
    states = (ChunkState.ENDED, ChunkState.CANCELING, ChunkState.SUBMITTED)
    records = [record for pair in zip(chunks, states, strict=True) for record in history(*pair)]
    status = status_after(*records)
    assert status.expires_at == CREATED + timedelta(minutes=1, days=1)
    assert status.collect_by == CREATED + timedelta(days=29)


@pytest.mark.parametrize("state", ["PLANNED", "INTENT", "DOUBT", "COLLECTED", "LOST"])
def test_nothing_expires_that_is_not_in_flight(state: str) -> None:
    status = status_after(*history(PLAN, ChunkState[state]))
    assert (status.expires_at, status.collect_by) == (None, None)


def test_the_status_says_whether_the_job_is_paused_canceled_or_finished() -> None:
    pause = Paused(reason="credit", message="m")
    status = status_after(InputEnded(rows=0), pause, CancelAsked(), Finished())
    assert (status.paused, status.is_canceled, status.is_finished) == (pause, True, True)
    status = status_after()
    assert (status.paused, status.is_canceled, status.is_finished) == (None, False, False)


# --- progress ----------------------------------------------------------------------------


def test_progress_is_news_each_time_a_record_changes_a_count() -> None:
    (plan,) = plans(ROWS)
    book = JobPlaybook(plan, InputEnded(rows=ROWS))
    create = book.expect_run(Create)
    create.mark(plan)
    book.expect_idle()
    assert [each.in_flight for each in book.progress] == [ROWS]
    create.create(batch_of(plan))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(plan, "ended"),)))
    book.expect_persist(Ended)
    usage = Usage(model="m", answers=7, output_tokens=70)
    failed = (failed_row(1), failed_row(2, "invalid_request_error"))
    result = CollectResult(answered=ROWS - 2, failed=failed, usage=(usage,))
    book.expect_run(Collect).succeed(result)
    book.expect_persist(Collected)
    book.expect_run(PlanRetry)
    expires, created = batch_of(plan).expires_at, batch_of(plan).created_at
    sent, ended, collected = book.progress[1:]
    assert (sent.in_flight, sent.expires_at) == (ROWS, expires)
    assert sent.collect_by == ended.collect_by == created + timedelta(days=29)
    assert (ended.in_flight, ended.ended, ended.expires_at) == (0, ROWS, None)
    counts = collected.answered, collected.to_retry, collected.failed, collected.ended
    assert counts == (ROWS - 2, 1, 1, 0)
    assert collected.usage == (usage,)
    assert collected.collect_by is None
    assert collected == progress_of(book.job.state)


def test_a_record_that_changes_no_count_is_no_progress() -> None:
    book = JobPlaybook(*plans(ROWS))
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_done(Ending.PAUSED)
    assert book.progress == []


def test_progress_counts_the_chunks_in_doubt_and_the_rows_of_lost_ones() -> None:
    one, two = plans(ROWS, 4)
    progress = progress_of(
        state_of(*history(one, ChunkState.DOUBT), *history(two, ChunkState.LOST))
    )
    assert (progress.doubts, progress.lost, progress.in_flight) == (1, 4, ROWS)


def test_a_batch_that_was_lost_and_bought_again_expires_with_its_new_batch() -> None:
    one, two = plans(ROWS, ROWS)
    later = CREATED + timedelta(days=9)
    new = msgspec.structs.replace(submitted(two), batch_id="msgbatch_new", expires_at=later)
    records = [*history(one, ChunkState.SUBMITTED), *bought_again(two), intended(two), new]
    assert progress_of(state_of(*records)).expires_at == batch_of(one).expires_at
    assert progress_of(state_of(*records, ended(one))).expires_at == later
