"""Restarts: a new job on the records goes on where the old one stopped, wherever that was."""

from __future__ import annotations

import pytest

from batches_core.jobs import (
    BoughtAgain,
    Cancel,
    CancelAsked,
    ChunkPlanned,
    ChunkState,
    Collect,
    Collected,
    Create,
    Doubted,
    Ending,
    Finished,
    InputEnded,
    Paused,
    Plan,
    PlanRetry,
    Poll,
    Record,
    Resumed,
    Settle,
    Spec,
)
from tests.support.job_playbook import (
    ROWS,
    JobPlaybook,
    failed_row,
    history,
    plans,
    refused,
)

(PLAN,) = plans(ROWS)
END = InputEnded(rows=ROWS)

NEXT: dict[ChunkState, type[Spec] | None] = {
    ChunkState.NEW: Plan,
    ChunkState.PLANNED: Create,
    ChunkState.INTENT: Settle,
    ChunkState.DOUBT: Settle,
    ChunkState.SUBMITTED: Poll,
    ChunkState.CANCELING: Poll,
    ChunkState.ENDED: Collect,
    ChunkState.COLLECTED: None,
    ChunkState.LOST: None,
}


@pytest.mark.parametrize("state", ChunkState, ids=lambda state: state.name)
def test_a_chunk_goes_on_from_every_state(state: ChunkState) -> None:
    end = [] if state is ChunkState.NEW else [END]
    book = JobPlaybook(*history(PLAN, state), *end, now=-1e9)
    expected = NEXT[state]
    if expected is None:
        book.expect_persist(Finished)
        book.expect_done(Ending.FINISHED)
    else:
        book.expect_run(expected)
        book.expect_idle()


def test_a_refused_chunk_is_created_after_a_restart() -> None:
    assert JobPlaybook(*refused(PLAN), END).expect_run(Create).spec.plan == PLAN


def test_a_chunk_that_is_bought_again_is_created_after_a_restart() -> None:
    records = [*history(PLAN, ChunkState.LOST), BoughtAgain(chunk=0), END]
    assert JobPlaybook(*records).expect_run(Create).spec.plan == PLAN


def test_a_doubt_for_a_person_is_not_settled_after_a_restart() -> None:
    doubt = Doubted(chunk=0, reason="?", candidates=("b",), needs_person=True)
    book = JobPlaybook(*history(PLAN, ChunkState.INTENT), doubt, END)
    book.expect_done(Ending.DOUBTS)


def test_a_canceled_job_goes_on_canceling() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED), CancelAsked())
    book.expect_run(Cancel)


def test_a_paused_job_is_resumed_by_running_it_again() -> None:
    book = JobPlaybook(PLAN, END, Paused(reason="credit", message="m"))
    book.expect_record(Resumed())
    book.expect_run(Create)


def test_a_finished_job_stays_so() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.COLLECTED), END, Finished())
    book.expect_done(Ending.FINISHED)


def retried(plan: ChunkPlanned) -> list[Record]:
    """A chunk is collected, and its last row is to be sent again."""
    row = failed_row(plan.first_row + plan.count - 1)
    collected = Collected(chunk=plan.chunk, answered=plan.count - 1, retried=(row,))
    return [*history(plan, ChunkState.ENDED), collected]


def test_rows_that_wait_to_be_sent_again_are_not_forgotten() -> None:
    book = JobPlaybook(*retried(PLAN), END)
    assert book.expect_run(PlanRetry).spec == PlanRetry(chunk=1, rows=(9,), round=1)


def test_failed_rows_wait_for_others_for_an_hour_of_each_run() -> None:
    one, two = plans(ROWS, 8)
    book = JobPlaybook(*retried(one), *history(two, ChunkState.SUBMITTED), InputEnded(rows=18))
    book.expect_run(Poll)
    book.expect_wait(3600.0)
    book.expect_run(PlanRetry)


def test_every_chunk_goes_on_beside_the_others() -> None:
    chunks = plans(10, 9, 8, 7, 6, 5)
    states = [
        *(ChunkState.PLANNED, ChunkState.INTENT, ChunkState.DOUBT, ChunkState.SUBMITTED),
        *(ChunkState.CANCELING, ChunkState.ENDED),
    ]
    records: list[Record] = []
    for plan, state in zip(chunks, states, strict=True):
        records += history(plan, state)
    book = JobPlaybook(*records)
    kinds: list[type[Spec]] = [Settle, Settle, Collect, Poll, Create, Plan]
    for kind in kinds:
        book.expect_run(kind)
    book.expect_idle()
