"""Builds the parts of a report's page: tables, tiles and legends. All texts are escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .formats import count, escape


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def cell(value: object) -> str:
    """Return a value as HTML."""
    if isinstance(value, Html):
        return value
    return count(value) if isinstance(value, int) else escape(value)


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table. Numbers are aligned to the right.

    A head that begins with ``#`` is that of numbers, and one that begins with ``~`` is that of long
    text. The last row of sums begins with ``Total``.
    """
    classes = [{"#": ' class="n"', "~": ' class="words"'}.get(head[:1], "") for head in heads]
    head = "".join(
        f'<th scope="col"{cls if "words" not in cls else ""}>{escape(name.lstrip("#~"))}</th>'
        for name, cls in zip(heads, classes, strict=True)
    )
    body = "".join(
        ('<tr class="sum">' if row[0] == "Total" else "<tr>")
        + "".join(f"<td{cls}>{cell(value)}</td>" for value, cls in zip(row, classes, strict=True))
        + "</tr>"
        for row in rows
    )
    name = escape(caption)
    # A wide table scrolls in its own box, which the keyboard must reach.
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Return a part that the reader can unfold."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Return tiles, each with its name, value and remark."""
    body = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}"
        + (f"<small>{escape(remark)}</small>" if remark else "")
        + "</dd></div>"
        for name, value, remark in items
    )
    return f'<dl class="tiles">{body}</dl>'


def legend(items: Iterable[tuple[str, str]]) -> str:
    """Return a legend of classes and names."""
    body = "".join(f'<li><i class="{cls}"></i>{escape(name)}</li>' for cls, name in items)
    return f'<ul class="legend">{body}</ul>'


def stack(parts: Sequence[tuple[str, str, int]]) -> Html:
    """Return a bar of parts: the class, name and number of each."""
    whole = sum(number for _, _, number in parts) or 1
    words = ", ".join(f"{count(number)} {name}" for _, name, number in parts if number)
    body = "".join(
        f'<i class="{cls}" style="width:{100 * number / whole:.2f}%"></i>'
        for cls, _, number in parts
        if number
    )
    return Html(f'<div class="bar" role="img" aria-label="{escape(words or "none")}">{body}</div>')


def note(words: str) -> str:
    """Return a remark that should not be overlooked."""
    return f'<p class="note">{escape(words)}</p>'


def section(title: str, *parts: str) -> str:
    """Return a section of the page."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"
