"""Creating a batch, and never twice; and finding out what became of a create.

A create has no name by which the service would know it again. So before it is sent, the newest
batch is read as a marker. Where the answer is lost, the list is walked from its newest batch to
that marker, and what is newer and of the same size may be the one. Knows that rule and when a
create may be sent again; credentials and paths are `api`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

from .calls import (
    FAILURES,
    answer,
    answer_and_head,
    may_have_had_effect,
    retried,
    surely_had_no_effect,
)
from .errors import (
    APIStatusError,
    BatchesError,
    OutcomeUnknown,
    RemoteProtocolError,
    TransportError,
)
from .events import BatchCreated, CreateMarked, SettlingStarted
from .exchange import Head
from .http import Request
from .models import CreateMarker, MessageBatch, Page
from .operation import Channel, Script
from .operations import PageRequest, Pages
from .retry import RetryPolicy, http_date

#: Seconds from one look at the list to the next, while an outcome is settled: the first, by what
#: it grows, and the most.
_FIRST_LOOK, _LOOK_GROWTH, _LAST_LOOK = 1.0, 2.0, 15.0
#: For how many seconds a batch has to be the only one that fits before it is adopted, for another
#: can be listed sooner than the one that was sent.
_ALONE = 10.0
#: How many pages of the list are walked at most: more batches than that are never made meanwhile.
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """How an outcome is settled.

    For how many seconds at most, by which pages, which batches are known to be others (looked at
    again each time), and whether another create of this size is in doubt as well, and so could be
    the one that made a batch that fits.
    """

    settle_time: float
    page_request: PageRequest
    known_ids: Collection[str]
    is_contested: Callable[[], bool]


def create(
    channel: Channel,
    policy: RetryPolicy,
    *,
    request: Request,
    requests: int,
    newest_request: Request,
    settling: Settling,
    if_unknown: str,
) -> Script[MessageBatch]:
    """Create a batch, and never twice.

    A create is sent again only where the try before surely had no effect: nothing of it left, the
    service said that it did not take it, or it could not be found in the list. If a lost answer is
    to be raised, the marker is read if it can be; if it is to be settled, it has to be.
    """
    marker = yield from _mark(channel, policy, newest_request, requests, if_unknown)
    if marker is not None:
        yield CreateMarked(marker=marker)
    settles = if_unknown == "settle"
    tries = _Tries(channel, policy, request, requests, marker, settling, settles)
    try:
        return (yield from retried(channel, policy, tries.attempt, tries.is_sent_again))
    except FAILURES as error:
        if tries.was_unknown and not isinstance(error, OutcomeUnknown):
            # What became of the last try is clear, but not what becomes of the ones before.
            raise tries.unknown(error) from error
        raise


@dataclass
class _Tries:
    """The tries of one create, and what is known of them."""

    channel: Channel
    policy: RetryPolicy
    request: Request
    requests: int
    marker: CreateMarker | None
    settling: Settling
    settles: bool
    was_unknown: bool = False
    _is_absent: bool = False

    def attempt(self) -> Script[MessageBatch]:
        self._is_absent = False
        try:
            batch = yield from answer(self.channel, self.request, MessageBatch, "a batch")
        except FAILURES as error:
            if not may_have_had_effect(error):
                raise
            self.was_unknown = True
            lost = self.unknown(error)
        else:
            yield BatchCreated(batch=batch)
            return batch
        if self.marker is None or not self.settles:
            raise lost
        yield SettlingStarted(error=lost, settle_time=self.settling.settle_time)
        adopted = yield from settle(
            self.channel, self.policy, marker=self.marker, settling=self.settling
        )
        if adopted is None:
            self._is_absent = True
            raise lost
        return adopted

    def is_sent_again(self, error: BatchesError) -> bool:
        return self._is_absent or (surely_had_no_effect(error) and self.policy.retries(error))

    def unknown(self, error: BatchesError) -> OutcomeUnknown:
        known = None if self.marker is None else self.marker.without(self.settling.known_ids)
        unknown = OutcomeUnknown(_summary(error), requests=self.requests, marker=known)
        unknown.__cause__ = error
        return unknown


def _mark(
    channel: Channel,
    policy: RetryPolicy,
    newest_request: Request,
    requests: int,
    if_unknown: str,
) -> Script[CreateMarker | None]:
    """Read the newest batch, and when that was by the service's own clock."""

    def attempt() -> Script[tuple[Page, Head]]:
        return (yield from answer_and_head(channel, newest_request, Page, "a page of batches"))

    try:
        page, head = yield from retried(channel, policy, attempt)
    except FAILURES as error:
        if if_unknown == "raise":
            return None
        error.add_note("this was the look at the list before the create: nothing was created")
        raise
    newest = page.data[0] if page.data else None
    return CreateMarker(
        requests=requests,
        newest_id=None if newest is None else newest.id,
        newest_created_at=None if newest is None else newest.created_at,
        read_at=http_date(head.headers.get("date", "")),
    )


def settle(
    channel: Channel, policy: RetryPolicy, *, marker: CreateMarker, settling: Settling
) -> Script[MessageBatch | None]:
    """Find the batch that a create with this marker made; None where it made none.

    The list need not show at once what was created, so it is walked again and again, the last
    time when the settling time is over. An outage in between is waited out.
    """
    began = channel.now

    def left() -> float:
        # A driver need not tell the time before the first answer; until then none has passed.
        start = max(began, channel.started)
        return settling.settle_time - (channel.now - start if math.isfinite(start) else 0)

    delay = _FIRST_LOOK
    lone: MessageBatch | None = None
    lone_since = channel.now
    while True:
        is_last = left() <= 0
        found = yield from _look(channel, policy, marker, settling, is_last=is_last)
        if not found and is_last:
            return None
        contested = settling.is_contested()
        if (len(found) > 1 and not contested) or (found and contested and is_last):
            raise _undecided(marker.without(settling.known_ids), found, contested=contested)
        if not found or contested:
            lone = None
        elif lone is None or lone.id != found[0].id:
            lone, lone_since = found[0], channel.now
        wait = delay if lone is None else lone_since + _ALONE - channel.now
        if lone is not None and (is_last or wait <= 0):
            yield BatchCreated(batch=lone, adopted=True)
            return lone
        yield from channel.pause(min(wait, left()))
        delay = min(delay * _LOOK_GROWTH, _LAST_LOOK)


def _look(
    channel: Channel,
    policy: RetryPolicy,
    marker: CreateMarker,
    settling: Settling,
    *,
    is_last: bool,
) -> Script[list[MessageBatch]]:
    """Walk the list once; give what can be the batch."""
    try:
        newer = yield from _newer(channel, policy, marker, settling.page_request)
    except FAILURES as error:
        if is_last or not policy.retries(error):
            why = f"the list could not be read: {_summary(error)}"
            raise OutcomeUnknown(why, requests=marker.requests, marker=marker) from error
        return []
    # Asked only now, for others may have been created, or adopted, during the walk.
    known = frozenset(settling.known_ids)
    return [batch for batch in newer if batch.id not in known]


def _undecided(
    marker: CreateMarker, found: list[MessageBatch], *, contested: bool
) -> OutcomeUnknown:
    why = "another create of as many requests is in doubt too" if contested else "several fit"
    return OutcomeUnknown(why, requests=marker.requests, marker=marker, candidates=tuple(found))


def _newer(
    channel: Channel, policy: RetryPolicy, marker: CreateMarker, page_request: PageRequest
) -> Script[list[MessageBatch]]:
    """Walk from the newest batch to the marker; give what fits."""
    found: dict[str, MessageBatch] = {}
    pages = Pages(channel, policy, page_request)
    for _ in range(_MAX_PAGES):
        page = yield from pages.next()
        if page is None:
            break
        for batch in page.data:
            if marker.is_reached_by(batch):
                return [*found.values()]
            if marker.may_be(batch):
                found[batch.id] = batch
    if marker.newest_id is None and pages.is_complete:
        return [*found.values()]
    raise RemoteProtocolError(
        "the list does not reach back to the batch that was the newest before the create"
    )


def _summary(error: BatchesError) -> str:
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the answer was {status}: {message}"
        case _:
            return str(error)
