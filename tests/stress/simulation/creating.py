"""How a simulated client creates a batch, and checks of the outcome.

A client creates, settles an unknown outcome, and creates again if nothing was created.
"""

from __future__ import annotations

import enum
import pickle
from collections.abc import Generator
from typing import Any

import msgspec

from batches_core import (
    BatchCreated,
    BatchRequest,
    CreateMarked,
    CreateMarker,
    InvalidInputError,
    MessageBatch,
    OutcomeUnknownError,
)

from .client import Client
from .delivery import MAX_DELAY
from .network import READ_TIMEOUT
from .record import OperationRecord
from .service import params_of
from .world import World

#: The shortest time between two reads of the list while an outcome is settled, in seconds.
_MIN_LIST_INTERVAL = 1.0
#: How long a batch must be the only candidate before it is adopted, in seconds.
_ALONE = 10.0
#: The share of creates that their caller interrupts.
_SHARE_INTERRUPTED = 0.12
#: How often a client creates again if nothing was created.
_ROUNDS = 3


class _NoBatch(enum.Enum):
    """What a client knows if a create left neither a batch nor an outcome that can be settled."""

    NOT_CREATED = "it can be created again"
    UNKNOWN = "nothing can tell whether it was created"


def create_batch(
    client: Client, label: str, count: int, *, dies: bool
) -> Generator[float, None, MessageBatch | None]:
    """Create a batch; None if the service refuses it or the outcome stays unknown."""
    world = client.world
    batch = yield from _create_in_rounds(client, label, count, dies=dies)
    if batch is None:
        # A batch that still arrives must not be mistaken for the client's next one.
        yield world.now + READ_TIMEOUT + world.list_lag + world.settle_time * 2
    return batch


def _create_in_rounds(
    client: Client, label: str, count: int, *, dies: bool
) -> Generator[float, None, MessageBatch | None]:
    world, rng = client.world, client.world.rng
    requests = _make_requests(client, label, count)
    for _ in range(_ROUNDS):
        settles = rng.random() < 0.6
        dies_after = rng.randint(1, 8) if dies else None
        interrupts_after = rng.randint(1, 12) if rng.random() < _SHARE_INTERRUPTED else None
        dies = False
        needs_marker = rng.random() < 0.9
        operation = client.api.create(
            requests,
            if_unknown="settle" if settles else "raise",
            if_unmarked="raise" if needs_marker else "send",
            settle_time=world.settle_time,
        )
        record = yield from client.run_create(
            label, operation, dies_after=dies_after, interrupts_after=interrupts_after
        )
        _check_create(client, record, settles=settles, needs_marker=needs_marker)
        outcome = yield from _outcome_of(client, record)
        if outcome is _NoBatch.NOT_CREATED:
            continue
        if outcome is _NoBatch.UNKNOWN:
            return None
        if isinstance(outcome, MessageBatch):
            return outcome
        is_settled, found = yield from _settle(client, label, outcome)
        if found is not None or not is_settled:
            return found
    return None


def _make_requests(client: Client, label: str, count: int) -> list[Any]:
    rng = client.world.rng
    requests: list[Any] = []
    for index in range(count):
        kind = rng.choice(("ok", "ok", "ok", "fail", "bad"))
        size = rng.randint(0, 1500) if rng.random() < 0.1 else rng.randint(0, 40)
        params = params_of(size, kind)
        form = rng.random()
        if form < 0.6:
            requests.append({"custom_id": f"{label}-{index}", "params": params})
        elif form < 0.8:
            requests.append(BatchRequest(custom_id=f"{label}-{index}", params=params))
        else:
            encoded = msgspec.json.encode({"custom_id": f"{label}-{index}", "params": params})
            requests.append(encoded + b"\n")
    return requests


# --- the outcome of a create -------------------------------------------------------------


def _outcome_of(
    client: Client, record: OperationRecord
) -> Generator[float, None, MessageBatch | OutcomeUnknownError | CreateMarker | _NoBatch]:
    """Return what a client knows after a create, from its value, its error or its events."""
    world = client.world
    if record.interruption is not None:
        outcome = _outcome_in_interruption(client, record, record.interruption)
        if world.settle_time - world.list_lag < MAX_DELAY:
            # The settle time does not cover both the delay of the request and the lag of the list.
            yield world.now + MAX_DELAY
        return outcome
    if isinstance(record.error, OutcomeUnknownError):
        return _form_to_settle(client, record.error)
    if record.ended:
        return _NoBatch.NOT_CREATED if record.value is None else record.value
    # The next process settles the stored marker, but not before the request of the first one
    # would have timed out.
    yield world.now + READ_TIMEOUT + MAX_DELAY
    marker = _stored_marker(record)
    if marker is not None:
        return marker
    if record.exchanges > 1:
        # If the list could not be read, the create may have been sent without a marker.
        return _NoBatch.UNKNOWN
    if world.service.created_for(record.label):
        record.report_violation("a batch was created before CreateMarked was reported")
    return _NoBatch.NOT_CREATED


def _outcome_in_interruption(
    client: Client, record: OperationRecord, error: BaseException
) -> MessageBatch | OutcomeUnknownError | _NoBatch:
    """Return the batch or the unknown outcome that is attached to an interruption."""
    created = {each.id for each in client.world.service.created_for(record.label)}
    batch: MessageBatch | None = getattr(error, "created_batch", None)
    outcome: OutcomeUnknownError | None = getattr(error, "create_outcome", None)
    unfinished = record.unfinished
    if batch is not None:
        if batch.id not in created or batch not in unfinished:
            record.report_if_promised("the batch at an interruption is not the create's own")
        return batch
    if outcome is not None:
        record.check_credential_hidden(outcome)
        if str(outcome) not in map(str, unfinished):
            record.report_violation("the outcome at an interruption is not among the unfinished")
        return _NoBatch.UNKNOWN if outcome.marker is None else outcome
    if created or client.world.held_creates[record.label]:
        record.report_if_promised("an interruption lost a batch")
    return _NoBatch.NOT_CREATED


def _stored_marker(record: OperationRecord) -> CreateMarker | None:
    """Return the reported marker as another process reads it: encoded and decoded."""
    for event in record.events:
        if isinstance(event, CreateMarked):
            encoded = msgspec.json.encode(event.marker)
            return msgspec.json.decode(encoded, type=CreateMarker)
    return None


def _form_to_settle(
    client: Client, error: OutcomeUnknownError
) -> OutcomeUnknownError | CreateMarker | _NoBatch:
    """Return the error, a pickled copy of it, or its marker: `settle` accepts all three."""
    if error.marker is None:
        try:
            client.api.settle(error)
        except InvalidInputError:
            return _NoBatch.UNKNOWN
        client.world.report_violation("settle accepts an outcome without a marker")
    chance = client.world.rng.random()
    if chance < 0.3:
        copied: OutcomeUnknownError = pickle.loads(pickle.dumps(error))  # noqa: S301 - made just now
        return copied
    return error.marker if chance < 0.6 and error.marker is not None else error


def _check_create(
    client: Client, record: OperationRecord, *, settles: bool, needs_marker: bool
) -> None:
    world = client.world
    created = world.service.created_for(record.label)
    # The list can be one of many small pages, both before the create and when it is settled.
    pages = len(world.service.created) + 1
    reads = record.ambiguous_failures * _list_reads(world) * pages
    settling = world.settle_time + _ALONE if settles else 0
    record.check_effort(
        needed=int(1 + pages + reads), more_waiting=record.ambiguous_failures * settling
    )
    record.check_outcome_unknown()
    if isinstance(record.value, MessageBatch):
        if record.value.id not in {each.id for each in created}:
            record.report_if_promised("it returned a batch that it did not create")
        if not any(isinstance(event, BatchCreated) for event in record.events):
            record.report_violation("it returned a batch without BatchCreated")
    error = record.error
    if error is None:
        return
    unknown = error if isinstance(error, OutcomeUnknownError) else None
    # Without settling, or without a marker, an unknown outcome is reported at once.
    is_reported_at_once = unknown is not None and not (settles and unknown.marker)
    is_undecidable = unknown is not None and (
        record.is_contested or _is_undecidable(world, unknown.marker)
    )
    if record.failed_too_early and not is_reported_at_once and not is_undecidable:
        record.report_if_promised("it failed before its last attempt")
    if unknown is not None:
        if needs_marker and unknown.marker is None:
            record.report_violation("the unknown outcome has no marker")
    elif created or world.held_creates[record.label]:
        record.report_if_promised("its error says that nothing was created, and a batch exists")


# --- settling ----------------------------------------------------------------------------


def _settle(
    client: Client, label: str, outcome: OutcomeUnknownError | CreateMarker
) -> Generator[float, None, tuple[bool, MessageBatch | None]]:
    """Settle an outcome; if that fails, settle it again without hazards.

    Returns:
        Whether it is settled, and the batch if one was created.
    """
    world = client.world
    marker = outcome.marker if isinstance(outcome, OutcomeUnknownError) else outcome
    for undisturbed in (False, True):
        operation = client.api.settle(outcome, settle_time=world.settle_time)
        record = yield from client.run("settle", label, operation, undisturbed=undisturbed)
        contested = client.ledger.contested_serials
        record.is_contested = marker is not None and marker.serial in contested
        created = world.service.created_for(label)
        reads = _list_reads(world) * (len(world.service.created) + 1)
        record.check_effort(needed=int(reads), more_waiting=world.settle_time + _ALONE)
        record.check_outcome_unknown()
        if record.error is None:
            found: MessageBatch | None = record.value
            if found is not None:
                if found.id not in {each.id for each in created}:
                    record.report_if_promised("it returned a batch that it did not create")
            elif created or world.held_creates[label]:
                record.report_if_promised("it says that nothing was created, and a batch exists")
            return True, found
        is_undecidable = record.is_contested or _is_undecidable(world, marker)
        if record.failed_too_early and not is_undecidable:
            record.report_if_promised("it failed before its last attempt")
        if not isinstance(record.error, OutcomeUnknownError):
            record.report_violation("settle raised another error than OutcomeUnknownError")
    return False, None


def _list_reads(world: World) -> float:
    """How often the list is read within the settle time, at most."""
    return world.settle_time / _MIN_LIST_INTERVAL + 2


def _is_undecidable(world: World, marker: CreateMarker | None) -> bool:
    """Whether even a perfect client could not find out what a create did.

    Either all batches of its marker's page were deleted, or the clocks disagree by too much.
    """
    if marker is None:
        return False
    is_gone = bool(marker.listed_ids) and not any(map(world.service.exists, marker.listed_ids))
    return is_gone or world.exceeds_clock_slack
