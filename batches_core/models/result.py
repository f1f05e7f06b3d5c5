"""Results: one line of a results file, and what became of its request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias

import msgspec

from .base import M, Tagged, Unknown, Wire


class SucceededResult(Tagged, Generic[M], tag="succeeded", frozen=True, kw_only=True):
    """The request was answered; `message` is a `Message` or the type that was asked for."""

    type: ClassVar[Literal["succeeded"]] = "succeeded"
    message: M


class _NestedError(Wire, frozen=True, kw_only=True):
    type: str
    message: str = ""
    details: Any = None


class ResultError(Wire, frozen=True, kw_only=True):
    """Why a request failed.

    The service nests it, ``{"type": "error", "error": {"type", "message"}, "request_id"}``;
    a flat ``{"type", "message"}`` is read as well. Either way the fields here are the inner ones.
    An error of any other shape keeps what can be read of it: without a type, `type` is
    ``unknown``; `details` is the whole error as it was received.
    """

    type: str
    message: str = ""
    request_id: str | None = None
    details: Any = None
    #: The wire's nested object; None once read, for its fields then stand above.
    error: _NestedError | None = None

    def __post_init__(self) -> None:
        nested = self.error
        if nested is not None:
            move = msgspec.structs.force_setattr
            move(self, "type", nested.type)
            move(self, "message", nested.message)
            move(self, "details", nested.details)
            move(self, "error", None)


class ErroredResult(Tagged, tag="errored", frozen=True, kw_only=True):
    """The request failed and is not billed."""

    type: ClassVar[Literal["errored"]] = "errored"
    error: ResultError


class CanceledResult(Tagged, tag="canceled", frozen=True, kw_only=True):
    """The batch was canceled before this request was worked on; it is not billed."""

    type: ClassVar[Literal["canceled"]] = "canceled"


class ExpiredResult(Tagged, tag="expired", frozen=True, kw_only=True):
    """The batch expired before this request was worked on; it is not billed."""

    type: ClassVar[Literal["expired"]] = "expired"


class UnknownResult(Unknown):
    """A result of a type that this version does not know, as a dict; it has a `type`."""


#: The results that are decoded as what they are.
KnownResult: TypeAlias = SucceededResult[M] | ErroredResult | CanceledResult | ExpiredResult

if TYPE_CHECKING:
    Result: TypeAlias = KnownResult[M] | UnknownResult
else:
    Result = KnownResult


class RawResult(Wire, frozen=True, kw_only=True):
    """One line of a results file as it came: `raw` holds its bytes, without the line end.

    `custom_id` is as in a `ResultItem`.
    """

    custom_id: str
    raw: bytes


class ResultItem(Wire, Generic[M], frozen=True, kw_only=True):
    r"""One line of a results file: the request's own id and what became of it.

    Half of a surrogate pair, as in ``"\ud83d"``, is legal JSON but no text that can be encoded or
    printed. In a `custom_id`, as in every other string, it is spelled out as those six characters.
    """

    custom_id: str
    result: Result[M]
