"""Finding out what became of a create: the walk through the list, and when its verdict is final.

The list is read from its newest batch back past the marker by the clock slack. A batch that can be
the create's and stays the only one for a while is adopted. Absence is proven only by a list that is
certainly the right one, read to where the create's batch would have to be. What fits is `marker`'s
to say, who else could have made it `ledger`'s.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from batches_core.call import FAILURES
from batches_core.context import Flow, OperationContext
from batches_core.errors import (
    APIStatusError,
    BatchesError,
    InvalidInputError,
    OutcomeUnknownError,
    RemoteProtocolError,
    TransportError,
)
from batches_core.events import BatchCreated
from batches_core.marker import CreateMarker, Fit
from batches_core.models import MessageBatch

from .ledger import CreateLedger, PendingCreate
from .listing import ORGANIZATION_HEADER, PageRequest, Pages

#: By how much the time from one look to the next grows.
_LOOK_GROWTH = 2.0
#: How many pages of the list are walked at most: more batches than that are never made meanwhile.
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingPolicy:
    """How the outcome of a create is looked for in the list; all times in seconds.

    `settle_time` is how long a create may be held up by the network and then be left out of the
    list; only after it does a batch that is not there count as not created. How soon the list
    shows a new batch is not documented. A batch is adopted once it was the only one that fits for
    `alone` seconds, for another one can be listed sooner than the one that was sent. Looks are
    `first_look` apart at first, twice as far each time, and `longest_look` at most.

    Shorten them only for tests against an emulator.

    Raises:
        InvalidInputError: a figure is negative, not finite, or 0 where looks would never pause.
    """

    settle_time: float = 60.0
    alone: float = 10.0
    first_look: float = 1.0
    longest_look: float = 15.0

    def __post_init__(self) -> None:
        for name in ("settle_time", "alone", "first_look", "longest_look"):
            seconds = getattr(self, name)
            is_number = isinstance(seconds, (int, float)) and 0 <= seconds < math.inf
            if not is_number or (not seconds and name in {"first_look", "longest_look"}):
                raise InvalidInputError(
                    f"SettlingPolicy.{name} is in seconds, finite and 0 or more (between looks: "
                    f"more than 0), not {seconds!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """What settling one outcome needs besides its marker.

    `scope` and `workspace_id` tell whether the list is the one that the marker was read from.
    `known_ids` are batches that the caller knows to be others, read anew at each look. `is_fresh`
    says that the create was sent by this very operation: then what is newer than its marker needs
    no date to be new.
    """

    policy: SettlingPolicy
    settle_time: float
    page_request: PageRequest
    scope: str
    workspace_id: str | None
    known_ids: Collection[str]
    ledger: CreateLedger
    is_fresh: bool = False


@dataclass(slots=True)
class _Look:
    """What one walk through the list showed.

    `shown` are the batches of the create's size; `likely` and `unsure` those that may be the one.
    `is_right` tells whether the list is certainly the one that the create went to, `is_absence`
    whether finding none in it proves that there is none.
    """

    shown: list[MessageBatch] = field(default_factory=list)
    likely: list[MessageBatch] = field(default_factory=list)
    unsure: list[MessageBatch] = field(default_factory=list)
    is_contested: bool = False
    is_right: bool = False
    is_absence: bool = False

    @property
    def fitting(self) -> tuple[MessageBatch, ...]:
        return (*self.likely, *self.unsure)

    @property
    def lone(self) -> MessageBatch | None:
        """The batch that is the one if it stays alone."""
        is_clear = self.is_right and not self.is_contested and len(self.fitting) == 1
        return self.likely[0] if is_clear and self.likely else None

    @property
    def doubt(self) -> str:
        """Why what fits cannot be adopted."""
        if not self.is_right:
            return _WRONG_LIST
        if self.is_contested:
            return "another create of as many requests is in doubt too"
        if len(self.fitting) > 1:
            return "several fit"
        return "it was made at a time that the service's clocks do not agree on"


_WRONG_LIST = (
    "the list shows none of the batches that were there before the create: it may be another "
    "workspace's, so use the credential that the create was sent with"
)
_WRONG_ORGANIZATION = (
    "the list is another organization's: use the credential that the create was sent with"
)


def settle(
    context: OperationContext, pending: PendingCreate, settling: Settling
) -> Flow[MessageBatch | None]:
    """Find the batch that a create made; None if it made none.

    The list is walked again and again until the settling time is over, and until a batch that is
    alone has been so for long enough. An outage in between is waited out.
    """
    began = context.now
    times = settling.policy

    def left() -> float:
        # A driver need not tell the time before the first answer; until then none has passed.
        start = max(began, context.started)
        return settling.settle_time - (context.now - start if math.isfinite(start) else 0)

    delay = times.first_look
    lone: MessageBatch | None = None
    lone_since = context.now
    fitted: set[str] = set()
    while True:
        is_last = left() <= 0
        look = yield from _look(context, pending, settling, is_last=is_last)
        fitted.update(batch.id for batch in look.fitting)
        was, lone = lone, look.lone
        if lone is None:
            if is_last and not look.fitting:
                _check_absence(pending, look, fitted)
                return None
            if is_last or (look.fitting and not look.is_contested and look.is_right):
                raise pending.outcome(look.doubt, look.fitting)
            wait = min(delay, left())
        else:
            if was is None or was.id != lone.id:
                if is_last and was is not None:
                    raise pending.outcome("several fit, one after the other", (lone, was))
                lone_since = context.now
            wait = lone_since + times.alone - context.now
            if wait <= 0:
                pending.succeed(lone)
                yield BatchCreated(batch=lone, adopted=True)
                return lone
        yield from context.pause(wait)
        delay = min(delay * _LOOK_GROWTH, times.longest_look)


def settle_later(
    context: OperationContext, marker: CreateMarker, settling: Settling
) -> Flow[MessageBatch | None]:
    """Settle an outcome of before, or of another process."""
    if (known := settling.ledger.batch_of(marker)) is not None:
        yield BatchCreated(batch=known)
        return known
    pending = settling.ledger.resume(marker)
    pending.known_ids = settling.known_ids
    batch = yield from settle(context, pending, settling)
    if batch is None:
        pending.withdraw()
    return batch


def _check_absence(pending: PendingCreate, look: _Look, fitted: set[str]) -> None:
    """Accept a list without a fitting batch as the proof that the create made none.

    Raises:
        OutcomeUnknownError: it proves nothing.
    """
    if not look.is_absence:
        raise pending.outcome(_WRONG_LIST)
    if gone := fitted.difference(batch.id for batch in look.shown):
        raise pending.outcome(f"batch {min(gone)} fitted, and is not in the list any more")


def _look(
    context: OperationContext,
    pending: PendingCreate,
    settling: Settling,
    *,
    is_last: bool,
) -> Flow[_Look]:
    """Walk the list once, and judge what it shows."""
    marker = pending.marker
    assert marker is not None, "what has no marker cannot be settled"  # noqa: S101
    try:
        look = yield from _walk(context, pending, marker, settling)
    except OutcomeUnknownError:
        raise
    except FAILURES as error:
        if is_last or not (context.policy.retries(error) or _is_moved(error)):
            raise pending.outcome(f"the list could not be read: {summary(error)}") from error
        return _Look()
    # Asked only now, for others may have been created, or adopted, during the walk.
    rivals = settling.ledger.rivals(marker)
    for batch in look.shown:
        fit = marker.fit(batch)
        is_other = settling.ledger.is_of_another(batch, marker)
        if fit is Fit.NO or is_other or batch.id in pending.known_ids:
            continue
        is_dated = settling.is_fresh or marker.read_at is not None
        (look.likely if fit is Fit.LIKELY and is_dated else look.unsure).append(batch)
        look.is_contested = look.is_contested or any(
            rival.may_have_made(batch, marker.read_at) for rival in rivals
        )
    return look


def _is_moved(error: BatchesError) -> bool:
    """Whether the walk may have lost its place: the batch that a cursor names can be deleted."""
    return isinstance(error, APIStatusError) and error.status in {400, 404}


def _walk(
    context: OperationContext,
    pending: PendingCreate,
    marker: CreateMarker,
    settling: Settling,
) -> Flow[_Look]:
    """Read the list back past the marker.

    Raises:
        RemoteProtocolError: the list ended before that.
        OutcomeUnknownError: it is another organization's.
    """
    found: dict[str, MessageBatch] = {}
    listed_ids = frozenset(marker.listed_ids)
    pages = Pages(context, settling.page_request)
    is_seen = False
    is_past = False
    for _ in range(_MAX_PAGES):
        page = yield from pages.next()
        if page is None:
            break
        organization = pages.headers.get(ORGANIZATION_HEADER)
        if None not in {organization, marker.organization_id} and (
            organization != marker.organization_id
        ):
            raise pending.outcome(_WRONG_ORGANIZATION)
        for batch in page.data:
            is_seen = is_seen or batch.id in listed_ids
            is_past = is_past or marker.is_before(batch)
            if batch.request_counts.total == marker.requests:
                found[batch.id] = batch
        if is_past:
            break
    if not is_past and not pages.is_complete:
        raise RemoteProtocolError("the list does not reach back to the time before the create")
    is_own = settling.scope == marker.scope or (
        marker.workspace_id is not None and marker.workspace_id == settling.workspace_id
    )
    # An older batch in a list without any of the marker's page: that list is another one, or too
    # much of it is gone. At its end nothing older is left to tell, so there its owner decides.
    is_absence = is_seen or (is_own and not is_past)
    is_right = is_seen or is_own
    return _Look(shown=[*found.values()], is_right=is_right, is_absence=is_absence)


def summary(error: BatchesError) -> str:
    """Say in a few words what went wrong, without the advice of the error's own text."""
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the answer was {status}: {message}"
        case _:
            return str(error)
