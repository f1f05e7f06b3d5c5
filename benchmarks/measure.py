"""What a measure is made of: cases, contenders, goals; and the results that goals are judged by.

Plain values; knows neither how contenders are run nor how a table looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol, TypeAlias

from .meter import Outcome

MB = 1_000_000

#: What can be compared: a figure of `Outcome`, or one of its `figures`.
Figure: TypeAlias = str


@dataclass(kw_only=True)
class Results:
    """What came out of every case and contender, round by round."""

    #: What speed is told by: the time that passes, or CPU time where others use the machine too.
    clock: Literal["seconds", "cpu"] = "seconds"
    outcomes: dict[tuple[str, str], list[Outcome]] = field(default_factory=dict)
    #: Why a contender has none.
    absent: dict[tuple[str, str], str] = field(default_factory=dict)

    def figures(self, case: str, contender: str, figure: Figure) -> list[float]:
        """Give a figure of each round; nothing where the contender was not run."""
        found = self.outcomes.get((case, contender), [])
        return [_figure(outcome, figure) for outcome in found]

    def median(self, case: str, contender: str, figure: Figure) -> float | None:
        """Give a figure's median over the rounds."""
        found = self.figures(case, contender, figure)
        return median(found) if found else None

    def ratio(self, case: str, over: str, under: str, figure: Figure) -> float | None:
        """Give how many times the one's figure the other's is: the median of the rounds' ratios.

        The two of one round were run one after the other, so what disturbed one most likely
        disturbed both.
        """
        pairs = zip(
            self.figures(case, over, figure), self.figures(case, under, figure), strict=False
        )
        ratios = [a / b for a, b in pairs if b]
        return median(ratios) if ratios else None


def _figure(outcome: Outcome, figure: Figure) -> float:
    if figure in outcome.figures:
        return outcome.figures[figure]
    return float(getattr(outcome, figure))


#: What was reached, in words, and whether that is enough; None where it cannot be told.
Verdict: TypeAlias = tuple[str, bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a contender is to reach."""

    text: str
    judge: Callable[[Results], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the work: where its function is, and what is special in its parameters.

    The ``peer`` and the ``limit`` are what the others are compared with.
    """

    name: str
    function: str
    role: Literal["ours", "peer", "limit"] = "ours"
    parameters: dict[str, Any] = field(default_factory=dict)
    #: The cases that it takes part in; None for all.
    cases: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of work, which its contenders all do in the same way."""

    name: str
    parameters: dict[str, Any]
    goals: Mapping[str, tuple[Goal, ...]] = field(default_factory=dict)
    #: Whether a run comes first in which contenders look into what they made.
    prove: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where a measure gets ready: a folder for data, and what is to be closed behind it."""

    folder: Path
    quick: bool
    opened: ExitStack

    def scaled(self, number: int) -> int:
        """Give a size, or with ``--quick`` a tenth of it."""
        return number // 10 if self.quick else number


class Measure(Protocol):
    """A module that is one measure."""

    TITLE: str
    #: How often each contender is run, where that is not the command line's to say.
    ROUNDS: int | None

    @staticmethod
    def contenders() -> list[Contender]:
        """Name the contenders."""
        ...

    @staticmethod
    def prepare(workshop: Workshop) -> list[Case]:
        """Make the data, start the servers; give the cases."""
        ...

    @staticmethod
    def note(figures: dict[str, float]) -> str:
        """Put into words what else was measured."""
        ...


def faster(case: str, ours: str, other: str, least: float) -> Goal:
    """Ask for a speed of so many times the other's."""

    def judge(results: Results) -> Verdict:
        ratio = results.ratio(case, other, ours, results.clock)
        return None if ratio is None else (f"{ratio:.2f} x", ratio >= least)

    return Goal(text=f"≥ {least:g} x {other}", judge=judge)


def least_time(case: str, ours: str, other: str, most: float) -> Goal:
    """Ask for at most a share of the other's time."""

    def judge(results: Results) -> Verdict:
        ratio = results.ratio(case, ours, other, results.clock)
        return None if ratio is None else (f"{ratio:.3f} x", ratio <= most)

    return Goal(text=f"≤ {most:g} x the time of {other}", judge=judge)


def least_peak(case: str, ours: str, other: str, most: float) -> Goal:
    """Ask for at most a share of the other's peak."""

    def judge(results: Results) -> Verdict:
        ratio = results.ratio(case, ours, other, "peak")
        return None if ratio is None else (f"{ratio:.2f} x", ratio <= most)

    return Goal(text=f"≤ {most:g} x the peak of {other}", judge=judge)


def peak_within(case: str, ours: str, megabytes: float) -> Goal:
    """Ask for a peak of at most so many MB, in every round."""

    def judge(results: Results) -> Verdict:
        if not (peaks := results.figures(case, ours, "peak")):
            return None
        highest = max(peaks) / MB
        return f"{highest:.1f} MB", highest <= megabytes

    return Goal(text=f"a peak ≤ {megabytes:g} MB", judge=judge)
