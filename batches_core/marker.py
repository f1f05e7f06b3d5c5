"""What a create can be settled by: what the list and the clocks said before it was sent.

Decides whether a batch that the list shows can be the one that a create made. Walking the list and
acting on the verdict are `settling`'s.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from .models import MessageBatch

#: By how much two of the service's clocks that stamp batches may differ. HTTP dates are rounded to
#: whole seconds, and well-kept clocks differ by less than one.
CLOCK_SLACK = timedelta(seconds=10)
#: By how much the clock behind the ``Date`` header may differ from those: it can be a proxy's. A
#: batch that it excludes by less than this is neither adopted nor called another's.
DATE_SLACK = timedelta(hours=1)
#: How long after its marker a create can reach the service where nobody recorded when it was given
#: up, because the process died. An upload of 256 MB at 1 Mbit/s takes 34 minutes.
LONGEST_CREATE = timedelta(hours=1)


class Fit(enum.Enum):
    """Whether a batch can be the one that a create made."""

    NO = "it is another one"
    UNSURE = "only a clock that may be wrong speaks against it"
    LIKELY = "it is as large and as old"


class CreateMarker(msgspec.Struct, frozen=True, kw_only=True):
    """What was known before a create was sent. Pass it to `settle` to learn its outcome.

    It can be pickled, or kept as JSON by msgspec; it holds no credential.

    - `requests`: the number of requests in the batch;
    - `serial`: which create of its process it belongs to;
    - `base_url`, `workspace_id` (if one was configured) and `organization_id` (if the service named
      it): where it was sent; `scope` is a hash of these and the credential;
    - `listed_ids`: the newest batches that the list showed, newest first, at least those of the ten
      seconds before the newest: all of them are older than the create;
    - `newest_created_at`, `oldest_created_at`: the latest and the earliest stamp of these; the
      first is None if the list was empty, the second if they were the whole list;
    - `read_at`: the service's time of that look (its ``Date`` header), None if it sent none;
    - `arrives_within`: for how many seconds after `read_at` the create can have reached the
      service, None if nobody recorded when it was given up;
    - `known_ids`: batches of other creates of the same process.
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
        """Return a copy that knows further batches as those of other creates."""
        known = dict.fromkeys((*self.known_ids, *ids))
        return msgspec.structs.replace(self, known_ids=tuple(known))

    def is_before(self, batch: MessageBatch) -> bool:
        """Whether a walk from the newest batch on has passed everything the create can have made.

        The list need not be in the order of the stamps, nor the stamps in the order of the creates:
        both can be off by the clock slack.
        """
        newest = self.newest_created_at
        return newest is not None and newest - batch.created_at > CLOCK_SLACK

    def fit(self, batch: MessageBatch) -> Fit:
        """Judge by its size and age whether the create can have made this batch.

        A batch has no name of the sender's choice. A stamp that only the ``Date`` header's clock
        excludes makes it unsure, for absence must never rest on that clock.
        """
        if batch.request_counts.total != self.requests or self.is_before(batch):
            return Fit.NO
        if batch.id in self.listed_ids or batch.id in self.known_ids:
            return Fit.NO
        if self.oldest_created_at is not None and batch.created_at <= self.oldest_created_at:
            return Fit.UNSURE  # it may be older than all that were listed, and so not among them
        return Fit.LIKELY if self.read_at is None else self._fit_by_date(batch, self.read_at)

    def _fit_by_date(self, batch: MessageBatch, read_at: datetime) -> Fit:
        # A difference of two dates always exists. A sum need not: a peer can name the year 9999.
        age = batch.created_at - read_at
        if age < -CLOCK_SLACK:
            return Fit.UNSURE
        if self.arrives_within is None:
            return Fit.LIKELY if age <= LONGEST_CREATE else Fit.UNSURE
        late = age.total_seconds() - self.arrives_within
        # So that a clock without a number (NaN) excludes nothing.
        if not late > CLOCK_SLACK.total_seconds():
            return Fit.LIKELY
        return Fit.NO if late > DATE_SLACK.total_seconds() else Fit.UNSURE

    def is_over_at(self, moment: datetime) -> bool:
        """Whether the create could no longer reach the service at this time."""
        if self.read_at is None or self.arrives_within is None:
            return False
        return is_later(moment, self.read_at, self.arrives_within)

    @property
    def key(self) -> tuple[object, ...]:
        """What is the same in every copy of this marker, whatever was learned since.

        The serial alone is not: each process counts its own.
        """
        return self.serial, self.requests, self.read_at, self.listed_ids


def is_later(moment: datetime, than: datetime, seconds: float) -> bool:
    """Whether a moment is later than another by these seconds and the clock slack."""
    return (moment - than).total_seconds() > seconds + CLOCK_SLACK.total_seconds()
