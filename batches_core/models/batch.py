"""Batches, pages of batches, and deletions."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from .base import Wire


class RequestCounts(Wire, frozen=True, kw_only=True):
    """How many requests of a batch are in which state; the sum is always the batch's size.

    All but `processing` stay 0 until the whole batch has ended.
    """

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """The number of requests in the batch."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


_TIMESTAMPS = ("created_at", "expires_at", "ended_at", "archived_at", "cancel_initiated_at")


class MessageBatch(Wire, frozen=True, kw_only=True):
    """A batch as the service describes it.

    `processing_status` is ``in_progress``, ``canceling`` or ``ended`` today. `results_url` is
    there once the batch has ended and until it is archived.
    """

    id: str
    processing_status: str
    request_counts: RequestCounts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    cancel_initiated_at: datetime | None = None
    results_url: str | None = None
    type: str = "message_batch"

    def __post_init__(self) -> None:
        for name in _TIMESTAMPS:
            moment = getattr(self, name)
            # One without an offset was not seen yet; the service's times are UTC.
            if moment is not None and moment.tzinfo is None:
                msgspec.structs.force_setattr(self, name, moment.replace(tzinfo=UTC))

    @property
    def ended(self) -> bool:
        """Whether processing has ended and the results can be read."""
        return self.processing_status == "ended"


class DeletedMessageBatch(Wire, frozen=True, kw_only=True):
    """The service's word that a batch is gone."""

    id: str
    type: str = "message_batch_deleted"


class Page(Wire, frozen=True, kw_only=True):
    """One page of a list, newest first.

    `last_id` is the cursor to the page after it (``after_id``), `first_id` to the one before it
    (``before_id``); both are None on an empty page.
    """

    data: list[MessageBatch]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
