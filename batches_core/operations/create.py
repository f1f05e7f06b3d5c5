"""Creating a batch, and never creating it twice.

`create` decides when a create may be sent, and when it may be retried. Before it sends one, it
reads the newest batches of the list. They become the marker, by which `settle` can find out whether
a create whose response was lost made a batch. `ledger` records what the process knows of its other
creates; `endpoint` adds credentials and paths.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from batches_core.call import (
    FAILURES,
    is_safe_to_repeat,
    may_have_had_effect,
    request_json,
    with_retries,
)
from batches_core.context import Flow, OperationContext
from batches_core.errors import BatchesError, OutcomeUnknownError
from batches_core.events import BatchCreated, CreateMarked, SettlingStarted
from batches_core.http import Request
from batches_core.marker import CLOCK_SLACK, CreateMarker
from batches_core.models import MessageBatch
from batches_core.operation import Operation
from batches_core.retry import parse_http_date

from .ledger import CreateState, PendingCreate
from .listing import ORGANIZATION_HEADER, Pages
from .settle import Settling, settle, summarize_error

#: No further page is read for a marker with more batches than this. More are never made within the
#: clock slack.
_MAX_LISTED = 1000

#: What to do if the response to a create is lost.
IfUnknown: TypeAlias = Literal["raise", "settle"]
#: What to do if the list cannot be read before a create.
IfUnmarked: TypeAlias = Literal["raise", "send"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePlan:
    """Everything that one create needs besides its context.

    - `request`: the HTTP request of the create itself;
    - `pending`: the record of the create in the ledger;
    - `settling`: how the list is read, and how an unknown outcome is settled;
    - `base_url`: recorded in the marker;
    - `if_unknown`, `if_unmarked`: as `BatchesAPI.create` documents them;
    - `marker`: that of an earlier `mark`; None if the list is to be read now.
    """

    request: Request
    pending: PendingCreate
    settling: Settling
    base_url: str
    if_unknown: IfUnknown
    if_unmarked: IfUnmarked
    marker: CreateMarker | None = None


class CreateOperation(Operation[MessageBatch]):
    """An operation that creates a batch. Call `interrupt` if you stop it early."""

    def __init__(self, plan: CreatePlan, context: OperationContext) -> None:
        super().__init__(lambda context: create(context, plan), context)
        self._pending = plan.pending
        self._settle_time = plan.settling.settle_time

    def interrupt(self, error: BaseException, now: float) -> None:
        """Attach to `error` what is known of the create, and record it in the ledger.

        Call it once if the caller will not receive the value of `Done`: the driver stopped before
        `Done`, an event handler raised, or there was a cancellation or an interrupt. `now` is the
        time in seconds, by the clock of the other inputs.

        `error` gets a note, and one of these attributes:

        - ``created_batch``, the `MessageBatch`, if the batch is known;
        - ``create_outcome``, an `OutcomeUnknownError` to pass to `settle`, if the outcome is
          unknown. An `error` that is an `OutcomeUnknownError` itself is not changed.

        If no attempt had an effect, there is no attribute. The note then says so, unless `error` is
        a `BatchesError`.

        `CreateLedger.unfinished` returns the same batches and outcomes, for errors that no caller
        sees, such as a cancellation.
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
                _attach(error, "nothing was created: the create was not sent, or it was refused")
        else:
            self.handle_timeout(now)
            if pending.state is CreateState.IN_FLIGHT:
                reason = f"interrupted by {type(error).__name__}"
                pending.lose(reason, now=self._context.now, settle_time=self._settle_time)
            outcome = pending.outcome()
            _attach(error, f"{outcome}", create_outcome=outcome)


def _attach(error: BaseException, note: str, **attributes: object) -> None:
    # Some errors cannot be changed, such as trio's cancellation, which is frozen.
    with suppress(AttributeError, TypeError):
        for name, value in attributes.items():
            setattr(error, name, value)
        error.add_note(note)


def create(context: OperationContext, plan: CreatePlan) -> Flow[MessageBatch]:
    """Create a batch, and never create it twice.

    A create is retried only if the previous attempt certainly had no effect: its last byte never
    left, the service refused it, or the list proves that it made no batch.

    Raises:
        OutcomeUnknownError: an attempt may have made a batch.
    """
    pending = plan.pending
    pending.known_ids = plan.settling.known_ids
    if plan.marker is None:
        yield from _mark(context, plan)
    else:
        pending.marker = plan.marker
    if pending.marker is not None:
        yield CreateMarked(marker=pending.marker)
    attempts = _Attempts(context, plan)
    try:
        return (yield from with_retries(context, attempts.attempt, attempts.is_retryable))
    except FAILURES as error:
        if pending.state is CreateState.LOST and not isinstance(error, OutcomeUnknownError):
            # The last attempt certainly had no effect, but an earlier one may have had.
            raise attempts.lose(error) from error
        raise
    finally:
        if pending.state is CreateState.IN_FLIGHT:
            # The driver stopped in the middle, and this generator is closed or collected.
            pending.lose("interrupted", now=context.now, settle_time=plan.settling.settle_time)


class _Attempts:
    """The attempts of one create. It records their outcomes in the plan's `pending`."""

    def __init__(self, context: OperationContext, plan: CreatePlan) -> None:
        self._context = context
        self._plan = plan
        #: Whether the list proved that the last attempt made no batch.
        self._made_no_batch = False

    def attempt(self) -> Flow[MessageBatch]:
        """Send the create once. If the response is lost, settle the outcome or raise."""
        plan, pending = self._plan, self._plan.pending
        self._made_no_batch = False
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
            self._made_no_batch = True
            raise lost
        return adopted

    def is_retryable(self, error: BatchesError) -> bool:
        """Return whether the create may be retried after this failure."""
        if self._made_no_batch:
            return True
        return is_safe_to_repeat(error) and self._context.policy.retries(error)

    def lose(self, error: BatchesError) -> OutcomeUnknownError:
        """Record that the response was lost, and build the error that says so."""
        plan = self._plan
        plan.pending.lose(
            summarize_error(error), now=self._context.now, settle_time=plan.settling.settle_time
        )
        unknown = plan.pending.outcome()
        unknown.__cause__ = error
        return unknown


def _mark(context: OperationContext, plan: CreatePlan) -> Flow[None]:
    """Read the list for the marker of this create.

    Raises:
        TransportError, APIStatusError, RemoteProtocolError: the list cannot be read, and the plan
            does not allow an unmarked create.
    """
    try:
        yield from mark(context, plan.pending, plan.settling, plan.base_url)
    except FAILURES as error:
        if plan.if_unmarked == "send":
            return
        error.add_note(
            "the list could not be read before the create, so nothing was created. To send the "
            'create nevertheless, pass if_unmarked="send". Its outcome cannot be settled then if '
            "the response is lost"
        )
        raise


def mark(
    context: OperationContext, pending: PendingCreate, settling: Settling, base_url: str
) -> Flow[CreateMarker]:
    """Record in a marker the newest batch of the list, and those of the 10 seconds before it.

    That is the clock slack: no older batch can be mistaken for the create's.

    Raises:
        TransportError, APIStatusError, RemoteProtocolError: the list cannot be read.
    """
    pages = Pages(context, settling.page_request)
    listed: list[MessageBatch] = []
    began = context.now
    while (page := (yield from pages.next())) is not None:
        if not listed:
            read_at = parse_http_date(pages.headers.get("date", ""))
        listed += page.data
        if not page.data or len(listed) > _MAX_LISTED or _covers_clock_slack(listed):
            break
    stamps = [batch.created_at for batch in listed]
    marker = CreateMarker(
        requests=pending.requests,
        serial=pending.serial,
        base_url=base_url,
        workspace_id=settling.workspace_id,
        organization_id=pages.headers.get(ORGANIZATION_HEADER),
        scope=settling.scope,
        listed_ids=tuple(batch.id for batch in listed),
        newest_created_at=max(stamps, default=None),
        oldest_created_at=None if pages.is_complete else min(stamps, default=None),
        read_at=read_at,
    )
    # The time of the request, because the response may arrive long after its ``Date``. If no time
    # was known then, the time of the first input.
    pending.mark(marker, now=max(began, context.started))
    return marker


def _covers_clock_slack(listed: list[MessageBatch]) -> bool:
    """Return whether every batch older than these is too old to be the create's."""
    stamps = [batch.created_at for batch in listed]
    return max(stamps) - min(stamps) > CLOCK_SLACK
