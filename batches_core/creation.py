"""Creating a batch, and never twice.

Decides when a create may be sent and sent again. The list is read first, as a marker by which a
lost answer can be settled: how is `settling`'s. What the process knows of its other creates is
`ledger`'s; credentials and paths are `api`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .calls import FAILURES, answer, may_have_had_effect, retried, surely_had_no_effect
from .errors import BatchesError, OutcomeUnknown
from .events import BatchCreated, CreateMarked, SettlingStarted
from .http import Request
from .ledger import CreateState, PendingCreate
from .marker import CLOCK_SLACK, CreateMarker
from .models import MessageBatch
from .operation import Channel, Operation, Script
from .operations import ORGANIZATION_HEADER, PageRequest, Pages
from .retry import Jitter, RetryPolicy, http_date
from .settling import Settling, settle, summary

#: How many batches a marker lists at most, about: more are never made within the clock slack.
_MAX_LISTED = 1000

#: What to do if the answer of a create is lost.
IfUnknown: TypeAlias = Literal["raise", "settle"]
#: What to do if the list cannot be read before a create.
IfUnmarked: TypeAlias = Literal["raise", "send"]


class CreateOperation(Operation[MessageBatch]):
    """An operation that creates a batch, and answers for it if its driver stops early."""

    def __init__(
        self,
        script: Callable[[Channel], Script[MessageBatch]],
        jitter: Jitter,
        pending: PendingCreate,
        settle_time: float,
    ) -> None:
        super().__init__(script, jitter)
        self._pending = pending
        self._settle_time = settle_time

    def interrupt(self, error: BaseException, now: float) -> None:
        """Attach to `error` what is known of the create, and record it. Call it once.

        For a driver that stops before `Done`, or whose caller does not get the value of `Done`: an
        event handler that raised, a cancellation, an interrupt. `error` gets a note and

        - ``created_batch``, the `MessageBatch`, if the batch is known;
        - ``create_outcome``, an `OutcomeUnknown` to pass to `settle`, if the outcome is unknown.

        If nothing of the create was sent, or `error` is an `OutcomeUnknown` itself, it gets
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
        elif isinstance(error, OutcomeUnknown):
            return
        elif pending.state is CreateState.NOT_SENT:
            if not isinstance(error, BatchesError):
                _attach(error, "this was before the create was sent: nothing was created")
        else:
            self.handle_timeout(now)
            if pending.state is CreateState.IN_FLIGHT:
                reason = f"interrupted by {type(error).__name__}"
                pending.lose(reason, now=self._channel.now, settle_time=self._settle_time)
            outcome = pending.outcome()
            _attach(error, f"{outcome}", create_outcome=outcome)


def _attach(error: BaseException, note: str, **attributes: object) -> None:
    # Some errors take nothing, such as trio's cancellation, which is frozen.
    with suppress(AttributeError, TypeError):
        for name, value in attributes.items():
            setattr(error, name, value)
        error.add_note(note)


def create(
    channel: Channel,
    policy: RetryPolicy,
    *,
    request: Request,
    pending: PendingCreate,
    marking: Marking,
    settling: Settling,
    if_unknown: IfUnknown,
    if_unmarked: IfUnmarked,
) -> Script[MessageBatch]:
    """Create a batch, and never twice.

    A create is sent again only if the try before certainly had no effect: its last byte never left,
    the service refused it, or the list proves that it made no batch.
    """
    pending.known_ids = settling.known_ids
    yield from _mark(channel, policy, pending, marking, if_unmarked)
    if pending.marker is not None:
        yield CreateMarked(marker=pending.marker)
    tries = _Tries(channel, policy, request, pending, settling, if_unknown == "settle")
    try:
        return (yield from retried(channel, policy, tries.attempt, tries.is_sent_again))
    except FAILURES as error:
        if pending.state is CreateState.LOST and not isinstance(error, OutcomeUnknown):
            # What became of the last try is clear, but not what becomes of the ones before.
            raise tries.lose(error) from error
        raise
    finally:
        if pending.state is CreateState.IN_FLIGHT:
            # Whoever drove this stopped, and it is being closed or forgotten.
            pending.lose("interrupted", now=channel.now, settle_time=settling.settle_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marking:
    """The requests for the pages of the list, and what names that list."""

    page_request: PageRequest
    base_url: str
    workspace_id: str | None
    scope: str


@dataclass
class _Tries:
    """The tries of one create, and what is known of them."""

    channel: Channel
    policy: RetryPolicy
    request: Request
    pending: PendingCreate
    settling: Settling
    settles: bool
    _is_absent: bool = False

    def attempt(self) -> Script[MessageBatch]:
        pending = self.pending
        self._is_absent = False
        was_lost = pending.state is CreateState.LOST
        pending.begin_attempt()
        try:
            batch = yield from answer(self.channel, self.request, MessageBatch, "a batch")
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
        if pending.marker is None or not self.settles:
            raise lost
        yield SettlingStarted(error=lost, settle_time=self.settling.settle_time)
        adopted = yield from settle(
            self.channel, self.policy, pending=pending, settling=self.settling
        )
        if adopted is None:
            self._is_absent = True
            raise lost
        return adopted

    def is_sent_again(self, error: BatchesError) -> bool:
        return self._is_absent or (surely_had_no_effect(error) and self.policy.retries(error))

    def lose(self, error: BatchesError) -> OutcomeUnknown:
        self.pending.lose(
            summary(error), now=self.channel.now, settle_time=self.settling.settle_time
        )
        unknown = self.pending.outcome()
        unknown.__cause__ = error
        return unknown


def _mark(
    channel: Channel,
    policy: RetryPolicy,
    pending: PendingCreate,
    marking: Marking,
    if_unmarked: IfUnmarked,
) -> Script[None]:
    """Read the newest batches, back by the clock slack, and the service's time of that."""
    pages = Pages(channel, policy, marking.page_request)
    listed: list[MessageBatch] = []
    began = channel.now
    try:
        while (page := (yield from pages.next())) is not None:
            if not listed:
                read_at = http_date(pages.headers.get("date", ""))
            listed += page.data
            if not page.data or len(listed) > _MAX_LISTED or _spans_slack(listed):
                break
    except FAILURES as error:
        if if_unmarked == "send":
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
            base_url=marking.base_url,
            workspace_id=marking.workspace_id,
            organization_id=pages.headers.get(ORGANIZATION_HEADER),
            scope=marking.scope,
            listed_ids=tuple(batch.id for batch in listed),
            newest_created_at=max(stamps, default=None),
            oldest_created_at=None if pages.is_complete else min(stamps, default=None),
            read_at=read_at,
        ),
        # The answer can have been long under way since its date. A driver need not tell the time
        # before it.
        now=max(began, channel.started),
    )


def _spans_slack(listed: list[MessageBatch]) -> bool:
    """Whether these reach so far back that any older one is too old to be a new one."""
    stamps = [batch.created_at for batch in listed]
    return max(stamps) - min(stamps) > CLOCK_SLACK
