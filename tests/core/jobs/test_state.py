"""The state of a job: which records are legal after which, and what each of them says."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batches_core import LocalProtocolError
from batches_core.jobs import (
    TRANSITIONS,
    BoughtAgain,
    CancelAsked,
    CancelSent,
    ChunkPlanned,
    ChunkState,
    Collected,
    Counts,
    CreateIntended,
    Doubted,
    Ended,
    FailedRow,
    Finished,
    InputEnded,
    JobOpened,
    JobOptions,
    JobState,
    Lost,
    Paused,
    Record,
    Refused,
    Resumed,
    Submitted,
    Usage,
)
from tests.support.job_playbook import (
    CREATED,
    JOB_ID,
    ROWS,
    bought_again,
    failed_row,
    histories,
    history,
    intended,
    marker,
    plans,
    refused,
    submitted,
)
from tests.support.job_records import records

OPENED = JobOpened(job_id=JOB_ID, options=JobOptions())
(PLAN,) = plans(ROWS)


def state_after(*following: Record) -> JobState:
    state = JobState()
    state.apply_all([OPENED, *following])
    return state


def everything(state: JobState) -> dict[str, Any]:
    """All that a state holds, with the order of its chunks."""
    order = {each: [*chunks] for each, chunks in state.by_state.items()}
    return copy.deepcopy({**vars(state), "order": order})


def assert_refused(state: JobState, record: Record, match: str | None = None) -> None:
    before = everything(state)
    with pytest.raises(LocalProtocolError, match=match):
        state.apply(record)
    assert everything(state) == before


# --- the table ---------------------------------------------------------------------------

#: The legal records of each state, and the state after them. "-" is refused.
TABLE = """
    state      | Planned Intended Submitted Refused Doubted CancelSent Ended Collected Lost Bought
    NEW        | PLANNED -        -         -       -       -          -     -         -    -
    PLANNED    | -       INTENT   -         -       -       -          -     -         -    -
    INTENT     | -       -        SUBMITTED PLANNED DOUBT   -          -     -         -    -
    DOUBT      | -       -        SUBMITTED PLANNED DOUBT   -          -     -         -    -
    SUBMITTED  | -       -        -         -       DOUBT   CANCELING  ENDED -         LOST -
    CANCELING  | -       -        -         -       DOUBT   -          ENDED -         LOST -
    ENDED      | -       -        -         -       DOUBT   -          -     COLLECTED LOST -
    COLLECTED  | -       -        -         -       -       -          -     -         -    -
    LOST       | -       -        -         -       -       -          -     -         -    PLANNED
"""
KINDS: dict[str, type[Record]] = {
    "Planned": ChunkPlanned,
    "Intended": CreateIntended,
    "Submitted": Submitted,
    "Refused": Refused,
    "Doubted": Doubted,
    "CancelSent": CancelSent,
    "Ended": Ended,
    "Collected": Collected,
    "Lost": Lost,
    "Bought": BoughtAgain,
}


def read_table() -> dict[tuple[ChunkState, type[Record]], ChunkState | None]:
    head, *lines = (line.replace("|", "").split() for line in TABLE.strip().splitlines())
    return {
        (ChunkState[name], KINDS[kind]): None if after == "-" else ChunkState[after]
        for name, *row in lines
        for kind, after in zip(head[1:], row, strict=True)
    }


EXPECTED = read_table()
#: Fields that a legal record of a chunk with ten rows has.
FIELDS: dict[type[Record], dict[str, Any]] = {
    ChunkPlanned: {"count": ROWS, "first_row": 0, "rows": ()},
    Collected: {"answered": ROWS, "retried": (), "failed": ()},
}


def test_the_table_of_transitions_is_the_documented_one() -> None:
    legal = {pair: after for pair, after in EXPECTED.items() if after is not None}
    assert legal == TRANSITIONS
    assert len(EXPECTED) == len(ChunkState) * len(KINDS)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("before", ChunkState, ids=lambda state: state.name)
def test_a_record_moves_its_chunk_as_the_table_says_or_changes_nothing(
    before: ChunkState, kind: type[Record]
) -> None:
    after = EXPECTED[before, kind]
    fixed = FIELDS.get(kind, {}) if after is not None else {}

    @settings(max_examples=10)
    @given(records(kind, chunk=0, **fixed))
    def check(record: Record) -> None:
        state = state_after(*history(PLAN, before))
        if after is None:
            assert_refused(state, record)
        else:
            state.apply(record)
            assert state.chunks[0].state is after
            assert [each for each, chunks in state.by_state.items() if chunks] == [after]

    check()


@settings(max_examples=100)
@given(st.data())
def test_any_sequence_of_records_gives_a_state_or_is_refused(data: st.DataObject) -> None:
    state = state_after(*histories(plans(ROWS, ROWS), data.draw(st.sampled_from(ChunkState))))
    for _ in range(6):
        kind = data.draw(st.sampled_from([*KINDS.values(), InputEnded, Finished]))
        record = data.draw(
            records(kind, chunk=data.draw(st.integers(-1, 3)), **FIELDS.get(kind, {}))
            if kind in KINDS.values()
            else records(kind)
        )
        before = everything(state)
        try:
            state.apply(record)
        except LocalProtocolError:
            assert everything(state) == before
        by_state = {number: each for each, chunks in state.by_state.items() for number in chunks}
        assert by_state == {chunk.number: chunk.state for chunk in state.chunks}


# --- the order of a job's records --------------------------------------------------------


def test_a_job_begins_with_its_opening() -> None:
    assert_refused(JobState(), PLAN, "ChunkPlanned cannot be a job's first record")


def test_a_job_is_opened_once() -> None:
    assert_refused(state_after(), OPENED, "JobOpened cannot be a job's next record")


def test_the_opening_names_the_job_and_its_options() -> None:
    state = JobState()
    options = JobOptions(chunk_rows=5)
    state.apply(JobOpened(job_id="j", options=options, source="s", key="k"))
    assert (state.job_id, state.options) == ("j", options)
    assert state.opened == JobOpened(job_id="j", options=options, source="s", key="k")


def test_chunks_are_numbered_and_cut_off_the_input_one_after_the_other() -> None:
    one, two = plans(3, 4)
    state = state_after(one, two)
    assert [(chunk.number, chunk.count) for chunk in state.chunks] == [(0, 3), (1, 4)]
    assert (state.planned_rows, state.planned_bytes) == (7, 700)


@pytest.mark.parametrize(
    "record",
    [
        ChunkPlanned(chunk=2, count=1, first_row=ROWS),
        ChunkPlanned(chunk=0, count=1, first_row=ROWS),
        ChunkPlanned(chunk=1, count=1, first_row=ROWS - 1),
        ChunkPlanned(chunk=1, count=1, first_row=ROWS + 1),
        ChunkPlanned(chunk=1, count=0, first_row=ROWS),
    ],
    ids=["number skipped", "number again", "row again", "row skipped", "empty"],
)
def test_a_chunk_that_does_not_follow_the_one_before_is_refused(record: ChunkPlanned) -> None:
    assert_refused(state_after(PLAN), record, "does not fit the records before it")


@pytest.mark.parametrize("chunk", [-1, 1])
def test_a_record_of_a_chunk_that_was_never_planned_is_refused(chunk: int) -> None:
    assert_refused(state_after(PLAN), Lost(chunk=chunk, reason=""), "does not fit")


def test_a_refusal_names_the_chunk_and_its_state() -> None:
    state = state_after(*history(PLAN, ChunkState.SUBMITTED))
    assert_refused(state, refused(PLAN)[-1], "chunk 0 is in flight: Refused cannot follow")


def test_the_input_ends_once_with_as_many_rows_as_were_planned() -> None:
    state = state_after(PLAN)
    assert_refused(state, InputEnded(rows=ROWS + 1))
    assert state.rows is None
    state.apply(InputEnded(rows=ROWS))
    assert state.rows == ROWS
    assert_refused(state, InputEnded(rows=ROWS))
    assert_refused(state, ChunkPlanned(chunk=1, count=1, first_row=ROWS))


def test_an_input_can_be_empty() -> None:
    state = state_after(InputEnded(rows=0))
    assert state.rows == 0
    assert state.is_at_rest()


def test_a_job_is_paused_and_resumed() -> None:
    pause = Paused(reason="credit", message="m")
    state = state_after(pause)
    assert state.paused == pause
    state.apply(Resumed())
    assert state.paused is None


def test_a_job_that_was_canceled_stays_so() -> None:
    state = state_after(CancelAsked(), Resumed())
    assert state.is_canceled


@pytest.mark.parametrize("at", ChunkState, ids=lambda state: state.name)
def test_a_job_is_finished_when_every_chunk_is_collected_or_lost(at: ChunkState) -> None:
    is_over = at in {ChunkState.NEW, ChunkState.COLLECTED, ChunkState.LOST}
    rows = 0 if at is ChunkState.NEW else ROWS
    state = state_after(*history(PLAN, at), InputEnded(rows=rows))
    assert state.is_at_rest() is is_over
    if is_over:
        state.apply(Finished())
    else:
        assert_refused(state, Finished())
    assert state.is_finished is is_over


@pytest.mark.parametrize("at", ChunkState, ids=lambda state: state.name)
def test_a_canceled_job_is_finished_when_nothing_is_bought_and_uncollected(at: ChunkState) -> None:
    kept = {ChunkState.NEW, ChunkState.PLANNED, ChunkState.COLLECTED, ChunkState.LOST}
    assert state_after(*history(PLAN, at), CancelAsked()).is_at_rest() is (at in kept)


def test_a_job_is_not_finished_while_its_input_is_not_read_to_the_end() -> None:
    assert not state_after(*history(PLAN, ChunkState.COLLECTED)).is_at_rest()


def test_a_job_is_not_finished_while_rows_wait_to_be_sent_again() -> None:
    retried = Collected(chunk=0, answered=ROWS - 1, retried=(failed_row(3),))
    ended = history(PLAN, ChunkState.ENDED)
    assert not state_after(*ended, retried, InputEnded(rows=ROWS)).is_at_rest()
    assert state_after(*ended, retried, CancelAsked()).is_at_rest()


# --- what the records of a chunk say -----------------------------------------------------


def test_an_intent_keeps_the_marker_and_a_refusal_drops_it() -> None:
    state = state_after(*history(PLAN, ChunkState.INTENT))
    (chunk,) = state.chunks
    assert chunk.marker == marker(PLAN)
    state.apply(Refused(chunk=0, reason="429"))
    (chunk,) = state.chunks
    assert (chunk.marker, chunk.reason) == (None, "429")


def test_a_submission_keeps_what_is_known_of_the_batch_and_ends_the_doubt() -> None:
    doubt = Doubted(chunk=0, reason="?", candidates=("a", "b"), needs_person=True)
    found = Submitted(chunk=0, batch_id="a", created_at=CREATED, expires_at=CREATED, adopted=True)
    state = state_after(*history(PLAN, ChunkState.INTENT), doubt)
    (chunk,) = state.chunks
    assert (chunk.reason, chunk.candidates, chunk.needs_person) == ("?", ("a", "b"), True)
    state.apply(found)
    assert (chunk.batch_id, chunk.adopted, chunk.created_at) == ("a", True, CREATED)
    assert (chunk.reason, chunk.candidates, chunk.needs_person) == ("", (), False)
    assert state.batches == {"a": 0}


def test_a_refusal_ends_the_doubt() -> None:
    doubt = Doubted(chunk=0, reason="?", candidates=("a",), needs_person=True)
    state = state_after(*history(PLAN, ChunkState.INTENT), doubt, Refused(chunk=0, reason="no"))
    (chunk,) = state.chunks
    assert (chunk.reason, chunk.candidates, chunk.needs_person) == ("no", (), False)


def test_a_doubt_has_its_own_marker_or_that_of_the_intent() -> None:
    later = marker(PLAN, "listed")
    state = state_after(*history(PLAN, ChunkState.DOUBT))
    assert state.chunks[0].marker == marker(PLAN)
    state.apply(Doubted(chunk=0, reason="", marker=later))
    assert state.chunks[0].marker == later


def test_a_chunk_whose_results_are_foreign_has_no_batch_any_more() -> None:
    state = state_after(*history(PLAN, ChunkState.ENDED))
    assert state.batches == {"msgbatch_0": 0}
    state.apply(Doubted(chunk=0, reason="foreign", candidates=("msgbatch_0",)))
    assert (state.chunks[0].batch_id, state.chunks[0].adopted, state.batches) == ("", False, {})


def test_an_end_keeps_the_counts() -> None:
    counts = Counts(succeeded=7, errored=3)
    state = state_after(*history(PLAN, ChunkState.SUBMITTED), Ended(chunk=0, counts=counts))
    assert state.chunks[0].counts == counts


def test_a_lost_chunk_says_why_and_is_a_new_one_when_it_is_bought_again() -> None:
    state = state_after(*history(PLAN, ChunkState.LOST))
    (chunk,) = state.chunks
    assert chunk.reason == "archived"
    state.apply(BoughtAgain(chunk=0))
    assert (chunk.batch_id, chunk.reason, chunk.marker) == ("", "", None)


def test_rows_are_in_flight_while_a_batch_of_theirs_can_exist() -> None:
    for at in ChunkState:
        unsettled = {"INTENT", "DOUBT", "SUBMITTED", "CANCELING"}
        expected = ROWS if at.name in unsettled else 0
        assert state_after(*history(PLAN, at)).in_flight == expected
    assert state_after(*refused(PLAN)).in_flight == 0
    assert state_after(*bought_again(PLAN)).in_flight == 0
    assert state_after(*histories(plans(3, 4), ChunkState.SUBMITTED)).in_flight == 7


# --- results -----------------------------------------------------------------------------


def collected(
    answered: int = ROWS,
    retried: tuple[FailedRow, ...] = (),
    failed: tuple[FailedRow, ...] = (),
    usage: tuple[Usage, ...] = (),
) -> Collected:
    return Collected(chunk=0, answered=answered, retried=retried, failed=failed, usage=usage)


def test_collected_rows_are_answered_wait_or_have_failed() -> None:
    again, gone = failed_row(2), failed_row(5, "invalid_request_error")
    state = state_after(*history(PLAN, ChunkState.ENDED), collected(8, (again,), (gone,)))
    (chunk,) = state.chunks
    assert (chunk.answered, chunk.retried, chunk.failed) == (8, 1, 1)
    assert (state.answered, state.failed) == (8, {5: gone})
    assert {row: (each.row, each.round) for row, each in state.waiting.items()} == {2: (again, 1)}


@pytest.mark.parametrize("answered", [ROWS - 1, ROWS + 1])
def test_results_of_more_or_fewer_rows_than_the_chunk_has_are_refused(answered: int) -> None:
    state = state_after(*history(PLAN, ChunkState.ENDED))
    assert_refused(state, collected(answered), "Collected does not fit")


def test_a_row_that_is_sent_again_has_used_up_a_round() -> None:
    state = state_after(*history(PLAN, ChunkState.ENDED), collected(9, (failed_row(2),)))
    retry = ChunkPlanned(chunk=1, count=1, rows=(2,), round=1)
    for record in (*history(retry, ChunkState.ENDED),):
        state.apply(record)
    assert state.waiting == {}
    state.apply(Collected(chunk=1, answered=0, retried=(failed_row(2),)))
    assert state.waiting[2].round == 2


def test_a_row_that_failed_because_money_was_missing_has_used_up_no_round() -> None:
    row = failed_row(2, "invalid_request_error", "Your credit balance is too low to go on")
    state = state_after(*history(PLAN, ChunkState.ENDED), collected(9, (row,)))
    assert state.waiting[2].round == 0


def test_a_chunk_of_retries_has_rows_that_wait_and_leaves_the_others() -> None:
    rows = tuple(failed_row(number) for number in (2, 5, 7))
    state = state_after(*history(PLAN, ChunkState.ENDED), collected(7, rows))
    state.apply(ChunkPlanned(chunk=1, count=2, rows=(2, 7), round=1))
    assert [*state.waiting] == [5]
    assert (state.planned_rows, state.planned_bytes) == (ROWS, 1000)


@pytest.mark.parametrize(
    ("rows", "count"),
    [((3,), 1), ((2, 3), 2), ((2,), 2), ((2, 2), 2), ((2, 2), 1)],
    ids=["none waits", "one waits", "miscounted", "repeated", "repeated and miscounted"],
)
def test_a_chunk_of_retries_with_other_rows_is_refused(rows: tuple[int, ...], count: int) -> None:
    state = state_after(*history(PLAN, ChunkState.ENDED), collected(9, (failed_row(2),)))
    assert_refused(state, ChunkPlanned(chunk=1, count=count, rows=rows, round=1))


def test_usage_is_added_up_by_model_tier_prompt_length_and_region() -> None:
    small = Usage(
        model="m",
        answers=1,
        input_tokens=10,
        output_tokens=100,
        cache_read_tokens=1000,
        cache_write_5m_tokens=10_000,
        cache_write_1h_tokens=100_000,
        web_searches=1,
        other_tool_uses=2,
    )
    long = Usage(model="m", prompt_over=200_000, answers=1)
    regional = Usage(model="m", inference_geo="us", answers=1)
    standard = Usage(model="m", service_tier="standard", answers=1)
    state = state_after(
        *history(PLAN, ChunkState.ENDED), collected(usage=(small, long, small, standard, regional))
    )
    assert state.usage == {
        ("m", "batch", 200_000, ""): long,
        ("m", "batch", 0, "us"): regional,
        ("m", "standard", 0, ""): standard,
        ("m", "batch", 0, ""): Usage(
            model="m",
            answers=2,
            input_tokens=20,
            output_tokens=200,
            cache_read_tokens=2000,
            cache_write_5m_tokens=20_000,
            cache_write_1h_tokens=200_000,
            web_searches=2,
            other_tool_uses=4,
        ),
    }


def test_the_chunks_of_a_job_do_not_touch_each_other() -> None:
    one, two = plans(ROWS, ROWS)
    state = state_after(one, two, intended(two), submitted(two))
    assert [chunk.state for chunk in state.chunks] == [ChunkState.PLANNED, ChunkState.SUBMITTED]
