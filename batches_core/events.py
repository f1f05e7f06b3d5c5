"""What an operation hands out: directives to its driver, and events for its user.

Plain values that know nothing of the operation. A driver carries out the directives
(`SendRequest`, `Need.DATA`, `WaitUntil`) until `Done`, and passes everything else on.
"""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from .errors import BatchesError, OutcomeUnknownError
from .http import Request
from .marker import CreateMarker
from .models import MessageBatch, Page

T_co = TypeVar("T_co", covariant=True)


class SendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Send this request; it is HTTP exchange number `exchange`. Any earlier one is given up."""

    exchange: int
    request: Request


class Need(enum.Enum):
    """What the operation waits for from the peer."""

    DATA = "data"
    """Hand in the next thing of the current exchange: its head, body bytes, end, or loss."""


class WaitUntil(msgspec.Struct, frozen=True, kw_only=True):
    """Call `handle_timeout` once the clock shows `deadline`, in the clock's own seconds."""

    deadline: float


class Done(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """The operation ended, with this value."""

    value: T_co


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """A poll's answer: the batch as it is now."""

    batch: MessageBatch


class PageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a list."""

    page: Page


class ResultsReceived(msgspec.Struct, frozen=True, kw_only=True):
    """The results that one piece of the body completed, in the order of the file.

    A line that could not be read is a `MalformedResultError` at its place. The others are
    `ResultItem`s, or those of `BatchesAPI.raw_results` `RawResult`s.
    """

    items: list[Any]


class RetryScheduled(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange failed and will be tried again.

    `error` is the failure, `retry` the number of the retry to come, counted from 1, `delay` the
    seconds before it.
    """

    error: BatchesError
    retry: int
    delay: float


class CreateMarked(msgspec.Struct, frozen=True, kw_only=True):
    """A create is about to be sent.

    Who keeps `marker` can settle the outcome even if the process dies before it is known.
    """

    marker: CreateMarker


class SettlingStarted(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a create is unknown, and is looked for in the list.

    `error` tells why, `settle_time` for how many seconds at most.
    """

    error: OutcomeUnknownError
    settle_time: float


class BatchCreated(msgspec.Struct, frozen=True, kw_only=True):
    """A batch was created; `adopted` where the list told so, and not the answer."""

    batch: MessageBatch
    adopted: bool = False


class ResultsInterrupted(msgspec.Struct, frozen=True, kw_only=True):
    """The results broke off after `delivered` items and will be read again after `delay` seconds.

    What was delivered is not delivered again.
    """

    error: BatchesError
    delivered: int
    delay: float


#: What a driver carries out.
Directive: TypeAlias = SendRequest | WaitUntil | Need
#: What a driver passes on to its user.
Event: TypeAlias = (
    BatchState
    | PageReceived
    | ResultsReceived
    | RetryScheduled
    | ResultsInterrupted
    | CreateMarked
    | SettlingStarted
    | BatchCreated
)
