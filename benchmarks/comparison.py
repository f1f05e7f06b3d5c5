"""Formats the results of two checkouts as a table of ratios, new divided by old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from .measure import Case, Contender, Measure, Results, round_ratios
from .table import align, format_note, format_seconds

_HEAD = ("", "new", "old", "time new/old", "spread", "CPU new/old", "peak new/old", "")


def format_comparison(
    measure: Measure,
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    new: Results,
    old: Results,
) -> str:
    """Return a block for each case, with a row for each contender.

    A ratio is the median of the ratios of the single rounds.
    """
    checkouts = {"new": new, "old": old}
    rows: list[tuple[str, ...]] = []
    for case in cases:
        rows.append((f"[{case.name}]",))
        for contender in case.contenders(contenders):
            rows.extend(_rows(measure, (case.name, contender.name), checkouts))
    return align(_HEAD, rows)


def _rows(
    measure: Measure, key: tuple[str, str], checkouts: Mapping[str, Results]
) -> list[tuple[str, ...]]:
    for label, results in checkouts.items():
        if reason := results.absent.get(key):
            return [(f"  {key[1]}: {reason} ({label})",)]
    times = _ratios(key, checkouts, "seconds")
    row = (
        f"  {key[1]}",
        *(format_seconds(median(each.metric(*key, "seconds"))) for each in checkouts.values()),
        _median(times),
        f"{min(times):.2f} to {max(times):.2f}",
        _median(_ratios(key, checkouts, "cpu")),
        _median(_ratios(key, checkouts, "peak")),
        "",
    )
    if measure.note is None:
        return [row]
    notes = (
        (f"      {label}: {format_note(measure, results.samples[key])}",)
        for label, results in checkouts.items()
    )
    return [row, *notes]


def _ratios(key: tuple[str, str], checkouts: Mapping[str, Results], metric: str) -> list[float]:
    return round_ratios(*(results.metric(*key, metric) for results in checkouts.values()))


def _median(ratios: Sequence[float]) -> str:
    return f"{median(ratios):.2f}" if ratios else ""
