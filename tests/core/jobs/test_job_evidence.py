"""What a 404 shows: a wrong base URL, a key of another workspace, or a batch that is gone."""

from __future__ import annotations

import msgspec
import pytest

from batches_core.jobs import (
    BoughtAgain,
    ChunkState,
    Collect,
    Create,
    CreateIntended,
    Doubted,
    Ending,
    Get,
    InputEnded,
    JobPaused,
    Lost,
    Paused,
    Plan,
    Poll,
    PollResult,
    Record,
    Refused,
    Settle,
    Trouble,
    Wait,
)
from tests.support.job_playbook import (
    ROWS,
    JobPlaybook,
    Started,
    batch_of,
    histories,
    history,
    marker,
    not_found,
    outage,
    plans,
    submitted,
    unknown,
)

ONE, TWO, THREE = plans(ROWS, ROWS, ROWS)
END, END_OF_TWO = InputEnded(rows=3 * ROWS), InputEnded(rows=2 * ROWS)
URL = "https://api.example.test/v2"


def fail_and_wait(book: JobPlaybook, operation: Started[Create] | Started[Poll]) -> None:
    """The operation gets a 404, and is waited for."""
    operation.fail(not_found())
    book.sleep(book.expect_news(Trouble).delay)


def expect_paused(book: JobPlaybook, *records: type[Record]) -> Paused:
    *_, paused = book.expect_persist(*records, Paused)
    assert isinstance(paused, Paused)
    assert book.expect_news(JobPaused) == JobPaused(reason=paused.reason, message=paused.message)
    return paused


# --- a wrong base URL --------------------------------------------------------------------


@pytest.mark.parametrize("url", [URL, ""])
def test_a_create_that_always_gets_a_404_pauses_the_job_after_four_tries(url: str) -> None:
    book = JobPlaybook(ONE, TWO, THREE, END, base_url=url)
    for _ in range(3):
        fail_and_wait(book, book.expect_run(Create))
    book.expect_run(Create).fail(not_found())
    paused = expect_paused(book)
    assert paused.reason == "base_url"
    shown = f"the base URL {url}" if url else "the base URL"
    assert paused.message == (
        f"{not_found()}; {shown} is probably wrong: correct it, then run the job again"
    )
    book.expect_done(Ending.PAUSED)


def test_a_list_that_always_gets_a_404_pauses_the_job_after_four_tries() -> None:
    book = JobPlaybook(*histories([ONE, TWO, THREE], ChunkState.SUBMITTED), END, base_url=URL)
    for _ in range(3):
        fail_and_wait(book, book.expect_run(Poll))
    book.expect_run(Poll).fail(not_found())
    assert expect_paused(book).reason == "base_url"
    book.expect_done(Ending.PAUSED)


def test_a_settle_that_always_gets_a_404_pauses_the_job_after_four_tries() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.INTENT), base_url=URL)
    settle = book.expect_run(Settle)
    plan = book.expect_run(Plan)
    for _ in range(3):
        settle.fail(not_found())
        book.sleep(book.expect_news(Trouble).delay)
        settle = book.expect_run(Settle)
    settle.fail(not_found())
    assert expect_paused(book).reason == "base_url"
    plan.fail(outage())
    book.expect_done(Ending.PAUSED)


def test_a_service_that_can_be_listed_but_not_created_at_is_still_read() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, END_OF_TWO)
    book.expect_run(Poll).succeed(PollResult(batches=(batch_of(ONE),)))
    for _ in range(3):
        create = book.expect_run(Create)
        create.mark(TWO)
        create.fail(not_found())
        book.expect_persist(Refused)
        # The polls are not what is tested.
        book.job._next_poll = book.now + 1000.0
        book.sleep(book.expect_news(Trouble).delay)
    create = book.expect_run(Create)
    create.mark(TWO)
    create.fail(not_found())
    assert expect_paused(book, Refused).reason == "refused"
    book.expect_wait(1000.0 - 20.0)
    book.expect_run(Poll)


def test_a_404_that_passes_pauses_nothing() -> None:
    book = JobPlaybook(ONE, TWO, END_OF_TWO)
    for _ in range(3):
        fail_and_wait(book, book.expect_run(Create))
    create = book.expect_run(Create)
    create.mark(ONE)
    create.create(batch_of(ONE))
    for _ in range(3):
        book.expect_run(Poll).fail(outage())
        book.expect_news(Trouble)
        fail_and_wait(book, book.expect_run(Create))
        book.sleep(100.0)
    assert book.job.state.paused is None


def test_a_list_that_has_succeeded_may_get_a_404_for_ten_minutes() -> None:
    book = JobPlaybook(*histories([ONE, TWO, THREE], ChunkState.SUBMITTED), END)
    shown = PollResult(batches=tuple(map(batch_of, (ONE, TWO, THREE))))
    book.expect_run(Poll).succeed(shown)
    book.sleep(30.0)
    began = book.now
    while book.now < began + 600.0:
        fail_and_wait(book, book.expect_run(Poll))
    book.expect_run(Poll).fail(not_found())
    assert expect_paused(book).reason == "refused"


# --- a batch that was deleted ------------------------------------------------------------


def created_with(scope: str) -> list[Record]:
    """Chunk 0 was created with the key of this scope."""
    scoped = msgspec.structs.replace(marker(ONE), scope=scope)
    return [ONE, CreateIntended(chunk=0, marker=scoped), submitted(ONE)]


def deleted(book: JobPlaybook) -> None:
    """The only batch of the job is not found for ten minutes."""
    book.expect_run(Poll).succeed(PollResult(batches=()))
    for seconds in (600.0, 0.0):
        book.expect_run(Get).fail(not_found())
        if seconds:
            book.expect_news(Trouble)
            book.sleep(seconds)


def test_a_deleted_batch_is_lost_if_the_same_key_created_it() -> None:
    book = JobPlaybook(*created_with("mine"), InputEnded(rows=ROWS), scope="mine")
    deleted(book)
    book.expect_persist(Lost)
    book.restart(now=0.0)
    book.job.buy_again(0, book.now)
    book.expect_persist(BoughtAgain)
    assert book.expect_run(Create).spec.plan == ONE


def test_a_deleted_batch_of_an_unknown_create_is_lost_if_the_key_opened_the_job() -> None:
    book = JobPlaybook(*created_with(""), InputEnded(rows=ROWS), same_key=True)
    deleted(book)
    book.expect_persist(Lost)


@pytest.mark.parametrize("scope", ["mine", ""])
@pytest.mark.parametrize("same_key", [True, None])
def test_a_batch_that_another_key_created_is_not_lost(scope: str, *, same_key: bool | None) -> None:
    book = JobPlaybook(
        *created_with("another"), InputEnded(rows=ROWS), scope=scope, same_key=same_key
    )
    deleted(book)
    assert expect_paused(book).reason == "credential"


# --- a changed key -----------------------------------------------------------------------


def test_a_changed_key_creates_nothing_before_the_list_shows_a_batch_of_the_job() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.SUBMITTED), TWO, THREE, END, same_key=False)
    poll = book.expect_run(Poll)
    book.expect_idle()
    poll.succeed(PollResult(batches=(batch_of(ONE),)))
    assert book.expect_run(Create).spec.plan == TWO


def test_a_key_of_another_workspace_pauses_the_job_at_once() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.SUBMITTED), THREE, END, same_key=False)
    book.expect_run(Poll).succeed(PollResult(batches=()))
    one, two = book.expect_run(Get), book.expect_run(Get)
    one.fail(not_found())
    book.expect_news(Trouble)
    two.fail(not_found())
    paused = expect_paused(book)
    assert paused == Paused(
        reason="credential",
        message="this key did not open the job, and cannot read its batch msgbatch_1: use the key "
        "that opened it, or another of the same workspace",
    )
    book.expect_done(Ending.PAUSED)


def test_a_batch_that_is_gone_does_not_prove_that_a_changed_key_is_wrong() -> None:
    book = JobPlaybook(*histories([ONE, TWO], ChunkState.SUBMITTED), THREE, END, same_key=False)
    book.expect_run(Poll).succeed(PollResult(batches=()))
    one, two = book.expect_run(Get), book.expect_run(Get)
    one.fail(not_found())
    book.expect_news(Trouble)
    two.succeed(batch_of(TWO))
    assert book.expect_run(Create).spec.plan == THREE


@pytest.mark.parametrize("state", [ChunkState.ENDED, ChunkState.COLLECTED])
def test_a_changed_key_reads_the_newest_batch_if_none_is_in_flight(state: ChunkState) -> None:
    book = JobPlaybook(*histories([ONE, TWO], state), THREE, END, same_key=False)
    get = book.expect_run(Get)
    assert get.spec == Get(chunk=1, batch_id="msgbatch_1")
    book.expect_idle()
    get.fail(outage())
    book.sleep(book.expect_news(Trouble).delay)
    book.expect_run(Get).succeed(batch_of(TWO, "ended"))
    if state is ChunkState.ENDED:
        book.expect_run(Collect)
        book.expect_run(Collect)
    assert book.expect_run(Create).spec.plan == THREE


def test_a_changed_key_that_can_read_none_of_the_newest_batches_pauses_the_job() -> None:
    *chunks, last = plans(*[ROWS] * 5)
    records = [*histories(chunks, ChunkState.COLLECTED), last, InputEnded(rows=5 * ROWS)]
    book = JobPlaybook(*records, same_key=False)
    for number in (3, 2):
        get = book.expect_run(Get)
        assert get.spec.chunk == number
        get.fail(not_found())
        book.expect_news(Trouble)
    book.expect_run(Get).fail(not_found())
    assert "cannot read its batch msgbatch_1" in expect_paused(book).message


def test_a_changed_key_is_proven_by_an_ended_batch_if_the_one_in_flight_was_deleted() -> None:
    sent = history(TWO, ChunkState.SUBMITTED)
    records = [*history(ONE, ChunkState.COLLECTED), *sent, END_OF_TWO]
    book = JobPlaybook(*records, same_key=False)
    book.expect_run(Poll).succeed(PollResult(batches=()))
    deleted = book.expect_run(Get)
    assert deleted.spec.chunk == 1
    deleted.fail(not_found())
    book.expect_news(Trouble)
    get = book.expect_run(Get)
    assert get.spec.chunk == 0
    get.succeed(batch_of(ONE, "ended"))
    book.sleep(600.0)
    book.expect_run(Get).fail(not_found())
    assert book.expect_persist(Lost) == (Lost(chunk=1, reason=str(not_found())),)


def test_a_changed_key_settles_nothing_before_it_is_known_to_be_right() -> None:
    book = JobPlaybook(
        *history(ONE, ChunkState.COLLECTED), *history(TWO, ChunkState.INTENT), same_key=False
    )
    get = book.expect_run(Get)
    plan = book.expect_run(Plan)
    book.expect_idle()
    get.succeed(batch_of(ONE, "ended"))
    book.expect_run(Settle)
    plan.fail(outage())
    book.expect_news(Trouble)


def test_a_changed_key_needs_no_proof_if_the_job_has_no_batch() -> None:
    book = JobPlaybook(ONE, InputEnded(rows=ROWS), same_key=False)
    book.expect_run(Create)


def test_a_changed_key_that_has_created_a_batch_of_the_job_needs_no_proof() -> None:
    book = JobPlaybook(*created_with("new"), TWO, END_OF_TWO, same_key=False, scope="new")
    book.expect_run(Poll)
    book.expect_run(Create)


# --- what is not wanted any more is not waited for ---------------------------------------


def test_an_ending_is_not_delayed_by_the_backoff_of_an_operation_that_is_not_needed() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.DOUBT), *history(TWO, ChunkState.DOUBT), END_OF_TWO)
    settle, other = book.expect_run(Settle), book.expect_run(Settle)
    settle.fail(outage())
    book.expect_news(Trouble)
    # A person is needed for both, so nothing is left to do.
    other.fail(unknown(TWO, batch_of(THREE)))
    book.expect_persist(Doubted)
    book.expect_news(Trouble)
    book.expect_wait(5.0)
    book.expect_run(Settle).fail(unknown(ONE, batch_of(THREE)))
    book.expect_persist(Doubted)
    book.expect_news(Trouble)
    book.expect_done(Ending.DOUBTS)


def test_an_ending_is_not_delayed_by_the_backoff_of_what_was_decided_meanwhile() -> None:
    book = JobPlaybook(*history(ONE, ChunkState.DOUBT), InputEnded(rows=ROWS))
    book.job.pause("budget", "the budget is spent", book.now)
    book.expect_persist(Paused)
    book.expect_news(JobPaused)
    book.expect_run(Settle).fail(outage())
    book.expect_news(Trouble)
    assert book.job.next() == Wait(deadline=book.now + 5.0)
    book.job.decide(0, None, book.now)
    book.expect_persist(Refused)
    book.expect_done(Ending.PAUSED)
