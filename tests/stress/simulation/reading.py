"""How a simulated client reads the results of a batch, and checks of how the reading ended.

What was delivered is checked in `result_checks`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import msgspec

from batches_core import (
    IncompleteResultsError,
    Message,
    MessageBatch,
    RemoteProtocolError,
    ResultsUnavailableError,
    UntrustedHostError,
)
from batches_core.jsonl import MAX_LINE

from .client import Client
from .driver import TrackedMessage
from .record import OperationRecord
from .result_checks import ReadOptions, check_results
from .service import CreatedBatch
from .world import Task

#: The message types to choose from. `Message` is rare: it takes long to build its decoder.
_MESSAGE_TYPES: Any = (Message, *[TrackedMessage] * 10, *[msgspec.Raw] * 30)
#: After more redirects than this the client reports a protocol error.
_MAX_REDIRECTS = 5


def read_results(client: Client, label: str, batch: MessageBatch) -> Task:
    """Read the results; if that fails because of hazards, read them again without hazards."""
    created = client.world.service.find(batch.id)
    if created is None:
        return
    for undisturbed in (False, True):
        record = yield from _read_once(client, label, batch, created, undisturbed=undisturbed)
        is_final = isinstance(record.error, (ResultsUnavailableError, UntrustedHostError))
        if record.error is None or is_final:
            return
        if isinstance(record.error, IncompleteResultsError) and not record.failures:
            return


def _read_once(
    client: Client, label: str, batch: MessageBatch, created: CreatedBatch, *, undisturbed: bool
) -> Generator[float, None, OperationRecord]:
    rng = client.world.rng
    options = ReadOptions(
        resume=undisturbed or rng.random() < 0.85,
        max_line=client.max_line,
        expected=_choose_expected_ids(client, created) if rng.random() < 0.4 else None,
        corrupts_lines=client.corrupts_lines,
        sends_unknown_types=client.sends_unknown_types,
    )
    by_id = rng.random() < 0.3
    operation = client.api.results_stream(
        batch.id if by_id else batch,
        message_type=rng.choice(_MESSAGE_TYPES),
        resume=options.resume,
        expected=options.expected,
    )
    record = yield from client.run("results", label, operation, undisturbed=undisturbed)
    check_results(record, created, options)
    _check_reading(client, record, options)
    return record


def _choose_expected_ids(client: Client, created: CreatedBatch) -> tuple[str, ...]:
    """Return the batch's custom ids, sometimes with one too many or one too few."""
    rng = client.world.rng
    ids = list(created.custom_ids)
    rng.shuffle(ids)
    chance = rng.random()
    if chance < 0.15:
        ids.append("of-another-batch")
    elif chance < 0.3:
        ids.pop()
    return tuple(ids)


def _check_reading(client: Client, record: OperationRecord, options: ReadOptions) -> None:
    # A body without one readable line may be another page, so it is read again.
    can_be_unreadable = options.corrupts_lines or options.max_line < MAX_LINE
    again = client.policy.attempts if can_be_unreadable else 0
    record.check_effort(needed=2 + again, more_waiting=again * record.longest_delay)
    error = record.error
    match error:
        case None:
            if client.archives_results:
                record.report_violation("results of an archived batch were read")
            return
        case UntrustedHostError():
            if not record.met_untrusted_host and not client.results_at_untrusted_host:
                record.report_violation("UntrustedHostError, but every host is trusted")
            return
        case ResultsUnavailableError():
            if not client.archives_results:
                record.report_violation("ResultsUnavailableError, but the results exist")
            return
        case IncompleteResultsError(missing=missing, unexpected=unexpected) if (
            options.expected is not None
            and (missing or unexpected)
            and error.received >= error.expected
        ):
            return
    if not options.resume and record.failures:
        return
    is_redirect_loop = isinstance(error, RemoteProtocolError) and record.redirects > _MAX_REDIRECTS
    if can_be_unreadable or is_redirect_loop:
        return
    record.check_error()
