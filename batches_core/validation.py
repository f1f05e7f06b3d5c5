"""Checks of a caller's arguments, each with an error that says what to pass instead.

Knows types and ranges; not where the arguments are used.
"""

from __future__ import annotations

import inspect
import math
import re
from functools import partial
from typing import Any

from .errors import InvalidInputError

#: Header values that every transport can send: no control characters (a line break would start a
#: new header), nothing but ASCII. Spaces at the ends would be cut off on the way.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def check_header_value(what: str, value: object) -> str:
    """Return `value` if it can be sent as a header value, else raise without showing it.

    Raises:
        InvalidInputError: it is no str, is empty, or holds a character that no header can carry.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} must be a str that is not empty")
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidInputError(
            f"{what} holds a character that no header can carry, such as a line break or a space "
            "at an end; was it read from a file? strip() it"
        )
    return value


def check_callback(name: str, function: object, wanted: str) -> None:
    """Refuse what cannot be called, or what would have to be awaited.

    Raises:
        InvalidInputError: it is no function, or an async one, be it by its type or inside a
        partial.
    """
    if not callable(function):
        raise InvalidInputError(f"{name} is {wanted}")
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    for called in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise InvalidInputError(
                f"{name} is an async function, which is never awaited here: pass a plain function"
            )


def check_seconds(name: str, value: object, *, positive: bool = False) -> None:
    """Refuse what is no length of time.

    Raises:
        InvalidInputError: it is no number, negative, 0 where it must not be, or not finite.
    """
    low = "more than 0" if positive else "0 or more"
    number = value if isinstance(value, (int, float)) else math.nan
    if not 0 <= number < math.inf or (positive and number == 0):
        raise InvalidInputError(f"{name} is in seconds, {low} and finite, not {value!r}")
