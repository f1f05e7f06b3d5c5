"""Draws how long the answers of a job are, in shares of their `max_tokens`."""

from __future__ import annotations

from .answers import BINS, AnswerLengths
from .formats import count, number_marks, share, short
from .svg import NARROW, WIDE, box, chart, line, path, text

_HEIGHT, _TOP, _RIGHT, _BOTTOM = 180, 26, 14, 44


def token_charts(lengths: AnswerLengths) -> str:
    """Return the chart in both widths."""
    return "".join(_draw(lengths, width) for width in (WIDE, NARROW))


def _draw(lengths: AnswerLengths, width: int) -> str:
    left = 52 if width == WIDE else 38
    totals = [a + b for a, b in zip(lengths.complete, lengths.truncated, strict=True)]
    marks = number_marks(max(*totals, 1), 4)
    scale = _HEIGHT / marks[-1]
    base = _TOP + _HEIGHT
    step = (width - left - _RIGHT) / BINS
    parts = [text(left, 14, "Answers", cls="label")]
    for mark in marks:
        y = base - mark * scale
        parts.append(line(left, y, width - _RIGHT, y, "grid"))
        parts.append(text(left - 6, y + 4, short(mark), "end"))
    complete, truncated = [], []
    for at in range(BINS):
        x = left + at * step + step * 0.1
        whole = lengths.complete[at] * scale
        cut = lengths.truncated[at] * scale
        if whole:
            complete.append(box(x, base - whole, step * 0.8, whole))
        if cut:
            truncated.append(box(x, base - whole - cut, step * 0.8, cut))
    parts += [path(complete, "waiting"), path(truncated, "lost")]
    for percent in range(0, 101, 20 if width == WIDE else 25):
        x = left + percent / 100 * step * BINS
        anchor = "end" if percent == 100 else "middle"  # noqa: PLR2004 - the right end
        parts.append(text(x, base + 18, f"{percent} %", anchor))
    parts.append(
        text(
            (left + width - _RIGHT) / 2, base + 36, "output tokens / max_tokens", "middle", "label"
        )
    )
    words = (
        f"{count(lengths.cut)} of {count(lengths.answers)} answers "
        f"({share(lengths.cut, lengths.answers)}) were cut at max_tokens. The table below has the "
        "numbers."
    )
    title = "Output tokens in shares of max_tokens"
    return chart("tokens", width, base + _BOTTOM, "".join(parts), title=title, words=words)
