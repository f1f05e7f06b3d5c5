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
        plain = json_value(value)
        text = plain if isinstance(plain, str) else msgspec.json.encode(plain).decode()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"has text in {column!r} that is not valid Unicode ({error.reason}): correct it"
        ) from None
    return text


def json_value(value: Any) -> Any:
    """Return a cell in terms of JSON. A value that JSON does not have becomes its text."""
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    return str(value)


def _json_float(value: float) -> float | str | None:
    # JSON has no infinity. Missing numbers are often NaN.
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


#: How the values of each type become values of JSON. The first type that fits counts.
_CONVERSIONS: tuple[tuple[tuple[type[Any], ...], Callable[[Any], Any]], ...] = (
    ((type(None), str, bool, int), lambda value: value),
    ((float,), _json_float),
    ((Decimal,), lambda value: format(value, "f")),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((bytes, bytearray), lambda value: bytes(value).decode(errors="replace")),
    (
        (Mapping,),
        lambda value: {str(json_value(name)): json_value(each) for name, each in value.items()},
    ),
    ((Iterable,), lambda value: [json_value(each) for each in value]),
)
