"""Checks a whole input without the network: its requests, batches, tokens and cost."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .codes import ExitCode
from .console import CommandError, Console
from .endings import dollars
from .failures import in_options

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions
    from batches_jobs import Estimate, Estimator

#: How many problems are shown.
_SHOWN = 20
#: Most batches end within an hour, says the service; each can take this many hours.
_HOURS = 24


class InputPlan(NamedTuple):
    """What an input comes to. `estimate` is None if genai-prices is not installed."""

    requests: int
    chunks: int
    size: int
    largest_chunk: int
    estimate: Estimate | None
    rounds_of_queue: int

    @property
    def cost_limit(self) -> Decimal | None:
        """The most that it can cost by the estimate; None if that is not known."""
        return None if self.estimate is None else self.estimate.cost_limit


def plan_input(requests: Any, options: JobOptions) -> InputPlan:
    """Check every request of an input. It is read once, in place.

    Raises:
        InvalidInputError: requests have problems. All of them are counted, 100 are kept.
    """
    from batches_jobs import Estimator
    from batches_jobs._inputs.checking import check_input

    estimator = Estimator()
    count = chunks = size = largest = 0
    for chunk in check_input(requests, options, estimator.add):
        count += chunk.count
        chunks += 1
        size += chunk.content_length
        largest = max(largest, chunk.content_length)
    turns = -(-count // max(1, options.max_waiting))
    return InputPlan(count, chunks, size, largest, _estimate(estimator), turns)


def _estimate(estimator: Estimator) -> Estimate | None:
    try:
        return estimator.result()
    except ModuleNotFoundError:
        return None


def plan_lines(plan: InputPlan) -> Iterator[str]:
    """Yield a plan as lines of text."""
    batches = "1 batch" if plan.chunks == 1 else f"{plan.chunks:,} batches"
    yield f"{plan.requests:,} requests in {batches}, {size_words(plan.size)}"
    if (estimate := plan.estimate) is None:
        yield "cost: unknown; to know it: pip install 'batches-core[cost]'"
    else:
        yield (
            f"tokens: about {estimate.input_tokens:,} of input, at most "
            f"{estimate.max_output_tokens:,} of output"
        )
        yield f"cost: {_cost_words(estimate)}"
        for model in estimate.models if len(estimate.models) > 1 else ():
            yield (
                f"  {model.model}: {model.requests:,} requests, at most {dollars(model.cost_limit)}"
            )
        for warning in estimate.warnings:
            yield f"  note: {warning}"
    yield (
        f"time: usually about {plan.rounds_of_queue:,} h, at most {_HOURS * plan.rounds_of_queue:,}"
        f" h, in {plan.rounds_of_queue:,} turns of the queue"
        if plan.rounds_of_queue > 1
        else f"time: usually under 1 h, at most {_HOURS} h"
    )


def _cost_words(estimate: Estimate) -> str:
    if estimate.cost_limit is not None and estimate.input_cost is not None:
        limit, input_cost = dollars(estimate.cost_limit), dollars(estimate.input_cost)
        return f"at most {limit}, of which about {input_cost} is input"
    limits = [each.cost_limit for each in estimate.models if each.cost_limit is not None]
    if not limits:
        return "unknown"
    models = len(estimate.models)
    return (
        f"unknown for {models - len(limits)} of the {models} models, and at most "
        f"{dollars(sum(limits, Decimal(0)))} for the others"
    )


def plan_json(plan: InputPlan) -> dict[str, Any]:
    """Return a plan as a value for JSON."""
    import msgspec

    return {
        "requests": plan.requests,
        "chunks": plan.chunks,
        "bytes": plan.size,
        "largest_chunk_bytes": plan.largest_chunk,
        "hours_at_most": _HOURS * plan.rounds_of_queue,
        "estimate": None if plan.estimate is None else msgspec.to_builtins(plan.estimate),
    }


def size_words(size: int) -> str:
    """Return a number of bytes in a unit that fits."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":  # noqa: PLR2004 - the step between two units
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def refuse_problems(console: Console, input_: str, error: Any) -> CommandError:
    """Show the problems of an input, and return the error that ends the command."""
    for problem in error.problems[:_SHOWN]:
        console.say(f"  {in_options(str(problem))}")
    total = len(error.problems) + error.omitted
    if total > _SHOWN:
        console.say(f"  … and {total - _SHOWN:,} more")
    problems = "1 problem" if total == 1 else f"{total:,} problems"
    name = "stdin" if input_ == "-" else Path(input_)
    return CommandError(ExitCode.INPUT, f"{name} has {problems}; nothing was sent")
