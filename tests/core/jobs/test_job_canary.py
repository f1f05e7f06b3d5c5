"""The first rows of a job can be tried before the others are sent."""

from __future__ import annotations

from batches_core.jobs import (
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    Ended,
    InputEnded,
    Lost,
    Plan,
    PlannedInput,
    Poll,
    PollResult,
)
from tests.support.job_playbook import ROWS, JobPlaybook, batch_of, history, plans

ONE, TWO = plans(3, ROWS)
END = InputEnded(rows=13)


def test_the_first_chunk_has_the_rows_of_the_canary_and_no_other() -> None:
    book = JobPlaybook(canary_rows=3)
    first = book.expect_run(Plan)
    assert first.spec.rows == 3
    first.succeed(PlannedInput(plan=ONE, ended=False))
    book.expect_persist(type(ONE))
    book.expect_run(Create)
    assert book.expect_run(Plan).spec.rows == ROWS


def test_a_canary_is_no_larger_than_a_chunk() -> None:
    assert JobPlaybook(canary_rows=99).expect_run(Plan).spec.rows == ROWS


def test_no_other_chunk_is_sent_before_the_first_one_is_collected() -> None:
    book = JobPlaybook(ONE, TWO, END, canary_rows=3)
    create = book.expect_run(Create)
    assert create.spec.plan == ONE
    create.mark(ONE)
    create.create(batch_of(ONE))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE),)))
    assert not book.job.is_submitting
    assert not book.job.is_tried
    book.expect_wait(30.0)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)
    collect = book.expect_run(Collect)
    book.expect_idle()
    collect.succeed(CollectResult(answered=3))
    book.expect_persist(Collected)
    assert book.job.is_tried
    assert book.expect_run(Create).spec.plan == TWO


def test_a_first_chunk_that_is_lost_has_been_tried() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, END, canary_rows=3)
    assert not book.job.is_tried
    book.journal.append(Lost(chunk=0, reason="archived"))
    book.restart(now=0.0)
    assert book.job.is_tried


def test_a_job_without_a_canary_and_rows_needs_no_trial() -> None:
    assert JobPlaybook().job.is_tried
    assert not JobPlaybook(canary_rows=3).job.is_tried
