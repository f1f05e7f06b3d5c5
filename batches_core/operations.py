"""The operations on batches that there are, each as a script that reads like the protocol.

Knows the protocol of batches: what is sent, what an answer means, what may be sent again. Knows
nothing of credentials or paths (`api` hands in ready requests) and nothing of who drives it. To
create a batch is `creation`'s, to read its results `results`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from .calls import (
    FAILURES,
    answer,
    answer_and_head,
    fetch,
    may_have_had_effect,
    not_found,
    retried,
)
from .errors import BatchesError, RemoteProtocolError, WaitTimeout
from .events import BatchState, PageReceived, RetryScheduled
from .http import Request
from .models import DeletedMessageBatch, MessageBatch, Page
from .operation import Channel, Script
from .retry import RetryPolicy

#: Builds the request for the page behind a cursor, or for the first one.
PageRequest: TypeAlias = Callable[[str | None], Request]

#: The response header that names the organization of the credential.
ORGANIZATION_HEADER = "anthropic-organization-id"

#: For how long a wait takes a 404 for one that passes, counted from its start, or from the last
#: answer: reads right after a create, and between polls, were reported to give them.
PASSING_404 = 60.0
#: By how much of its interval a poll can come early, which spreads the polls of many waits.
POLL_SPREAD = 0.2
#: How long before its deadline a wait makes its last poll, at most, so that the answer can come in
#: time; a poll that cannot begin before the deadline is given as long. In seconds: an answer takes
#: less than one, a new connection over a bad network a few.
LAST_POLL = 5.0
#: The least that a wait adds to its delay with each failed poll, in seconds.
_LEAST_DELAY = 0.5


def cancel(channel: Channel, policy: RetryPolicy, request: Request) -> Script[MessageBatch]:
    """Ask for the end of a batch; asking twice is harmless."""
    return (yield from fetch(channel, policy, request, MessageBatch, "a batch"))


def get(channel: Channel, policy: RetryPolicy, request: Request) -> Script[MessageBatch]:
    """Read a batch."""
    return (yield from fetch(channel, policy, request, MessageBatch, "a batch"))


def delete(
    channel: Channel, policy: RetryPolicy, request: Request, batch_id: str
) -> Script[DeletedMessageBatch]:
    """Delete a batch; gone after a try with an unknown outcome is deleted by that try."""
    unknown = False

    def attempt() -> Script[DeletedMessageBatch]:
        nonlocal unknown
        try:
            return (yield from answer(channel, request, DeletedMessageBatch, "a deletion"))
        except FAILURES as error:
            if unknown and not_found(error):
                return DeletedMessageBatch(id=batch_id)
            unknown = unknown or may_have_had_effect(error)
            raise

    return (yield from retried(channel, policy, attempt))


def list_page(channel: Channel, policy: RetryPolicy, request: Request) -> Script[Page]:
    """Read one page of the list."""
    return (yield from fetch(channel, policy, request, Page, "a page of batches"))


def _page_and_headers(
    channel: Channel, policy: RetryPolicy, request: Request
) -> Script[tuple[Page, Mapping[str, str]]]:
    def attempt() -> Script[tuple[Page, Mapping[str, str]]]:
        page, head = yield from answer_and_head(channel, request, Page, "a page of batches")
        return page, head.headers

    return (yield from retried(channel, policy, attempt))


class Pages:
    """Page after page of the list, each read when it is asked for.

    The walk ends with ``has_more: false``, an empty page or a null cursor. A cursor that comes
    again would lead round in a circle, and is an error instead.
    """

    def __init__(
        self,
        channel: Channel,
        policy: RetryPolicy,
        page_request: PageRequest,
        *,
        start: str | None = None,
        backwards: bool = False,
    ) -> None:
        self._channel = channel
        self._policy = policy
        self._page_request = page_request
        self._backwards = backwards
        self._cursor = start
        self._seen = {start}
        self._ended = False
        self._is_circle = False
        #: Whether the service said that there is no page after the last one.
        self.is_complete = False
        #: The headers that the last page came with.
        self.headers: Mapping[str, str] = {}

    def next(self) -> Script[Page | None]:
        """Read the next page; None where there is none."""
        if self._ended:
            return None
        if self._is_circle:
            raise RemoteProtocolError(
                f"the list of batches runs in a circle: its cursor {self._cursor!r} came a second "
                "time; what was listed is good, try the rest again later"
            )
        request = self._page_request(self._cursor)
        page, self.headers = yield from _page_and_headers(self._channel, self._policy, request)
        self._cursor = page.first_id if self._backwards else page.last_id
        self._ended = not page.has_more or not page.data or not self._cursor
        self.is_complete = not page.has_more
        self._is_circle = self._cursor in self._seen
        self._seen.add(self._cursor)
        return page


def list_all(pages: Pages) -> Script[None]:
    """Read page after page, each when it is asked for."""
    while (page := (yield from pages.next())) is not None:
        yield PageReceived(page=page)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """How a wait goes about it; all times in seconds."""

    poll_interval: float
    timeout: float | None
    max_outage: float
    until: Callable[[MessageBatch], bool] | None

    def last_poll(self, started: float) -> float:
        """Give the time at which the last poll is made: early enough to be answered."""
        if self.timeout is None:
            return math.inf
        return started + self.timeout - min(self.poll_interval, LAST_POLL, self.timeout / 4)

    def end_of_poll(self, started: float, began: float) -> tuple[float, str]:
        """Give the time at which a poll is given up, and in what words."""
        deadline = math.inf if self.timeout is None else started + self.timeout
        # A wait is there for its polls: with a timeout of 0, or woken too late, it makes one.
        end = deadline if began < deadline else began + LAST_POLL
        return end, "no answer came before the deadline"

    def next_poll(self, channel: Channel) -> float:
        """Give the wait before the next poll: many waits that began at once do not stay in step."""
        return self.poll_interval * (1 - POLL_SPREAD * (1 - channel.jitter()))

    def settled(self, batch: MessageBatch) -> bool:
        """Whether the wait is over with this batch.

        A status that this version does not know can be a stage before the end. So it ends the wait
        only if the batch says that it ended: by `ended_at`, or by a `results_url`.
        """
        if self.until is not None and self.until(batch):
            return True
        if batch.processing_status in {"in_progress", "canceling"}:
            return False
        return batch.ended or batch.ended_at is not None or batch.results_url is not None


def wait_for(
    channel: Channel, policy: RetryPolicy, request: Request, batch_id: str, options: WaitOptions
) -> Script[MessageBatch]:
    """Poll a batch until it ended.

    One failed poll is no reason to end a wait of a day: what may pass is waited out for up to
    `max_outage`. The last poll is made a little before the deadline, and given up at it.
    """
    channel.limit_each(lambda began: options.end_of_poll(channel.started, began))
    last: MessageBatch | None = None
    outage_began: float | None = None
    failures = 0
    while True:
        failure: BatchesError | None = None
        try:
            batch = yield from answer(channel, request, MessageBatch, "a batch")
        except FAILURES as error:
            since = channel.started if last is None else outage_began
            fresh = since is None or channel.now - since < PASSING_404
            if not policy.retries(error) and not (fresh and not_found(error)):
                error.attempts = failures + 1
                raise
            failure = error
        else:
            last, outage_began, failures = batch, None, 0
            yield BatchState(batch=batch)
            if options.settled(batch):
                return batch
        now = channel.now
        last_poll = options.last_poll(channel.started)
        if options.timeout is not None and now >= last_poll:
            raise WaitTimeout(
                batch_id, timeout=options.timeout, batch=last, failure=failure
            ) from failure
        delay = options.next_poll(channel)
        if failure is not None:
            failures += 1
            outage_began = now if outage_began is None else outage_began
            outage_left = outage_began + options.max_outage - now
            if outage_left <= 0:
                failure.attempts = failures
                raise failure
            delay = policy.delay(failures, failure, channel.jitter)
            # A wait has no number of attempts, so no policy and no answer may make it a hot loop.
            delay = max(delay, min(options.poll_interval, failures * _LEAST_DELAY))
            delay = min(delay, outage_left)
            failure.with_traceback(None)  # which would keep alive what was held there
            yield RetryScheduled(error=failure, retry=failures, delay=delay)
        yield from channel.pause(min(delay, last_poll - now))
