"""What an operation hands out: directives to its driver, and events for its user.

Plain values that know nothing of the operation. A driver carries out the directives
(`SendRequest`, `Need.DATA`, `WaitUntil`) until `Done`, and passes everything else on.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from .errors import BatchesError, OutcomeUnknown
from .http import Request
from .models import CreateMarker, MessageBatch, Page

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    """Send this request; it is HTTP exchange number `exchange`. Any earlier one is given up."""

    exchange: int
    request: Request


class Need(enum.Enum):
    """What the operation waits for from the peer."""

    DATA = "data"
    """Hand in the next thing of the current exchange: its head, body bytes, end, or loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """Call `handle_timeout` once the clock shows `deadline`, in the clock's own seconds."""

    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T_co]):
    """The operation ended, with this value."""

    value: T_co


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchState:
    """A poll's answer: the batch as it is now."""

    batch: MessageBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class PageReceived:
    """One page of a list."""

    page: Page


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsReceived:
    """The results that one piece of the body completed, in the order of the file.

    A line that could not be read is a `MalformedResult` at its place. The others are
    `ResultItem`s, or those of `BatchesAPI.raw_results` `RawResult`s.
    """

    items: list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """An exchange failed and will be tried again.

    `error` is the failure, `retry` the number of the retry to come, counted from 1, `delay` the
    seconds before it.
    """

    error: BatchesError
    retry: int
    delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMarked:
    """A create is about to be sent.

    Who keeps `marker` can settle the outcome even if the process dies before it is known.
    """

    marker: CreateMarker


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlingStarted:
    """The outcome of a create is unknown, and is looked for in the list.

    `error` tells why, `settle_time` for how many seconds at most.
    """

    error: OutcomeUnknown
    settle_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCreated:
    """A batch was created; `adopted` where the list told so, and not the answer."""

    batch: MessageBatch
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsInterrupted:
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
