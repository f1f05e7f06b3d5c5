"""Creating a batch, and never twice.

Decides when a create may be sent and sent again. The list is read first, as a marker by which a
lost answer can be settled: how is `settling`'s. What the process knows of its other creates is
`ledger`'s; credentials and paths are `api`'s.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from batches_core.call import (
    FAILURES,
    may_have_had_effect,
    request_json,
    retried,
    surely_had_no_effect,
)
from batches_core.context import Flow, OperationContext
from batches_core.errors import BatchesError, OutcomeUnknownError
from batches_core.events import BatchCreated, CreateMarked, SettlingStarted
from batches_core.http import Request
from batches_core.marker import CLOCK_SLACK, CreateMarker
from batches_core.models import MessageBatch
from batches_core.operation import Operation
from batches_core.retry import http_date

from .ledger import CreateState, PendingCreate
from .listing import ORGANIZATION_HEADER, Pages
from .settle import Settling, settle, summary

#: How many batches a marker lists at most, about: more are never made within the clock slack.
_MAX_LISTED = 1000

#: What to do if the answer of a create is lost.
IfUnknown: TypeAlias = Literal["raise", "settle"]
#: What to do if the list cannot be read before a create.
IfUnmarked: TypeAlias = Literal["raise", "send"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePlan:
    """Everything that one create needs besides its context.

    `request` is the create itself; `base_url` is recorded in the marker.
    """

    request: Request
    pending: PendingCreate
    settling: Settling
    base_url: str
    if_unknown: IfUnknown
    if_unmarked: IfUnmarked


class CreateOperation(Operation[MessageBatch]):
    """An operation that creates a batch, and reports its outcome if its driver stops early."""

    def __init__(self, plan: CreatePlan, context: OperationContext) -> None:
        super().__init__(lambda context: create(context, plan), context)
        self._pending = plan.pending
        self._settle_time = plan.settling.settle_time

    def interrupt(self, error: BaseException, now: float) -> None:
        """Attach to `error` what is known of the create, and record it. Call it once.

        For a driver that stops before `Done`, or whose caller does not get the value of `Done`: an
        event handler that raised, a cancellation, an interrupt. `error` gets a note and

        - ``created_batch``, the `MessageBatch`, if the batch is known;
        - ``create_outcome``, an `OutcomeUnknownError` to pass to `settle`, if the outcome is
        unknown.

        If nothing of the create was sent, or `error` is an `OutcomeUnknownError` itself, it gets
        neither. `CreateLedger.unfinished` returns the same for an error that nobody sees, such as a
        cancellation.
        """
        pending = self._pending
        if pending.batch is not None:
            pending.record_unreturned(pending.batch)
            _attach(
                error,
                f"the batch was created: {pending.batch.id}; do not create it again",
                created_batch=pending.batch,
            )
        elif isinstance(error, OutcomeUnknownError):
            return
        elif pending.state is CreateState.NOT_SENT:
            if not isinstance(error, BatchesError):
                _attach(error, "this was before the create was sent: nothing was created")
        else:
            self.handle_timeout(now)
            if pending.state is CreateState.IN_FLIGHT:
                reason = f"interrupted by {type(error).__name__}"
                pending.lose(reason, now=self._context.now, settle_time=self._settle_time)
            outcome = pending.outcome()
            _attach(error, f"{outcome}", create_outcome=outcome)


def _attach(error: BaseException, note: str, **attributes: object) -> None:
    # Some errors take nothing, such as trio's cancellation, which is frozen.
    with suppress(AttributeError, TypeError):
        for name, value in attributes.items():
            setattr(error, name, value)
        error.add_note(note)


def create(context: OperationContext, plan: CreatePlan) -> Flow[MessageBatch]:
    """Create a batch, and never twice.

    A create is retried only if the previous attempt certainly had no effect: its last byte never
    left, the service refused it, or the list proves that it made no batch.
    """
    pending = plan.pending
    pending.known_ids = plan.settling.known_ids
    yield from _mark(context, plan)
    if pending.marker is not None:
        yield CreateMarked(marker=pending.marker)
    attempts = _Attempts(context, plan)
    try:
        return (yield from retried(context, attempts.attempt, attempts.is_retried))
    except FAILURES as error:
        if pending.state is CreateState.LOST and not isinstance(error, OutcomeUnknownError):
            # The outcome of the last attempt is clear, but not that of the attempts before.
            raise attempts.lose(error) from error
        raise
    finally:
        if pending.state is CreateState.IN_FLIGHT:
            # The driver stopped, and this generator is being closed or collected.
            pending.lose("interrupted", now=context.now, settle_time=plan.settling.settle_time)


class _Attempts:
    """The attempts of one create, and what is known of them."""

    def __init__(self, context: OperationContext, plan: CreatePlan) -> None:
        self._context = context
        self._plan = plan
        #: Whether the list proved that the last attempt made no batch.
        self._is_absent = False

    def attempt(self) -> Flow[MessageBatch]:
        """Send the create once, and settle its outcome if the answer is lost."""
        plan, pending = self._plan, self._plan.pending
        self._is_absent = False
        was_lost = pending.state is CreateState.LOST
        pending.begin_attempt()
        try:
            batch = yield from request_json(self._context, plan.request, MessageBatch, "a batch")
        except FAILURES as error:
            if not was_lost and not may_have_had_effect(error):
                pending.withdraw()
                raise
            lost = self.lose(error)
            if not may_have_had_effect(error):
                raise
        else:
            pending.succeed(batch)
            yield BatchCreated(batch=batch)
            return batch
        if pending.marker is None or plan.if_unknown != "settle":
            raise lost
        yield SettlingStarted(error=lost, settle_time=plan.settling.settle_time)
        adopted = yield from settle(self._context, pending, plan.settling)
        if adopted is None:
            self._is_absent = True
            raise lost
        return adopted

    def is_retried(self, error: BatchesError) -> bool:
        """Whether the create may be sent again after this failure."""
        if self._is_absent:
            return True
        return surely_had_no_effect(error) and self._context.policy.retries(error)

    def lose(self, error: BatchesError) -> OutcomeUnknownError:
        """Record that the answer was lost, and build the error that says so."""
        plan = self._plan
        plan.pending.lose(
            summary(error), now=self._context.now, settle_time=plan.settling.settle_time
        )
        unknown = plan.pending.outcome()
        unknown.__cause__ = error
        return unknown


def _mark(context: OperationContext, plan: CreatePlan) -> Flow[None]:
    """Read the newest batches, back by the clock slack, and the service's time of that."""
    pending, settling = plan.pending, plan.settling
    pages = Pages(context, settling.page_request)
    listed: list[MessageBatch] = []
    began = context.now
    try:
        while (page := (yield from pages.next())) is not None:
            if not listed:
                read_at = http_date(pages.headers.get("date", ""))
            listed += page.data
            if not page.data or len(listed) > _MAX_LISTED or _spans_slack(listed):
                break
    except FAILURES as error:
        if plan.if_unmarked == "send":
            return
        error.add_note(
            "this was the look at the list before the create: nothing was created. If it must be "
            'sent even though a lost answer could not be settled, pass if_unmarked="send"'
        )
        raise
    stamps = [batch.created_at for batch in listed]
    pending.mark(
        CreateMarker(
            requests=pending.requests,
            serial=pending.serial,
            base_url=plan.base_url,
            workspace_id=settling.workspace_id,
            organization_id=pages.headers.get(ORGANIZATION_HEADER),
            scope=settling.scope,
            listed_ids=tuple(batch.id for batch in listed),
            newest_created_at=max(stamps, default=None),
            oldest_created_at=None if pages.is_complete else min(stamps, default=None),
            read_at=read_at,
        ),
        # The answer can have been long under way since its date. A driver need not tell the time
        # before it.
        now=max(began, context.started),
    )


def _spans_slack(listed: list[MessageBatch]) -> bool:
    """Whether these reach so far back that any older one is too old to be a new one."""
    stamps = [batch.created_at for batch in listed]
    return max(stamps) - min(stamps) > CLOCK_SLACK
