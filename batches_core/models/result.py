"""Declare results: the lines of a results file, and the outcomes of their requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias

import msgspec

from .base import M, Tagged, Unknown, Wire


class SucceededResult(Tagged, Generic[M], tag="succeeded", frozen=True, kw_only=True):
    """The request succeeded. `message` is a `Message`, or of the caller's `message_type`."""

    type: ClassVar[Literal["succeeded"]] = "succeeded"
    message: M


class _NestedError(Wire, frozen=True, kw_only=True):
    type: str
    message: str = ""
    details: Any = None


class ResultError(Wire, frozen=True, kw_only=True):
    """The error of a request that failed.

    The service nests it: ``{"type": "error", "error": {"type", "message"}, "request_id"}``. A flat
    ``{"type", "message"}`` is accepted as well. `type`, `message` and `details` are those of the
    inner object.

    Of an error of any other shape, the fields that can be read are kept, and `details` is the
    whole error as it was received. Its `type` is ``unknown`` if it has none.
    """

    type: str
    message: str = ""
    request_id: str | None = None
    details: Any = None
    #: The nested object while the JSON is decoded. Its fields are moved to those above; then this
    #: is None.
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
    """The request failed. It is not billed."""

    type: ClassVar[Literal["errored"]] = "errored"
    error: ResultError


class CanceledResult(Tagged, tag="canceled", frozen=True, kw_only=True):
    """The batch was canceled before this request was processed. The request is not billed."""

    type: ClassVar[Literal["canceled"]] = "canceled"


class ExpiredResult(Tagged, tag="expired", frozen=True, kw_only=True):
    """The batch expired before this request was processed. The request is not billed."""

    type: ClassVar[Literal["expired"]] = "expired"


class UnknownResult(Unknown):
    """A result of a type that this version does not know, as a dict with that `type`."""


#: The results that are decoded to a class of their own.
KnownResult: TypeAlias = SucceededResult[M] | ErroredResult | CanceledResult | ExpiredResult

if TYPE_CHECKING:
    Result: TypeAlias = KnownResult[M] | UnknownResult
else:
    Result = KnownResult


class RawResult(Wire, frozen=True, kw_only=True):
    """One line of a results file that was not decoded: `raw` holds its bytes without the line end.

    `custom_id` is the same as in a `ResultItem`.
    """

    custom_id: str
    raw: bytes


class ResultItem(Wire, Generic[M], frozen=True, kw_only=True):
    r"""One line of a results file: the custom_id of a request and its result.

    A lone surrogate, as in ``"\ud83d"``, is valid JSON, but cannot be encoded or printed. In every
    string, `custom_id` included, it is spelled out as those six characters.
    """

    custom_id: str
    result: Result[M]
