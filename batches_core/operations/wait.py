"""Waiting until a batch has ended: when to poll, what to wait out, and when to stop.

Knows polls and times. What one poll's answer means is `call`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from batches_core.call import FAILURES, not_found, request_json
from batches_core.context import Flow, OperationContext
from batches_core.errors import BatchesError, WaitTimeoutError
from batches_core.events import BatchState, RetryScheduled
from batches_core.http import Request
from batches_core.models import MessageBatch

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

    def next_poll(self, context: OperationContext) -> float:
        """Give the wait before the next poll: many waits that began at once do not stay in step."""
        return self.poll_interval * (1 - POLL_SPREAD * (1 - context.jitter()))

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
    context: OperationContext, request: Request, batch_id: str, options: WaitOptions
) -> Flow[MessageBatch]:
    """Poll a batch until it ended.

    One failed poll is no reason to end a wait of a day: what may pass is waited out for up to
    `max_outage`. The last poll is made a little before the deadline, and given up at it.
    """
    context.limit_each(lambda began: options.end_of_poll(context.started, began))
    last: MessageBatch | None = None
    outage_began: float | None = None
    failures = 0
    while True:
        failure: BatchesError | None = None
        try:
            batch = yield from request_json(context, request, MessageBatch, "a batch")
        except FAILURES as error:
            since = context.started if last is None else outage_began
            fresh = since is None or context.now - since < PASSING_404
            if not context.policy.retries(error) and not (fresh and not_found(error)):
                error.attempts = failures + 1
                raise
            failure = error
        else:
            last, outage_began, failures = batch, None, 0
            yield BatchState(batch=batch)
            if options.settled(batch):
                return batch
        now = context.now
        last_poll = options.last_poll(context.started)
        if options.timeout is not None and now >= last_poll:
            raise WaitTimeoutError(
                batch_id, timeout=options.timeout, batch=last, failure=failure
            ) from failure
        delay = options.next_poll(context)
        if failure is not None:
            failures += 1
            outage_began = now if outage_began is None else outage_began
            outage_left = outage_began + options.max_outage - now
            if outage_left <= 0:
                failure.attempts = failures
                raise failure
            delay = context.policy.delay(failures, failure, context.jitter)
            # A wait has no number of attempts, so no policy and no answer may make it a hot loop.
            delay = max(delay, min(options.poll_interval, failures * _LEAST_DELAY))
            delay = min(delay, outage_left)
            failure.with_traceback(None)  # which would keep alive what was held there
            yield RetryScheduled(error=failure, retry=failures, delay=delay)
        yield from context.pause(min(delay, last_poll - now))
