"""Check the types and ranges of a caller's arguments; each error says what to pass instead.

`request_checker` checks requests, and `urls` checks URLs and ids.
"""

from __future__ import annotations

import inspect
import math
import re
from functools import partial
from typing import Any

from .errors import InvalidInputError

#: A header value that every transport can send. It is ASCII without control characters: a line
#: break would start a new header. It has no spaces at its ends: these would be stripped on the way.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def check_header_value(what: str, value: object) -> str:
    """Return `value` if it can be sent as a header value. An error does not show the value.

    Raises:
        InvalidInputError: the value is not a str, is empty, contains a character that a header
            cannot contain, or has a space at an end.
    """
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} must be a non-empty str")
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidInputError(
            f"{what} contains a character that a header cannot contain, such as a line break or a "
            "space at an end; if it was read from a file, strip() it"
        )
    return value


def check_callback(name: str, function: object, wanted: str) -> None:
    """Check that an argument can be called, and need not be awaited.

    `wanted` describes the argument in an error.

    Raises:
        InvalidInputError: the argument cannot be called. Or it is an async function, an object with
            an async ``__call__``, or a partial of one of these.
    """
    if not callable(function):
        raise InvalidInputError(f"{name} must be {wanted}, not {type(function).__name__}")
    inner: Any = function
    while isinstance(inner, partial):
        inner = inner.func
    for called in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise InvalidInputError(
                f"{name} is an async function, but is called without await: pass a plain function"
            )


def check_seconds(name: str, value: object, *, positive: bool = False) -> None:
    """Check that an argument is a finite number of seconds, 0 or more.

    If `positive` is True, it must be more than 0.

    Raises:
        InvalidInputError: the argument is not a number, is negative or not finite, or is 0 although
            it must be positive.
    """
    least = "more than 0" if positive else "0 or more"
    number = value if isinstance(value, (int, float)) else math.nan
    if not 0 <= number < math.inf or (positive and number == 0):
        raise InvalidInputError(
            f"{name} must be a number of seconds, {least} and finite, not {value!r}"
        )
