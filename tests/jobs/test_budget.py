"""A budget: no chunk is sent that could exceed it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import transports.h11
from batches_core import InvalidInputError
from batches_core.emulator import Emulator
from batches_core.jobs import (
    BoughtAgain,
    ChunkPlanned,
    ChunkState,
    Collected,
    FailedRow,
    JobOpened,
    JobOptions,
    JobState,
    Lost,
    Record,
    Usage,
)
from batches_jobs import JobStatus, run_job
from batches_jobs._budget import Budget
from batches_jobs._cost import cost_of
from batches_jobs._prices import PriceList
from tests.support.job_playbook import (
    JOB_ID,
    bought_again,
    histories,
    history,
    intended,
    plans,
    submitted,
)
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

SONNET, HAIKU = "claude-sonnet-4-5-20250929", "claude-haiku-5-5"
#: Prices of a token of SONNET in a batch.
INPUT, OUTPUT = Decimal("0.0000015"), Decimal("0.0000075")
ONE, TWO, THREE = plans(2, 2, 2)
#: Each request has 700 bytes, which are estimated as 200 tokens, and two of them are a chunk.
LIMIT = 2 * (400 * INPUT + 1000 * OUTPUT)


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList(datetime(2026, 11, 1, tzinfo=UTC))


def line(size: int = 700, model: str = SONNET, **params: Any) -> bytes:
    """A request whose text has this many bytes."""
    empty = [{"role": "user", "content": ""}]
    text = "x" * (size - len(json.dumps(empty, separators=(",", ":"))))
    messages = [{"role": "user", "content": text}]
    fields = {"model": model, "max_tokens": 1000, "messages": messages, **params}
    return json.dumps({"custom_id": "a", "params": fields}, separators=(",", ":")).encode()


def state_of(*records: Record) -> JobState:
    state = JobState()
    state.apply_all([JobOpened(job_id=JOB_ID, options=JobOptions()), *records])
    return state


class Requests:
    """The requests of each chunk, and which chunks were read."""

    def __init__(self, *lines: bytes) -> None:
        self.lines = lines or (line(), line())
        self.read: list[int] = []

    def __call__(self, plan: ChunkPlanned) -> Iterator[bytes]:
        self.read.append(plan.chunk)
        return iter(self.lines)


def collected(chunk: int, *, input_tokens: int, answers: int = 2) -> Collected:
    usage = Usage(model=SONNET, answers=answers, input_tokens=input_tokens)
    failed = tuple(FailedRow(row=row, outcome="errored") for row in range(answers, 2))
    return Collected(chunk=chunk, answered=answers, failed=failed, usage=(usage,))


def most(prices: PriceList, state: JobState, plan: ChunkPlanned, *lines: bytes) -> Decimal:
    """The lowest budget that allows a chunk, found by the limit in the message."""
    low, high = Decimal(0), Decimal(1000)
    for _ in range(60):
        middle = (low + high) / 2
        if Budget(middle, prices).check(state, plan, Requests(*lines)) is None:
            high = middle
        else:
            low = middle
    return high.quantize(Decimal("1e-9"))


class TestMeasuring:
    def test_beforehand_leaves_nothing_to_read(self, prices: PriceList) -> None:
        state = state_of(*history(ONE, ChunkState.SUBMITTED), TWO)
        budget, requests = Budget(1000, prices), Requests()
        assert budget.unmeasured(state, TWO) == [ONE, TWO]
        for plan in (ONE, TWO):
            budget.measure(plan, requests(plan))
        assert budget.unmeasured(state, TWO) == []
        requests.read.clear()
        assert budget.check(state, TWO, requests) is None
        assert requests.read == []


class TestAChunk:
    def test_may_be_sent_if_its_limit_is_within_the_budget(self, prices: PriceList) -> None:
        state = state_of(ONE)
        assert Budget(LIMIT, prices).check(state, ONE, Requests()) is None
        failure = Budget(LIMIT - Decimal("0.000001"), prices).check(state, ONE, Requests())
        assert failure is not None
        assert (failure.meaning, failure.pause) == ("person", "budget")
        assert failure.message == (
            "the budget of $0.0162 does not allow chunk 0, which can cost $0.0162: $0.0000 are "
            "spent, and up to $0.0000 are needed for chunks that were sent; raise max_cost to send "
            "it"
        )

    def test_is_never_sent_if_the_price_of_its_model_is_unknown(self, prices: PriceList) -> None:
        requests = Requests(line(), line(model="claude-next"))
        failure = Budget(1000, prices).check(state_of(ONE), ONE, requests)
        assert failure is not None
        assert (failure.meaning, failure.pause) == ("person", "budget")
        assert failure.message == (
            "the cost is unknown, because the price of 'claude-next' is not known: upgrade "
            "genai-prices, or run the job without max_cost"
        )

    def test_is_never_sent_if_the_price_of_an_answer_is_unknown(self, prices: PriceList) -> None:
        usage = (Usage(model="claude-next", answers=2),)
        state = state_of(
            *history(ONE, ChunkState.ENDED), Collected(chunk=0, answered=2, usage=usage), TWO
        )
        failure = Budget(1000, prices).check(state, TWO, Requests())
        assert failure is not None
        assert "price of 'claude-next' is not known" in failure.message

    @pytest.mark.parametrize("unreadable", [b"{}", b'{"params":7}'])
    def test_with_a_request_without_a_model_has_no_known_price(
        self, prices: PriceList, unreadable: bytes
    ) -> None:
        failure = Budget(1000, prices).check(state_of(ONE), ONE, Requests(line(), unreadable))
        assert failure is not None
        assert "price of '' is not known" in failure.message

    def test_of_retries_counts_like_any_other(self, prices: PriceList) -> None:
        retry = ChunkPlanned(chunk=1, count=2, rows=(0, 1), round=1)
        assert Budget(LIMIT - 1 / Decimal(10**6), prices).check(state_of(ONE), retry, Requests())

    def test_is_read_once(self, prices: PriceList) -> None:
        state = state_of(*history(ONE, ChunkState.SUBMITTED), TWO)
        budget, requests = Budget(1, prices), Requests()
        for _ in range(3):
            assert budget.check(state, TWO, requests) is None
        assert sorted(requests.read) == [0, 1]


class TestTheLimit:
    def test_counts_a_prompt_over_a_threshold_at_its_price(self, prices: PriceList) -> None:
        # Twice the estimate is over 100,000 tokens.
        short, long = (
            most(prices, state_of(ONE), ONE, line(size, HAIKU)) for size in (170_000, 180_000)
        )
        assert long > 4 * short

    def test_counts_a_cached_prompt_as_written_to_the_cache(self, prices: PriceList) -> None:
        plain, five, hour = (
            most(prices, state_of(ONE), ONE, line(70_000, metadata=each))
            for each in (
                {},
                {"cache_control": {"type": "ephemeral"}},
                {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
            )
        )
        output = 1000 * OUTPUT
        assert five - output == (plain - output) * Decimal("1.25")
        assert hour - output == (plain - output) * 2


class TestWhatIsReserved:
    @pytest.mark.parametrize(
        "state", [ChunkState.INTENT, ChunkState.SUBMITTED, ChunkState.CANCELING, ChunkState.ENDED]
    )
    def test_a_chunk_whose_answers_are_not_counted_is_and_is_waited_for(
        self, prices: PriceList, state: ChunkState
    ) -> None:
        job = state_of(*history(ONE, state), TWO)
        assert Budget(2 * LIMIT, prices).check(job, TWO, Requests()) is None
        failure = Budget(2 * LIMIT - Decimal("0.000001"), prices).check(job, TWO, Requests())
        assert failure is not None
        assert failure.meaning == "waiting"
        failure = Budget(LIMIT, prices).check(job, TWO, Requests())
        assert failure is not None
        assert failure.meaning == "person"

    @pytest.mark.parametrize("state", [ChunkState.DOUBT, ChunkState.LOST])
    def test_a_chunk_that_may_have_been_paid_for_is_and_needs_a_person(
        self, prices: PriceList, state: ChunkState
    ) -> None:
        job = state_of(*history(ONE, state), TWO)
        assert most(prices, job, TWO) == 2 * LIMIT
        failure = Budget(2 * LIMIT - Decimal("0.000001"), prices).check(job, TWO, Requests())
        assert failure is not None
        assert failure.meaning == "person"

    def test_a_chunk_that_is_bought_again_is_each_time(self, prices: PriceList) -> None:
        job = state_of(
            *bought_again(ONE),
            intended(ONE),
            submitted(ONE),
            Lost(chunk=0, reason="archived"),
            BoughtAgain(chunk=0),
        )
        assert most(prices, job, ONE) == 3 * LIMIT

    @pytest.mark.parametrize("outcome", ["unreadable", "lost", "rejected"])
    def test_answers_without_readable_tokens_are_at_their_limit(
        self, prices: PriceList, outcome: Any
    ) -> None:
        row = FailedRow(row=1, outcome=outcome)
        usage = Usage(model=SONNET, answers=1, input_tokens=1_000_000)
        record = Collected(chunk=0, answered=1, retried=(row,), usage=(usage,))
        job = state_of(*history(ONE, ChunkState.ENDED), record, TWO)
        assert job.chunks[0].unknown_answers == 1
        assert most(prices, job, TWO) == Decimal("1.5") + LIMIT / 2 + LIMIT

    def test_what_was_spent_is_added(self, prices: PriceList) -> None:
        job = state_of(*history(ONE, ChunkState.ENDED), collected(0, input_tokens=1_000_000), TWO)
        assert most(prices, job, TWO) == Decimal("1.5") + LIMIT


class TestRealTokens:
    def check(self, prices: PriceList, input_tokens: int, answers: int = 2) -> Decimal:
        """Send a chunk, collect it, and return the limit of the next one."""
        budget = Budget(1000, prices)
        before = history(ONE, ChunkState.ENDED)
        assert budget.check(state_of(ONE), ONE, Requests()) is None
        state = state_of(*before, collected(0, input_tokens=input_tokens, answers=answers), TWO)
        spent = input_tokens * INPUT
        low, high = Decimal(0), Decimal(1000)
        for _ in range(60):
            budget.max_cost = (low + high) / 2
            if budget.check(state, TWO, Requests()) is None:
                high = budget.max_cost
            else:
                low = budget.max_cost
        return (high - spent).quantize(Decimal("1e-9"))

    @pytest.mark.parametrize("real", [100, 400, 4000])
    def test_replace_the_margin_of_the_estimate(self, prices: PriceList, real: int) -> None:
        limit = self.check(prices, real)
        assert limit == Decimal("1.25") * real * INPUT + 2000 * OUTPUT

    def test_of_some_of_the_answers_are_compared_with_their_share(self, prices: PriceList) -> None:
        limit = self.check(prices, 200, answers=1)
        assert limit == Decimal("1.25") * 400 * INPUT + 2000 * OUTPUT

    def test_of_no_answers_show_nothing(self, prices: PriceList) -> None:
        assert self.check(prices, 0, answers=0) == LIMIT

    def test_of_the_most_expensive_chunk_count(self, prices: PriceList) -> None:
        budget = Budget(1000, prices)
        sent = state_of(*histories([ONE, TWO], ChunkState.SUBMITTED), THREE)
        assert budget.check(sent, THREE, Requests()) is None
        done = state_of(
            *history(ONE, ChunkState.ENDED),
            collected(0, input_tokens=800),
            *history(TWO, ChunkState.ENDED),
            collected(1, input_tokens=100),
            THREE,
        )
        limit = Decimal("1.25") * 800 * INPUT + 2000 * OUTPUT
        budget.max_cost = 900 * INPUT + limit
        assert budget.check(done, THREE, Requests()) is None
        budget.max_cost -= Decimal("0.000001")
        assert budget.check(done, THREE, Requests()) is not None


class TestTheMaximumCost:
    @pytest.mark.parametrize("value", [0, -1, "much", "nan", float("inf")])
    def test_must_be_a_positive_number(self, prices: PriceList, value: Any) -> None:
        with pytest.raises(InvalidInputError, match="pass a positive number of US dollars"):
            Budget(value, prices)

    def test_is_the_number_that_was_written(self) -> None:
        assert Budget(0.1).max_cost == Decimal("0.1")


# --- whole jobs --------------------------------------------------------------------------

OPTIONS = JobOptions(chunk_rows=100, poll_interval=0.05, settle_time=0.5, max_waiting=500)
#: What 300 rows can cost: 24 tokens of input each, and 5 of output.
CAN_COST = 300 * (24 * Decimal("0.0000025") + 5 * Decimal("0.0000125"))


def run(requests: Path, path: Path, emulator: Emulator, max_cost: Decimal) -> JobStatus:
    with (
        running_emulator(emulator) as base_url,
        transports.h11.BatchesClient(base_url=base_url, api_key="sk-of-a-job") as client,
    ):
        return run_job(client, requests, path, options=OPTIONS, max_cost=str(max_cost))


def write_requests(path: Path, model: str = "claude-opus-4-5") -> Path:
    """Write 300 requests. The text of each has 42 bytes."""
    params = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "x" * 11}]}
    path.write_text(
        "".join(json.dumps({"custom_id": f"r{n}", "params": params}) + "\n" for n in range(300)),
        encoding="utf-8",
    )
    return path


def test_a_job_waits_for_answers_to_stay_within_its_budget(tmp_path: Path) -> None:
    requests, emulator = write_requests(tmp_path / "in.jsonl"), Emulator(speed=1000)
    # Two of the three chunks fit. Their answers cost less, so that the third one does as well.
    max_cost = CAN_COST * Decimal("0.85")
    status = run(requests, tmp_path / "a.job", emulator, max_cost)
    cost = cost_of(status.usage).total
    assert cost is not None
    assert cost <= max_cost
    assert (status.answered, status.is_finished) == (300, True)


def test_a_job_over_its_budget_is_paused_and_goes_on_with_a_larger_one(tmp_path: Path) -> None:
    requests, emulator = write_requests(tmp_path / "in.jsonl"), Emulator(speed=1000)
    status = run(requests, tmp_path / "a.job", emulator, CAN_COST / 4)
    assert status.paused is not None
    assert status.paused.reason == "budget"
    assert emulator.sales == []
    status = run(requests, tmp_path / "a.job", emulator, 10 * CAN_COST)
    assert (status.answered, status.is_finished) == (300, True)


def test_a_job_whose_price_is_unknown_sends_nothing(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "in.jsonl", "claude-next")
    emulator = Emulator(speed=1000)
    status = run(requests, tmp_path / "a.job", emulator, Decimal(1000))
    assert status.paused is not None
    assert "the price of 'claude-next' is not known" in status.paused.message
    assert emulator.sales == []
