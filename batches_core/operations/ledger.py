"""What a process knows of its own creates, so that none takes another's batch for its own.

Keeps ids, markers and states. Sending a create is `creation`'s, reading the list `settling`'s.

Several threads may use one ledger at once without a lock, because every step is one atomic
operation on a dict or an attribute, and because of their order: a create is pending before its
first byte can leave, and its batch is known before it stops being pending. Whoever reads the
pending creates first and the known batches second never misses both.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from batches_core.errors import InvalidInputError, OutcomeUnknownError
from batches_core.marker import CreateMarker, Fit, is_later
from batches_core.models import MessageBatch

#: How many batches, and how many creates of unknown outcome, a ledger remembers. Older ones cannot
#: be mistaken: what a create can have made is bounded by its time.
_REMEMBERED = 1000

K = TypeVar("K")


class CreateState(enum.Enum):
    """Where a create stands."""

    NOT_SENT = "nothing of it had an effect"
    IN_FLIGHT = "it was handed to the driver, and its answer is awaited"
    LOST = "its answer was lost"
    CREATED = "its batch is known"


class PendingCreate:
    """One create of this process, from its start until its outcome is known.

    `marker` is None until the list was read, and stays None if the caller sent without it.
    """

    def __init__(self, ledger: CreateLedger, serial: int, requests: int) -> None:
        self.serial = serial
        self.requests = requests
        self.state = CreateState.NOT_SENT
        self.marker: CreateMarker | None = None
        #: Batches that the caller knows to be others.
        self.known_ids: Collection[str] = ()
        self.batch: MessageBatch | None = None
        self._ledger = ledger
        #: When the list was read, by the driver's clock.
        self._marked_at = 0.0
        #: Why the answer was lost, and for how long the request can arrive from then on.
        self._reason = ""
        self._settle_time = 0.0
        #: When the list was first read after that, which dates a create without a marker.
        self._listed_at: datetime | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What tells this create from every other, also from those of other processes."""
        return (self.serial,) if self.marker is None else self.marker.key

    def mark(self, marker: CreateMarker, *, now: float) -> None:
        """Record what the list showed before the create."""
        self._ledger.observe_list(marker.read_at)
        self.marker = marker
        self._marked_at = now

    def begin_attempt(self) -> None:
        """Record that the create may leave from now on."""
        self.state = CreateState.IN_FLIGHT
        self._ledger.add_pending(self)

    def withdraw(self) -> None:
        """Record that no attempt had an effect: it was refused, or it is not in the list."""
        self.state = CreateState.NOT_SENT
        self._ledger.remove_pending(self)

    def lose(self, reason: str, *, now: float, settle_time: float) -> None:
        """Record that the answer was lost, at `now` by the driver's clock.

        The network may hold the request, and the list the batch, for `settle_time` seconds more.
        """
        self._reason = reason
        self._settle_time = settle_time
        if self.marker is not None:
            within = now - self._marked_at + settle_time
            self.marker = msgspec.structs.replace(self.marker, arrives_within=within)
        self.state = CreateState.LOST
        self._ledger.add_pending(self)

    def succeed(self, batch: MessageBatch) -> None:
        """Record the batch."""
        self.batch = batch
        # In this order: see the module's docstring.
        self._ledger.add_known(self.key, batch)
        self.state = CreateState.CREATED
        self._ledger.remove_pending(self)

    def record_unreturned(self, batch: MessageBatch) -> None:
        """Record that the batch is known, but did not reach the caller."""
        self._ledger.add_unreturned(batch)

    def outcome(
        self, reason: str = "", candidates: tuple[MessageBatch, ...] = ()
    ) -> OutcomeUnknownError:
        """Build the error that says that the outcome is unknown."""
        marker = self.marker
        if marker is not None:
            marker = marker.excluding((*self.known_ids, *self._ledger.ids_of_others(marker)))
        return OutcomeUnknownError(
            reason or self._reason, requests=self.requests, marker=marker, candidates=candidates
        )

    def observe_list(self, read_at: datetime | None) -> None:
        """Note when the list was read for another create, which dates one without a marker."""
        if self.state is CreateState.LOST and self._listed_at is None:
            self._listed_at = read_at

    def may_have_made(self, batch: MessageBatch, listed_at: datetime | None) -> bool:
        """Whether this create can have made a batch that was not in the list at `listed_at`."""
        if batch.request_counts.total != self.requests:
            return False
        if self.marker is not None and self.marker.fit(batch) is Fit.NO:
            return False
        # What could no longer arrive by then was listed.
        return listed_at is None or not self._is_over_at(listed_at)

    def _is_over_at(self, moment: datetime) -> bool:
        if self.marker is not None:
            return self.marker.is_over_at(moment)
        return self._listed_at is not None and is_later(moment, self._listed_at, self._settle_time)


class CreateLedger:
    """The creates of one process in one workspace.

    Give every `BatchesAPI` of the same base URL, credential and workspace the same ledger. Serials
    count up from `first_serial`.
    """

    def __init__(self, first_serial: int = 0) -> None:
        self._serials = itertools.count(first_serial)
        #: The batches of this process's creates, the oldest first, and the keys of those.
        self._known: dict[str, tuple[tuple[object, ...], MessageBatch]] = {}
        #: The creates that may have an effect; a dict for its order and its atomic steps.
        self._pending: dict[PendingCreate, None] = {}
        #: Batches that a create made whose call ended in another error.
        self._unreturned: dict[str, MessageBatch] = {}

    def begin(self, requests: int) -> PendingCreate:
        """Begin a create."""
        return PendingCreate(self, next(self._serials), requests)

    def resume(self, marker: CreateMarker) -> PendingCreate:
        """Resume a create whose outcome is unknown, of this process or another.

        Raises:
            InvalidInputError: it is under way in this process.
        """
        same = (each for each in self._pendings() if each.key == marker.key)
        if (pending := next(same, None)) is None:
            pending = PendingCreate(self, marker.serial, marker.requests)
            pending.marker = marker
        if pending.state is CreateState.IN_FLIGHT:
            raise InvalidInputError(
                "the create of this marker is still under way in this process: wait for its end, "
                "or cancel it first"
            )
        pending.state = CreateState.LOST
        self.add_pending(pending)
        return pending

    def unfinished(self) -> list[OutcomeUnknownError | MessageBatch]:
        """Return what became of creates whose call did not return a batch.

        An `OutcomeUnknownError` for each one whose outcome is still unknown, and the `MessageBatch`
        of each one that was interrupted after its batch was known.
        """
        lost = [each.outcome() for each in self._pendings() if each.state is CreateState.LOST]
        return [*lost, *tuple(self._unreturned.values())]

    # What follows is for the operations.

    def add_pending(self, pending: PendingCreate) -> None:
        """Remember a create that may have an effect."""
        self._pending[pending] = None
        _drop_oldest(self._pending)

    def remove_pending(self, pending: PendingCreate) -> None:
        """Forget a create whose outcome is known."""
        self._pending.pop(pending, None)

    def add_known(self, key: tuple[object, ...], batch: MessageBatch) -> None:
        """Remember a batch and the create that made it."""
        self._known[batch.id] = key, batch
        _drop_oldest(self._known)

    def add_unreturned(self, batch: MessageBatch) -> None:
        """Remember a batch whose id did not reach the caller."""
        self._unreturned[batch.id] = batch
        _drop_oldest(self._unreturned)

    def observe_list(self, read_at: datetime | None) -> None:
        """Note when the list was read."""
        for pending in self._pendings():
            pending.observe_list(read_at)

    def batch_of(self, marker: CreateMarker) -> MessageBatch | None:
        """Return the batch that this create is known to have made."""
        return next((batch for key, batch in self._knowns() if key == marker.key), None)

    def ids_of_others(self, marker: CreateMarker) -> list[str]:
        """Return the ids of batches that could be this create's, if another had not made them."""
        return [
            batch.id
            for key, batch in self._knowns()
            if key != marker.key and marker.fit(batch) is not Fit.NO
        ]

    def is_of_another(self, batch: MessageBatch, marker: CreateMarker) -> bool:
        """Whether another create made this batch."""
        maker, known = self._known.get(batch.id, (marker.key, batch))
        # Also by its stamp: an emulator may well use an id a second time.
        return maker != marker.key and known.created_at == batch.created_at

    def rivals(self, marker: CreateMarker) -> list[PendingCreate]:
        """Return the other creates of unknown outcome. Call it before `is_of_another`."""
        return [each for each in self._pendings() if each.key != marker.key]

    def _pendings(self) -> tuple[PendingCreate, ...]:
        return tuple(self._pending)

    def _knowns(self) -> tuple[tuple[tuple[object, ...], MessageBatch], ...]:
        return tuple(self._known.values())


def _drop_oldest(remembered: dict[K, Any]) -> None:
    for key in tuple(remembered)[: max(0, len(remembered) - _REMEMBERED)]:
        remembered.pop(key, None)
