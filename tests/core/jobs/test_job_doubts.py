"""Doubts: creates whose outcome is unknown, settled by the list or by a person."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from batches_core import BatchCreated, LocalProtocolError, OutcomeUnknownError
from batches_core.jobs import (
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    CreateIntended,
    Doubted,
    Ended,
    Ending,
    Finished,
    Get,
    InputEnded,
    Plan,
    Poll,
    PollResult,
    Refused,
    Settle,
    StraySeen,
    Submitted,
    Trouble,
    job_status,
)
from tests.support.job_playbook import (
    CREATED,
    ROWS,
    JobPlaybook,
    Started,
    batch,
    batch_of,
    ended,
    histories,
    history,
    intended,
    marker,
    outage,
    plans,
    status_error,
    submitted,
    unknown,
)

(PLAN,) = plans(ROWS)
END = InputEnded(rows=ROWS)
SETTLE = Settle(chunk=0, marker=marker(PLAN), settle_time=600.0)
CANDIDATES = (batch("b1"), batch("b2"))


def lost_create() -> JobPlaybook:
    """A job of one chunk whose create was lost. The doubt is recorded."""
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.fail(unknown(PLAN))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert (doubt.marker, doubt.candidates, doubt.needs_person) == (marker(PLAN), (), False)
    assert "read timeout" in doubt.reason
    book.expect_news(Trouble)
    return book


def in_doubt(*candidates: str) -> list[Doubted]:
    """A doubt that waits for a person."""
    return [Doubted(chunk=0, reason="?", candidates=candidates, needs_person=True)]


# --- settling ----------------------------------------------------------------------------


def test_the_outcome_of_a_lost_create_is_looked_for_in_the_list() -> None:
    book = lost_create()
    assert book.expect_run(Settle).spec == SETTLE
    book.sleep(1000.0)
    book.expect_idle()


def test_a_batch_that_is_found_is_adopted() -> None:
    book = lost_create()
    book.expect_run(Settle).create(batch_of(PLAN), adopted=True)
    (recorded,) = [record for record in book.journal if isinstance(record, Submitted)]
    assert (recorded.batch_id, recorded.adopted) == ("msgbatch_0", True)
    book.expect_run(Poll)


def test_a_batch_that_settling_only_returned_is_adopted_as_well() -> None:
    book = lost_create()
    book.expect_run(Settle).succeed(batch_of(PLAN))
    (recorded,) = book.expect_persist(Submitted)
    assert isinstance(recorded, Submitted)
    assert recorded.adopted


def test_a_batch_that_this_process_knows_to_be_the_creates_is_not_called_adopted() -> None:
    book = lost_create()
    book.expect_run(Settle).create(batch_of(PLAN), adopted=False)
    assert not book.job.state.chunks[0].adopted


def test_a_chunk_without_a_batch_is_created_again() -> None:
    book = lost_create()
    book.expect_run(Settle).succeed(None)
    (refused,) = book.expect_persist(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "the list shows that it made no batch"
    book.sleep(5.0)
    assert book.expect_run(Create).spec == Create(plan=PLAN)


def test_settling_knows_the_batches_of_the_job_that_have_its_size() -> None:
    one, two, three = plans(ROWS, 7, ROWS)
    book = JobPlaybook(
        *history(one, ChunkState.SUBMITTED),
        *history(two, ChunkState.SUBMITTED),
        *history(three, ChunkState.DOUBT),
    )
    assert book.expect_run(Settle).spec.known_ids == ("msgbatch_0",)


def test_the_settle_time_is_the_option_of_the_job() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), settle_time=7.0)
    assert book.expect_run(Settle).spec.settle_time == 7.0


def test_an_outage_while_settling_is_waited_out() -> None:
    book = lost_create()
    for delay in (5.0, 10.0, 20.0, 40.0, 80.0):
        book.expect_run(Settle).fail(outage())
        trouble = book.expect_news(Trouble)
        assert (trouble.chunk, trouble.delay) == (0, delay)
        book.sleep(delay)
    book.expect_run(Settle)


def test_an_outcome_that_the_list_does_not_decide_is_looked_for_three_times_in_a_run() -> None:
    book = lost_create()
    for delay in (5.0, 10.0, 20.0):
        book.expect_run(Settle).fail(unknown(PLAN))
        book.expect_news(Trouble)
        book.sleep(delay)
    book.expect_done(Ending.DOUBTS)
    book.restart(now=0.0)
    assert book.expect_run(Settle).spec == SETTLE


def test_the_outcome_of_a_new_create_is_looked_for_as_often_as_that_of_the_first() -> None:
    book = lost_create()
    for delay in (5.0, 10.0, 20.0):
        book.expect_run(Settle).fail(unknown(PLAN))
        book.expect_news(Trouble)
        book.sleep(delay)
    book.job.decide(0, None, book.now)
    book.expect_persist(Refused)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.fail(unknown(PLAN))
    book.expect_persist(Doubted)
    book.expect_news(Trouble)
    book.sleep(300.0)
    book.expect_run(Settle)


def test_an_intent_of_an_earlier_run_that_the_list_does_not_decide_is_in_doubt() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.INTENT), END)
    book.expect_run(Settle).fail(unknown(PLAN))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert not doubt.needs_person
    for delay in (5.0, 10.0):
        book.expect_news(Trouble)
        book.expect_wait(delay)
        book.expect_run(Settle).fail(unknown(PLAN))
    book.expect_news(Trouble)
    book.sleep(20.0)
    book.expect_done(Ending.DOUBTS)
    assert [doubt.chunk for doubt in job_status(book.job.state).doubts] == [0]
    book.job.decide(0, None, book.now)


def test_a_create_without_an_intent_is_in_doubt_all_the_same() -> None:
    book = JobPlaybook(PLAN, END)
    book.expect_run(Create).fail(unknown(PLAN))
    intent, doubt = book.expect_persist(CreateIntended, Doubted)
    assert intent == CreateIntended(chunk=0, marker=marker(PLAN))
    assert isinstance(doubt, Doubted)
    assert not doubt.needs_person
    book.expect_news(Trouble)
    assert book.expect_run(Settle).spec == SETTLE


def test_an_outcome_without_a_marker_needs_a_person() -> None:
    book = JobPlaybook(PLAN, END)
    book.expect_run(Create).fail(OutcomeUnknownError("read timeout", requests=ROWS))
    _, doubt = book.expect_persist(CreateIntended, Doubted)
    assert isinstance(doubt, Doubted)
    assert doubt.needs_person
    book.expect_news(Trouble)
    book.sleep(5.0)
    book.expect_done(Ending.DOUBTS)


def test_a_batch_without_an_intent_is_recorded_all_the_same() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.event(BatchCreated(batch=batch_of(PLAN)))
    create.succeed(batch_of(PLAN))
    book.expect_persist(CreateIntended, Submitted)
    book.expect_run(Poll)


# --- candidates need a person ------------------------------------------------------------


def test_candidates_are_never_chosen_from_without_a_person() -> None:
    book = lost_create()
    book.expect_run(Settle).fail(unknown(PLAN, *CANDIDATES))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert (doubt.candidates, doubt.needs_person) == (("b1", "b2"), True)
    book.expect_news(Trouble)
    book.sleep(1e6)
    book.expect_done(Ending.DOUBTS)
    book.restart(now=0.0)
    book.expect_done(Ending.DOUBTS)
    assert job_status(book.job.state).doubts[0].candidates == ("b1", "b2")


def test_a_create_that_settled_itself_can_leave_candidates() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.fail(unknown(PLAN, *CANDIDATES))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert (doubt.candidates, doubt.needs_person) == (("b1", "b2"), True)


def person_is_needed() -> JobPlaybook:
    return JobPlaybook(*history(PLAN, ChunkState.INTENT), *in_doubt("b1", "b2"), END)


def test_a_person_says_which_batch_it_is() -> None:
    book = person_is_needed()
    book.expect_done(Ending.DOUBTS)
    book.job.decide(0, batch("b2"), book.now)
    (recorded,) = book.expect_persist(Submitted)
    assert isinstance(recorded, Submitted)
    assert (recorded.batch_id, recorded.adopted) == ("b2", True)
    assert book.expect_run(Poll).spec.batch_ids == ("b2",)


def test_a_person_says_that_there_is_no_batch() -> None:
    book = person_is_needed()
    book.job.decide(0, None, book.now)
    (refused,) = book.expect_persist(Refused)
    assert isinstance(refused, Refused)
    assert refused.reason == "a person says that it made no batch"
    book.expect_run(Create)


def decided(batch_id: str | None) -> tuple[JobPlaybook, Started[Settle]]:
    """A person decides while the list is read."""
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), END)
    settle = book.expect_run(Settle)
    book.job.decide(0, None if batch_id is None else batch(batch_id), book.now)
    book.expect_persist(Refused if batch_id is None else Submitted)
    return book, settle


def test_a_decision_stands_when_the_list_says_later_that_there_is_no_batch() -> None:
    book, settle = decided("b2")
    settle.succeed(None)
    assert book.expect_run(Poll).spec.batch_ids == ("b2",)


def test_a_decision_stands_when_the_list_shows_candidates_later() -> None:
    book, settle = decided("b2")
    settle.fail(unknown(PLAN, *CANDIDATES))
    book.expect_news(Trouble)
    assert book.expect_run(Poll).spec.batch_ids == ("b2",)


def test_a_batch_that_is_found_after_the_decision_that_there_is_none_is_reported() -> None:
    book, settle = decided(None)
    create = book.expect_run(Create)
    create.mark(PLAN, "listed before this create")
    assert settle.event(BatchCreated(batch=batch("b1"), adopted=True)) is None
    settle.succeed(batch("b1"))
    assert book.expect_news(StraySeen) == StraySeen(chunk=0, batch_id="b1")
    book.expect_idle()
    create.create(batch("b3"))
    assert book.expect_run(Poll).spec.batch_ids == ("b3",)


def test_the_batch_that_a_person_named_is_no_stray_when_it_is_found_as_well() -> None:
    book, settle = decided("b2")
    settle.succeed(batch("b2"))
    assert book.expect_run(Poll).spec.batch_ids == ("b2",)


def test_a_batch_that_has_become_another_chunks_meanwhile_is_not_adopted() -> None:
    two = plans(ROWS, ROWS)[1]
    book = JobPlaybook(
        *history(PLAN, ChunkState.DOUBT),
        *history(two, ChunkState.INTENT),
        Doubted(chunk=1, reason="?", candidates=("b1",), needs_person=True),
    )
    settle = book.expect_run(Settle)
    book.job.decide(1, batch("b1"), book.now)
    book.expect_persist(Submitted)
    settle.succeed(batch("b1"))
    assert book.state_of(0) is ChunkState.DOUBT
    again = book.expect_run(Settle)
    assert (again.spec.chunk, again.spec.known_ids) == (0, ("b1",))


@pytest.mark.parametrize("chunk", [-1, 0, 2])
def test_there_is_nothing_to_decide_about_a_chunk_that_is_not_in_doubt(chunk: int) -> None:
    two = plans(ROWS, ROWS)[1]
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED), *history(two, ChunkState.DOUBT))
    with pytest.raises(LocalProtocolError, match=f"chunk {chunk} is not in doubt"):
        book.job.decide(chunk, None, book.now)


def test_a_batch_of_one_chunk_cannot_be_that_of_another() -> None:
    two = plans(ROWS, ROWS)[1]
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED), *history(two, ChunkState.DOUBT))
    with pytest.raises(LocalProtocolError, match="batch msgbatch_0 is that of chunk 0"):
        book.job.decide(1, batch("msgbatch_0"), book.now)


# --- the other chunks go on --------------------------------------------------------------


def test_a_chunk_of_the_same_size_waits_until_the_doubt_is_settled() -> None:
    same, other = plans(ROWS, ROWS, ROWS - 1)[1:]
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), same, other, InputEnded(rows=3 * ROWS - 1))
    settle = book.expect_run(Settle)
    create = book.expect_run(Create)
    assert create.spec.plan == other
    create.mark(other)
    create.create(batch_of(other))
    book.expect_run(Poll)
    book.expect_idle()
    settle.succeed(None)
    book.expect_persist(Refused)
    assert book.expect_run(Create).spec.plan == same


def test_a_chunk_of_the_same_size_waits_while_an_intent_of_an_earlier_run_is_unclear() -> None:
    same = plans(ROWS, ROWS)[1]
    book = JobPlaybook(*history(PLAN, ChunkState.INTENT), same, InputEnded(rows=2 * ROWS))
    settle = book.expect_run(Settle)
    book.expect_idle()
    settle.create(batch_of(PLAN), adopted=True)
    book.expect_run(Poll)
    assert book.expect_run(Create).spec == Create(plan=same, known_ids=("msgbatch_0",))


def test_a_job_ends_with_its_doubts_when_all_else_is_done() -> None:
    other = plans(ROWS, ROWS - 1)[1]
    book = JobPlaybook(
        *history(PLAN, ChunkState.INTENT),
        *in_doubt("b1"),
        *history(other, ChunkState.ENDED),
        InputEnded(rows=2 * ROWS - 1),
    )
    book.expect_run(Collect).succeed(CollectResult(answered=ROWS - 1))
    book.expect_persist(Collected)
    book.expect_done(Ending.DOUBTS)


def test_each_chunk_in_doubt_is_settled_by_itself() -> None:
    two = plans(ROWS, ROWS - 1)[1]
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), *history(two, ChunkState.INTENT))
    chunks = {book.expect_run(Settle).spec.chunk, book.expect_run(Settle).spec.chunk}
    assert chunks == {0, 1}
    book.expect_run(Plan)
    book.expect_idle()


# --- strays ------------------------------------------------------------------------------


def with_stray(*shown: str, listed: tuple[str, ...] = ()) -> JobPlaybook:
    """A poll shows these batches of the size of a chunk in doubt, whose candidate is b1."""
    other = plans(ROWS, ROWS - 1)[1]
    doubt = Doubted(
        chunk=0, reason="?", marker=marker(PLAN, *listed), candidates=("b1",), needs_person=True
    )
    book = JobPlaybook(
        *history(PLAN, ChunkState.INTENT), doubt, *history(other, ChunkState.SUBMITTED)
    )
    poll = book.expect_run(Poll)
    assert poll.spec == Poll(
        batch_ids=("msgbatch_1",), sizes=(ROWS,), since=CREATED + timedelta(minutes=1)
    )
    book.expect_run(Plan)
    strays = tuple(batch(id_) for id_ in shown)
    poll.succeed(PollResult(batches=(batch_of(other), *strays)))
    return book


def test_a_batch_of_a_doubted_size_that_shows_up_is_reported_once_and_never_touched() -> None:
    book = with_stray("late")
    assert book.expect_news(StraySeen) == StraySeen(chunk=0, batch_id="late")
    book.expect_wait(30.0)
    other = plans(ROWS, ROWS - 1)[1]
    book.expect_run(Poll).succeed(PollResult(batches=(batch("late"), batch_of(other))))
    book.expect_wait(30.0)


def test_candidates_and_batches_from_before_the_create_are_no_strays() -> None:
    with_stray("b1", "older", listed=("older",)).expect_wait(30.0)


def test_batches_of_another_size_are_no_strays() -> None:
    book = with_stray()
    book.sleep(30.0)
    other = plans(ROWS, ROWS - 1)[1]
    shown = (batch("larger", ROWS + 1), batch_of(other))
    book.expect_run(Poll).succeed(PollResult(batches=shown))
    book.expect_wait(30.0)


def test_the_batches_of_the_job_are_no_strays() -> None:
    same = plans(ROWS, ROWS)[1]
    book = JobPlaybook(
        *history(PLAN, ChunkState.INTENT), *in_doubt(), *history(same, ChunkState.SUBMITTED)
    )
    poll = book.expect_run(Poll)
    book.expect_run(Plan)
    poll.succeed(PollResult(batches=(batch_of(same),)))
    book.expect_wait(30.0)


# --- foreign results ---------------------------------------------------------------------


def test_the_results_of_other_requests_reopen_the_doubt() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.ENDED), END)
    book.expect_run(Collect).succeed(CollectResult(answered=0, is_foreign=True))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert doubt == Doubted(
        chunk=0,
        reason="the results of batch msgbatch_0 are those of other requests",
        candidates=("msgbatch_0",),
        needs_person=True,
    )
    book.expect_done(Ending.DOUBTS)
    book.job.decide(0, batch("b2"), book.now)
    book.expect_persist(Submitted)
    book.expect_run(Poll).succeed(PollResult(batches=(batch("b2", status="ended"),)))
    book.expect_persist(Ended)
    assert book.expect_run(Collect).spec.batch_id == "b2"


def test_a_list_that_was_read_meanwhile_says_nothing_about_a_foreign_batch() -> None:
    two = plans(ROWS, 8)[1]
    book = JobPlaybook(*histories([PLAN, two], ChunkState.SUBMITTED), InputEnded(rows=18))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    get = book.expect_run(Get)
    book.sleep(30.0)
    poll = book.expect_run(Poll)
    get.succeed(batch_of(PLAN, "ended"))
    book.expect_persist(Ended)
    book.expect_run(Collect).succeed(CollectResult(answered=0, is_foreign=True))
    book.expect_persist(Doubted)
    poll.succeed(PollResult(batches=(batch_of(PLAN, "ended"), batch_of(two))))
    assert book.state_of(0) is ChunkState.DOUBT
    book.expect_wait(30.0)


def test_settling_that_returns_late_does_not_adopt_a_foreign_batch_again() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.INTENT), END)
    settle = book.expect_run(Settle)
    settle.event(BatchCreated(batch=batch_of(PLAN), adopted=True))
    book.expect_persist(Submitted)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(PLAN, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).succeed(CollectResult(answered=0, is_foreign=True))
    book.expect_persist(Doubted)
    settle.succeed(batch_of(PLAN))
    book.expect_done(Ending.DOUBTS)


def adopted(*candidates: str) -> JobPlaybook:
    """A job whose only chunk has ended, after its batch was chosen among these candidates."""
    doubt = Doubted(chunk=0, reason="?", candidates=candidates, needs_person=True)
    found = msgspec.structs.replace(submitted(PLAN), adopted=True)
    return JobPlaybook(PLAN, intended(PLAN), doubt, found, ended(PLAN), END)


@pytest.mark.parametrize(
    "candidates", [("msgbatch_0", "b2", "b3"), ("msgbatch_0",)], ids=["other candidates", "none"]
)
def test_a_person_decides_on_the_other_candidates_when_one_turns_out_to_be_foreign(
    candidates: tuple[str, ...],
) -> None:
    book = adopted(*candidates)
    book.expect_run(Collect).succeed(CollectResult(answered=0, is_foreign=True))
    (doubt,) = book.expect_persist(Doubted)
    assert isinstance(doubt, Doubted)
    assert (doubt.candidates, doubt.needs_person) == (candidates[1:], True)
    book.expect_done(Ending.DOUBTS)
    with pytest.raises(LocalProtocolError, match="batch msgbatch_0 are those of other requests"):
        book.job.decide(0, batch_of(PLAN), book.now)


# --- failures that are no doubts ---------------------------------------------------------


def test_a_create_that_is_known_to_have_made_a_batch_cannot_fail_it_any_more() -> None:
    for error in (unknown(PLAN), status_error(429), outage()):
        book = JobPlaybook(PLAN, END)
        create = book.expect_run(Create)
        create.mark(PLAN)
        create.event(BatchCreated(batch=batch_of(PLAN)))
        create.fail(error)
        book.expect_persist(Submitted)
        assert book.state_of(0) is ChunkState.SUBMITTED


def test_a_doubt_that_ends_well_leaves_no_trace() -> None:
    book = lost_create()
    book.expect_run(Settle).create(batch_of(PLAN), adopted=True)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(PLAN, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    book.expect_persist(Finished)
    book.expect_done(Ending.FINISHED)


def test_a_new_reason_of_a_doubt_is_recorded() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT))
    settle = book.expect_run(Settle)
    book.expect_run(Plan)
    settle.fail(unknown(PLAN))
    [doubted] = book.expect_persist(Doubted)
    assert isinstance(doubted, Doubted)
    assert "(read timeout)" in doubted.reason
    book.sleep(book.expect_news(Trouble).delay)
    book.expect_run(Settle).fail(unknown(PLAN))
    book.expect_news(Trouble)
