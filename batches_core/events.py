"""What `Operation.next_event` returns: directives for the driver, and events for the caller.

These are plain values without behaviour. When each is returned is decided in `context` and in
`operations`.
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
    """Directive: send `request` as HTTP exchange number `exchange`, and report its response.

    Numbers count up from 1. The previous exchange has ended: close its connection, unless its
    response was read to the end.
    """

    exchange: int
    request: Request


class Need(enum.Enum):
    """Directive: report what the peer sends next."""

    DATA = "data"
    """Report the next input of the current exchange: a head, body bytes, their end, or its loss.

    After `Operation.deadline` call `handle_timeout` instead.
    """


class WaitUntil(msgspec.Struct, frozen=True, kw_only=True):
    """Directive: call `handle_timeout` when the driver's clock shows `deadline`, in seconds.

    The previous exchange has ended: close its connection, unless its response was read to the end.
    """

    deadline: float


class Done(msgspec.Struct, Generic[T_co], frozen=True, kw_only=True):
    """The operation succeeded, with this value."""

    value: T_co


class BatchState(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a poll returned this state of the batch."""

    batch: MessageBatch


class PageReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Event: one page of the list was read."""

    page: Page


class ResultsReceived(msgspec.Struct, frozen=True, kw_only=True):
    """Event: one piece of the body completed these results, in the order of the file.

    Each item is a `ResultItem`, or a `RawResult` if `BatchesAPI.raw_results` reads them. In the
    place of a line that could not be read there is a `MalformedResultError`.
    """

    items: list[Any]


class RetryScheduled(msgspec.Struct, frozen=True, kw_only=True):
    """Event: an attempt failed and will be retried.

    `error` is the failure, `retry` the number of the coming retry, counted from 1, and `delay` the
    seconds before it.
    """

    error: BatchesError
    retry: int
    delay: float


class CreateMarked(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a create is about to be sent.

    Store `marker` to settle the create later, even if this process dies before its outcome is
    known.
    """

    marker: CreateMarker


class SettlingStarted(msgspec.Struct, frozen=True, kw_only=True):
    """Event: the outcome of a create is unknown, so its batch is searched for in the list.

    `error` says why. `settle_time` is how long the batch may take to appear, in seconds.
    """

    error: OutcomeUnknownError
    settle_time: float


class BatchCreated(msgspec.Struct, frozen=True, kw_only=True):
    """Event: a batch was created.

    `adopted` is True if it was found in the list, after the response to its create was lost.
    """

    batch: MessageBatch
    adopted: bool = False


class ResultsInterrupted(msgspec.Struct, frozen=True, kw_only=True):
    """Event: the results broke off, and will be read again.

    `error` is the failure, and `delay` the seconds before the next attempt. `delivered` is the
    number of custom_ids whose results were delivered so far, including those by earlier operations.
    Items that were delivered are not repeated.
    """

    error: BatchesError
    delivered: int
    delay: float


#: What a driver carries out itself.
Directive: TypeAlias = SendRequest | WaitUntil | Need
#: What a driver passes to its caller.
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
