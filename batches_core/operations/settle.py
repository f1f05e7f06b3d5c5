"""Settling a create: finding out from the list of batches whether it made one.

`settle` looks at the list repeatedly, and decides when the outcome is certain. `marker` decides
whether a batch fits the create; `ledger` knows which other creates may have made it.

Each *look* reads the list from its newest batch back to one that is certainly older than the
create. A batch that fits the create is a *candidate*. It is adopted if it stays the only candidate
for a while. That the create made no batch is proven only by a list that is certainly the right one,
and that was read back to a batch from before the create, or to its end.
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
    OutcomeUnknownError,
    RemoteProtocolError,
    TransportError,
)
from batches_core.events import BatchCreated
from batches_core.marker import CreateMarker, Fit
from batches_core.models import MessageBatch
from batches_core.validation import check_seconds

from .ledger import CreateLedger, PendingCreate
from .listing import ORGANIZATION_HEADER, PageRequest, Pages

#: The factor by which the time between looks grows.
_LOOK_GROWTH = 2.0
#: How many pages one look reads at most. More batches are never made between a create and a look.
_MAX_PAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingPolicy:
    """How long a batch is searched for in the list, and how often; all times in seconds.

    - `settle_time`: how long the network may delay a create and the list may omit its batch, in
      total; 60 by default. Only after that does a batch that is not listed count as not created.
      How soon the list shows a new batch is not documented.
    - `alone`: for how long a batch must be the only one that fits before it is adopted; 10 by
      default. Another create's batch can be listed before the create's own.
    - `first_look`: the time between the first two looks at the list; 1 by default. It doubles with
      each look.
    - `longest_look`: the longest time between two looks; 15 by default.

    Shorten these only for tests against an emulator.

    Raises:
        InvalidInputError: a value is negative or not finite, or a time between looks is 0.
    """

    settle_time: float = 60.0
    alone: float = 10.0
    first_look: float = 1.0
    longest_look: float = 15.0

    def __post_init__(self) -> None:
        for name in ("settle_time", "alone"):
            check_seconds(f"SettlingPolicy.{name}", getattr(self, name))
        for name in ("first_look", "longest_look"):
            check_seconds(f"SettlingPolicy.{name}", getattr(self, name), positive=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """Everything that settling one create needs besides its marker.

    - `settle_time`: replaces the policy's, in seconds;
    - `scope`, `workspace_id`: identify the list that is read, to compare it with the marker's;
    - `known_ids`: the batches that the caller knows to be of other creates, read again at each
      look;
    - `is_fresh`: whether the create was sent by this operation itself. If it was not, and if the
      service sent no date, any batch may have been made long after the create, so none is `LIKELY`.
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
    """What one look at the list showed.

    - `same_size`: the batches with as many requests as the create;
    - `likely`, `unsure`: those of them that fit, by their `Fit`;
    - `is_contested`: whether another pending create may have made one of these;
    - `is_right_list`: whether this is certainly the list that the create went to;
    - `proves_absence`: whether this list, if it has no candidate, proves that the create made no
      batch.
    """

    same_size: list[MessageBatch] = field(default_factory=list)
    likely: list[MessageBatch] = field(default_factory=list)
    unsure: list[MessageBatch] = field(default_factory=list)
    is_contested: bool = False
    is_right_list: bool = False
    proves_absence: bool = False

    @property
    def candidates(self) -> tuple[MessageBatch, ...]:
        return (*self.likely, *self.unsure)

    @property
    def only_candidate(self) -> MessageBatch | None:
        """The batch that may be adopted if it stays the only candidate, or None."""
        is_clear = self.is_right_list and not self.is_contested and len(self.candidates) == 1
        return self.likely[0] if is_clear and self.likely else None

    @property
    def why_undecided(self) -> str:
        """Why the candidates cannot be adopted."""
        if not self.is_right_list:
            return _WRONG_LIST
        if self.is_contested:
            return "the outcome of another create with as many requests is unknown too"
        if len(self.candidates) > 1:
            return "several batches fit"
        return "the service's clocks disagree on when the batch was made"


_WRONG_LIST = (
    "the list has none of the batches from before the create and may be another workspace's: use "
    "the credential that the create was sent with"
)
_WRONG_ORGANIZATION = (
    "the list is another organization's: use the credential that the create was sent with"
)


def settle(
    context: OperationContext, pending: PendingCreate, settling: Settling
) -> Flow[MessageBatch | None]:
    """Find the batch that a create made, and adopt it; return None if the create made none.

    Looks are repeated until a candidate has been the only one for `policy.alone` seconds, or until
    `settle_time` is over without a candidate. Outages in between are waited out.

    Raises:
        OutcomeUnknownError: the list does not decide the outcome.
    """
    began = context.now
    policy = settling.policy

    def time_left() -> float:
        # If no time was known at the beginning, no time has passed before the first input.
        start = max(began, context.started)
        return settling.settle_time - (context.now - start if math.isfinite(start) else 0)

    delay = policy.first_look
    candidate: MessageBatch | None = None
    only_since = context.now
    candidate_ids: set[str] = set()
    while True:
        is_last = time_left() <= 0
        look = yield from _find_candidates(context, pending, settling, is_last=is_last)
        candidate_ids.update(batch.id for batch in look.candidates)
        previous, candidate = candidate, look.only_candidate
        if candidate is None:
            if is_last and not look.candidates:
                _check_absence(pending, look, candidate_ids)
                return None
            if is_last or (look.candidates and not look.is_contested and look.is_right_list):
                raise pending.outcome(look.why_undecided, look.candidates)
            wait = min(delay, time_left())
        else:
            if previous is None or previous.id != candidate.id:
                if is_last and previous is not None:
                    reason = "several batches fit, one after the other"
                    raise pending.outcome(reason, (candidate, previous))
                only_since = context.now
            wait = only_since + policy.alone - context.now
            if wait <= 0:
                pending.succeed(candidate)
                yield BatchCreated(batch=candidate, adopted=True)
                return candidate
        yield from context.pause(wait)
        delay = min(delay * _LOOK_GROWTH, policy.longest_look)


def settle_later(
    context: OperationContext, marker: CreateMarker, settling: Settling
) -> Flow[MessageBatch | None]:
    """Settle a create of an earlier operation, perhaps of another process.

    Raises:
        InvalidInputError: the create is still under way in this process.
        OutcomeUnknownError: the list does not decide the outcome.
    """
    if (known := settling.ledger.batch_of(marker)) is not None:
        yield BatchCreated(batch=known)
        return known
    pending = settling.ledger.resume(marker)
    pending.known_ids = settling.known_ids
    batch = yield from settle(context, pending, settling)
    if batch is None:
        pending.withdraw()
    return batch


def _check_absence(pending: PendingCreate, look: _Look, candidate_ids: set[str]) -> None:
    """Check that a list without a candidate proves that the create made no batch.

    `candidate_ids` are the ids of the candidates of all looks.

    Raises:
        OutcomeUnknownError: it proves nothing.
    """
    if not look.proves_absence:
        raise pending.outcome(_WRONG_LIST)
    if gone := candidate_ids.difference(batch.id for batch in look.same_size):
        raise pending.outcome(f"batch {min(gone)} fitted, but is not in the list any more")


def _find_candidates(
    context: OperationContext,
    pending: PendingCreate,
    settling: Settling,
    *,
    is_last: bool,
) -> Flow[_Look]:
    """Read the list once, and find its candidates.

    A failure that may pass counts as a look without candidates, unless this is the last look.

    Raises:
        OutcomeUnknownError: the list could not be read, or is another organization's.
    """
    marker = pending.marker
    assert marker is not None  # noqa: S101 - unmarked creates are not settled
    try:
        look = yield from _read_past_marker(context, pending, marker, settling)
    except OutcomeUnknownError:
        raise
    except FAILURES as error:
        if is_last or not (context.policy.retries(error) or _may_have_lost_place(error)):
            reason = f"the list could not be read: {summarize_error(error)}"
            raise pending.outcome(reason) from error
        return _Look()
    # The ledger is asked only now, because others may have created or adopted batches meanwhile.
    rivals = settling.ledger.rivals(marker)
    for batch in look.same_size:
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


def _may_have_lost_place(error: BatchesError) -> bool:
    """Return whether a cursor may be invalid because the batch that it names was deleted."""
    return isinstance(error, APIStatusError) and error.status in {400, 404}


def _read_past_marker(
    context: OperationContext,
    pending: PendingCreate,
    marker: CreateMarker,
    settling: Settling,
) -> Flow[_Look]:
    """Read the list back to a batch that is certainly older than the create, or to its end.

    Raises:
        RemoteProtocolError: the list broke off before that.
        OutcomeUnknownError: the list is another organization's.
    """
    same_size: dict[str, MessageBatch] = {}
    listed_ids = frozenset(marker.listed_ids)
    pages = Pages(context, settling.page_request)
    shows_marker = False
    is_past_marker = False
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
            shows_marker = shows_marker or batch.id in listed_ids
            is_past_marker = is_past_marker or marker.is_newer_than(batch)
            if batch.request_counts.total == marker.requests:
                same_size[batch.id] = batch
        if is_past_marker:
            break
    if not is_past_marker and not pages.is_complete:
        raise RemoteProtocolError("the list does not reach back to the time before the create")
    is_own_list = settling.scope == marker.scope or (
        marker.workspace_id is not None and marker.workspace_id == settling.workspace_id
    )
    # A list that shows a batch of the marker is the right one. If it shows none but has an older
    # batch, it is another list, or the batches of the marker were deleted. If it shows neither, its
    # batches say nothing, so its credential or workspace decides.
    proves_absence = shows_marker or (is_own_list and not is_past_marker)
    is_right_list = shows_marker or is_own_list
    return _Look(
        same_size=[*same_size.values()],
        is_right_list=is_right_list,
        proves_absence=proves_absence,
    )


def summarize_error(error: BatchesError) -> str:
    """Return what went wrong in a few words, without the advice in the error's message."""
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the response was {status}: {message}"
        case _:
            return str(error)
