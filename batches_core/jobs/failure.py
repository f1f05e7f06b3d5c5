"""Failed operations and failed rows: what each means for a job.

Knows the errors of the core and the service's error types. What a job does about them is decided by
`machine`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from batches_core.errors import (
    SPEND_LIMIT_REACHED,
    APIStatusError,
    BatchesError,
    InvalidInputError,
    LocalProtocolError,
    OutcomeUnknownError,
    ResultsUnavailableError,
    UntrustedHostError,
)
from batches_core.marker import CreateMarker

from .records import FailedRow, PauseReason

#: What a failed operation means: `passing` (try again later), `busy` (too many requests wait at the
#: service), `unknown` (the outcome of a create), `missing` (a 404), `gone` (results that are not
#: there any more), `person` (only a person can help), `waiting` (a create must wait until chunks in
#: flight have been collected).
Meaning: TypeAlias = Literal["passing", "busy", "unknown", "missing", "gone", "person", "waiting"]

#: Failures of rows that another attempt can better, as the service documents them.
PASSING_TYPES = frozenset({"api_error", "overloaded_error", "timeout_error", "rate_limit_error"})
#: Beginnings of messages that say that money is missing, in errors and inside results.
_CREDIT = "credit balance is too low"
_USAGE_LIMIT = "api usage limits"


#: The other errors that waiting does not mend, and why each pauses the job.
_PAUSES: tuple[tuple[type[BatchesError], PauseReason], ...] = (
    (InvalidInputError, "input"),
    (LocalProtocolError, "refused"),
    (UntrustedHostError, "permission"),
)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why an operation failed, as a plain value.

    `pause` is the reason for which the job pauses if a person is needed. `marker` and `candidates`
    are those of a create whose outcome is unknown; `retry_after` is in seconds.
    """

    meaning: Meaning
    message: str
    pause: PauseReason | None = None
    retry_after: float | None = None
    marker: CreateMarker | None = None
    candidates: tuple[str, ...] = ()


def describe(error: BatchesError) -> Failure:
    """Say what an error means for a job."""
    message = str(error)
    match error:
        case OutcomeUnknownError():
            ids = tuple(batch.id for batch in error.candidates)
            return Failure(
                meaning="unknown",
                message=_describe_doubt(error.reason, ids),
                marker=error.marker,
                candidates=ids,
            )
        case APIStatusError():
            return _describe_status(error, message)
        case ResultsUnavailableError(batch=batch) if batch.archived_at is not None:
            return Failure(meaning="gone", message=message)
        case _:
            pause = next((pause for kind, pause in _PAUSES if isinstance(error, kind)), None)
            meaning: Meaning = "passing" if pause is None else "person"
            return Failure(meaning=meaning, message=message, pause=pause)


def _describe_doubt(reason: str, candidates: tuple[str, ...]) -> str:
    """Say what is unknown. The error itself advises users of a client, who have it at hand."""
    if not candidates:
        return (
            f"it is not known whether its create made a batch ({reason}); the next run looks again"
        )
    which = "batch" if len(candidates) == 1 else "one of the batches"
    return (
        f"it is not known whether {which} {', '.join(candidates)} is that of this chunk "
        f"({reason}): compare the custom_ids, and decide"
    )


def _describe_status(error: APIStatusError, message: str) -> Failure:
    pause: PauseReason | None = None
    if error.error_code == SPEND_LIMIT_REACHED or _USAGE_LIMIT in message.lower():
        pause = "spend_limit"
    elif _CREDIT in message.lower() or error.status == 402:  # noqa: PLR2004 - Payment Required
        pause = "credit"
    elif error.status == 401:  # noqa: PLR2004 - Unauthorized
        pause = "credential"
    elif error.status == 403:  # noqa: PLR2004 - Forbidden
        pause = "permission"
    if pause is not None:
        return Failure(meaning="person", message=message, pause=pause)
    match error.status:
        case 404:
            return Failure(meaning="missing", message=message)
        case 429:
            return Failure(meaning="busy", message=message, retry_after=error.retry_after)
        case status if status >= 500 or status in {408, 409, 425}:  # noqa: PLR2004 - server errors
            return Failure(meaning="passing", message=message, retry_after=error.retry_after)
        case _:
            return Failure(meaning="person", message=message, pause="refused")


def is_passing(row: FailedRow) -> bool:
    """Whether a row is worth sending again."""
    if row.outcome in {"expired", "rejected", "unreadable"}:
        return True
    return row.outcome == "errored" and row.type in PASSING_TYPES


def pause_of(row: FailedRow) -> PauseReason | None:
    """Return why the whole job must pause, if a row's error says so; such a row costs no round."""
    if row.outcome != "errored":
        return None  # the message is not the service's, and can quote anything
    text = row.message.lower()
    if _CREDIT in text:
        return "credit"
    return "spend_limit" if _USAGE_LIMIT in text else None
