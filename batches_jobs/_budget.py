"""Keeps a job within its maximum cost: decides whether the next chunk may be sent.

`_estimate` measures requests. `_cost` computes what answers cost. `_prices` knows the prices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation

import msgspec

from batches_core import InvalidInputError
from batches_core.jobs import Chunk, ChunkPlanned, ChunkState, Failure, JobState

from ._cost import cost_of
from ._estimate import BYTES_PER_TOKEN, measure
from ._prices import PriceList, Rates
from ._usage import exceeded_threshold

#: By how much the number of input tokens may exceed the estimate, before answers show the truth.
_FIRST_MARGIN = 2.0
#: By how much it may exceed what the answers so far show.
_LATER_MARGIN = 1.25
#: The chunks whose answers will be paid for, and free what is reserved for the others.
_PENDING = frozenset(
    {ChunkState.INTENT, ChunkState.SUBMITTED, ChunkState.CANCELING, ChunkState.ENDED}
)


class _Sum(msgspec.Struct):
    tokens: float = 0.0
    max_output_tokens: int = 0


class _Tally(msgspec.Struct):
    """What the requests of a chunk can use: sums by model, exceeded threshold and cache."""

    sums: dict[tuple[str, int, str], _Sum]
    requests: int
    tokens: float


class Budget:
    """Decides whether the next chunk of a job may be sent, so that `max_cost` is not exceeded.

    `max_cost` is in US dollars. Before a chunk is sent, its cost limit is computed: every answer
    has `max_tokens`, and the input has twice as many tokens as its bytes suggest. Prompts with a
    cache breakpoint are priced as cache writes. The limits of all chunks whose answers have not
    been counted are reserved. So are those of lost chunks, and the share of answers that could not
    be read, because these may be billed.
    Chunks of retries count as any others. Once answers have been counted, their real tokens
    replace the factor of two, with a margin of 25 % over the highest ratio of any chunk.

    The bill can only exceed `max_cost` for these reasons: input tokens are estimated still too low,
    as for documents and large images; the service's tools are used; a surcharge is not in the price
    list, as that for a region; results have a type that this version does not know; or a person
    decided that a create in doubt made no batch, although it did.

    Raises:
        InvalidInputError: `max_cost` is not a positive number.
        ModuleNotFoundError: genai-prices is not installed.
    """

    def __init__(self, max_cost: Decimal | float | str, prices: PriceList | None = None) -> None:
        try:
            # Through its text, so that 0.1 is a tenth.
            self.max_cost = Decimal(str(max_cost))
            is_valid = self.max_cost.is_finite() and self.max_cost > 0
        except InvalidOperation:
            is_valid = False
        if not is_valid:
            raise InvalidInputError(
                f"max_cost is {max_cost!r}: pass a positive number of US dollars"
            )
        self._prices = PriceList() if prices is None else prices
        #: By chunk, for those whose limit is reserved.
        self._tallies: dict[int, _Tally] = {}
        #: The highest ratio of real to estimated input tokens of any chunk.
        self._highest_ratio = 0.0

    def unmeasured(self, state: JobState, plan: ChunkPlanned) -> list[ChunkPlanned]:
        """Return the chunks whose requests `check` would read now."""
        self._learn(state)
        reserved = [chunk.plan for chunk in state.chunks if _is_reserved(chunk)]
        return [each for each in (*reserved, plan) if each.chunk not in self._tallies]

    def measure(self, plan: ChunkPlanned, requests: Iterable[bytes]) -> None:
        """Read the requests of a chunk beforehand, so that `check` need not."""
        self._tallies[plan.chunk] = _tally(requests)

    def check(
        self,
        state: JobState,
        plan: ChunkPlanned,
        read: Callable[[ChunkPlanned], Iterable[bytes]],
    ) -> Failure | None:
        """Return why a chunk must not be sent; None if it may be sent.

        `read` returns the requests of a chunk. It is called once for each chunk that is in flight,
        lost or next. The failure has the meaning ``waiting`` if the chunk can be sent once chunks
        in flight have been collected. Otherwise a person must raise `max_cost`.

        Raises:
            InputChangedError: `read` found that a chunk has changed.
        """
        self._learn(state)
        try:
            limit = self._limit(plan, read)
            pending = lost = Decimal(0)
            for chunk in state.chunks:
                if chunk.state in _PENDING:
                    pending += self._limit(chunk.plan, read)
                elif chunk.state is ChunkState.DOUBT:
                    lost += self._limit(chunk.plan, read)
                if chunk.times_lost:
                    lost += chunk.times_lost * self._limit(chunk.plan, read)
                if chunk.unknown_answers:
                    share = Decimal(chunk.unknown_answers) / chunk.count
                    lost += share * self._limit(chunk.plan, read)
            spent = self._spent(state)
        except _UnknownPriceError as error:
            return _person(
                f"the cost is unknown, because the price of {error} is not known: upgrade "
                "genai-prices, or run the job without max_cost"
            )
        if spent + lost + pending + limit <= self.max_cost:
            return None
        message = (
            f"the budget of {_dollars(self.max_cost)} does not allow chunk {plan.chunk}, which can "
            f"cost {_dollars(limit)}: {_dollars(spent)} are spent, and up to "
            f"{_dollars(pending + lost)} are needed for chunks that were sent; raise max_cost to "
            "send it"
        )
        # While answers are expected, nearly all of them cost less than their limit.
        if pending and spent + lost + limit < self.max_cost:
            return Failure(meaning="waiting", message=message)
        return _person(message)

    def _learn(self, state: JobState) -> None:
        """Compare the input tokens of chunks that have been collected with their estimates."""
        for number in [*self._tallies]:
            chunk = state.chunks[number]
            if chunk.state is not ChunkState.COLLECTED:
                continue
            tally = self._tallies[number]
            if not _is_reserved(chunk):
                del self._tallies[number]
            if ratio := _ratio(chunk, tally):
                self._highest_ratio = max(self._highest_ratio, ratio)

    def _limit(
        self, plan: ChunkPlanned, read: Callable[[ChunkPlanned], Iterable[bytes]]
    ) -> Decimal:
        """Return what a chunk can cost.

        Raises:
            _UnknownPriceError: the price of a model is not known.
        """
        if (tally := self._tallies.get(plan.chunk)) is None:
            self.measure(plan, read(plan))
            tally = self._tallies[plan.chunk]
        margin = Decimal(self._highest_ratio * _LATER_MARGIN or _FIRST_MARGIN)
        limit = Decimal(0)
        for (model, prompt_over, cache), each in tally.sums.items():
            rates = self._prices.rates(model, prompt_over=prompt_over)
            if rates is None:
                raise _UnknownPriceError(f"{model!r}")
            limit += Decimal(each.tokens) * margin * _input_rate(rates, cache)
            limit += each.max_output_tokens * rates.output
        return limit

    def _spent(self, state: JobState) -> Decimal:
        cost = cost_of(state.usage.values(), self._prices)
        if cost.total is None:
            names = sorted(name for name, each in cost.by_model.items() if each is None)
            raise _UnknownPriceError(", ".join(map(repr, names)))
        return cost.total


class _UnknownPriceError(Exception):
    """The prices of these models are not known."""


def _is_reserved(chunk: Chunk) -> bool:
    is_unsettled = chunk.state in {*_PENDING, ChunkState.DOUBT}
    return is_unsettled or chunk.times_lost > 0 or chunk.unknown_answers > 0


def _tally(requests: Iterable[bytes]) -> _Tally:
    sums: dict[tuple[str, int, str], _Sum] = {}
    count, total = 0, 0.0
    for request in requests:
        # Planning has checked that it is a JSON object.
        if (measured := measure(request)) is None:
            measured = measure(b'{"params":{}}')
            assert measured is not None, "an empty request can be measured"  # noqa: S101
        tokens = measured.tokens(BYTES_PER_TOKEN)
        prompt_over = exceeded_threshold(measured.model, tokens * _FIRST_MARGIN)
        each = sums.setdefault((measured.model, prompt_over, _cache_of(request)), _Sum())
        each.tokens += tokens
        each.max_output_tokens += measured.max_output_tokens
        count += 1
        total += tokens
    return _Tally(sums=sums, requests=count, tokens=total)


def _cache_of(request: bytes) -> str:
    """Return how long the cache keeps the prompt: ``5m``, ``1h``, or empty for not at all."""
    if b'"cache_control"' not in request:
        return ""
    return "1h" if b'"1h"' in request else "5m"


def _input_rate(rates: Rates, cache: str) -> Decimal:
    match cache:
        case "1h":
            return max(rates.input, rates.cache_write_1h)
        case "5m":
            return max(rates.input, rates.cache_write_5m)
        case _:
            return rates.input


def _ratio(chunk: Chunk, tally: _Tally) -> float:
    """Return the ratio of real to estimated input tokens of a chunk's answers; 0 if unknown."""
    expected = tally.tokens * chunk.paid_answers / max(1, tally.requests)
    return chunk.input_tokens / expected if expected else 0.0


def _person(message: str) -> Failure:
    return Failure(meaning="person", message=message, pause="budget")


def _dollars(amount: Decimal) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:,.4f}"
