"""Writes the value of a table's cell as text. `_template` and the writers of tables use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

from batches_core import InvalidInputError


def is_empty(value: object) -> bool:
    """Whether a cell has no value: None or NaN. An empty text is a value."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def cell_text(column: str, value: Any) -> str:
    """Return the text of a cell; see `Template`.

    Raises:
        InvalidInputError: the value has no text. The message names the column.
    """
    if isinstance(value, str):
        text = value
    elif is_empty(value):
        return ""
    elif isinstance(value, (bytes, bytearray)):
        try:
            text = bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"has binary data in {column!r}, not text: leave this column out of the template"
            ) from None
    else:
        plain = _plain(value)
        text = plain if isinstance(plain, str) else json_text(plain)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"has text in {column!r} that is not valid Unicode ({error.reason}): correct it"
        ) from None
    return text


def json_text(value: Any) -> str:
    """Return a cell as JSON. A value that JSON does not have becomes its text."""
    return msgspec.json.encode(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """Return a value in terms of JSON."""
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    return str(value)


def _plain_float(value: float) -> float | str | None:
    # JSON has no infinity. Missing numbers are often NaN.
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


#: How the values of each type become values of JSON. The first type that fits counts.
_CONVERSIONS: tuple[tuple[tuple[type[Any], ...], Callable[[Any], Any]], ...] = (
    ((type(None), str, bool, int), lambda value: value),
    ((float,), _plain_float),
    ((Decimal,), lambda value: format(value, "f")),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((bytes, bytearray), lambda value: bytes(value).decode(errors="replace")),
    ((Mapping,), lambda value: {str(_plain(name)): _plain(each) for name, each in value.items()}),
    ((Iterable,), lambda value: [_plain(each) for each in value]),
)
