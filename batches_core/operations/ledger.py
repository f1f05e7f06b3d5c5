"""What a process knows of its own creates, so that no create adopts the batch of another.

`CreateLedger` keeps ids, markers and states. `create` sends a create, and `settle` reads the list.

Several threads may use one ledger without a lock, for two reasons. Every step is one atomic
operation on a dict or an attribute. And the steps have an order: a create becomes pending before
its first byte can leave, and its batch becomes known before it stops being pending. A reader that
asks for the pending creates first, and for the known batches second, therefore finds each create in
at least one of them.
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
#: be confused with a new create, because its marker limits the time at which its batch was made.
_REMEMBERED = 1000

K = TypeVar("K")


class CreateState(enum.Enum):
    """How far a create has come."""

    NOT_SENT = "no attempt was made, or none had an effect"
    IN_FLIGHT = "it was handed to the driver, and its response has not arrived"
    LOST = "its response was lost"
    CREATED = "its batch is known"


class PendingCreate:
    """One create, from its start until its outcome is known.

    It is one of this process, or one of another process that is settled here. `marker` is None
    until the list has been read. For an unmarked create, which is sent although the list could not
    be read, it stays None.
    """

    def __init__(self, ledger: CreateLedger, serial: int, requests: int) -> None:
        self.serial = serial
        self.requests = requests
        self.state = CreateState.NOT_SENT
        self.marker: CreateMarker | None = None
        #: The ids of batches that the caller knows to be of other creates.
        self.known_ids: Collection[str] = ()
        self.batch: MessageBatch | None = None
        self._ledger = ledger
        #: When the list was read for the marker, in seconds of the driver's clock; None if an
        #: earlier operation read it, perhaps in another process.
        self._marked_at: float | None = None
        #: Why the response was lost, and how many seconds later the request may still arrive.
        self._reason = ""
        self._settle_time = 0.0
        #: The service's time when the list was first read after the loss. For an unmarked create
        #: this is the only known time, from which to compute when it can no longer arrive.
        self._listed_at: datetime | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The identity of this create, which no other create has.

        For an unmarked create it is only the serial, which is unique only in its process.
        """
        return (self.serial,) if self.marker is None else self.marker.key

    def mark(self, marker: CreateMarker, *, now: float) -> None:
        """Record the marker. `now` is when the list was read, by the driver's clock."""
        self._ledger.observe_list(marker.read_at)
        self.marker = marker
        self._marked_at = now

    def begin_attempt(self) -> None:
        """Record that the create may leave this machine from now on."""
        self.state = CreateState.IN_FLIGHT
        self._ledger.add_pending(self)

    def withdraw(self) -> None:
        """Record that no attempt had an effect: it did not leave, was refused, or made no batch."""
        self.state = CreateState.NOT_SENT
        self._ledger.remove_pending(self)

    def lose(self, reason: str, *, now: float, settle_time: float) -> None:
        """Record that the response was lost, at `now` by the driver's clock.

        The request may arrive, and its batch appear in the list, until `settle_time` seconds later.
        """
        self._reason = reason
        self._settle_time = settle_time
        if self.marker is not None and self._marked_at is not None:
            within = now - self._marked_at + settle_time
            self.marker = msgspec.structs.replace(self.marker, arrives_within=within)
        self.state = CreateState.LOST
        self._ledger.add_pending(self)

    def succeed(self, batch: MessageBatch) -> None:
        """Record the batch that the create made."""
        self.batch = batch
        # The order matters: see the module's docstring.
        self._ledger.add_known(self.key, batch)
        self.state = CreateState.CREATED
        self._ledger.remove_pending(self)

    def record_unreturned(self, batch: MessageBatch) -> None:
        """Record that the caller did not receive the batch."""
        self._ledger.add_unreturned(batch)

    def outcome(
        self, reason: str = "", candidates: tuple[MessageBatch, ...] = ()
    ) -> OutcomeUnknownError:
        """Build the error for an unknown outcome, by default with the reason of the loss.

        Its marker excludes the batches that are known to be of other creates.
        """
        marker = self.marker
        if marker is not None:
            marker = marker.excluding((*self.known_ids, *self._ledger.ids_of_others(marker)))
        return OutcomeUnknownError(
            reason or self._reason, requests=self.requests, marker=marker, candidates=candidates
        )

    def observe_list(self, read_at: datetime | None) -> None:
        """Record the service's time at which the list was read for another create."""
        if self.state is CreateState.LOST and self._listed_at is None:
            self._listed_at = read_at

    def may_have_made(self, batch: MessageBatch, listed_at: datetime | None) -> bool:
        """Return whether this create can have made a batch that was not listed at `listed_at`."""
        if batch.request_counts.total != self.requests:
            return False
        if self.marker is not None and self.marker.fit(batch) is Fit.NO:
            return False
        # If the create could no longer arrive by then, its batch would have been in that list.
        return listed_at is None or not self._is_over_at(listed_at)

    def _is_over_at(self, moment: datetime) -> bool:
        if self.marker is not None:
            return self.marker.is_over_at(moment)
        return self._listed_at is not None and is_later(moment, self._listed_at, self._settle_time)


class CreateLedger:
    """The creates of one process in one workspace.

    Pass the same ledger to every `BatchesAPI` of one base URL, credential and workspace. Several
    threads may use it.

    `first_serial` is the serial of the first create, 0 by default. Serials count up from it.
    """

    def __init__(self, first_serial: int = 0) -> None:
        self._serials = itertools.count(first_serial)
        #: The batches that creates of this process made, by id and oldest first, each with the key
        #: of its create.
        self._known: dict[str, tuple[tuple[object, ...], MessageBatch]] = {}
        #: The creates that may have an effect. A dict has an order, and its steps are atomic.
        self._pending: dict[PendingCreate, None] = {}
        #: The batches that their callers did not receive, because an error ended the call.
        self._unreturned: dict[str, MessageBatch] = {}

    def begin(self, requests: int) -> PendingCreate:
        """Begin a create of a batch with this number of requests."""
        return PendingCreate(self, next(self._serials), requests)

    def resume(self, marker: CreateMarker) -> PendingCreate:
        """Resume a create whose outcome is unknown, of this process or another.

        Raises:
            InvalidInputError: the create is still under way in this process.
        """
        same = (each for each in self._snapshot_pending() if each.key == marker.key)
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

    def check_unused(self, marker: CreateMarker) -> None:
        """Check that no other create of this process was sent with this marker.

        Raises:
            InvalidInputError: one was, and it made a batch or may have made one.
        """
        is_pending = any(each.key == marker.key for each in self._snapshot_pending())
        if is_pending or self.batch_of(marker) is not None:
            raise InvalidInputError(
                "a create was sent with this marker before, and may have made its batch: pass the "
                "marker to settle()"
            )

    def unfinished(self) -> list[OutcomeUnknownError | MessageBatch]:
        """Return the outcomes of the creates whose callers received no batch.

        They are an `OutcomeUnknownError` for each create whose outcome is still unknown, then the
        `MessageBatch` of each create that was interrupted after its batch was known.
        """
        lost = [
            each.outcome() for each in self._snapshot_pending() if each.state is CreateState.LOST
        ]
        return [*lost, *tuple(self._unreturned.values())]

    # --- for `create` and `settle` -----------------------------------------------------------

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
        """Remember a batch that its caller did not receive."""
        self._unreturned[batch.id] = batch
        _drop_oldest(self._unreturned)

    def observe_list(self, read_at: datetime | None) -> None:
        """Record the service's time at which the list was read for a marker."""
        for pending in self._snapshot_pending():
            pending.observe_list(read_at)

    def batch_of(self, marker: CreateMarker) -> MessageBatch | None:
        """Return the batch that this marker's create is known to have made, or None."""
        return next((batch for key, batch in self._snapshot_known() if key == marker.key), None)

    def ids_of_others(self, marker: CreateMarker) -> list[str]:
        """Return the ids of batches that fit this marker, but that other creates made."""
        return [
            batch.id
            for key, batch in self._snapshot_known()
            if key != marker.key and marker.fit(batch) is not Fit.NO
        ]

    def is_of_another(self, batch: MessageBatch, marker: CreateMarker) -> bool:
        """Return whether a create other than this marker's is known to have made this batch."""
        maker, known = self._known.get(batch.id, (marker.key, batch))
        # Its date is compared too, because an emulator may use an id a second time.
        return maker != marker.key and known.created_at == batch.created_at

    def rivals(self, marker: CreateMarker) -> list[PendingCreate]:
        """Return the other pending creates.

        Call it before `is_of_another`, for the reason in the module's docstring.
        """
        return [each for each in self._snapshot_pending() if each.key != marker.key]

    def _snapshot_pending(self) -> tuple[PendingCreate, ...]:
        return tuple(self._pending)

    def _snapshot_known(self) -> tuple[tuple[tuple[object, ...], MessageBatch], ...]:
        return tuple(self._known.values())


def _drop_oldest(remembered: dict[K, Any]) -> None:
    for key in tuple(remembered)[: max(0, len(remembered) - _REMEMBERED)]:
        remembered.pop(key, None)
