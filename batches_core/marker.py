"""The marker of a create: what was known before it was sent, by which it can be settled later.

`CreateMarker` decides whether a listed batch can be the one that its create made.
`operations.settle` reads the list and acts on the decision.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from .models import MessageBatch

#: How much the times of two batches may be wrong in relation to each other, because the service
#: has several clocks. HTTP dates are rounded to whole seconds, and well-kept clocks differ by less
#: than one.
CLOCK_SLACK = timedelta(seconds=10)
#: How much the ``Date`` header may differ from those times; it can be set by a proxy. If it rules a
#: batch out by less than this, the batch is neither adopted nor excluded.
DATE_SLACK = timedelta(hours=1)
#: How long after its marker a create can reach the service, if its process died and nobody recorded
#: when it was abandoned. An upload of 256 MB at 1 Mbit/s takes 34 minutes.
LONGEST_CREATE = timedelta(hours=1)


class Fit(enum.Enum):
    """Whether a batch can be the one that a create made."""

    NO = "no: its size, its age or its id rules it out"
    UNSURE = "perhaps: only a clock that may be wrong rules it out"
    LIKELY = "yes: it has the right size and age"


class CreateMarker(msgspec.Struct, frozen=True, kw_only=True):
    """What was known before a create was sent. Pass it to `settle` to find out the outcome.

    It can be pickled, or stored as JSON by msgspec. It holds no credential.

    - `requests`: the number of requests in the batch;
    - `serial`: the number of the create in its process;
    - `base_url`, `workspace_id` (if one was configured) and `organization_id` (if the service named
      it): where the create was sent;
    - `scope`: a hash of the base URL, the workspace and the credential;
    - `listed_ids`: the ids of the newest batches in the list, newest first: the newest one, and at
      least those of the ten seconds before it. All of them are older than the create;
    - `newest_created_at`, `oldest_created_at`: the latest and the earliest ``created_at`` of these.
      The first is None if the list was empty, the second if these were the whole list;
    - `read_at`: the service's time when the list was read (its ``Date`` header), or None;
    - `arrives_within`: how many seconds after `read_at` the create could still reach the service;
      None if nobody recorded when it was abandoned;
    - `known_ids`: the ids of batches that are known to be of other creates.
    """

    requests: int
    serial: int = 0
    base_url: str = ""
    workspace_id: str | None = None
    organization_id: str | None = None
    scope: str = ""
    listed_ids: tuple[str, ...] = ()
    newest_created_at: datetime | None = None
    oldest_created_at: datetime | None = None
    read_at: datetime | None = None
    arrives_within: float | None = None
    known_ids: tuple[str, ...] = ()

    def excluding(self, ids: Iterable[str]) -> CreateMarker:
        """Return a copy that also excludes the batches with these ids."""
        known = dict.fromkeys((*self.known_ids, *ids))
        return msgspec.structs.replace(self, known_ids=tuple(known))

    def is_newer_than(self, batch: MessageBatch) -> bool:
        """Return whether a batch is so old that no further page can show the create's batch.

        The list need not be in the order of ``created_at``, nor ``created_at`` in the order of the
        creates. Both can be off by `CLOCK_SLACK`.
        """
        newest = self.newest_created_at
        return newest is not None and newest - batch.created_at > CLOCK_SLACK

    def fit(self, batch: MessageBatch) -> Fit:
        """Decide by size, age and id whether the create can have made this batch.

        A create cannot attach an id or a name to its batch, so there is no better evidence. A batch
        that only the ``Date`` header rules out is `UNSURE`: that clock alone must not prove that
        there is no batch. Only if it is later than `DATE_SLACK` allows is it `NO`.
        """
        if batch.request_counts.total != self.requests or self.is_newer_than(batch):
            return Fit.NO
        if batch.id in self.listed_ids or batch.id in self.known_ids:
            return Fit.NO
        if self.oldest_created_at is not None and batch.created_at <= self.oldest_created_at:
            return Fit.UNSURE  # it may be an older batch, just beyond the ones that were listed
        return Fit.LIKELY if self.read_at is None else self._fit_by_date(batch, self.read_at)

    def _fit_by_date(self, batch: MessageBatch, read_at: datetime) -> Fit:
        # Dates are only subtracted. A sum can overflow, because a peer can send the year 9999.
        age = batch.created_at - read_at
        if age < -CLOCK_SLACK:
            return Fit.UNSURE
        if self.arrives_within is None:
            return Fit.LIKELY if age <= LONGEST_CREATE else Fit.UNSURE
        late = age.total_seconds() - self.arrives_within
        # Negated, so that a NaN, from a faulty driver's clock, rules nothing out.
        if not late > CLOCK_SLACK.total_seconds():
            return Fit.LIKELY
        return Fit.NO if late > DATE_SLACK.total_seconds() else Fit.UNSURE

    def is_over_at(self, moment: datetime) -> bool:
        """Return whether the create could no longer reach the service at this time."""
        if self.read_at is None or self.arrives_within is None:
            return False
        return is_later(moment, self.read_at, self.arrives_within)

    @property
    def key(self) -> tuple[object, ...]:
        """The identity of the create: equal in every copy of this marker, whatever was added.

        The serial alone would not do, because each process counts its own.
        """
        return self.serial, self.requests, self.read_at, self.listed_ids


def is_later(moment: datetime, than: datetime, seconds: float) -> bool:
    """Return whether `moment` is after `than` by more than these seconds and the clock slack."""
    return (moment - than).total_seconds() > seconds + CLOCK_SLACK.total_seconds()
