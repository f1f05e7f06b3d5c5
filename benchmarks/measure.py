"""The parts of a measure: cases, contenders and goals, and the results that goals are checked with.

All are plain values. `benchmarks.runner` runs contenders, `benchmarks.table` formats results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, TypeAlias

from .task import Sample

MB = 1_000_000


@dataclass(kw_only=True)
class Results:
    """The samples of every contender of every case, round by round.

    A metric is a field of `Sample` or a key of its `metrics`.
    """

    #: The metric that speeds are compared by: elapsed time, or CPU time on a busy machine.
    clock: Literal["seconds", "cpu"] = "seconds"
    samples: dict[tuple[str, str], list[Sample]] = field(default_factory=dict)
    #: Why a contender has no samples, or stopped having them.
    absent: dict[tuple[str, str], str] = field(default_factory=dict)

    def metric(self, case: str, contender: str, name: str) -> list[float]:
        """Return a metric of each round, or an empty list if the contender did not run."""
        return [_metric(sample, name) for sample in self.samples.get((case, contender), [])]

    def median(self, case: str, contender: str, name: str) -> float | None:
        """Return the median of a metric over the rounds."""
        found = self.metric(case, contender, name)
        return median(found) if found else None

    def ratio(self, case: str, above: str, below: str, name: str) -> float | None:
        """Divide the metric of `above` by that of `below`, and return the median over the rounds.

        Load on the machine slows both contenders of a round, but not every round alike. So a ratio
        within one round is steadier than a ratio of two medians.
        """
        ratios = round_ratios(self.metric(case, above, name), self.metric(case, below, name))
        return median(ratios) if ratios else None


def round_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide two metrics round by round. Skip rounds that only one has, and divisors of 0."""
    return [a / b for a, b in zip(above, below, strict=False) if b]


def _metric(sample: Sample, name: str) -> float:
    if name in sample.metrics:
        return sample.metrics[name]
    return float(getattr(sample, name))


#: The value reached, as text, and whether it meets the goal. None if the contender did not run.
Verdict: TypeAlias = tuple[str, bool] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A figure that a contender should reach."""

    text: str
    check: Callable[[Results], Verdict]


#: ``project`` is this package. ``peer`` and ``limit`` are what the others are compared with: the
#: official SDK, and the least possible work. ``reference`` is any other figure worth printing.
Role: TypeAlias = Literal["project", "peer", "limit", "reference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the work of a case.

    `function` is ``module:function``. `parameters` are added to those of the case. `cases` names
    the cases that the contender takes part in, by default all.
    """

    name: str
    function: str
    role: Role = "project"
    parameters: dict[str, Any] = field(default_factory=dict)
    cases: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of work. `goals` are those of each contender, by its name.

    With `verify`, each contender first runs once to verify that all produce the same.
    """

    name: str
    parameters: dict[str, Any]
    goals: Mapping[str, tuple[Goal, ...]] = field(default_factory=dict)
    verify: bool = True

    def contenders(self, contenders: Sequence[Contender]) -> list[Contender]:
        """Return the contenders that take part in this case."""
        return [each for each in contenders if each.cases is None or self.name in each.cases]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """The surroundings of a measure: a folder for its data, and a stack that closes its servers."""

    folder: Path
    quick: bool
    stack: ExitStack

    def scaled(self, number: int) -> int:
        """Return an amount of work, or a tenth of it with ``--quick``."""
        return number // 10 if self.quick else number


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A set of cases and contenders that are printed as one table.

    `prepare` makes the data, starts the servers and returns the cases. `rounds` replaces the
    default number of rounds. `note` puts a sample's own metrics into words.
    """

    title: str
    contenders: Callable[[], list[Contender]]
    prepare: Callable[[Setup], list[Case]]
    rounds: int | None = None
    note: Callable[[Mapping[str, float]], str] | None = None


def min_speed(case: str, contender: str, other: str, least: float) -> Goal:
    """Require at least `least` times the speed of another contender."""

    def check(results: Results) -> Verdict:
        ratio = results.ratio(case, other, contender, results.clock)
        return None if ratio is None else (f"{ratio:.2f} x", ratio >= least)

    return Goal(text=f"≥ {least:g} x the speed of {other}", check=check)


def max_time(case: str, contender: str, other: str, most: float) -> Goal:
    """Require at most `most` times the time of another contender."""

    def check(results: Results) -> Verdict:
        ratio = results.ratio(case, contender, other, results.clock)
        return None if ratio is None else (f"{ratio:.3f} x", ratio <= most)

    return Goal(text=f"≤ {most:g} x the time of {other}", check=check)


def max_relative_peak(case: str, contender: str, other: str, most: float) -> Goal:
    """Require at most `most` times the peak memory of another contender."""

    def check(results: Results) -> Verdict:
        ratio = results.ratio(case, contender, other, "peak")
        return None if ratio is None else (f"{ratio:.2f} x", ratio <= most)

    return Goal(text=f"≤ {most:g} x the peak of {other}", check=check)


def max_peak(case: str, contender: str, megabytes: float) -> Goal:
    """Require a peak memory of at most `megabytes` in every round."""

    def check(results: Results) -> Verdict:
        if not (peaks := results.metric(case, contender, "peak")):
            return None
        highest = max(peaks) / MB
        return f"{highest:.1f} MB", highest <= megabytes

    return Goal(text=f"a peak ≤ {megabytes:g} MB", check=check)
