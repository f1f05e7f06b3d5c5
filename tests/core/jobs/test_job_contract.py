"""The contract of a job with its driver: what comes when, and what the driver may report."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batches_core import (
    BatchCreated,
    BatchState,
    CreateMarked,
    Event,
    LocalProtocolError,
    RetryScheduled,
    SettlingStarted,
)
from batches_core.jobs import (
    Cancel,
    CancelAsked,
    ChunkChanged,
    ChunkPlanned,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Counts,
    Create,
    CreateIntended,
    Ended,
    Ending,
    Finished,
    Get,
    Hold,
    InputEnded,
    Job,
    JobOpened,
    JobOptions,
    Persist,
    Plan,
    PlannedInput,
    PlanRetry,
    Poll,
    PollResult,
    Report,
    Run,
    Settle,
    Spec,
    Submitted,
    Trouble,
    Usage,
    Wait,
    describe,
    progress_of,
)
from tests.support.job_playbook import (
    CREATED,
    ROWS,
    JobPlaybook,
    batch,
    batch_of,
    failed_row,
    history,
    marker,
    outage,
    plans,
    submitted,
    unknown,
)

(PLAN,) = plans(ROWS)
END = InputEnded(rows=ROWS)


def planned() -> JobPlaybook:
    """A job of one chunk that is to be created."""
    return JobPlaybook(PLAN, END)


# --- a whole job -------------------------------------------------------------------------


def test_a_job_of_one_chunk_from_its_input_to_its_end() -> None:
    book = JobPlaybook()
    plan = book.expect_run(Plan)
    assert plan.spec == Plan(chunk=0, first_row=0, start=0, rows=ROWS)
    book.expect_idle()
    plan.succeed(PlannedInput(plan=PLAN, ended=True))
    assert book.expect_persist(ChunkPlanned, InputEnded) == (PLAN, END)

    create = book.expect_run(Create)
    assert create.spec == Create(plan=PLAN)
    hold = create.event(CreateMarked(marker=marker(PLAN)))
    assert hold is not None
    intent = CreateIntended(chunk=0, marker=marker(PLAN))
    assert book.expect_persist(CreateIntended, number=hold.number) == (intent,)
    hold = create.event(BatchCreated(batch=batch_of(PLAN)))
    assert hold is not None
    assert book.expect_persist(Submitted, number=hold.number) == (submitted(PLAN),)
    create.succeed(batch_of(PLAN))

    poll = book.expect_run(Poll)
    assert poll.spec == Poll(batch_ids=("msgbatch_0",), since=CREATED)
    poll.succeed(PollResult(batches=(batch_of(PLAN),)))
    book.expect_wait(30.0)
    poll = book.expect_run(Poll)
    poll.succeed(PollResult(batches=(batch_of(PLAN, "ended"),)))
    (end,) = book.expect_persist(Ended)
    assert isinstance(end, Ended)

    collect = book.expect_run(Collect)
    assert collect.spec == Collect(plan=PLAN, batch_id="msgbatch_0", counts=end.counts)
    collect.succeed(CollectResult(answered=ROWS))
    book.expect_persist(Collected)
    book.expect_persist(Finished)
    book.expect_done(Ending.FINISHED)
    assert book.changes == [
        (0, "planned"),
        (0, "being created"),
        (0, "in flight"),
        (0, "ended"),
        (0, "collected"),
    ]


# --- records -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "records", [[], [PLAN], [JobOpened(job_id="j", options=JobOptions()), END]]
)
def test_records_that_are_not_those_of_a_job_are_refused(records: list[Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Job(records, 0.0)


def test_nothing_but_the_same_persist_comes_until_it_is_durable() -> None:
    book = JobPlaybook()
    book.expect_run(Plan).succeed(PlannedInput(plan=PLAN, ended=False))
    first = book.job.next()
    assert isinstance(first, Persist)
    assert [book.job.next() for _ in range(3)] == [first] * 3
    book.job.persisted(first.number, book.now)
    assert isinstance(book.job.next(), Report)


def test_persists_are_numbered_from_one() -> None:
    book = JobPlaybook()
    one, two = plans(ROWS, ROWS)
    book.expect_run(Plan).succeed(PlannedInput(plan=one, ended=False))
    book.expect_persist(ChunkPlanned, number=1)
    book.expect_run(Create)
    book.expect_run(Plan).succeed(PlannedInput(plan=two, ended=False))
    book.expect_persist(ChunkPlanned, number=2)


def test_a_persist_that_was_not_handed_out_cannot_be_durable() -> None:
    book = JobPlaybook()
    book.expect_run(Plan).succeed(PlannedInput(plan=PLAN, ended=False))
    with pytest.raises(LocalProtocolError, match="no Persist 1"):
        book.job.persisted(1, book.now)
    book.expect(Persist)
    with pytest.raises(LocalProtocolError, match="no Persist 2"):
        book.job.persisted(2, book.now)
    book.job.persisted(1, book.now)
    with pytest.raises(LocalProtocolError, match="no Persist 1"):
        book.job.persisted(1, book.now)


def test_a_record_that_comes_while_others_are_written_is_in_the_next_persist() -> None:
    book = planned()
    create = book.expect_run(Create)
    book.job.cancel(book.now)
    first = book.expect(Persist)
    hold = create.event(CreateMarked(marker=marker(PLAN)))
    assert hold == Hold(number=first.number + 1)
    assert book.expect(Persist) == first
    book.job.persisted(first.number, book.now)
    book.expect_persist(CreateIntended, number=hold.number)


def test_a_record_that_comes_before_others_are_written_is_written_with_them() -> None:
    book = planned()
    create = book.expect_run(Create)
    book.job.cancel(book.now)
    hold = create.event(CreateMarked(marker=marker(PLAN)))
    assert hold is not None
    book.expect_persist(CancelAsked, CreateIntended, number=hold.number)


def test_an_event_that_adds_no_record_holds_nothing() -> None:
    book = planned()
    create = book.expect_run(Create)
    create.mark(PLAN)
    assert create.event(BatchCreated(batch=batch_of(PLAN))) is not None
    book.expect_persist(Submitted)
    assert create.event(BatchCreated(batch=batch_of(PLAN))) is None


def test_a_driver_that_holds_an_operation_can_ask_for_the_records() -> None:
    book = planned()
    create = book.expect_run(Create)
    assert book.job.unpersisted is None
    create.event(CreateMarked(marker=marker(PLAN)))
    persist = book.job.unpersisted
    assert persist is not None
    assert persist == book.expect(Persist)
    book.job.persisted(persist.number, book.now)
    assert book.job.unpersisted is None


def test_a_change_is_reported_once_it_is_durable_and_before_anything_is_run() -> None:
    book = JobPlaybook()
    book.expect_run(Plan).succeed(PlannedInput(plan=PLAN, ended=True))
    persist = book.job.next()
    assert isinstance(persist, Persist)
    book.job.persisted(persist.number, book.now)
    assert book.job.next() == Report(news=ChunkChanged(chunk=0, state="planned"))
    assert book.job.next() == Report(news=progress_of(book.job.state))
    assert isinstance(book.job.next(), Run)


# --- operations --------------------------------------------------------------------------


def test_an_operation_that_does_not_run_can_report_nothing() -> None:
    book = planned()
    create = book.expect_run(Create)
    create.fail(outage())
    with pytest.raises(LocalProtocolError, match="no operation 1 is running"):
        create.event(BatchCreated(batch=batch_of(PLAN)))
    with pytest.raises(LocalProtocolError, match="no operation 1 is running"):
        create.succeed(batch_of(PLAN))
    with pytest.raises(LocalProtocolError, match="no operation 1 is running"):
        create.fail(outage())


@pytest.mark.parametrize(
    "event",
    [
        BatchState(batch=batch_of(PLAN)),
        RetryScheduled(error=outage(), retry=1, delay=1.0),
        SettlingStarted(error=unknown(PLAN), settle_time=60.0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_any_other_event_of_a_create_changes_nothing(event: Event) -> None:
    book = planned()
    create = book.expect_run(Create)
    assert create.event(event) is None
    book.expect_idle()


def test_events_of_reads_change_nothing() -> None:
    book = JobPlaybook(*history(PLAN, ChunkState.SUBMITTED), END)
    poll = book.expect_run(Poll)
    assert poll.event(BatchCreated(batch=batch_of(PLAN))) is None
    assert poll.event(CreateMarked(marker=marker(PLAN))) is None


@pytest.mark.parametrize("value", [None, PollResult(batches=()), CollectResult(answered=1)])
def test_an_operation_cannot_end_with_a_value_of_another_kind(value: Any) -> None:
    create = planned().expect_run(Create)
    with pytest.raises(LocalProtocolError, match="Create cannot end with a "):
        create.succeed(value)


def test_a_failure_as_a_plain_value_is_as_good_as_the_error() -> None:
    by_error, by_value = planned(), planned()
    by_error.expect_run(Create).fail(outage())
    by_value.expect_run(Create).fail(describe(outage()))
    assert by_error.expect_news(Trouble) == by_value.expect_news(Trouble)
    assert by_error.expect(Wait) == by_value.expect(Wait)


SPECS: list[Spec] = [
    Plan(chunk=0, first_row=0, start=0, rows=9),
    PlanRetry(chunk=1, rows=(3, 4), round=1),
    Create(plan=PLAN, known_ids=("a",)),
    Settle(chunk=0, marker=marker(PLAN, "a"), settle_time=600.0, known_ids=("b",)),
    Poll(batch_ids=("a", "b"), sizes=(9, 10), since=CREATED),
    Get(chunk=0, batch_id="a"),
    Cancel(chunk=0, batch_id="a"),
    Collect(plan=PLAN, batch_id="a", counts=Counts(succeeded=9, expired=1)),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: type(spec).__name__)
def test_an_operation_can_be_sent_to_another_process(spec: Spec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=Spec) == spec


@pytest.mark.parametrize(
    "value",
    [
        PlannedInput(plan=PLAN, ended=False),
        PlannedInput(plan=None, ended=True),
        PollResult(batches=(batch_of(PLAN), batch("b", status="ended"))),
        CollectResult(answered=1, failed=(failed_row(3),), usage=(Usage(model="m"),)),
        CollectResult(answered=0, is_foreign=True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_value_of_an_operation_can_come_from_another_process(value: Any) -> None:
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


# --- time --------------------------------------------------------------------------------


def test_reporting_the_time_is_always_harmless() -> None:
    book = planned()
    for seconds in (0.0, 1.0, 1e6):
        book.sleep(seconds)
    book.expect_run(Create)
    book.sleep(1.0)
    book.expect_idle()


def test_a_clock_that_runs_backwards_changes_nothing() -> None:
    book = planned()
    book.expect_run(Create).fail(outage())
    book.expect_news(Trouble)
    book.sleep(5.0)
    book.job.handle_timeout(book.now - 1e6)
    book.expect_run(Create)


def test_the_end_repeats() -> None:
    book = JobPlaybook(InputEnded(rows=0))
    book.expect_persist(Finished)
    for _ in range(3):
        book.expect_done(Ending.FINISHED)
    book.sleep(1e6)
    book.expect_done(Ending.FINISHED)
