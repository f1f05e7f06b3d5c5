"""Draws the chunks of a job over time, below the rows in flight and their limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from .facts import ChunkLife, JobFacts
from .formats import count, duration, number_marks, short, time_marks
from .svg import NARROW, WIDE, box, chart, line, number, path, text

#: How many bars are drawn at most. More chunks are drawn in groups.
_MOST_BARS = 250
#: The height of the upper chart, and the greatest height of all bars.
_AREA, _BARS = 120, 500
#: The greatest and the least distance from one bar to the next.
_PITCH, _LEAST_PITCH = 18, 2
#: The least width of a bar, so that a short time is seen.
_LEAST_WIDTH = 1.5
_TOP, _RIGHT, _GAP, _BOTTOM = 26, 14, 44, 26
#: The most marks of the time axis, and steps of the area, in the two widths.
_MARKS = {WIDE: 8, NARROW: 4}


class _Bar(msgspec.Struct):
    """What one bar shows: parts of time by kind, in seconds since the start."""

    label: str
    parts: list[tuple[str, float, float]]


def chunk_charts(facts: JobFacts, now: datetime) -> str:
    """Return the chart in both widths. Open times end at `now`."""
    return "".join(_draw(facts, now, width) for width in (WIDE, NARROW))


def _draw(facts: JobFacts, now: datetime, width: int) -> str:
    total = max((now - facts.start).total_seconds(), 0.001)
    left = 52 if width == WIDE else 38
    scale = (width - left - _RIGHT) / total
    greatest = max(rows for _, rows in facts.in_flight)
    group, bars = _bars(facts, now)
    pitch = min(_PITCH, max(_LEAST_PITCH, _BARS / max(1, len(bars))))
    bars_top = _TOP + _AREA + _GAP
    bottom = bars_top + pitch * len(bars)
    # The limit is drawn only if it is near; else it would press the rows to the bottom.
    shows_limit = facts.limit <= greatest * 4
    marks = number_marks(max(greatest, facts.limit if shows_limit else 0, 1), 4)
    y_scale = _AREA / marks[-1]
    parts = [text(left, 14, "Rows in flight", cls="label")]
    for mark in marks:
        y = _TOP + _AREA - mark * y_scale
        parts.append(line(left, y, width - _RIGHT, y, "grid"))
        parts.append(text(left - 6, y + 4, short(mark), "end"))
    parts.append(_area(facts, total, left, scale, y_scale))
    if shows_limit:
        y = _TOP + _AREA - facts.limit * y_scale
        parts.append(line(left, y, width - _RIGHT, y, "limit"))
        parts.append(text(width - _RIGHT, y - 5, f"limit {short(facts.limit)}", "end", "label"))
    unit = "Chunks" if group == 1 else f"Chunks, {group} in each bar"
    parts.append(text(left, bars_top - 12, unit, cls="label"))
    for mark in time_marks(total, _MARKS[width]):
        x = left + mark * scale
        parts.append(line(x, _TOP, x, _TOP + _AREA, "grid"))
        parts.append(line(x, bars_top - 4, x, bottom + 4, "grid"))
        at_end = x > width - _RIGHT - 20
        label = duration(mark) if mark else "0"
        parts.append(text(x, bottom + 20, label, "end" if at_end else "middle"))
    parts += _draw_bars(bars, pitch, bars_top, left, scale)
    height = bottom + _BOTTOM
    words = _words(facts, greatest, total)
    body = "".join(parts)
    return chart("chunks", width, height, body, title="Chunks over time", words=words)


def _area(facts: JobFacts, total: float, left: float, scale: float, y_scale: float) -> str:
    base = _TOP + _AREA
    pieces = [f"M{number(left)} {base}"]
    for at, rows in facts.in_flight:
        x = left + (at - facts.start).total_seconds() * scale
        pieces.append(f"H{number(x)}V{number(base - rows * y_scale)}")
    pieces.append(f"H{number(left + total * scale)}V{base}z")
    return path(pieces, "area")


def _draw_bars(
    bars: Sequence[_Bar], pitch: float, top: float, left: float, scale: float
) -> Iterator[str]:
    height = pitch if pitch < 4 else pitch * 0.72  # noqa: PLR2004 - thin bars need no gaps
    pieces: dict[str, list[str]] = {"waiting": [], "download": [], "lost": []}
    # The numbers are written so that they do not overlap.
    every = max(1, -(-14 // pitch)) if pitch >= 4 else max(1, len(bars) // 8)  # noqa: PLR2004
    for at, bar in enumerate(bars):
        y = top + at * pitch
        for kind, start, end in bar.parts:
            span = max((end - start) * scale, _LEAST_WIDTH)
            pieces[kind].append(box(left + start * scale, y, span, height))
        if at % every == 0:
            yield text(left - 6, y + height / 2 + 4, bar.label, "end")
    for kind, each in pieces.items():
        yield path(each, kind)


def _bars(facts: JobFacts, now: datetime) -> tuple[int, list[_Bar]]:
    """Return how many chunks each bar is for, and the bars."""
    sent = [chunk for chunk in facts.chunks if chunk.spans]
    group = max(1, -(-len(sent) // _MOST_BARS))
    return group, [
        _Bar(str(sent[at].number), _merged(sent[at : at + group], facts.start, now))
        for at in range(0, len(sent), group)
    ]


def _merged(
    chunks: Sequence[ChunkLife], start: datetime, now: datetime
) -> list[tuple[str, float, float]]:
    """Return the times of some chunks; those of one kind that overlap are one."""
    found = sorted(
        (
            span.kind,
            (span.start - start).total_seconds(),
            ((span.end or now) - start).total_seconds(),
        )
        for chunk in chunks
        for span in chunk.spans
    )
    parts: list[tuple[str, float, float]] = []
    for kind, begin, end in found:
        if parts and parts[-1][0] == kind and begin <= parts[-1][2]:
            parts[-1] = (kind, parts[-1][1], max(end, parts[-1][2]))
        else:
            parts.append((kind, begin, end))
    # The longest kind is drawn first.
    return sorted(parts, key=lambda part: part[0] != "waiting")


def _words(facts: JobFacts, greatest: int, total: float) -> str:
    sent = sum(1 for chunk in facts.chunks if chunk.spans)
    return (
        f"{count(sent)} chunks were sent within {duration(total)}. At most {count(greatest)} rows "
        f"were in flight; the limit is {count(facts.limit)}. The table below has the times."
    )
