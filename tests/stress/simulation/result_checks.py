"""Checks of delivered results against the batch that the service created.

Which requests of results failed, and how many were made, is checked in `reading`.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from batches_core import IncompleteResultsError

from .record import ItemSummary, OperationRecord, repeated
from .service import CreatedBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How results are read, and what the service does to them, as far as it decides the result."""

    resume: bool
    max_line: int
    #: The ids that the reader expects, or None.
    expected: tuple[str, ...] | None
    #: Whether the service corrupts lines, and whether it sends results of unknown types.
    corrupts_lines: bool
    sends_unknown_types: bool


def expected_items(created: CreatedBatch, max_line: int) -> dict[str, ItemSummary | None]:
    """Return the item of each custom id; None if its line is longer than `max_line` bytes."""
    items: dict[str, ItemSummary | None] = {}
    for line in created.batch.lines():
        fields = msgspec.json.decode(line)
        id_, result = fields["custom_id"], fields["result"]
        text = ""
        if result["type"] == "succeeded":
            text = f"{result['message']['id']} {result['message']['content'][0]['text']}"
        elif result["type"] == "errored":
            text = result["error"]["error"]["message"]
        fits = len(line) - 1 <= max_line
        items[id_] = ItemSummary(result["type"], id_, text) if fits else None
    return items


def check_results(record: OperationRecord, created: CreatedBatch, options: ReadOptions) -> None:
    """Check the delivered items, and whether the end of the reading fits them."""
    expected = expected_items(created, options.max_line)
    if sorted(expected) != sorted(created.custom_ids):
        record.report_violation("the simulation's own record is wrong")
    items = [item for item in record.delivered if item.type != "malformed"]
    delivered = [item.custom_id or "" for item in items]
    if twice := repeated(delivered):
        record.report_violation(f"results were delivered twice: {twice}")
    for item in items:
        is_unknown_type = (
            options.sends_unknown_types and item.type == "postponed" and item.custom_id in expected
        )
        if expected.get(item.custom_id or "") != item and not is_unknown_type:
            record.report_violation(f"a delivered item differs from the service's: {item}")
    malformed = len(record.delivered) - len(items)
    too_long = sum(item is None for item in expected.values())
    pages = sum(kind.startswith("unrelated page") for kind in record.failure_kinds)
    if malformed and not (options.corrupts_lines or too_long or pages):
        record.report_violation("good lines were delivered as malformed")
    missing = [id_ for id_ in created.custom_ids if id_ not in delivered]
    if record.error is None:
        _check_success(record, options, missing, malformed)
    elif isinstance(record.error, IncompleteResultsError):
        _check_counts(record, record.error, len(created.custom_ids), malformed)
        _check_named_ids(record, record.error, created, options.expected or ())
        if record.error.received < record.error.expected and not missing:
            record.report_violation("IncompleteResultsError, but everything was delivered")


def _check_success(
    record: OperationRecord, options: ReadOptions, missing: list[str], malformed: int
) -> None:
    if len(missing) > malformed:
        record.report_violation(f"results were lost without an error: {missing}")
    if options.expected is None:
        return
    named = {item.custom_id for item in record.delivered}
    if any(id_ not in named for id_ in options.expected):
        record.report_violation("expected ids are missing, and there was no error")
    if not named - {None} <= set(options.expected):
        record.report_violation("unexpected ids were delivered, and there was no error")


def _check_counts(
    record: OperationRecord, error: IncompleteResultsError, total: int, malformed: int
) -> None:
    if error.expected != total or error.received > total + malformed:
        record.report_violation("the counts of IncompleteResultsError are not the batch's")
    if error.received >= error.expected and not error.missing and not error.unexpected:
        record.report_violation("IncompleteResultsError, but nothing is missing or unexpected")


def _check_named_ids(
    record: OperationRecord,
    error: IncompleteResultsError,
    created: CreatedBatch,
    expected: tuple[str, ...],
) -> None:
    delivered = {item.custom_id for item in record.delivered if item.type != "malformed"}
    if not set(expected) - delivered >= set(error.missing):
        record.report_violation(f"the error names delivered ids as missing: {error.missing}")
    if not set(created.custom_ids) - set(expected) >= set(error.unexpected):
        record.report_violation(f"the error names expected ids as unexpected: {error.unexpected}")
    if error.received >= error.expected and len(delivered) == len(created.custom_ids):
        odd = set(expected) ^ set(created.custom_ids)
        if odd != {*error.missing, *error.unexpected}:
            record.report_violation(f"the error does not name these ids: {sorted(odd)}")
