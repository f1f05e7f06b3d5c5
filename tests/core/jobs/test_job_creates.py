"""Planning and creating: chunk after chunk, each batch bought once, within the service's queue."""

from __future__ import annotations

import pytest

from batches_core import BatchCreated, InvalidInputError, LocalProtocolError
from batches_core.jobs import (
    BoughtAgain,
    CancelAsked,
    ChunkPlanned,
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
    JobPaused,
    Lost,
    Paused,
    Plan,
    PlannedInput,
    Poll,
    PollResult,
    Refused,
    Resumed,
    RoomChanged,
    Settle,
    Submitted,
    Trouble,
    chunk_size,
)
from tests.support.job_playbook import (
    JOB_ID,
    ROWS,
    JobPlaybook,
    archived,
    batch,
    batch_of,
    histories,
    history,
    marker,
    not_found,
    outage,
    plans,
    status_error,
    unknown,
)

(PLAN,) = plans(ROWS)
END = InputEnded(rows=ROWS)

# --- planning ----------------------------------------------------------------------------


def test_each_chunk_is_planned_with_a_size_of_its_own() -> None:
    book = JobPlaybook(chunk_rows=1000)
    sizes = [chunk_size(JOB_ID, chunk, 1000) for chunk in range(2)]
    assert len({*sizes}) == 2
    plan = book.expect_run(Plan)
    assert plan.spec == Plan(chunk=0, first_row=0, start=0, rows=sizes[0])
    one = ChunkPlanned(chunk=0, count=sizes[0], end=4321)
    plan.succeed(PlannedInput(plan=one, ended=False))
    book.expect_persist(ChunkPlanned)
    book.expect_run(Create)
    assert book.expect_run(Plan).spec == Plan(
        chunk=1, first_row=sizes[0], start=4321, rows=sizes[1]
    )


def test_the_input_is_read_two_chunks_ahead_and_one_plan_at_a_time() -> None:
    book = JobPlaybook()
    one, two, three = plans(ROWS, ROWS, ROWS)
    plan = book.expect_run(Plan)
    book.expect_idle()
    plan.succeed(PlannedInput(plan=one, ended=False))
    book.expect_persist(ChunkPlanned)
    create = book.expect_run(Create)
    book.expect_run(Plan).succeed(PlannedInput(plan=two, ended=False))
    book.expect_persist(ChunkPlanned)
    book.expect_idle()
    create.mark(one)
    book.expect_run(Plan).succeed(PlannedInput(plan=three, ended=False))
    book.expect_persist(ChunkPlanned)
    book.expect_idle()


def test_chunks_that_cannot_be_created_yet_do_not_count_as_read_ahead() -> None:
    same = plans(ROWS, ROWS, ROWS)[1:]
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), *same)
    book.expect_run(Settle)
    assert book.expect_run(Plan).spec.chunk == 3


def test_the_input_is_read_ahead_by_no_more_rows_than_may_wait() -> None:
    chunks = plans(*[ROWS] * 4)
    book = JobPlaybook(*history(PLAN, ChunkState.DOUBT), *chunks[1:3], max_waiting=3 * ROWS)
    book.expect_run(Settle)
    book.expect_run(Plan).succeed(PlannedInput(plan=chunks[3], ended=False))
    book.expect_persist(ChunkPlanned)
    book.expect_idle()


def test_an_empty_input_is_finished_without_a_create() -> None:
    book = JobPlaybook()
    book.expect_run(Plan).succeed(PlannedInput(plan=None, ended=True))
    book.expect_record(InputEnded(rows=0))
    book.expect_persist(Finished)
    book.expect_done(Ending.FINISHED)


def test_an_input_can_turn_out_to_have_ended_with_the_chunk_before() -> None:
    book = JobPlaybook(PLAN)
    book.expect_run(Create)
    book.expect_run(Plan).succeed(PlannedInput(plan=None, ended=True))
    book.expect_record(END)


def test_a_plan_without_rows_and_without_an_end_is_refused() -> None:
    plan = JobPlaybook().expect_run(Plan)
    with pytest.raises(LocalProtocolError, match="chunk 0 has no rows"):
        plan.succeed(PlannedInput(plan=None, ended=False))


def test_an_input_that_cannot_be_read_now_is_read_later() -> None:
    book = JobPlaybook()
    book.expect_run(Plan).fail(outage())
    assert book.expect_news(Trouble).chunk == 0
    book.expect_wait(5.0)
    book.expect_run(Plan)


def test_a_mistake_in_the_input_pauses_the_job_and_what_was_sent_is_collected() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED))
    poll = book.expect_run(Poll)
    book.expect_run(Plan).fail(InvalidInputError("line 11 is not JSON"))
    book.expect_record(Paused(reason="input", message="line 11 is not JSON"))
    assert book.expect_news(JobPaused) == JobPaused(reason="input", message="line 11 is not JSON")
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(PLAN, "ended"),)))
    book.expect_persist(Ended)


# --- the write ahead ---------------------------------------------------------------------


def test_a_create_may_leave_only_when_its_intent_is_durable() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    assert book.journal[-1] == CreateIntended(chunk=0, marker=marker(PLAN))
    assert book.state_of(0) is ChunkState.INTENT
    book.expect_idle()


def test_the_id_of_a_batch_is_recorded_as_soon_as_it_is_known() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.create(batch_of(PLAN))
    (recorded,) = [record for record in book.journal if isinstance(record, Submitted)]
    made = batch_of(PLAN)
    assert (recorded.batch_id, recorded.adopted) == (made.id, False)
    assert (recorded.created_at, recorded.expires_at) == (made.created_at, made.expires_at)
    book.expect_run(Poll)


def test_a_batch_that_was_only_returned_is_recorded_as_well() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.succeed(batch_of(PLAN))
    book.expect_persist(Submitted)


def test_a_create_that_settled_itself_says_that_its_batch_was_adopted() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.create(batch_of(PLAN), adopted=True)
    assert book.job.state.chunks[0].adopted


def test_a_create_cannot_report_two_batches() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.event(BatchCreated(batch=batch_of(PLAN)))
    with pytest.raises(LocalProtocolError, match="chunk 0 is in flight and has another batch"):
        create.event(BatchCreated(batch=batch("another")))


# --- one after the other -----------------------------------------------------------------


def test_creates_run_one_at_a_time() -> None:
    one, two = plans(ROWS, ROWS)
    book = JobPlaybook(one, two, InputEnded(rows=2 * ROWS))
    create = book.expect_run(Create)
    book.expect_idle()
    create.mark(one)
    book.expect_idle()
    create.create(batch_of(one))
    book.expect_run(Poll)
    assert book.expect_run(Create).spec.plan == two


def test_a_create_knows_the_batches_of_the_job_that_have_its_size() -> None:
    one, two, three = plans(ROWS, 7, ROWS)
    book = JobPlaybook(*histories([one, two], ChunkState.SUBMITTED), three)
    book.expect_run(Poll)
    assert book.expect_run(Create).spec == Create(plan=three, known_ids=("msgbatch_0",))


def test_a_refused_create_is_sent_again_after_a_while() -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.fail(status_error(409, "conflict_error"))
    (refused,) = book.expect_persist(Refused)
    assert isinstance(refused, Refused)
    assert "conflict_error" in refused.reason
    trouble = book.expect_news(Trouble)
    assert (trouble.chunk, trouble.message, trouble.delay) == (0, refused.reason, 5.0)
    book.expect_wait(5.0)
    assert book.expect_run(Create).spec.plan == PLAN


def test_a_create_that_failed_before_its_intent_leaves_no_record() -> None:
    book = JobPlaybook(PLAN, END)
    book.expect_run(Create).fail(outage())
    book.expect_news(Trouble)
    book.expect_wait(5.0)
    book.expect_run(Create)


def test_creates_wait_twice_as_long_after_each_failure_up_to_five_minutes() -> None:
    book = JobPlaybook(PLAN, END)
    for delay in (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0):
        book.expect_run(Create).fail(outage())
        assert book.expect_news(Trouble).delay == delay
        book.expect_wait(delay)


def test_a_success_ends_the_backoff() -> None:
    one, two = plans(ROWS, ROWS)
    book = JobPlaybook(one, two, InputEnded(rows=2 * ROWS))
    for delay in (5.0, 10.0):
        book.expect_run(Create).fail(outage())
        book.expect_news(Trouble)
        book.expect_wait(delay)
    create = book.expect_run(Create)
    create.mark(one)
    create.create(batch_of(one))
    book.expect_run(Poll)
    book.expect_run(Create).fail(outage())
    assert book.expect_news(Trouble).delay == 5.0


def test_a_longer_delay_that_the_service_asks_for_is_kept() -> None:
    book = JobPlaybook(PLAN, END)
    book.expect_run(Create).fail(status_error(529, "overloaded_error", retry_after=77.0))
    assert book.expect_news(Trouble).delay == 77.0
    book.expect_wait(77.0)
    book.expect_run(Create).fail(status_error(529, "overloaded_error", retry_after=1.0))
    assert book.expect_news(Trouble).delay == 10.0


# --- room in the queue -------------------------------------------------------------------


def test_no_more_rows_are_in_flight_than_may_wait() -> None:
    one, two, three = plans(ROWS, ROWS, ROWS)
    end = InputEnded(rows=3 * ROWS)
    book = JobPlaybook(*history(one, ChunkState.SUBMITTED), two, three, end, max_waiting=2 * ROWS)
    poll = book.expect_run(Poll)
    create = book.expect_run(Create)
    create.mark(two)
    create.create(batch_of(two))
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(one, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect)
    assert book.expect_run(Create).spec.plan == three


def test_a_chunk_in_doubt_takes_its_room() -> None:
    one, two = plans(ROWS, ROWS - 1)
    book = JobPlaybook(*history(one, ChunkState.DOUBT), two, max_waiting=ROWS)
    book.expect_run(Settle)
    book.expect_run(Plan)
    book.expect_idle()


def test_a_chunk_that_is_larger_than_the_room_goes_alone() -> None:
    book = JobPlaybook(PLAN, END, max_waiting=ROWS - 1)
    assert book.expect_run(Create).spec.plan == PLAN


def full(book: JobPlaybook, retry_after: float | None = None) -> None:
    """The next create is refused because the queue is full."""
    create = book.expect_run(Create)
    create.mark(create.spec.plan)
    create.fail(status_error(429, "rate_limit_error", retry_after=retry_after))
    book.expect_persist(Refused)


def test_a_full_queue_halves_the_room_and_the_create_waits_as_long_as_asked() -> None:
    book = JobPlaybook(PLAN, END, max_waiting=8 * ROWS)
    full(book, retry_after=100.0)
    assert book.expect_news(RoomChanged).room == 4 * ROWS
    assert book.expect_news(Trouble).delay == 100.0
    book.expect_wait(100.0)
    full(book)
    assert book.expect_news(RoomChanged).room == 2 * ROWS


def test_a_429_before_the_create_was_sent_says_nothing_about_the_queue() -> None:
    book = JobPlaybook(PLAN, END, max_waiting=8 * ROWS)
    book.expect_run(Create).fail(status_error(429, "rate_limit_error"))
    book.expect_news(Trouble)
    book.expect_wait(5.0)


def test_the_room_is_never_less_than_one_chunk() -> None:
    book = JobPlaybook(PLAN, END, max_waiting=3 * ROWS)
    rooms = []
    for delay in (5.0, 10.0, 20.0):
        full(book)
        rooms.append(book.expect_news(RoomChanged).room)
        book.expect_news(Trouble)
        book.expect_wait(delay)
    assert rooms == [15, ROWS, ROWS]


def test_the_room_grows_by_a_chunk_for_each_hour_without_a_full_queue() -> None:
    one, two = plans(ROWS, 7)
    book = JobPlaybook(one, two, InputEnded(rows=17), max_waiting=35)
    full(book)
    assert book.expect_news(RoomChanged).room == 17
    book.expect_news(Trouble)
    book.sleep(3599.0)
    book.expect_run(Create)
    for seconds, room in ((1.0, 27), (3600.0, 35)):
        book.sleep(seconds)
        assert book.expect_news(RoomChanged).room == room
    book.sleep(3600.0)
    book.expect_idle()


def test_a_full_queue_begins_the_hour_anew() -> None:
    book = JobPlaybook(PLAN, END, max_waiting=80)
    full(book)
    book.expect_news(RoomChanged)
    book.expect_news(Trouble)
    book.sleep(3000.0)
    full(book)
    assert book.expect_news(RoomChanged).room == 20
    book.expect_news(Trouble)
    book.sleep(3599.0)
    book.expect_run(Create)
    book.sleep(1.0)
    assert book.expect_news(RoomChanged).room == 30


def test_a_chunk_that_does_not_fit_is_created_when_the_room_has_grown() -> None:
    one, two = plans(ROWS, 7)
    book = JobPlaybook(*history(one, ChunkState.SUBMITTED), two, max_waiting=30)
    poll = book.expect_run(Poll)
    full(book)
    assert book.expect_news(RoomChanged).room == 15
    book.expect_news(Trouble)
    book.expect_run(Plan).succeed(PlannedInput(plan=None, ended=True))
    book.expect_persist(InputEnded)
    book.sleep(5.0)
    book.expect_wait(3595.0)
    assert book.expect_news(RoomChanged).room == 25
    assert book.expect_run(Create).spec.plan == two
    poll.succeed(PollResult(batches=()))


def test_nobody_waits_for_room_that_is_of_no_use() -> None:
    other = plans(ROWS, 8)[1]
    doubt = Doubted(chunk=0, reason="?", candidates=("b",), needs_person=True)
    book = JobPlaybook(
        *history(PLAN, ChunkState.INTENT), doubt, other, InputEnded(rows=18), max_waiting=30
    )
    full(book)
    assert book.expect_news(RoomChanged).room == 15
    book.expect_news(Trouble)
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_done(Ending.PAUSED)


def test_a_job_ends_with_its_doubts_however_little_room_there_is() -> None:
    other = plans(ROWS, 8)[1]
    doubt = Doubted(chunk=0, reason="?", candidates=("b",), needs_person=True)
    book = JobPlaybook(
        *history(PLAN, ChunkState.INTENT), doubt, other, InputEnded(rows=18), max_waiting=40
    )
    full(book)
    book.expect_news(RoomChanged)
    book.expect_news(Trouble)
    book.sleep(5.0)
    create = book.expect_run(Create)
    create.mark(other)
    create.create(batch_of(other))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(other, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).succeed(CollectResult(answered=8))
    book.expect_persist(Collected)
    book.expect_done(Ending.DOUBTS)


def test_a_new_run_begins_with_all_the_room() -> None:
    one, two = plans(ROWS, 7)
    book = JobPlaybook(*history(one, ChunkState.SUBMITTED), two, max_waiting=30)
    book.expect_run(Poll)
    full(book)
    book.restart(now=0.0)
    book.expect_run(Poll)
    assert book.expect_run(Create).spec.plan == two


# --- buying again ------------------------------------------------------------------------


def test_a_lost_chunk_is_bought_again_only_if_that_is_asked_for() -> None:
    two = plans(ROWS, ROWS)[1]
    book = JobPlaybook(*history(PLAN, ChunkState.LOST), *history(two, ChunkState.SUBMITTED))
    book.expect_run(Poll)
    book.expect_run(Plan)
    book.expect_idle()
    book.job.buy_again(0, book.now)
    book.expect_record(BoughtAgain(chunk=0))
    assert book.expect_run(Create).spec.plan == PLAN


def test_a_finished_job_goes_on_when_a_lost_chunk_is_bought_again() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.LOST), END, Finished())
    book.expect_done(Ending.FINISHED)
    book.job.buy_again(0, book.now)
    book.expect_persist(BoughtAgain)
    book.expect_run(Create)
    book.restart(now=0.0)
    book.expect_run(Create)


def test_the_create_of_a_chunk_that_is_bought_again_knows_its_earlier_batch() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.LOST), BoughtAgain(chunk=0), END)
    create = book.expect_run(Create)
    assert create.spec.known_ids == ("msgbatch_0",)
    create.mark(PLAN)
    create.fail(unknown(PLAN))
    book.expect_persist(Doubted)
    book.expect_news(Trouble)
    assert book.expect_run(Settle).spec.known_ids == ("msgbatch_0",)


def test_a_batch_that_was_bought_again_has_its_own_ten_minutes_to_appear() -> None:
    two = plans(ROWS, 8)[1]
    book = JobPlaybook(*histories([PLAN, two], ChunkState.SUBMITTED), InputEnded(rows=18))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    book.expect_run(Get).fail(not_found())
    book.expect_news(Trouble)
    book.sleep(600.0)
    book.expect_run(Get).fail(not_found())
    book.expect_persist(Lost)
    book.expect_news(Trouble)
    book.job.buy_again(0, book.now)
    book.expect_persist(BoughtAgain)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.create(batch("again"))
    book.sleep(30.0)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    get = book.expect_run(Get)
    assert get.spec.batch_id == "again"
    get.fail(not_found())
    assert book.state_of(0) is ChunkState.SUBMITTED


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_create_that_returns_late_is_not_the_one_that_was_bought_again(
    *, has_failed: bool
) -> None:
    book = JobPlaybook(PLAN, END)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.event(BatchCreated(batch=batch_of(PLAN)))
    book.expect_persist(Submitted)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(PLAN, "ended"),)))
    book.expect_persist(Ended)
    book.expect_run(Collect).fail(archived())
    book.expect_persist(Lost)
    book.job.buy_again(0, book.now)
    book.expect_persist(BoughtAgain)
    book.expect_news(Trouble)
    if has_failed:
        create.fail(unknown(PLAN))
        book.expect_news(Trouble)
        book.sleep(5.0)
    else:
        create.succeed(batch_of(PLAN))
    assert book.expect_run(Create).spec == Create(plan=PLAN, known_ids=("msgbatch_0",))


def test_a_list_that_was_read_meanwhile_says_nothing_about_a_batch_bought_again() -> None:
    two = plans(ROWS, 8)[1]
    book = JobPlaybook(*histories([PLAN, two], ChunkState.SUBMITTED), InputEnded(rows=18))
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(two),)))
    book.expect_run(Get).fail(not_found())
    book.expect_news(Trouble)
    book.sleep(600.0)
    get = book.expect_run(Get)
    poll = book.expect_run(Poll)
    get.fail(not_found())
    book.expect_persist(Lost)
    book.expect_news(Trouble)
    book.job.buy_again(0, book.now)
    book.expect_persist(BoughtAgain)
    create = book.expect_run(Create)
    create.mark(PLAN)
    create.create(batch("again"))
    poll.succeed(PollResult(batches=(batch_of(PLAN, "ended"), batch_of(two))))
    assert book.state_of(0) is ChunkState.SUBMITTED


def test_nothing_is_bought_again_in_a_canceled_job() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.LOST), CancelAsked())
    with pytest.raises(LocalProtocolError, match="the job was canceled: chunk 0"):
        book.job.buy_again(0, book.now)


@pytest.mark.parametrize("chunk", [0, 1, -1])
def test_only_a_lost_chunk_can_be_bought_again(chunk: int) -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED))
    with pytest.raises(LocalProtocolError, match="BoughtAgain"):
        book.job.buy_again(chunk, book.now)


def test_a_paused_job_creates_nothing_until_it_is_run_again() -> None:
    book = JobPlaybook(PLAN, END)
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_record(Paused(reason="budget", message="the budget is spent"))
    assert book.expect_news(JobPaused).reason == "budget"
    book.expect_done(Ending.PAUSED)
    book.restart(now=0.0)
    book.expect_record(Resumed())
    book.expect_run(Create)


# --- whether more can be sent ------------------------------------------------------------


def test_more_can_be_sent_until_the_input_has_ended_and_all_is_sent() -> None:
    book = JobPlaybook()
    assert book.job.is_submitting
    plan = book.expect_run(Plan)
    assert book.job.is_submitting
    (one,) = plans(ROWS)
    plan.succeed(PlannedInput(plan=one, ended=True))
    book.expect_persist(ChunkPlanned, InputEnded)
    assert book.job.is_submitting
    create = book.expect_run(Create)
    create.mark(one)
    assert book.job.is_submitting
    create.create(batch_of(one))
    assert not book.job.is_submitting


def test_more_can_be_sent_while_an_outcome_is_unknown() -> None:
    (one,) = plans(ROWS)
    book = JobPlaybook(*history(one, ChunkState.INTENT), InputEnded(rows=ROWS))
    assert book.job.is_submitting


def test_nothing_more_can_be_sent_while_the_queue_is_full() -> None:
    one, two = plans(ROWS, ROWS)
    book = JobPlaybook(*history(one, ChunkState.SUBMITTED), two, max_waiting=ROWS)
    assert not book.job.is_submitting


def test_nothing_more_can_be_sent_while_the_service_refuses_it() -> None:
    one, two = plans(ROWS, 4)
    book = JobPlaybook(one, two, InputEnded(rows=ROWS + 4))
    create = book.expect_run(Create)
    create.mark(one)
    assert book.job.is_submitting
    create.fail(status_error(429, "rate_limit_error"))
    assert not book.job.is_submitting


def test_nothing_more_can_be_sent_while_a_person_is_needed() -> None:
    book = JobPlaybook(*plans(ROWS))
    book.job.pause("budget", "the budget is spent", book.now)
    assert not book.job.is_submitting
