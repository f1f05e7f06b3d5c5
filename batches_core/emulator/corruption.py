"""How an answer is spoiled: lines and fields that should not be, and bodies cut or dripped.

Knows bytes and JSON; not which answers are spoiled, which is a `FaultPlan`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .faults import FaultRule
from .replies import digest

_UNKNOWN_RESULT = {"type": "postponed", "postponed": {"until": None}}
#: A name that nobody has, and a value with something of everything.
_UNKNOWN_FIELD = {"a_field_of_tomorrow": {"kind": "new", "values": [1, 2.5, None, True]}}
_NO_JSON = b"<html><h1>502 Bad Gateway</h1></html>\n"


def spoil_lines(lines: list[bytes], rule: FaultRule) -> Iterator[bytes]:
    """Change as many lines of a results file as a rule says, each in one way at most.

    A spoiled line is in turn half a line, a proxy's page, bytes that are no UTF-8, or an object
    without its custom_id. A line that comes twice comes again at once, or after all others.
    """
    order = sorted(range(len(lines)), key=lambda index: digest("line", str(index)))
    ends = rule.bad_lines, rule.bad_lines + rule.unknown_variants
    bad = {index: place for place, index in enumerate(order[: ends[0]])}
    unknown = set(order[ends[0] : ends[1]])
    twice = order[ends[1] :][: rule.duplicate_lines]
    at_once, at_the_end = set(twice[::2]), twice[1::2]
    for index, line in enumerate(lines):
        if index in bad:
            yield _spoil(line, bad[index])
        elif index in unknown:
            yield _change(line, {"result": _UNKNOWN_RESULT}, rule)
        else:
            yield _change(line, {}, rule)
            if index in at_once:
                yield _change(line, {}, rule)
    for index in at_the_end:
        yield _change(lines[index], {}, rule)


def _spoil(line: bytes, place: int) -> bytes:
    fields = msgspec.json.decode(line)
    return (
        line[: len(line) // 2] + b"\n",
        _NO_JSON,
        line.replace(b'"type":"', b'"type":"\xff', 1),
        msgspec.json.encode({"result": fields["result"]}) + b"\n",
    )[place % 4]


def _change(line: bytes, changes: dict[str, Any], rule: FaultRule) -> bytes:
    if not changes and not rule.unknown_fields:
        return line
    fields = {**msgspec.json.decode(line), **changes}
    return (
        msgspec.json.encode(with_unknown_fields(fields) if rule.unknown_fields else fields) + b"\n"
    )


def with_unknown_fields(value: Any) -> Any:
    """Add a field to each object that is the service's own: batch, page, line, result, message.

    What a tool is called with is the user's, and stays as it is.
    """
    if isinstance(value, list):
        return [with_unknown_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {k: v if k == "input" else with_unknown_fields(v) for k, v in value.items()}
    return {**changed, **_UNKNOWN_FIELD}


def cut_off(chunks: Iterable[bytes], left: int) -> Iterator[bytes]:
    """Give the first bytes of a body, so many at most."""
    for chunk in chunks:
        if left > 0:
            yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def drip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Give a body one byte at a time."""
    for chunk in chunks:
        for place in range(len(chunk)):
            yield chunk[place : place + 1]
