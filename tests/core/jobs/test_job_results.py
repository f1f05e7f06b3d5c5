"""Results: each row is answered, sent again in rounds, or fails for good."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batches_core import LocalProtocolError, ResultsUnavailableError
from batches_core.jobs import (
    CancelAsked,
    ChunkPlanned,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    Doubted,
    Ended,
    Ending,
    FailedRow,
    Finished,
    InputEnded,
    JobPaused,
    Lost,
    Outcome,
    Paused,
    Plan,
    PlannedInput,
    PlanRetry,
    Poll,
    PollResult,
    Record,
    Resumed,
    Settle,
    Submitted,
    Trouble,
    Usage,
    Wait,
)
from tests.support.job_playbook import (
    CREATED,
    ROWS,
    JobPlaybook,
    archived,
    batch,
    batch_of,
    ended,
    failed_row,
    histories,
    history,
    intended,
    not_found,
    outage,
    plans,
    submitted,
)

(PLAN,) = plans(ROWS)
END = InputEnded(rows=ROWS)
CREDIT = "Your credit balance is too low to access the API"
HOUR = 3600.0


def has_ended(*counts: int, **options: Any) -> JobPlaybook:
    """A job whose chunks have these sizes and have all ended. Its input is read."""
    chunks = plans(*counts)
    return JobPlaybook(
        *histories(chunks, ChunkState.ENDED), InputEnded(rows=sum(counts)), **options
    )


def finishes(book: JobPlaybook, failed: tuple[FailedRow, ...]) -> None:
    """The next operation collects a chunk, all of whose rows but these were answered."""
    collect = book.expect_run(Collect)
    answered = collect.spec.plan.count - len(failed)
    collect.succeed(CollectResult(answered=answered, failed=failed))


def collects(book: JobPlaybook, *failed: FailedRow) -> Collected:
    finishes(book, failed)
    (record,) = book.expect_persist(Collected)
    assert isinstance(record, Collected)
    return record


def collects_and_pauses(book: JobPlaybook, *failed: FailedRow) -> tuple[Collected, Paused]:
    finishes(book, failed)
    record, paused = book.expect_persist(Collected, Paused)
    assert isinstance(record, Collected)
    assert isinstance(paused, Paused)
    assert book.expect_news(JobPaused) == JobPaused(reason=paused.reason, message=paused.message)
    return record, paused


# --- downloads ---------------------------------------------------------------------------


def test_the_results_of_a_chunk_are_recorded() -> None:
    usage = (Usage(model="m", answers=9),)
    book = has_ended(ROWS)
    failed = failed_row(3, "invalid_request_error")
    book.expect_run(Collect).succeed(CollectResult(answered=9, failed=(failed,), usage=usage))
    book.expect_record(Collected(chunk=0, answered=9, failed=(failed,), usage=usage))


def test_the_batch_that_was_created_first_is_collected_first() -> None:
    records: list[Record] = []
    for plan, hour in zip(plans(ROWS, 8, 9), (2, 1, 1), strict=True):
        created = CREATED.replace(hour=hour)
        made = msgspec.structs.replace(submitted(plan), created_at=created)
        records += [plan, intended(plan), made, ended(plan)]
    book = JobPlaybook(*records, parallel=3)
    order = [book.expect_run(Collect).spec.plan.chunk for _ in range(3)]
    assert order == [1, 2, 0]


def test_so_many_chunks_are_collected_at_once_as_the_options_say() -> None:
    book = has_ended(ROWS, 8, 9, parallel=2)
    first = book.expect_run(Collect)
    book.expect_run(Collect)
    book.expect_idle()
    first.succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    assert book.expect_run(Collect).spec.plan.chunk == 2
    book.expect_idle()


def test_a_download_that_fails_is_tried_again_and_the_others_go_on() -> None:
    book = has_ended(ROWS, 8, parallel=1)
    book.expect_run(Collect).fail(outage())
    trouble = book.expect_news(Trouble)
    assert (trouble.chunk, trouble.delay) == (0, 5.0)
    collects(book)
    book.expect_wait(5.0)
    assert book.expect_run(Collect).spec.plan.chunk == 0


def test_archived_results_lose_the_chunk() -> None:
    book = has_ended(ROWS)
    book.expect_run(Collect).fail(archived())
    (lost,) = book.expect_persist(Lost)
    assert isinstance(lost, Lost)
    assert "were archived" in lost.reason
    book.expect_news(Trouble)
    book.expect_persist(Finished)
    book.expect_done(Ending.FINISHED)


def test_results_that_are_not_found_for_ten_minutes_lose_the_chunk() -> None:
    one, two = plans(ROWS, 8)
    book = JobPlaybook(*history(one, ChunkState.ENDED), *history(two, ChunkState.SUBMITTED))
    collect = book.expect_run(Collect)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    collect.fail(not_found())
    assert book.expect_news(Trouble).delay == 5.0
    book.sleep(599.0)
    book.expect_run(Collect).fail(not_found())
    book.expect_news(Trouble)
    book.sleep(10.0)
    assert book.state_of(0) is ChunkState.ENDED
    book.expect_run(Collect).fail(not_found())
    book.expect_persist(Lost)


@pytest.mark.parametrize("status", ["in_progress", "ended"])
def test_results_that_are_not_there_yet_lose_nothing(status: str) -> None:
    book = has_ended(ROWS)
    book.expect_run(Collect).fail(ResultsUnavailableError(batch("msgbatch_0", status=status)))
    assert book.expect_news(Trouble).chunk == 0
    book.sleep(1000.0)
    book.expect_run(Collect)


def test_results_that_are_not_found_pause_the_job_if_none_of_its_batches_is_visible() -> None:
    book = has_ended(ROWS)
    book.expect_run(Collect).fail(not_found())
    book.expect_news(Trouble)
    book.sleep(600.0)
    book.expect_run(Collect).fail(not_found())
    (paused,) = book.expect_persist(Paused)
    assert isinstance(paused, Paused)
    assert paused.reason == "credential"
    assert book.state_of(0) is ChunkState.ENDED


def test_results_that_were_read_show_that_the_key_is_the_right_one() -> None:
    book = has_ended(ROWS, 8)
    one = book.expect_run(Collect)
    collects(book)
    for _ in range(2):
        one.fail(not_found())
        book.expect_news(Trouble)
        book.sleep(599.0)
        one = book.expect_run(Collect)
    one.fail(not_found())
    book.expect_persist(Lost)


def test_an_answer_that_speaks_of_credit_is_sent_again_like_any_other() -> None:
    book = has_ended(ROWS, rounds=0)
    row = failed_row(3, "", CREDIT, "rejected")
    assert collects(book, row).failed == (row,)


def test_results_of_another_number_of_rows_are_refused() -> None:
    collect = has_ended(ROWS).expect_run(Collect)
    with pytest.raises(LocalProtocolError, match="Collected does not fit"):
        collect.succeed(CollectResult(answered=ROWS - 1))


# --- which rows are sent again -----------------------------------------------------------


@pytest.mark.parametrize("outcome", ["expired", "rejected", "unreadable"])
def test_a_row_without_an_answer_of_use_is_sent_again(outcome: Outcome) -> None:
    row = FailedRow(row=3, outcome=outcome)
    assert collects(has_ended(ROWS), row).retried == (row,)


def test_a_row_whose_error_passes_is_sent_again_and_one_whose_error_stays_is_not() -> None:
    passing, staying = failed_row(3), failed_row(4, "invalid_request_error")
    record = collects(has_ended(ROWS), staying, passing)
    assert (record.retried, record.failed) == ((passing,), (staying,))


@pytest.mark.parametrize("outcome", ["canceled", "lost"])
def test_a_row_that_was_canceled_or_lost_is_not_sent_again(outcome: Outcome) -> None:
    row = FailedRow(row=3, outcome=outcome)
    assert collects(has_ended(ROWS), row).failed == (row,)


def test_a_canceled_job_sends_nothing_again() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.ENDED), END, CancelAsked())
    row = failed_row(3)
    assert collects(book, row).failed == (row,)
    book.expect_persist(Finished)
    book.expect_done(Ending.CANCELED)


# --- rounds ------------------------------------------------------------------------------


def retry(rows: tuple[int, ...], chunk: int = 1, round_: int = 1) -> ChunkPlanned:
    return ChunkPlanned(chunk=chunk, count=len(rows), rows=rows, round=round_)


def test_failed_rows_are_gathered_into_a_chunk_of_their_own() -> None:
    book = has_ended(ROWS)
    collects(book, failed_row(7), failed_row(3))
    plan = book.expect_run(PlanRetry)
    assert plan.spec == PlanRetry(chunk=1, rows=(3, 7), round=1)
    book.expect(Wait)
    plan.succeed(retry((3, 7)))
    book.expect_record(retry((3, 7)))
    assert book.expect_run(Create).spec.plan == retry((3, 7))


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_row_is_sent_again_in_as_many_rounds_as_the_options_say(rounds: int) -> None:
    book = has_ended(ROWS, rounds=rounds)
    row = failed_row(3)
    record = collects(book, row)
    for round_ in range(1, rounds + 1):
        assert (record.retried, record.failed) == ((row,), ())
        plan = book.expect_run(PlanRetry)
        assert plan.spec == PlanRetry(chunk=round_, rows=(3,), round=round_)
        again = retry((3,), round_, round_)
        plan.succeed(again)
        book.expect_record(again)
        create = book.expect_run(Create)
        create.mark(again)
        create.create(batch_of(again))
        book.sleep(30.0)
        book.expect_run(Poll).succeed(PollResult(batches=(batch_of(again, "ended"),)))
        book.expect_persist(Ended)
        record = collects(book, row)
    assert (record.retried, record.failed) == ((), (row,))
    book.expect_persist(Finished)
    book.expect_done(Ending.FINISHED)


def test_failed_rows_wait_for_others_while_more_can_fail() -> None:
    one, two = plans(ROWS, 8)
    book = JobPlaybook(
        *history(one, ChunkState.ENDED), *history(two, ChunkState.SUBMITTED), InputEnded(rows=18)
    )
    collects(book, failed_row(3))
    poll = book.expect_run(Poll)
    book.expect_wait(HOUR)
    assert book.expect_run(PlanRetry).spec.rows == (3,)
    poll.succeed(PollResult(batches=(batch_of(two),)))


def test_failed_rows_that_fill_a_chunk_do_not_wait() -> None:
    one, two = plans(ROWS, 8)
    book = JobPlaybook(
        *history(one, ChunkState.ENDED), *history(two, ChunkState.SUBMITTED), InputEnded(rows=18)
    )
    collects(book, *(failed_row(row) for row in range(ROWS)))
    book.expect_run(Poll)
    assert book.expect_run(PlanRetry).spec.rows == tuple(range(ROWS))


def test_more_failed_rows_than_a_chunk_has_go_to_several() -> None:
    book = has_ended(7, 8)
    collects(book, *(failed_row(row) for row in range(7)))
    collects(book, *(failed_row(row) for row in range(7, 15)))
    plan = book.expect_run(PlanRetry)
    assert plan.spec.rows == tuple(range(ROWS))
    # Its body would be too large with all of them.
    plan.succeed(retry(tuple(range(9)), 2))
    book.expect_persist(ChunkPlanned)
    book.expect_run(Create)
    book.expect_wait(HOUR)
    assert book.expect_run(PlanRetry).spec == PlanRetry(chunk=3, rows=tuple(range(9, 15)), round=1)


def test_rows_of_different_rounds_go_to_different_chunks() -> None:
    first, second = plans(ROWS, 8)
    again = ChunkPlanned(chunk=2, count=1, rows=(3,), round=1)
    book = JobPlaybook(
        *history(first, ChunkState.ENDED),
        Collected(chunk=0, answered=9, retried=(failed_row(3),)),
        *history(second, ChunkState.ENDED),
        InputEnded(rows=18),
        *history(again, ChunkState.ENDED),
        Collected(chunk=2, answered=0, retried=(failed_row(3),)),
    )
    collects(book, failed_row(12))
    plan = book.expect_run(PlanRetry)
    assert plan.spec == PlanRetry(chunk=3, rows=(12,), round=1)
    plan.succeed(retry((12,), 3))
    book.expect_persist(ChunkPlanned)
    book.expect_run(Create)
    book.expect_wait(HOUR)
    assert book.expect_run(PlanRetry).spec == PlanRetry(chunk=4, rows=(3,), round=2)


def test_the_hour_begins_with_the_first_row_that_fails_and_ends_with_the_last_that_is_sent() -> (
    None
):
    one, two, three = plans(ROWS, 8, 9)
    book = JobPlaybook(
        *histories([one, two], ChunkState.ENDED),
        *history(three, ChunkState.SUBMITTED),
        InputEnded(rows=27),
        parallel=1,
    )
    collects(book, failed_row(3))
    book.sleep(600.0)
    collects(book, failed_row(12))
    book.expect_run(Poll)
    book.expect_wait(HOUR - 600.0)
    plan = book.expect_run(PlanRetry)
    assert plan.spec.rows == (3, 12)
    plan.succeed(retry((3, 12), 3))
    book.expect_persist(ChunkPlanned)
    book.expect_run(Create)
    book.expect_idle()


def test_a_row_that_fails_after_the_others_were_sent_waits_for_an_hour_of_its_own() -> None:
    one, two, three = plans(ROWS, 8, 9)
    book = JobPlaybook(
        *history(one, ChunkState.ENDED),
        *histories([two, three], ChunkState.SUBMITTED),
        InputEnded(rows=27),
    )
    collects(book, failed_row(3))
    poll = book.expect_run(Poll)
    book.expect_wait(HOUR)
    book.expect_run(PlanRetry).succeed(retry((3,), 3))
    book.expect_persist(ChunkPlanned)
    book.expect_run(Create)
    book.sleep(60.0)
    poll.succeed(PollResult(batches=(batch_of(two, "ended"), batch_of(three))))
    book.expect_persist(Ended)
    collects(book, failed_row(12))
    book.expect_wait(30.0)
    book.expect_run(Poll)
    book.expect_wait(HOUR - 30.0)
    assert book.expect_run(PlanRetry).spec.rows == (12,)


def test_failed_rows_wait_while_the_input_goes_on() -> None:
    collected = Collected(chunk=0, answered=9, retried=(failed_row(3),))
    book = JobPlaybook(*history(PLAN, ChunkState.ENDED), collected)
    plan = book.expect_run(Plan)
    assert plan.spec.chunk == 1
    plan.fail(outage())
    book.expect_news(Trouble)
    book.expect_wait(5.0)
    book.expect_run(Plan).succeed(PlannedInput(plan=None, ended=True))
    book.expect_persist(InputEnded)
    book.expect_run(PlanRetry)


def test_retries_that_cannot_be_planned_now_are_planned_later() -> None:
    book = has_ended(ROWS)
    collects(book, failed_row(3))
    book.expect_run(PlanRetry).fail(outage())
    assert book.expect_news(Trouble).chunk == 1
    book.expect_wait(5.0)
    book.expect_run(PlanRetry)


def test_a_chunk_in_doubt_holds_no_retries_up() -> None:
    one, two = plans(ROWS, 8)
    book = JobPlaybook(
        *history(one, ChunkState.ENDED), *history(two, ChunkState.DOUBT), InputEnded(rows=18)
    )
    book.expect_run(Settle)
    collects(book, failed_row(3))
    book.expect_run(PlanRetry)


# --- money is missing --------------------------------------------------------------------


def test_missing_credit_inside_results_pauses_the_job_and_costs_no_round() -> None:
    book = has_ended(ROWS, rounds=0)
    row = failed_row(3, "invalid_request_error", CREDIT)
    record, paused = collects_and_pauses(book, row)
    assert (record.retried, record.failed) == ((row,), ())
    assert paused == Paused(reason="credit", message=CREDIT)
    book.expect_done(Ending.PAUSED)
    book.restart(now=0.0)
    book.expect_record(Resumed())
    assert book.expect_run(PlanRetry).spec == PlanRetry(chunk=1, rows=(3,), round=0)


def test_a_usage_limit_inside_results_pauses_the_job_and_costs_no_round() -> None:
    limit = "You have reached your specified API usage limits"
    book = has_ended(ROWS, rounds=0)
    row = failed_row(3, "invalid_request_error", limit)
    record, paused = collects_and_pauses(book, failed_row(2, "x"), row)
    assert record.retried == (row,)
    assert paused == Paused(reason="spend_limit", message=limit)


# --- most of a chunk fails ---------------------------------------------------------------


def two_chunks(count: int) -> JobPlaybook:
    """A job with a chunk of this size and a small one, which have ended."""
    return has_ended(count, 8, chunk_rows=100, parallel=1)


def bad(number: int, message: str = "max_tokens: too large") -> list[FailedRow]:
    return [failed_row(row, "invalid_request_error", message) for row in range(number)]


def test_submitting_stops_if_over_half_of_a_chunk_fails_for_one_reason() -> None:
    book = two_chunks(20)
    _, paused = collects_and_pauses(book, *bad(11))
    assert paused.reason == "failures"
    assert paused.message == (
        "11 of the 20 requests of chunk 0 failed for one reason, invalid_request_error: "
        "max_tokens: too large; run the job again if the others are worth sending"
    )
    collects(book)


def test_half_of_a_chunk_may_fail() -> None:
    collects(two_chunks(20), *bad(10))


def test_a_chunk_may_fail_for_many_reasons() -> None:
    collects(two_chunks(20), *bad(10), *bad(20, "too long")[10:])


def test_a_small_chunk_says_nothing_about_the_others() -> None:
    collects(two_chunks(19), *bad(19))


def test_rows_that_were_canceled_are_no_reason_to_stop() -> None:
    collects(two_chunks(20), *(FailedRow(row=row, outcome="canceled") for row in range(20)))


def test_rows_that_are_sent_again_are_no_reason_to_stop() -> None:
    collects(two_chunks(20), *(failed_row(row) for row in range(20)))


# --- an adopted batch --------------------------------------------------------------------


def test_the_results_of_an_adopted_batch_are_taken_if_they_are_the_chunks() -> None:
    adopted = Submitted(chunk=0, batch_id="b", created_at=CREATED, expires_at=CREATED, adopted=True)
    book = JobPlaybook(PLAN, intended(PLAN), adopted, ended(PLAN), END)
    collects(book)
    book.expect_persist(Finished)


def test_an_adopted_batch_that_is_gone_before_it_was_proven_opens_the_doubt_again() -> None:
    adopted = Submitted(chunk=0, batch_id="b", created_at=CREATED, expires_at=CREATED, adopted=True)
    book = JobPlaybook(PLAN, intended(PLAN), adopted, ended(PLAN), END)
    book.expect_run(Collect).fail(archived())
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert "batch b, which was found in the list, is gone before" in doubt.reason
    assert "were archived" in doubt.reason
    assert (doubt.candidates, doubt.needs_person) == (("b",), True)
    book.expect_news(Trouble)
    book.expect_done(Ending.DOUBTS)


def test_a_batch_that_is_gone_is_lost_if_a_person_said_that_it_is_the_chunks() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), END)
    book.expect_run(Settle)
    book.job.decide(0, batch("b", status="ended"), book.now)
    (submitted,) = book.expect_persist(Submitted)
    assert isinstance(submitted, Submitted)
    assert (submitted.adopted, submitted.decided) == (True, True)
    book.restart(now=0.0)
    book.expect_run(Poll).succeed(PollResult(batches=(batch("b", status="ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).fail(archived())
    book.expect_persist(Lost)
