"""Judges the goals of a measure and lays its results out as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from .measure import MB, Case, Contender, Goal, Results
from .meter import Outcome

_HEAD = ("", "median", "spread", "MB/s", "CPU", "peak", "x peer", "x limit", "")
_LAST = len(_HEAD) - 1


def lay_out(
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    results: Results,
    note: Callable[[dict[str, float]], str],
) -> str:
    """Give the table: a block for each case, a row for each contender, and the goals below."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for case in cases:
        rows.append((f"[{case.name}]",))
        running = [c for c in contenders if c.cases is None or case.name in c.cases]
        for contender in running:
            rows.append(_row(case, contender, running, results, note))
            rows.extend(_verdict(goal, results) for goal in case.goals.get(contender.name, ()))
    widths = [
        max(len(row[column]) for row in rows if len(row) == len(_HEAD)) for column in range(_LAST)
    ]
    return "\n".join("".join(_line(row, widths)).rstrip() for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for column, cell in enumerate(row):
        if not column or column == _LAST or len(row) < len(_HEAD):
            yield cell.ljust(widths[0] if len(row) == len(_HEAD) and not column else 0)
        else:
            yield "  " + cell.rjust(widths[column])
        if column == _LAST - 1:
            yield "  "


def _row(
    case: Case,
    contender: Contender,
    running: Sequence[Contender],
    results: Results,
    note: Callable[[dict[str, float]], str],
) -> tuple[str, ...]:
    key = (case.name, contender.name)
    outcomes = results.outcomes.get(key)
    if not outcomes:
        why = results.absent.get(key, "not run")
        return (f"  {contender.name}: {why}",)
    seconds = [outcome.seconds for outcome in outcomes]
    middle = median(seconds)
    size = outcomes[0].size
    peak = median(outcome.peak for outcome in outcomes)
    return (
        f"  {contender.name}",
        _time(middle),
        f"{min(seconds):.3f} to {max(seconds):.3f}",
        f"{size / middle / MB:,.0f}" if size else "",
        _time(median(outcome.cpu for outcome in outcomes)),
        f"{peak / MB:,.0f} MB" if outcomes[0].whole_peak else "",
        _compared(case, contender, running, results, "peer"),
        _compared(case, contender, running, results, "limit"),
        note(_medians(outcomes)),
    )


def _medians(outcomes: Sequence[Outcome]) -> dict[str, float]:
    names = outcomes[0].figures
    return {name: median(outcome.figures[name] for outcome in outcomes) for name in names}


def _compared(
    case: Case, contender: Contender, running: Sequence[Contender], results: Results, role: str
) -> str:
    """Give how many times as fast as the peer or the limit a contender is."""
    other = next((c.name for c in running if c.role == role), None)
    if other is None:
        return ""
    ratio = results.ratio(case.name, other, contender.name, results.clock)
    return "" if ratio is None else f"{ratio:.2f}"


def _verdict(goal: Goal, results: Results) -> tuple[str, ...]:
    verdict = goal.judge(results)
    if verdict is None:
        return (f"      to reach {goal.text}: cannot be told",)
    reached, met = verdict
    return (f"      to reach {goal.text}: {reached}, {'met' if met else 'MISSED'}",)


def _time(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.1f} s"  # noqa: PLR2004 - four digits are enough
