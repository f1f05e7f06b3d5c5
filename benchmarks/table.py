"""Formats the results of a measure as a table, with the verdict of each goal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from .measure import MB, Case, Contender, Goal, Measure, Results, Role
from .task import Sample

_HEAD = ("", "median", "spread", "MB/s", "CPU", "peak", "x peer", "x limit", "")


def format_table(measure: Measure, cases: Sequence[Case], results: Results) -> str:
    """Return a block for each case, with a row for each contender and the goals below it."""
    rows: list[tuple[str, ...]] = []
    for case in cases:
        rows.append((f"[{case.name}]",))
        contenders = case.contenders(measure.contenders())
        for contender in contenders:
            rows.append(_row(measure, case, contender, contenders, results))
            rows.extend(_goal_row(goal, results) for goal in case.goals.get(contender.name, ()))
    return align(_HEAD, rows)


def align(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Align the cells of rows: the first and last column to the left, the others to the right.

    A row of a single cell may be wider than its column.
    """
    lines = [head, *rows]
    columns = zip(*(line for line in lines if len(line) > 1), strict=True)
    first, *middle, _ = (max(map(len, column)) for column in columns)
    text = []
    for line in lines:
        if len(line) == 1:
            text.append(line[0])
            continue
        cells = (cell.rjust(width) for cell, width in zip(line[1:-1], middle, strict=True))
        text.append("  ".join([line[0].ljust(first), *cells, line[-1]]).rstrip())
    return "\n".join(text)


def _row(
    measure: Measure,
    case: Case,
    contender: Contender,
    contenders: Sequence[Contender],
    results: Results,
) -> tuple[str, ...]:
    key = (case.name, contender.name)
    samples = results.samples.get(key)
    if not samples:
        reason = results.absent.get(key, "not run")
        return (f"  {contender.name}: {reason}",)
    seconds = [sample.seconds for sample in samples]
    middle = median(seconds)
    size = samples[0].size
    peak = median(sample.peak for sample in samples)
    return (
        f"  {contender.name}",
        format_seconds(middle),
        f"{min(seconds):.3f} to {max(seconds):.3f}",
        f"{size / middle / MB:,.0f}" if size else "",
        format_seconds(median(sample.cpu for sample in samples)),
        f"{peak / MB:,.0f} MB" if samples[0].process_peak else "",
        _relative_speed(case, contender, contenders, results, "peer"),
        _relative_speed(case, contender, contenders, results, "limit"),
        format_note(measure, samples),
    )


def _relative_speed(
    case: Case, contender: Contender, contenders: Sequence[Contender], results: Results, role: Role
) -> str:
    """Divide the speed of a contender by that of the peer or the limit."""
    other = next((each.name for each in contenders if each.role == role), None)
    if other is None:
        return ""
    ratio = results.ratio(case.name, other, contender.name, results.clock)
    return "" if ratio is None else f"{ratio:.2f}"


def _goal_row(goal: Goal, results: Results) -> tuple[str, ...]:
    verdict = goal.check(results)
    if verdict is None:
        return (f"      goal: {goal.text}: not measured",)
    reached, met = verdict
    return (f"      goal: {goal.text}: {reached}, {'met' if met else 'MISSED'}",)


def format_note(measure: Measure, samples: Sequence[Sample]) -> str:
    """Put the medians of the further metrics into words."""
    if measure.note is None:
        return ""
    names = samples[0].metrics
    return measure.note({name: median(each.metrics[name] for each in samples) for name in names})


def format_seconds(seconds: float) -> str:
    """Return a time with three decimals, or with one if it is 10 s or more."""
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - as the docstring says
