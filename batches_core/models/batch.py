"""Declare batches, pages of a list of batches, and deletion records."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from .base import Wire


class RequestCounts(Wire, frozen=True, kw_only=True):
    """The number of requests of a batch in each state. The sum is always the size of the batch.

    All counts except `processing` stay 0 until the whole batch has ended.
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

    `processing_status` is ``in_progress``, ``canceling`` or ``ended`` today. `results_url` is None
    until the batch has ended, and again after it was archived.
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
            # The service's times are UTC. So far, all of them had an offset.
            if moment is not None and moment.tzinfo is None:
                msgspec.structs.force_setattr(self, name, moment.replace(tzinfo=UTC))

    @property
    def ended(self) -> bool:
        """Whether processing has ended and the results can be read."""
        return self.processing_status == "ended"


class DeletedMessageBatch(Wire, frozen=True, kw_only=True):
    """The deletion record of a batch: the service no longer has the batch."""

    id: str
    type: str = "message_batch_deleted"


class Page(Wire, frozen=True, kw_only=True):
    """One page of the list of batches, newest first.

    Pass `last_id` as ``after_id`` to list the next page, and `first_id` as ``before_id`` to list
    the previous page. Both are None if the page is empty. `has_more` is True if the list continues
    on another page.
    """

    data: list[MessageBatch]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
