"""What the results of a batch have to be, by the service's own book.

Knows result lines and how many of them were spoiled on purpose; not how they were fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from batches_core import IncompleteResultsError

from .calls import Call, Told, counted
from .world import Made


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How results are read, as far as it says what has to come."""

    resume: bool
    max_line: int
    #: The ids that the reader says it expects, or None.
    expected: tuple[str, ...] | None
    #: Whether the service spoils lines, or sends results of types that nobody knows.
    spoils: bool
    unknown: bool


def results_of(made: Made, max_line: int) -> dict[str, Told | None]:
    """Give what has to be delivered for each id; None for a line over the limit."""
    results: dict[str, Told | None] = {}
    for line in made.job.lines():
        fields = msgspec.json.decode(line)
        id_, result = fields["custom_id"], fields["result"]
        text = ""
        if result["type"] == "succeeded":
            text = f"{result['message']['id']} {result['message']['content'][0]['text']}"
        elif result["type"] == "errored":
            text = result["error"]["error"]["message"]
        is_short = len(line) - 1 <= max_line
        results[id_] = Told(result["type"], id_, text) if is_short else None
    return results


def check_results(call: Call, made: Made, reading: Reading) -> None:
    """Hold what was delivered, and how the reading ended, against the truth."""
    truth = results_of(made, reading.max_line)
    if sorted(truth) != sorted(made.ids):
        call.violate("the simulation's own book is wrong")
    items = [told for told in call.delivered if told.type != "malformed"]
    delivered = [told.custom_id or "" for told in items]
    if twice := counted(delivered):
        call.violate(f"results given twice: {twice}")
    for told in items:
        is_unknown = reading.unknown and told.type == "postponed" and told.custom_id in truth
        if truth.get(told.custom_id or "") != told and not is_unknown:
            call.violate(f"not what the service said: {told}")
    malformed = len(call.delivered) - len(items)
    over = sum(told is None for told in truth.values())
    pages = sum(kind.startswith("another page") for kind in call.kinds)
    if malformed and not (reading.spoils or over or pages):
        call.violate("good lines were called malformed")
    missing = [id_ for id_ in made.ids if id_ not in delivered]
    if call.error is None:
        _check_success(call, reading, missing, malformed)
    elif isinstance(call.error, IncompleteResultsError):
        _check_figures(call, call.error, len(made.ids), malformed)
        _check_named(call, call.error, made, reading.expected or ())
        if call.error.received < call.error.expected and not missing:
            call.violate("called incomplete, and everything was delivered")


def _check_success(call: Call, reading: Reading, missing: list[str], malformed: int) -> None:
    if len(missing) > malformed:
        call.violate(f"results lost without an error: {missing}")
    if reading.expected is None:
        return
    named = {told.custom_id for told in call.delivered}
    if any(id_ not in named for id_ in reading.expected):
        call.violate("expected ids are missing without an error")
    if not named - {None} <= set(reading.expected):
        call.violate("ids that were not expected came without an error")


def _check_figures(call: Call, error: IncompleteResultsError, total: int, malformed: int) -> None:
    if error.expected != total or error.received > total + malformed:
        call.violate("incomplete results with figures that are not the batch's")
    if error.received >= error.expected and not error.missing and not error.unexpected:
        call.violate("incomplete results in which nothing is wrong")


def _check_named(
    call: Call, error: IncompleteResultsError, made: Made, expected: tuple[str, ...]
) -> None:
    readable = {told.custom_id for told in call.delivered if told.type != "malformed"}
    if not set(expected) - readable >= set(error.missing):
        call.violate(f"called missing, and was delivered: {error.missing}")
    if not set(made.ids) - set(expected) >= set(error.unexpected):
        call.violate(f"called unexpected, and was expected: {error.unexpected}")
    if error.received >= error.expected and len(readable) == len(made.ids):
        odd = set(expected) ^ set(made.ids)
        if odd != {*error.missing, *error.unexpected}:
            call.violate(f"does not name what is odd: {sorted(odd)}")
