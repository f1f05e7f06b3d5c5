"""Readable ids for the parameters of tests."""

from __future__ import annotations

import re

_LONGEST = 60
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_CLASS = re.compile(r"<class '(?:[\w.]+\.)?(\w+)'>")


def readable(value: object) -> str:
    """Return a short id for a parameter: its text, its name, or its repr without addresses.

    The id is the same in every process.
    """
    if isinstance(value, bytes):
        text = value.decode("ascii", "backslashreplace")
    elif isinstance(value, str):
        text = value
    else:
        shown = _CLASS.sub(r"\1", _ADDRESS.sub("", repr(value)))
        text = getattr(value, "__name__", shown)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
