"""Draws the parts that the charts of a report share, as SVG."""

from __future__ import annotations

from .formats import escape

#: The widths of each chart: the wide one is shown on screens of at least 640 pixels.
WIDE, NARROW = 880, 340


def number(value: float) -> str:
    """Return a coordinate with one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: str, anchor: str = "start", cls: str = "") -> str:
    """Return a text. `anchor` is ``start``, ``middle`` or ``end``."""
    extra = f' class="{cls}"' if cls else ""
    at = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"'
    return f"<text {at}{extra}>{escape(words)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> str:
    """Return a line."""
    ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
    return f'<line {ends} class="{cls}"/>'


def box(x: float, y: float, width: float, height: float) -> str:
    """Return a rectangle as a part of a path."""
    x_, y_, w, h = map(number, (x, y, width, height))
    return f"M{x_} {y_}h{w}v{h}h-{w}z"


def path(pieces: list[str], cls: str) -> str:
    """Return a path of these pieces; nothing if there are none."""
    return f'<path d="{"".join(pieces)}" class="{cls}"/>' if pieces else ""


def chart(name: str, width: int, height: float, body: str, *, title: str, words: str) -> str:
    """Return a whole chart. `name` is unique in the page.

    `title` and `words` are for readers who cannot see it.
    """
    size = "narrow" if width == NARROW else "wide"
    ids = f"{name}-{size}"
    return (
        f'<svg class="{size}" viewBox="0 0 {width} {number(height)}" role="img" '
        f'aria-labelledby="{ids}-title {ids}-desc">'
        f'<title id="{ids}-title">{escape(title)}</title>'
        f'<desc id="{ids}-desc">{escape(words)}</desc>{body}</svg>'
    )
