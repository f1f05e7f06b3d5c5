"""Every error that the project raises on purpose, and nothing that decides when.

The tree::

    BatchesError
    ├── LocalProtocolError        the driver broke the contract of an operation
    ├── InvalidInputError            the user's input was refused before a byte was sent
    ├── ResultsUnavailableError        the batch has no results to read: not ended yet, or archived
    ├── UntrustedHostError             the results are at a host that the user did not say to trust
    ├── RemoteProtocolError       the peer's bytes are not the protocol
    │   ├── MalformedResultError       one line of a results file could not be read
    │   └── IncompleteResultsError     a results file ended with fewer results than the batch counts
    ├── APIStatusError            the peer answered with an error status
    │   ├── BadRequestError         invalid_request_error, 400
    │   ├── AuthenticationError     authentication_error,  401
    │   ├── BillingError            billing_error,         402
    │   ├── PermissionDeniedError   permission_error,      403
    │   ├── NotFoundError           not_found_error,       404
    │   ├── ConflictError           conflict_error,        409
    │   ├── RequestTooLargeError    request_too_large,     413
    │   ├── RateLimitError          rate_limit_error,      429
    │   ├── InternalServerError     api_error,             500
    │   ├── ServerTimeoutError      timeout_error,         504
    │   └── OverloadedError         overloaded_error,      529
    ├── TransportError            the network failed
    │   └── OutcomeUnknownError          … so that nobody can say whether a batch was created
    └── WaitTimeoutError               a wait reached its deadline (also a ``TimeoutError``)

Each message ends with what a person can do next, and none ever holds a credential: the
errors are built from what the peer said and from the user's own data, never from a request's
headers. All of them can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .marker import CreateMarker
    from .models import MessageBatch

#: How many faults, or ids, a message spells out; the error itself holds all that were kept.
_SPELLED_OUT = 10
#: How much of a peer's text a message quotes, in characters.
_QUOTED = 300


def _rebuild(
    cls: type[BatchesError],
    args: tuple[Any, ...],
    state: dict[str, Any],
    cause: BatchesError | None,
) -> BatchesError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


def quote(text: str) -> str:
    """Shorten a peer's text, in which anything can stand, to one printable line."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= _QUOTED else line[:_QUOTED] + "…"


def _some(ids: tuple[str, ...]) -> str:
    shown = ", ".join(map(quote, ids[:_SPELLED_OUT]))
    return shown if len(ids) <= _SPELLED_OUT else f"{shown}, …"


class BatchesError(Exception):
    """The base of every error of this project.

    `attempts` tells how often was tried what failed in the end; the message says so if it was more
    than once.
    """

    attempts: int = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.attempts == 1 else f"{text} (after {self.attempts} attempts)"

    def __reduce__(self) -> tuple[Any, ...]:
        cause = self.__cause__ if isinstance(self.__cause__, BatchesError) else None
        return _rebuild, (type(self), self.args, self.__dict__, cause)


class LocalProtocolError(BatchesError):
    """The code that drives an operation broke its contract: a bug there, not in the peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProblem:
    """One thing that is wrong with the user's input.

    `index` is the position of the request in what was passed, from 0, or None where the
    fault is not one request's; `line` is its line, from 1, where it is a file's; `field` names the
    field as the service does (``custom_id``, ``params.stream``); `message` says what is wrong.
    """

    message: str
    index: int | None = None
    field: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.index is None else f"requests.{self.index}"
        if self.field:
            place = f"{place}.{self.field}" if place else self.field
        if self.line is not None:
            place = f"line {self.line}, {place}" if place else f"line {self.line}"
        return f"{place}: {self.message}" if place else self.message


class InvalidInputError(BatchesError, ValueError):
    """The user's input was refused before a byte was sent.

    `faults` holds what is wrong, in the order of the input; `omitted` counts the faults beyond
    those that were kept.
    """

    faults: tuple[RequestProblem, ...]
    omitted: int

    def __init__(self, *faults: RequestProblem | str, omitted: int = 0) -> None:
        self.faults = tuple(
            f if isinstance(f, RequestProblem) else RequestProblem(message=f) for f in faults
        )
        self.omitted = omitted
        spelled = [str(fault) for fault in self.faults[:_SPELLED_OUT]]
        total = len(self.faults) + omitted
        if total > len(spelled):
            spelled.append(f"… and {total - len(spelled)} more")
        if total > 1:
            spelled.insert(0, f"{total} faults; nothing was sent")
        super().__init__("\n  ".join(spelled))


class ResultsUnavailableError(BatchesError):
    """The batch has no results to read, now (`batch` has not ended) or any more (archived)."""

    batch: MessageBatch

    def __init__(self, batch: MessageBatch) -> None:
        self.batch = batch
        if batch.archived_at is not None:
            text = (
                f"the results of batch {quote(batch.id)} were archived at "
                f"{batch.archived_at.isoformat()} and cannot be read any more; they are kept for "
                "29 days after a batch is created"
            )
        elif batch.ended:
            text = (
                f"batch {quote(batch.id)} has ended, but the service names no place for its "
                "results: read the batch again a little later"
            )
        else:
            text = (
                f"batch {quote(batch.id)} has no results yet (processing_status "
                f"{batch.processing_status!r}); use wait_for() first"
            )
        super().__init__(text)


class UntrustedHostError(BatchesError):
    """The service pointed to another host for the results, which the user did not say to trust.

    `host` is that host, with its port where that is an odd one. Nothing was sent to it.
    """

    host: str

    def __init__(self, host: str, *, plain: bool) -> None:
        self.host = host
        where = f"the service pointed to {quote(host)} for the results"
        super().__init__(
            f"{where}, over plain http, which anybody in between can read; nothing was fetched: "
            "pass allow_http=True if that is right"
            if plain
            else f"{where}, which is not where the API is; nothing was fetched: if that is right, "
            f"pass trusted_hosts=[{quote(host)!r}], and it is asked without credentials"
        )


class RemoteProtocolError(BatchesError):
    """The peer's bytes are not the protocol: no JSON where JSON was due, or of another shape."""


class MalformedResultError(RemoteProtocolError):
    """One line of a results file could not be read; the lines around it are not affected.

    `line_number` counts from 1 and includes blank lines; `raw` holds the line's bytes without
    its line end (of a line over the limit its beginning, and then `is_cut` is True); `reason`
    says what is wrong; `custom_id` is the request's where the line still told it, else None.
    """

    line_number: int
    raw: bytes
    reason: str
    custom_id: str | None
    is_cut: bool

    def __init__(
        self,
        *,
        line_number: int,
        raw: bytes,
        reason: str,
        custom_id: str | None = None,
        is_cut: bool = False,
    ) -> None:
        self.line_number = line_number
        self.raw = raw
        self.reason = reason
        self.custom_id = custom_id
        self.is_cut = is_cut
        whose = "" if custom_id is None else f" (custom_id {custom_id!r})"
        super().__init__(
            f"line {line_number} of the results{whose} could not be read: {quote(reason)}; the "
            "other lines are not affected, and `raw` holds this one's bytes"
        )


class IncompleteResultsError(RemoteProtocolError):
    """A results file ended with fewer results than its batch counts.

    `received` counts the lines that came (each custom_id once, unreadable lines included),
    `expected` is the total of the batch's `request_counts`. Where the requested ids were handed
    in, `missing` holds those of which no line came, not even an unreadable one that names it, in
    the order in which they were passed, and `unexpected` those that came and were not among
    them; otherwise both are empty.
    """

    received: int
    expected: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    def __init__(
        self,
        *,
        batch_id: str,
        received: int,
        expected: int,
        missing: tuple[str, ...] = (),
        unexpected: tuple[str, ...] = (),
    ) -> None:
        self.received = received
        self.expected = expected
        self.missing = missing
        self.unexpected = unexpected
        short = received < expected
        parts = [f"the results of batch {quote(batch_id)} ended after {received} of {expected}"]
        if missing:
            parts.append(f"{len(missing)} of the expected ids are missing: {_some(missing)}")
        if unexpected:
            parts.append(f"{len(unexpected)} were not expected: {_some(unexpected)}")
        parts.append(
            "what came is good: keep it, and read the results again later for the rest"
            if short or not unexpected
            else "what came is good, but check that this batch is the one that was meant"
        )
        super().__init__("; ".join(parts))


class APIStatusError(BatchesError):
    """The peer answered with an error status.

    `type` and `message` are the API's own where the body was an API error, else `type` is None
    and `message` quotes what came. `body` holds the first 64 KiB of the answer.
    `retry_after` is the wait that the peer asked for in seconds; `should_retry` is its word on
    trying again (``x-should-retry``); both are None where it said nothing.
    """

    hint = "see the message for what the service refused"

    status: int
    type: str | None
    message: str
    error_code: str | None
    request_id: str | None
    body: bytes
    retry_after: float | None
    should_retry: bool | None

    def __init__(
        self,
        *,
        status: int,
        type: str | None = None,  # noqa: A002 - the wire's name
        message: str,
        error_code: str | None = None,
        request_id: str | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        self.status = status
        self.type = type
        self.message = message
        self.error_code = error_code
        self.request_id = request_id
        self.body = body
        self.retry_after = retry_after
        self.should_retry = should_retry
        kind = f" {quote(type)}" if type else ""
        where = f" (request_id {quote(request_id)})" if request_id else ""
        super().__init__(f"{status}{kind}: {quote(message)}{where}; {self._advice()}")

    def _advice(self) -> str:
        if self.type is None:
            return (
                "this answer is not the API's: check base_url and any proxy in between"
                if self.status < 500  # noqa: PLR2004 - where HTTP's server errors begin
                else "a proxy or gateway answered in the API's place: try again later"
            )
        return self.hint

    @staticmethod
    def for_answer(status: int, type_: str | None, **fields: Any) -> APIStatusError:
        """Build the subclass that belongs to the error's type, or else to its status."""
        chosen = _BY_TYPE.get(type_ or "") or _BY_STATUS.get(status, APIStatusError)
        return chosen(status=status, type=type_, **fields)


class BadRequestError(APIStatusError):
    """400 ``invalid_request_error``: the request has a fault that the message names."""

    hint = "mend what the message names; sending it again unchanged will not help"


class AuthenticationError(APIStatusError):
    """401 ``authentication_error``: the credential is missing, wrong or revoked."""

    hint = "check the API key, that it belongs to this base_url, and that it was not revoked"


class BillingError(APIStatusError):
    """402 ``billing_error``: the account's payment needs attention."""

    hint = "check the account's billing settings"


class PermissionDeniedError(APIStatusError):
    """403 ``permission_error``: the credential may not do this."""

    hint = "use a credential whose workspace may do this"


class NotFoundError(APIStatusError):
    """404 ``not_found_error``: there is no such batch in the credential's workspace."""

    hint = "check the batch id and that the credential belongs to the batch's workspace"


class ConflictError(APIStatusError):
    """409 ``conflict_error``: the resource is being changed by somebody else."""

    hint = "read the batch again, then decide"


class RequestTooLargeError(APIStatusError):
    """413 ``request_too_large``: the batch's body is over the service's limit."""

    hint = "split the requests over several batches"

    def _advice(self) -> str:
        # What stands in front of the service says it without an error type.
        return self.hint


class RateLimitError(APIStatusError):
    """429 ``rate_limit_error``: too many HTTP requests, waiting requests, or too much spent."""

    hint = "wait before the next call, or ask for a higher limit"

    def _advice(self) -> str:
        if self.error_code == SPEND_LIMIT_REACHED:
            return "the spend limit is reached: raise it, or wait until next month"
        return super()._advice()


class InternalServerError(APIStatusError):
    """500 ``api_error``: the service failed."""

    hint = "try again later; quote the request_id if it persists"


class ServerTimeoutError(APIStatusError):
    """504 ``timeout_error``: the service did not answer in its own time."""

    hint = "try again later"


class OverloadedError(APIStatusError):
    """529 ``overloaded_error``: the service is overloaded."""

    hint = "try again later"


#: `error.details.error_code` of a 429 that does not pass until the next month.
SPEND_LIMIT_REACHED = "enforced_spend_limit_reached"

_BY_TYPE: dict[str, type[APIStatusError]] = {
    "invalid_request_error": BadRequestError,
    "authentication_error": AuthenticationError,
    "billing_error": BillingError,
    "permission_error": PermissionDeniedError,
    "not_found_error": NotFoundError,
    "conflict_error": ConflictError,
    "request_too_large": RequestTooLargeError,
    "rate_limit_error": RateLimitError,
    "api_error": InternalServerError,
    "timeout_error": ServerTimeoutError,
    "overloaded_error": OverloadedError,
}
_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: BillingError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: RequestTooLargeError,
    429: RateLimitError,
    500: InternalServerError,
    504: ServerTimeoutError,
    529: OverloadedError,
}


class TransportError(BatchesError):
    """The network failed.

    `reason` is the transport's account of it. `sent` tells whether the last byte of the request may
    have left this machine. If it is False, that byte was certainly never given to the network:
    framing and JSON lacked their end, and no peer can have acted on them. In any doubt it is True.
    """

    reason: str
    sent: bool

    def __init__(self, reason: str, *, sent: bool) -> None:
        self.reason = quote(reason)
        self.sent = sent
        super().__init__(self._text())

    def _text(self) -> str:
        return (
            f"{self.reason}; check the network and try again"
            if self.sent
            else f"{self.reason}; the request did not go out whole and had no effect: check "
            "base_url, the network and any proxy"
        )


class OutcomeUnknownError(TransportError):
    """A create was sent and its answer was lost: the batch may exist, or may not.

    `requests` is the number of requests in it. `marker` is what ``settle()`` needs, now or in
    another process (both this error and the marker can be pickled); None where the list could
    not be read before the create. `candidates` are the batches that may be it, where there are
    several. The cause (``__cause__``) is what went wrong.
    """

    requests: int
    marker: CreateMarker | None
    candidates: tuple[MessageBatch, ...]

    def __init__(
        self,
        reason: str,
        *,
        requests: int,
        marker: CreateMarker | None = None,
        candidates: tuple[MessageBatch, ...] = (),
    ) -> None:
        self.requests = requests
        self.marker = marker
        self.candidates = candidates
        super().__init__(reason, sent=True)

    def _text(self) -> str:
        if self.candidates:
            ids = _some(tuple(batch.id for batch in self.candidates))
            which = (
                f"which of {len(self.candidates)} batches of {self.requests} requests is"
                if len(self.candidates) > 1
                else f"whether this batch of {self.requests} requests is"
            )
            return (
                f"it is not known {which} the one that was sent ({self.reason}): {ids}; wait until "
                "it has ended, and compare the custom_ids of its results with yours before you "
                "create it again"
            )
        how = "look for it with list()" if self.marker is None else "call settle() with this error"
        return (
            f"it is not known whether the batch of {self.requests} requests was created "
            f"({self.reason}); {how} before you create it again, or it may be paid for twice"
        )


class WaitTimeoutError(BatchesError, TimeoutError):
    """A wait reached its deadline.

    `batch` is the batch as last seen, or None if no answer came. The cause (``__cause__``) is
    the failure of the last poll, if it failed.
    """

    batch: MessageBatch | None

    def __init__(
        self,
        batch_id: str,
        *,
        timeout: float,
        batch: MessageBatch | None,
        failure: BatchesError | None = None,
    ) -> None:
        self.batch = batch
        why = "" if failure is None else f"; the last poll failed: {failure}"
        if batch is None:
            state = f"was not seen within {timeout:g} s{why}"
            advice = "check the id and the network, then call wait_for() again"
        else:
            status = quote(batch.processing_status)
            state = f"was still {status!r} when it was last seen within {timeout:g} s{why}"
            advice = "it goes on at the service: call wait_for() again with the same id"
        super().__init__(f"batch {batch_id} {state}; {advice}")
