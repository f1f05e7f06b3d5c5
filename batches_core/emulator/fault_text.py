"""The text form of a fault rule, such as ``create:status=503,retry_after=1,times=2``.

This module splits the text and decodes each field; `FaultRule` checks the values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

ROUTES: Final = ("create", "get", "list", "cancel", "delete", "results", "any")

#: A comma that begins another field. A comma in a value, as in a date, does not.
_NEXT_FIELD = re.compile(r",(?=\s*[a-z_]+\s*(?:[=,]|$))")


def parse_rule(text: str, names: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of a rule by name. `names` holds all names but ``route``.

    Raises:
        ValueError: the text is not a rule.
    """
    route, colon, rest = text.partition(":")
    if not colon or "=" in route:
        route, rest = "any", text
    found: dict[str, Any] = {}
    for part in _NEXT_FIELD.split(rest):
        name, value = _parse_field(part, names)
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = value
    return {**found, "route": route.strip()}


def write_field(name: str, value: object) -> str:
    """Write one field of a rule; one that is True needs no value."""
    if value is True:
        return name
    if isinstance(value, float) and value.is_integer():
        return f"{name}={int(value)}"
    shown = {"None": "always", "False": "false"}.get(str(value), str(value))
    return f"{name}={shown}"


def _parse_field(text: str, names: Mapping[str, object]) -> tuple[str, Any]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if name in ROUTES:
        raise ValueError(f"the fault is missing; write, for example, {name}:status=503")
    if name not in names:
        raise ValueError(f"unknown field {name!r}; the fields are {', '.join(names)}")
    parse = _PARSERS.get(name, str)
    if not equals and parse is not _truth:
        raise ValueError(f"{name} needs a value: {name}=…")
    try:
        return name, parse(value if equals else "true")
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, not {text!r}") from None


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"must be a number, not {text!r}") from None


def _integer_or_always(text: str) -> int | None:
    return None if text == "always" else _integer(text)


def _decimal_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {text!r}")
    return text == "true"


#: How the value of each field is parsed. Any other value is a text and stays as it is.
_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("after", "status", "cut"), _integer),
    **dict.fromkeys(("bad_lines", "duplicate_lines", "unknown_variants"), _integer),
    **dict.fromkeys(("delay", "missing_for", "unlisted_for", "expired"), _decimal),
    "created_at_skew": _decimal,
    **dict.fromkeys(("should_retry", "proxy_page", "taken", "drip"), _truth),
    **dict.fromkeys(("unknown_fields", "archived"), _truth),
    "times": _integer_or_always,
    "retry_after": _decimal_or_text,
}
