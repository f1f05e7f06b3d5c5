"""Waiting until a batch has ended: when to poll, which failures to retry, and when to stop.

These flows decide on polls and times. `call` interprets the response to a poll.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from batches_core.call import FAILURES, is_not_found, request_json
from batches_core.context import Flow, OperationContext
from batches_core.errors import BatchesError, WaitTimeoutError
from batches_core.events import BatchState, RetryScheduled
from batches_core.http import Request
from batches_core.models import MessageBatch

#: How long a 404 counts as temporary, in seconds. Until a poll has succeeded, this time counts from
#: the beginning of the wait. After that, it counts from the first of several failed polls in a row.
#: Such 404s were reported for reads right after a create, and between polls.
PASSING_404 = 60.0
#: The share of its interval by which a poll may come early. It spreads the polls of many waits.
POLL_SPREAD = 0.2
#: The last poll of a wait begins at most this long before the deadline, in seconds. A poll that
#: begins after the deadline may take this long. A response takes less than a second, and a new
#: connection over a bad network a few.
LAST_POLL = 5.0
#: What each failed poll in a row adds to the shortest delay before the next poll, in seconds.
_DELAY_PER_FAILURE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """The arguments of a wait, as `BatchesAPI.wait_for` documents them; all times in seconds."""

    poll_interval: float
    timeout: float | None
    max_outage: float
    until: Callable[[MessageBatch], bool] | None

    def last_poll_at(self, wait_began: float) -> float:
        """Return the time of the last poll, which is early enough for a response."""
        if self.timeout is None:
            return math.inf
        return wait_began + self.timeout - min(self.poll_interval, LAST_POLL, self.timeout / 4)

    def limit_of_poll(self, wait_began: float, poll_began: float) -> tuple[float, str]:
        """Return the time at which a poll is abandoned, and the reason to report."""
        deadline = math.inf if self.timeout is None else wait_began + self.timeout
        # With a timeout of 0, or after too long a sleep, the wait still makes one poll.
        end = deadline if poll_began < deadline else poll_began + LAST_POLL
        return end, "no response arrived before the deadline"

    def delay_to_poll(self, context: OperationContext) -> float:
        """Return the time until the next poll. The jitter keeps many waits from polling in step."""
        return self.poll_interval * (1 - POLL_SPREAD * (1 - context.jitter()))

    def is_met_by(self, batch: MessageBatch) -> bool:
        """Return whether the wait is over with this batch.

        An unknown status can be a stage before the end. It therefore ends the wait only if the
        batch has an `ended_at` or a `results_url`.
        """
        if self.until is not None and self.until(batch):
            return True
        if batch.processing_status in {"in_progress", "canceling"}:
            return False
        return batch.ended or batch.ended_at is not None or batch.results_url is not None


def wait_for(
    context: OperationContext, request: Request, batch_id: str, options: WaitOptions
) -> Flow[MessageBatch]:
    """Poll a batch until it has ended.

    One failed poll must not end a wait of a day, so failures that may pass are retried for
    `max_outage` seconds in a row.

    Raises:
        WaitTimeoutError: the deadline has passed.
    """
    context.limit_each(lambda poll_began: options.limit_of_poll(context.started, poll_began))
    last: MessageBatch | None = None
    outage_began: float | None = None
    failures = 0
    while True:
        failure: BatchesError | None = None
        try:
            batch = yield from request_json(context, request, MessageBatch, "a batch")
        except FAILURES as error:
            since = context.started if last is None else outage_began
            may_pass = since is None or context.now - since < PASSING_404
            if not context.policy.retries(error) and not (may_pass and is_not_found(error)):
                error.attempts = failures + 1
                raise
            failure = error
        else:
            last, outage_began, failures = batch, None, 0
            yield BatchState(batch=batch)
            if options.is_met_by(batch):
                return batch
        now = context.now
        last_poll_at = options.last_poll_at(context.started)
        if options.timeout is not None and now >= last_poll_at:
            raise WaitTimeoutError(
                batch_id, timeout=options.timeout, batch=last, failure=failure
            ) from failure
        delay = options.delay_to_poll(context)
        if failure is not None:
            failures += 1
            outage_began = now if outage_began is None else outage_began
            outage_left = outage_began + options.max_outage - now
            if outage_left <= 0:
                failure.attempts = failures
                raise failure
            delay = context.policy.delay(failures, failure, context.jitter)
            # The number of polls is not limited. A delay of 0, from the policy or from the service,
            # must not turn the wait into a busy loop.
            delay = max(delay, min(options.poll_interval, failures * _DELAY_PER_FAILURE))
            delay = min(delay, outage_left)
            # Its traceback would keep the objects of every frame alive during the pause.
            failure.with_traceback(None)
        # Computed before the event is yielded, because `context.now` can change meanwhile.
        pause_until = now + min(delay, last_poll_at - now)
        if failure is not None:
            yield RetryScheduled(error=failure, retry=failures, delay=delay)
        yield from context.pause(pause_until - context.now)
