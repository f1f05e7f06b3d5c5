"""Creating a batch, and never twice; and finding out what became of a create.

A create has no name by which the service would know it again. So before it is sent, the newest
batch is read as a marker. Where the answer is lost, the list is walked from its newest batch to
that marker, and what is newer and of the same size may be the one. Knows that rule and when a
create may be sent again; credentials and paths are `api`'s.
"""

from __future__ import annotations

from collections.abc import Collection

from .calls import FAILURES, answer, may_have_had_effect, retried, surely_had_no_effect
from .errors import APIStatusError, BatchesError, OutcomeUnknown, TransportError
from .events import BatchCreated, CreateMarked, SettlingStarted
from .http import Request
from .models import CreateMarker, MessageBatch
from .operation import Channel, Script
from .operations import PageRequest, Pages, list_page
from .retry import RetryPolicy

#: Seconds from one look at the list to the next, while an outcome is settled: the first, by what
#: it grows, and the most.
_FIRST_LOOK, _LOOK_GROWTH, _LAST_LOOK = 1.0, 2.0, 15.0


def create(
    channel: Channel,
    policy: RetryPolicy,
    *,
    request: Request,
    requests: int,
    newest_request: Request,
    page_request: PageRequest,
    settle_time: float | None,
    known_ids: Collection[str],
) -> Script[MessageBatch]:
    """Create a batch, and never twice.

    A create is sent again only where the try before surely had no effect: nothing of it left, the
    service said that it did not take it, or it could not be found in `settle_time`. Without a
    `settle_time` a lost answer is raised, with the marker if the list could be read.
    """
    is_needed = settle_time is not None
    marker = yield from _mark(channel, policy, newest_request, requests, is_needed=is_needed)
    if marker is not None:
        yield CreateMarked(marker=marker)
    is_absent = False

    def attempt() -> Script[MessageBatch]:
        nonlocal is_absent
        is_absent = False
        try:
            batch = yield from answer(channel, request, MessageBatch, "a batch")
        except FAILURES as error:
            if not may_have_had_effect(error):
                raise
            known = None if marker is None else marker.without(known_ids)
            unknown = OutcomeUnknown(_summary(error), requests=requests, marker=known)
            unknown.__cause__ = error
        else:
            yield BatchCreated(batch=batch)
            return batch
        if marker is None or settle_time is None:
            raise unknown
        yield SettlingStarted(error=unknown, settle_time=settle_time)
        found = yield from settle(
            channel,
            policy,
            marker=marker,
            page_request=page_request,
            settle_time=settle_time,
            known_ids=known_ids,
        )
        if found is None:
            is_absent = True
            raise unknown
        return found

    def is_sent_again(error: BatchesError) -> bool:
        return is_absent or (surely_had_no_effect(error) and policy.retries(error))

    return (yield from retried(channel, policy, attempt, is_sent_again))


def _mark(
    channel: Channel,
    policy: RetryPolicy,
    newest_request: Request,
    requests: int,
    *,
    is_needed: bool,
) -> Script[CreateMarker | None]:
    """Read the newest batch; where the marker is only good to have, try that once."""
    once = RetryPolicy(attempts=1)
    try:
        page = yield from list_page(channel, policy if is_needed else once, newest_request)
    except FAILURES as error:
        if is_needed:
            error.add_note("this was the look at the list before the create: nothing was created")
            raise
        return None
    if not page.data:
        return CreateMarker(requests=requests)
    newest = page.data[0]
    return CreateMarker(requests=requests, newest_id=newest.id, newest_created_at=newest.created_at)


def settle(
    channel: Channel,
    policy: RetryPolicy,
    *,
    marker: CreateMarker,
    page_request: PageRequest,
    settle_time: float,
    known_ids: Collection[str],
) -> Script[MessageBatch | None]:
    """Find the batch that a create with this marker made; None where it made none.

    The list need not show at once what was created, so it is walked again and again, the last
    time when `settle_time` is over. An outage in between is waited out.
    """
    deadline = channel.now + settle_time
    delay = _FIRST_LOOK
    while True:
        is_last = channel.now >= deadline
        found: list[MessageBatch] = []
        try:
            newer = yield from _newer(channel, policy, marker, page_request)
            # Asked only now, for others may have been created, or adopted, during the walk.
            marker = marker.without(known_ids)
            found = [batch for batch in newer if marker.may_be(batch)]
        except FAILURES as error:
            if is_last or not policy.retries(error):
                why = f"the list could not be read: {_summary(error)}"
                raise OutcomeUnknown(why, requests=marker.requests, marker=marker) from error
        if len(found) > 1:
            raise OutcomeUnknown(
                "several batches fit",
                requests=marker.requests,
                marker=marker,
                candidates=tuple(found),
            )
        if found:
            yield BatchCreated(batch=found[0], adopted=True)
            return found[0]
        if is_last:
            return None
        yield from channel.pause(min(delay, deadline - channel.now))
        delay = min(delay * _LOOK_GROWTH, _LAST_LOOK)


def _newer(
    channel: Channel, policy: RetryPolicy, marker: CreateMarker, page_request: PageRequest
) -> Script[list[MessageBatch]]:
    found: dict[str, MessageBatch] = {}
    pages = Pages(channel, policy, page_request)
    while (page := (yield from pages.next())) is not None:
        for batch in page.data:
            if marker.is_reached_by(batch):
                return [*found.values()]
            found[batch.id] = batch
    return [*found.values()]


def _summary(error: BatchesError) -> str:
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the answer was {status}: {message}"
        case _:
            return str(error)
