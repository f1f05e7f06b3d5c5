"""Pauses and cancels: what stops, what goes on, and how the run ends."""

from __future__ import annotations

import pytest

from batches_core import BatchesError, InvalidInputError
from batches_core.jobs import (
    Cancel,
    CancelAsked,
    CancelSent,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    CreateIntended,
    Ended,
    Ending,
    Failure,
    Finished,
    InputEnded,
    JobPaused,
    Lost,
    Paused,
    PauseReason,
    Plan,
    PlannedInput,
    Poll,
    PollResult,
    Refused,
    Resumed,
    Settle,
    Spec,
    Submitted,
    Trouble,
)
from tests.support.job_playbook import (
    ROWS,
    JobPlaybook,
    batch_of,
    failed_row,
    histories,
    history,
    not_found,
    outage,
    plans,
    status_error,
)

ONE, TWO = plans(ROWS, 8)
END_OF_ONE, END = InputEnded(rows=ROWS), InputEnded(rows=18)

# --- pauses ------------------------------------------------------------------------------

SPEND_LIMIT = status_error(429, "rate_limit_error", error_code="enforced_spend_limit_reached")
USAGE_LIMIT = status_error(
    400, "invalid_request_error", "You have reached your specified API usage limits."
)
CREDIT = status_error(400, "invalid_request_error", "Your credit balance is too low")
REFUSALS: list[tuple[BatchesError, PauseReason]] = [
    (SPEND_LIMIT, "spend_limit"),
    (USAGE_LIMIT, "spend_limit"),
    (CREDIT, "credit"),
    (status_error(402, "billing_error"), "credit"),
    (status_error(400, "invalid_request_error"), "refused"),
    (status_error(413, "request_too_large"), "refused"),
    (status_error(401, "authentication_error"), "credential"),
    (status_error(403, "permission_error"), "permission"),
    (InvalidInputError("the input has changed"), "input"),
]
BLIND = {"credential", "permission"}
#: In which state of its chunk an operation runs.
STATES: dict[type[Spec], ChunkState] = {
    Settle: ChunkState.DOUBT,
    Poll: ChunkState.SUBMITTED,
    Collect: ChunkState.ENDED,
    Cancel: ChunkState.SUBMITTED,
}


@pytest.mark.parametrize(("error", "reason"), REFUSALS, ids=lambda case: str(case)[:24])
def test_a_create_that_only_a_person_can_help_pauses_the_job_and_costs_nothing(
    error: BatchesError, reason: PauseReason
) -> None:
    book = JobPlaybook(ONE, TWO, END)
    create = book.expect_run(Create)
    create.mark(ONE)
    create.fail(error)
    refused, paused = book.expect_persist(Refused, Paused)
    assert refused == Refused(chunk=0, reason=str(error))
    assert paused == Paused(reason=reason, message=str(error))
    assert book.expect_news(JobPaused) == JobPaused(reason=reason, message=str(error))
    book.expect_done(Ending.PAUSED)
    book.restart(now=0.0)
    book.expect_record(Resumed())
    assert book.expect_run(Create).spec.plan == TWO


def test_a_paused_job_collects_what_it_has_bought() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO)
    poll = book.expect_run(Poll)
    book.expect_run(Create).fail(SPEND_LIMIT)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    poll.succeed(PollResult(batches=(batch_of(ONE),)))
    book.expect_wait(30.0)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    book.expect_done(Ending.PAUSED)


def test_a_paused_job_settles_its_doubts() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.DOUBT), END_OF_ONE)
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_run(Settle).succeed(None)
    book.expect_persist(Refused)
    book.expect_done(Ending.PAUSED)


def test_a_paused_job_plans_no_retries_and_reads_no_input() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.ENDED))
    collect = book.expect_run(Collect)
    plan = book.expect_run(Plan)
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    plan.succeed(PlannedInput(plan=TWO, ended=False))
    book.expect_persist(type(TWO))
    collect.succeed(CollectResult(answered=ROWS - 1, failed=(failed_row(3),)))
    book.expect_persist(Collected)
    book.expect_done(Ending.PAUSED)


def test_an_operation_that_runs_during_a_pause_is_waited_for() -> None:
    book = JobPlaybook(ONE, END_OF_ONE)
    create = book.expect_run(Create)
    create.mark(ONE)
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_idle()
    create.create(batch_of(ONE))
    book.expect_run(Poll)


def test_a_job_is_paused_for_its_first_reason() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO)
    poll = book.expect_run(Poll)
    for reason in ("budget", "credit"):
        book.job.pause(reason, reason, book.now)
    book.expect_record(Paused(reason="budget", message="budget"))
    assert book.expect_news(JobPaused).reason == "budget"
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(ONE),)))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", [Settle, Poll, Collect])
def test_nothing_is_read_with_a_credential_that_is_refused(
    kind: type[Settle | Poll | Collect], status: int
) -> None:
    book = JobPlaybook(*history(ONE, STATES[kind]), END_OF_ONE)
    book.expect_run(kind).fail(status_error(status))
    book.expect_persist(Paused)
    assert book.expect_news(JobPaused).reason in BLIND
    book.expect_done(Ending.PAUSED)


@pytest.mark.parametrize("kind", [Settle, Poll, Collect, Cancel])
def test_a_read_that_is_refused_pauses_the_job_and_is_repeated_with_a_backoff(
    kind: type[Settle | Poll | Collect | Cancel],
) -> None:
    book = JobPlaybook(
        *history(ONE, STATES[kind]), END_OF_ONE, *([CancelAsked()] if kind is Cancel else [])
    )
    operation = book.expect_run(kind)
    if kind is Cancel:
        book.expect_run(Poll)
    operation.fail(SPEND_LIMIT)
    book.expect_record(Paused(reason="spend_limit", message=str(SPEND_LIMIT)))
    book.expect_news(JobPaused)
    for delay in (5.0, 10.0, 20.0):
        assert book.expect_news(Trouble).delay == delay
        book.expect_wait(delay)
        book.expect_run(kind).fail(SPEND_LIMIT)


def test_results_that_a_file_stands_in_the_way_of_end_the_run_and_the_others_are_collected() -> (
    None
):
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.ENDED), END)
    first, second = book.expect_run(Collect), book.expect_run(Collect)
    first.fail(InvalidInputError("chunk.part cannot be continued: move it away"))
    book.expect_persist(Paused)
    assert book.expect_news(JobPaused).reason == "input"
    book.expect_idle()
    second.succeed(CollectResult(answered=8))
    book.expect_persist(Collected)
    book.expect_done(Ending.PAUSED)

    book.restart(0.0)
    book.expect_persist(Resumed)
    book.expect_run(Collect).succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    book.expect_persist(Finished)


def test_a_paused_job_whose_credential_is_refused_too_ends_at_once() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO)
    poll = book.expect_run(Poll)
    book.expect_run(Create).fail(CREDIT)
    book.expect_persist(Paused)
    assert book.expect_news(JobPaused).reason == "credit"
    poll.fail(status_error(401, "authentication_error"))
    book.expect_persist(Paused)
    assert book.expect_news(JobPaused).reason == "credential"
    book.expect_done(Ending.PAUSED)


def test_a_blind_job_waits_for_nothing() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, END)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE),)))
    book.expect_run(Create).fail(status_error(401, "authentication_error"))
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_done(Ending.PAUSED)


def test_a_blind_job_stays_blind() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.ENDED), END)
    one, two = book.expect_run(Collect), book.expect_run(Collect)
    one.fail(status_error(401, "authentication_error"))
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    two.fail(status_error(403, "permission_error"))
    book.expect_done(Ending.PAUSED)


def test_a_blind_job_ends_when_its_operations_have_ended() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.ENDED), END)
    one, two = book.expect_run(Collect), book.expect_run(Collect)
    one.fail(status_error(401, "authentication_error"))
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_idle()
    two.succeed(CollectResult(answered=8))
    book.expect_persist(Collected)
    book.expect_done(Ending.PAUSED)
    book.restart(now=0.0)
    book.expect_record(Resumed())
    assert book.expect_run(Collect).spec.plan == ONE


@pytest.mark.parametrize("reason", sorted(BLIND))
@pytest.mark.parametrize(
    "state",
    [state for state in ChunkState if state.name in "INTENT DOUBT SUBMITTED CANCELING ENDED"],
    ids=lambda state: state.name,
)
def test_a_blind_job_starts_nothing(state: ChunkState, reason: PauseReason) -> None:
    book = JobPlaybook(*history(ONE, state), TWO, CancelAsked())
    book.job.pause(reason, "the key was revoked", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_done(Ending.PAUSED)


# --- cancels -----------------------------------------------------------------------------


def test_a_cancel_is_recorded_before_it_is_sent_to_each_batch() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.SUBMITTED))
    poll = book.expect_run(Poll)
    book.expect_run(Plan)
    book.job.cancel(book.now)
    book.expect_record(CancelAsked())
    cancels = [book.expect_run(Cancel), book.expect_run(Cancel)]
    assert [cancel.spec for cancel in cancels] == [
        Cancel(chunk=0, batch_id="msgbatch_0"),
        Cancel(chunk=1, batch_id="msgbatch_1"),
    ]
    book.expect_idle()
    for cancel, plan in zip(cancels, (ONE, TWO), strict=True):
        cancel.succeed(batch_of(plan, "canceling"))
        book.expect_record(CancelSent(chunk=plan.chunk))
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(ONE), batch_of(TWO))))
    book.sleep(30.0)
    book.expect_run(Poll)


def test_a_job_is_canceled_once() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), END_OF_ONE, CancelAsked())
    book.expect_run(Cancel)
    book.job.cancel(book.now)
    book.expect_run(Poll)


def test_a_finished_job_cannot_be_canceled() -> None:
    book = JobPlaybook(InputEnded(rows=0), Finished())
    book.job.cancel(book.now)
    book.expect_done(Ending.FINISHED)


def test_what_was_paid_for_before_the_cancel_is_collected() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, CancelAsked())
    book.expect_run(Cancel).succeed(batch_of(ONE, "ended"))
    book.expect_persist(CancelSent, Ended)
    canceled = tuple(failed_row(row, "", "", "canceled") for row in range(4))
    book.expect_run(Collect).succeed(CollectResult(answered=6, failed=canceled))
    book.expect_record(Collected(chunk=0, answered=6, failed=canceled))
    book.expect_persist(Finished)
    book.expect_done(Ending.CANCELED)


def test_a_canceled_job_submits_and_plans_nothing() -> None:
    book = JobPlaybook(ONE, TWO, CancelAsked())
    book.expect_persist(Finished)
    book.expect_done(Ending.CANCELED)
    book.restart(now=0.0)
    book.expect_done(Ending.CANCELED)


def test_a_batch_that_is_created_during_the_cancel_is_canceled_too() -> None:
    book = JobPlaybook(ONE, END_OF_ONE)
    create = book.expect_run(Create)
    create.mark(ONE)
    book.job.cancel(book.now)
    book.expect_record(CancelAsked())
    book.expect_idle()
    create.create(batch_of(ONE))
    assert book.expect_run(Cancel).spec.batch_id == "msgbatch_0"


def test_a_batch_that_turns_out_to_exist_after_the_cancel_is_canceled_too() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.INTENT), CancelAsked())
    book.expect_run(Settle).create(batch_of(ONE), adopted=True)
    book.expect_run(Cancel)


def test_a_canceled_job_with_a_doubt_waits_for_the_outcome() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.DOUBT), CancelAsked())
    book.expect_run(Settle).succeed(None)
    book.expect_persist(Refused)
    book.expect_persist(Finished)
    book.expect_done(Ending.CANCELED)


def test_a_cancel_that_is_refused_because_the_batch_has_ended_needs_nobody() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), CancelAsked())
    book.expect_run(Cancel).fail(status_error(400, "invalid_request_error", "it has ended"))
    assert book.expect_news(Trouble).chunk == 0
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect)


def test_a_cancel_that_fails_is_sent_again() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), CancelAsked())
    book.expect_run(Cancel).fail(outage())
    book.expect_news(Trouble)
    book.expect_run(Poll)
    book.expect_wait(5.0)
    book.expect_run(Cancel)


def test_a_batch_that_cannot_be_canceled_because_it_is_gone_is_lost() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.SUBMITTED), CancelAsked())
    cancel = book.expect_run(Cancel)
    book.expect_run(Cancel)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE), batch_of(TWO))))
    cancel.fail(not_found())
    book.expect_news(Trouble)
    book.sleep(600.0)
    book.expect_run(Cancel).fail(not_found())
    book.expect_persist(Lost)


def test_a_batch_that_is_being_canceled_is_not_canceled_again() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.CANCELING), CancelAsked())
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "canceling"),)))
    book.expect_wait(30.0)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)


def test_a_batch_that_was_canceled_while_it_ended_is_recorded_once() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), CancelAsked())
    cancel = book.expect_run(Cancel)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect)
    cancel.succeed(batch_of(ONE, "ended"))
    book.expect_idle()


def test_an_input_that_was_being_read_during_the_cancel_may_end() -> None:
    book = JobPlaybook()
    plan = book.expect_run(Plan)
    book.job.cancel(book.now)
    book.expect_record(CancelAsked())
    book.expect_idle()
    plan.succeed(PlannedInput(plan=ONE, ended=True))
    book.expect_persist(type(ONE), InputEnded)
    book.expect_persist(Finished)
    book.expect_done(Ending.CANCELED)


def test_a_create_whose_intent_comes_after_the_cancel_is_recorded_all_the_same() -> None:
    book = JobPlaybook(ONE, END_OF_ONE)
    create = book.expect_run(Create)
    book.job.cancel(book.now)
    book.expect_record(CancelAsked())
    create.mark(ONE)
    assert isinstance(book.journal[-1], CreateIntended)
    create.create(batch_of(ONE))
    assert isinstance(book.journal[-1], Submitted)


# --- a create that waits -----------------------------------------------------------------

WAITING = Failure(meaning="waiting", message="the budget does not allow it yet")


def test_a_create_that_waits_is_sent_once_a_chunk_has_been_collected() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, END)
    poll = book.expect_run(Poll)
    book.expect_run(Create).fail(WAITING)
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(ONE),)))
    book.expect_wait(30.0)
    assert not book.job.is_submitting
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE, "ended"),)))
    book.expect_persist(Ended)
    collect = book.expect_run(Collect)
    book.expect_idle()
    collect.succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    assert book.expect_run(Create).spec.plan == TWO


def test_a_smaller_chunk_is_not_sent_before_one_that_waits() -> None:
    one, two, three = plans(ROWS, ROWS, 2)
    book = JobPlaybook(*history(one, ChunkState.SUBMITTED), two, three)
    book.expect_run(Poll)
    book.expect_run(Create).fail(WAITING)
    book.expect_idle()


@pytest.mark.parametrize("state", [ChunkState.COLLECTED, ChunkState.LOST])
def test_a_create_that_waits_for_nothing_pauses_the_job(state: ChunkState) -> None:
    book = JobPlaybook(*history(ONE, state), TWO, END)
    book.expect_run(Create).fail(WAITING)
    book.expect_record(Paused(reason="budget", message=WAITING.message))
    book.expect_news(JobPaused)
    book.expect_done(Ending.PAUSED)
