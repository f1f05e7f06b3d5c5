"""Writes numbers, times and text for a report's page."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from decimal import Decimal

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
#: The distances between the marks of a time axis, in seconds.
_STEPS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 5, 10, 20, 50, 100)),
)
_CENT = Decimal("0.01")


def escape(text: object) -> str:
    """Return text that is safe in HTML, also in an attribute, on one line and printable."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return html.escape(line)


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}"


def short(number: float) -> str:
    """Return a number for an axis, such as 12k."""
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def share(part: int, whole: int) -> str:
    """Return a share in percent. A share that is neither none nor all never looks like that."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    if 0 < part < whole:
        if percent < 0.1:  # noqa: PLR2004 - the least share that is shown
            return "< 0.1 %"
        if percent > 99.9:  # noqa: PLR2004 - likewise
            return "> 99.9 %"
    return f"{percent:.1f} %" if percent % 1 else f"{percent:.0f} %"


def dollars(cost: Decimal | None) -> str:
    """Return a cost. A small one has more digits, so that it is not zero."""
    if cost is None:
        return "unknown"
    if cost and cost < _CENT:
        return f"${cost:.2g}" if cost >= Decimal("0.0001") else "< $0.0001"
    return f"${cost:,.2f}"


def moment(at: datetime) -> str:
    """Return a time in UTC."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < _MINUTE:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    whole = round(seconds)
    parts = (
        (whole // _DAY, "d"),
        (whole % _DAY // _HOUR, "h"),
        (whole % _HOUR // _MINUTE, "min"),
        (whole % _MINUTE, "s"),
    )
    first = next(at for at, (number, _) in enumerate(parts) if number)
    return " ".join(f"{number} {unit}" for number, unit in parts[first : first + 2] if number)


def time_marks(seconds: float, most: int) -> list[float]:
    """Return marks for an axis of so many seconds: at most `most`, at round distances."""
    step = next((each for each in _STEPS if seconds / each < most), seconds)
    return [step * n for n in range(int(seconds / step) + 1)]


def number_marks(greatest: float, most: int) -> list[float]:
    """Return marks for an axis from 0 to at least `greatest`, at round distances."""
    step = 1.0
    while greatest / step > most:
        step *= 2.5 if f"{step:.0e}".startswith("2") else 2
    return [step * n for n in range(int(-(-greatest // step)) + 1)]
