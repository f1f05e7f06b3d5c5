"""Corrupted bodies: damaged lines of results, unknown fields, and bodies cut or sent bytewise.

`fault_plan` decides which responses are corrupted, and `service` applies these functions to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from .digest import digest
from .fault_rules import FaultRule

_UNKNOWN_RESULT = {"type": "postponed", "postponed": {"until": None}}
#: A field that no client knows, with a value of every JSON type.
_UNKNOWN_FIELD = {"a_field_of_tomorrow": {"kind": "new", "values": [1, 2.5, None, True]}}
_HTML = b"<html><h1>502 Bad Gateway</h1></html>\n"


def corrupt_lines(lines: list[bytes], rule: FaultRule) -> Iterator[bytes]:
    """Corrupt or repeat as many lines of a results file as a rule says.

    No line is chosen for two of these changes. Of the `bad_lines`, the first is half a line, the
    second a page of HTML, the third not UTF-8, the fourth an object without its custom_id, and so
    on in turn. Of the `duplicate_lines`, every second one is repeated at the end of the file, and
    the others immediately.
    """
    order = sorted(range(len(lines)), key=lambda index: digest("line", str(index)))
    ends = rule.bad_lines, rule.bad_lines + rule.unknown_variants
    bad = {index: place for place, index in enumerate(order[: ends[0]])}
    unknown = set(order[ends[0] : ends[1]])
    repeated = order[ends[1] :][: rule.duplicate_lines]
    at_once, at_the_end = set(repeated[::2]), repeated[1::2]
    for index, line in enumerate(lines):
        if index in bad:
            yield _corrupt(line, bad[index])
        elif index in unknown:
            yield _change(line, {"result": _UNKNOWN_RESULT}, rule)
        else:
            yield _change(line, {}, rule)
            if index in at_once:
                yield _change(line, {}, rule)
    for index in at_the_end:
        yield _change(lines[index], {}, rule)


def _corrupt(line: bytes, place: int) -> bytes:
    fields = msgspec.json.decode(line)
    return (
        line[: len(line) // 2] + b"\n",
        _HTML,
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
    """Return a JSON value with an unknown field added to each of its objects.

    The ``input`` of a tool call stays unchanged, for its fields are not the service's.
    """
    if isinstance(value, list):
        return [with_unknown_fields(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {k: v if k == "input" else with_unknown_fields(v) for k, v in value.items()}
    return {**changed, **_UNKNOWN_FIELD}


def cut_off(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a body, or all of a shorter one."""
    for chunk in chunks:
        if size > 0:
            yield chunk[:size]
        size -= len(chunk)
        if size <= 0:
            return


def drip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a body one byte at a time."""
    for chunk in chunks:
        for place in range(len(chunk)):
            yield chunk[place : place + 1]
