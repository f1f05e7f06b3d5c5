"""How a simulated client waits for the end of a batch, and checks of when the wait ended."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from batches_core import (
    APIStatusError,
    BatchesError,
    BatchState,
    MessageBatch,
    WaitTimeoutError,
)
from batches_core.call import MAX_ERROR_TIME
from batches_core.operations.wait import LAST_POLL

from .client import Client
from .driver import ABANDONED_AT_DEADLINE
from .record import EPSILON, OperationRecord
from .service import CreatedBatch

#: For how long a wait treats a 404 as temporary, in seconds.
_TEMPORARY_404 = 60.0


@dataclass(frozen=True, slots=True)
class _WaitOptions:
    """The options of `wait_for`, in seconds."""

    poll_interval: float
    timeout: float | None
    max_outage: float


def wait_for_end(
    client: Client, label: str, batch: MessageBatch
) -> Generator[float, None, MessageBatch | None]:
    """Wait for the end of a batch; if that fails, wait again without hazards or a timeout.

    Returns:
        The ended batch, or None if the batch does not exist.
    """
    world, rng = client.world, client.world.rng
    created = world.service.find(batch.id)
    if created is None:
        return None
    duration = created.duration
    poll_interval = max(0.05, duration * rng.choice((0.2, 0.5, 1.0, 3.0)))
    timeout = duration * rng.choice((0.0, 0.5, 0.9, 1.5)) if rng.random() < 0.5 else None
    max_outage = rng.choice((0.0, 20.0, 600.0))
    for undisturbed in (False, True):
        options = _WaitOptions(
            poll_interval,
            timeout=None if undisturbed else timeout,
            max_outage=600.0 if undisturbed else max_outage,
        )
        operation = client.api.wait_for(
            batch.id,
            poll_interval=poll_interval,
            timeout=options.timeout,
            max_outage=options.max_outage,
        )
        record = yield from client.run(
            "wait", label, operation, undisturbed=undisturbed, max_outage=options.max_outage
        )
        _check_wait(client, record, created, options)
        if isinstance(record.value, MessageBatch):
            return record.value
        if not record.ended:
            return None
    return None


def _check_wait(
    client: Client, record: OperationRecord, created: CreatedBatch, options: _WaitOptions
) -> None:
    world = client.world
    slack = record.late + EPSILON
    last_poll = deadline = float("inf")
    if options.timeout is not None:
        deadline = record.started + options.timeout
        last_poll = deadline - min(options.poll_interval, LAST_POLL, options.timeout / 4)
    if record.exchanges > 1 and record.sent_at > last_poll + slack:
        record.report_violation("it made its last poll too late")
    if not record.exchanges:
        record.report_violation("it made no poll")
    if not record.ended:
        return
    # The batch may have ended right after the service answered a slow poll.
    longest_delay = max(options.poll_interval, record.longest_delay)
    longest = longest_delay + 2 * record.longest_exchange_time + slack
    ready = max(created.ends_at, record.started, record.last_failure_at or 0.0)
    if world.now > max(ready + longest, record.started + record.exchange_time + slack):
        record.report_violation("it ended too long after the batch")
    _check_deadline(record, deadline)
    if record.error is not None:
        _check_wait_error(record, record.error, last_poll, options)
    elif not record.value.ended or not world.service.has_ended(created, world.now):
        record.report_violation("it ended before the batch")


def _check_deadline(record: OperationRecord, deadline: float) -> None:
    """Check that the last poll ended at the deadline, neither before nor after it."""
    now = record.world.now
    began = max(record.sent_at, record.started)
    end = deadline if began < deadline - EPSILON else began + LAST_POLL
    if record.keeps_deadlines and now > end + EPSILON:
        record.report_violation("it continued after its deadline")
    is_abandoned = record.exchange_failed and record.failure_kinds[-1] == ABANDONED_AT_DEADLINE
    # The body of an error has a deadline of its own.
    is_abandoned = is_abandoned and record.exchange_time < MAX_ERROR_TIME - EPSILON
    # If the poll began at the deadline, rounding decides between the two ends.
    end = deadline if abs(began - deadline) <= EPSILON else end
    if is_abandoned and isinstance(record.error, WaitTimeoutError) and now < end - EPSILON:
        record.report_violation("it abandoned its last poll before the deadline")


def _check_wait_error(
    record: OperationRecord, error: BatchesError, last_poll: float, options: _WaitOptions
) -> None:
    now = record.world.now
    polls = [event for event in record.events if isinstance(event, BatchState)]
    match error:
        case WaitTimeoutError(batch=last):
            if now < last_poll - EPSILON:
                record.report_violation("it timed out too early")
            if last != (polls[-1].batch if polls else None):
                record.report_violation("WaitTimeoutError does not have the last polled batch")
        case APIStatusError(status=404) if now - record.started >= _TEMPORARY_404:
            pass
        case _:
            began = record.failing_since
            is_long = began is not None and now - began >= options.max_outage - EPSILON
            if not record.final_statuses and not is_long:
                record.report_violation("it failed during an outage shorter than max_outage")
