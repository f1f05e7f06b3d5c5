"""Every error that this project raises on purpose.

The modules that raise an error decide when. The tree::

    BatchesError
    ├── LocalProtocolError          the driver of an operation broke its contract
    ├── InvalidInputError           the caller's input is invalid
    ├── ResultsUnavailableError     the batch has not ended, or its results were archived
    ├── UntrustedHostError          the results are on a host that the caller has not allowed
    ├── RemoteProtocolError         the received bytes do not follow the protocol
    │   ├── MalformedResultError    a line of a results file could not be read
    │   └── IncompleteResultsError  results are missing from a results file, or unexpected
    ├── APIStatusError              a response had an error status
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
    ├── TransportError              the network failed
    │   └── OutcomeUnknownError     a create may have succeeded: its response was lost
    └── WaitTimeoutError            a wait reached its deadline (also a ``TimeoutError``)

Each message ends with what to do next. No error contains a credential: errors are built from
responses and from the caller's data, never from the headers of a request. Every error can be
pickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .marker import CreateMarker
    from .models import MessageBatch

#: How many problems, or ids, a message lists. The attributes of the error hold all that were kept.
_MAX_LISTED = 10
#: How much text from a peer a message quotes, in characters.
_MAX_QUOTED = 300


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
    """Return text from a peer, which can contain anything, as one short, printable line.

    A run of white space becomes one space. An unprintable character becomes
    ``\N{REPLACEMENT CHARACTER}``. Text of more than 300 characters is cut.
    """
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return line if len(line) <= _MAX_QUOTED else line[:_MAX_QUOTED] + "…"


def _list_ids(ids: tuple[str, ...]) -> str:
    listed = ", ".join(map(quote, ids[:_MAX_LISTED]))
    return listed if len(ids) <= _MAX_LISTED else f"{listed}, …"


class BatchesError(Exception):
    """The base class of all errors of this project.

    `attempts` is the number of attempts that were made. The message includes it if it is above 1.
    """

    attempts: int = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.attempts == 1 else f"{text} (after {self.attempts} attempts)"

    def __reduce__(self) -> tuple[Any, ...]:
        cause = self.__cause__ if isinstance(self.__cause__, BatchesError) else None
        return _rebuild, (type(self), self.args, self.__dict__, cause)


class LocalProtocolError(BatchesError):
    """The driver of an operation broke the contract of `Operation`.

    This is a bug in the code that drives the operation, not in the peer: correct that code.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestProblem:
    """One problem of the caller's input.

    `message` says what is wrong. `index` is the position of the request in the input, from 0. If
    the input is a file, `line` is set instead: the line of the request, from 1. Both are None if
    the problem does not belong to a single request. `field` names the field as the service does
    (``custom_id``, ``params.stream``).
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
    """The caller's input is invalid: correct it, then call again.

    It is raised before a byte is sent, if the input alone shows the mistake.

    `problems` are the problems of the input, in its order. `omitted` is the number of further
    problems that were found but not kept: of the problems of requests, the first 100 are kept.
    """

    problems: tuple[RequestProblem, ...]
    omitted: int

    def __init__(self, *problems: RequestProblem | str, omitted: int = 0) -> None:
        self.problems = tuple(
            each if isinstance(each, RequestProblem) else RequestProblem(message=each)
            for each in problems
        )
        self.omitted = omitted
        listed = [str(problem) for problem in self.problems[:_MAX_LISTED]]
        total = len(self.problems) + omitted
        if total > len(listed):
            listed.append(f"… and {total - len(listed)} more")
        if total > 1:
            listed.insert(0, f"{total} problems; nothing was sent")
        super().__init__("\n  ".join(listed))


class ResultsUnavailableError(BatchesError):
    """A batch has no results to read: it has not ended yet, or its results were archived.

    `batch` is the batch. If it has not ended, wait for it. Archived results cannot be read.
    """

    batch: MessageBatch

    def __init__(self, batch: MessageBatch) -> None:
        self.batch = batch
        if batch.archived_at is not None:
            text = (
                f"the results of batch {quote(batch.id)} were archived at "
                f"{batch.archived_at.isoformat()}: the service keeps results for 29 days after a "
                "batch is created; if you still need them, create the batch again"
            )
        elif batch.ended:
            text = (
                f"batch {quote(batch.id)} has ended, but has no results_url: read the batch again "
                "a little later"
            )
        else:
            text = (
                f"batch {quote(batch.id)} has no results yet (processing_status "
                f"{batch.processing_status!r}); call wait_for() first"
            )
        super().__init__(text)


class UntrustedHostError(BatchesError):
    """The service refers to a host for the results that the caller has not allowed.

    The reference is a ``results_url`` or a redirect. Nothing was sent to that host. If it is the
    right one, allow it with ``trusted_hosts``, or plain http with ``allow_http``.

    `host` is the host, with its port if that is not the default of its scheme.
    """

    host: str

    def __init__(self, host: str, *, plain: bool) -> None:
        self.host = host
        shown = quote(host)
        super().__init__(
            f"the results are at {shown} over plain http, which others on the network can read; "
            "nothing was sent there: if that is right, pass allow_http=True"
            if plain
            else f"the results are at {shown}, which is not the host of the API; nothing was sent "
            f"there: if that is right, pass trusted_hosts=[{shown!r}], which sends no credentials "
            "to it"
        )


class RemoteProtocolError(BatchesError):
    """The received bytes do not follow the protocol, such as JSON that is invalid or incomplete.

    Check that ``base_url`` is the API's and that no proxy responds in its place.
    """


class MalformedResultError(RemoteProtocolError):
    """A line of a results file could not be read. The other lines are not affected.

    Operations do not raise it: they deliver it in the place of the result. Keep `raw`, which may be
    a result that was paid for.

    `line_number` counts from 1 and includes blank lines. `raw` holds the bytes of the line without
    its line end. If the line exceeds the limit, `raw` holds its first 1,024 bytes and `is_cut` is
    True. `reason` says what is wrong. `custom_id` is the id of the request, or None if it could not
    be read either.
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
        of_request = "" if custom_id is None else f" (custom_id {custom_id!r})"
        super().__init__(
            f"line {line_number} of the results{of_request} could not be read: {quote(reason)}; "
            "the other lines are not affected, and `raw` holds the bytes of this one"
        )


class IncompleteResultsError(RemoteProtocolError):
    """A results file has fewer results than its batch has requests, or results of other requests.

    It is raised after the results that were received have been delivered. They are valid: keep
    them. If some are missing, read the results again later. If others are unexpected, check that
    this is the right batch.

    `received` is the number of received lines: each custom_id once, unreadable lines included.
    `expected` is the total of the batch's `request_counts`. If the caller passed the ids of the
    requests, `missing` holds those without a line, in the order in which they were passed. An id
    is not missing if it could be read from a line that is otherwise unreadable. `unexpected` holds
    received ids that were not passed. Without these ids both are empty.
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
        parts = [f"{received} of {expected} results of batch {quote(batch_id)} were received"]
        if missing:
            parts.append(f"missing ids ({len(missing)}): {_list_ids(missing)}")
        if unexpected:
            parts.append(f"unexpected ids ({len(unexpected)}): {_list_ids(unexpected)}")
        parts.append(
            "the received results are valid: keep them, and read the results again later for the "
            "rest"
            if short or not unexpected
            else "the received results are valid, but check that this is the right batch"
        )
        super().__init__("; ".join(parts))


class APIStatusError(BatchesError):
    """A response had an error status.

    The subclasses are for the documented types and say what to do. This class is for all others.

    `status` is the HTTP status. `type`, `message` and `error_code` come from the body, if it is an
    error of the API. If not, `type` is None and `message` quotes the body; a proxy or gateway has
    probably responded then. `request_id` comes from the body or the ``request-id`` header. `body`
    holds the first 64 KiB of the body. `retry_after` is the delay in seconds that the response asks
    for. `should_retry` is the value of its ``x-should-retry`` header. What the response does not
    say is None.
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
        type: str | None = None,  # noqa: A002 - the name in the JSON
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
        trace = f" (request_id {quote(request_id)})" if request_id else ""
        super().__init__(f"{status}{kind}: {quote(message)}{trace}; {self._advice()}")

    def _advice(self) -> str:
        if self.type is None:
            return (
                "this response is not from the API: check base_url and any proxy in between"
                if self.status < 500  # noqa: PLR2004 - HTTP's server errors begin here
                else "a proxy or gateway responded in place of the API: try again later"
            )
        return self.hint

    @staticmethod
    def for_response(status: int, type_: str | None, **fields: Any) -> APIStatusError:
        """Build the error of the subclass for `type_`, or for `status` if the type is unknown.

        `fields` are the other arguments of the class.
        """
        chosen = _BY_TYPE.get(type_ or "") or _BY_STATUS.get(status, APIStatusError)
        return chosen(status=status, type=type_, **fields)


class BadRequestError(APIStatusError):
    """400 ``invalid_request_error``: the request is invalid; correct what the message names."""

    hint = "correct what the message names; the same request would fail again"


class AuthenticationError(APIStatusError):
    """401 ``authentication_error``: the credential is missing, wrong or revoked; check it."""

    hint = "check the API key, that it belongs to this base_url, and that it was not revoked"


class BillingError(APIStatusError):
    """402 ``billing_error``: there is a problem with payment; check the billing settings."""

    hint = "check the account's billing settings"


class PermissionDeniedError(APIStatusError):
    """403 ``permission_error``: the credential lacks a permission; use one that has it."""

    hint = "use a credential of a workspace that has this permission"


class NotFoundError(APIStatusError):
    """404 ``not_found_error``: the credential's workspace has no such batch; check both."""

    hint = "check the batch id and that the credential belongs to the batch's workspace"


class ConflictError(APIStatusError):
    """409 ``conflict_error``: another caller is changing the resource; read it again."""

    hint = "read the batch again, then decide"


class RequestTooLargeError(APIStatusError):
    """413 ``request_too_large``: the body exceeds the service's limit; split the batch."""

    hint = "split the requests over several batches"

    def _advice(self) -> str:
        # A proxy in front of the service sends a 413 without a type; the same advice is right.
        return self.hint


class RateLimitError(APIStatusError):
    """429 ``rate_limit_error``: a limit is reached; wait, or ask for a higher limit.

    The limits are those of HTTP requests, of batch requests that wait to be processed, and of
    spending. A spend limit lasts until the next month.
    """

    hint = "wait before the next call, or ask for a higher limit"

    def _advice(self) -> str:
        if self.error_code == SPEND_LIMIT_REACHED:
            return "the spend limit is reached: raise it, or wait until next month"
        return super()._advice()


class InternalServerError(APIStatusError):
    """500 ``api_error``: the service failed; try again later."""

    hint = "try again later; quote the request_id if it persists"


class ServerTimeoutError(APIStatusError):
    """504 ``timeout_error``: the service exceeded its own time limit; try again later."""

    hint = "try again later"


class OverloadedError(APIStatusError):
    """529 ``overloaded_error``: the service is overloaded; try again later."""

    hint = "try again later"


#: The `error.details.error_code` of a 429 that lasts until the next month.
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
    """The network failed: check it, ``base_url`` and any proxy, then try again.

    `reason` is the transport's description of the failure. `sent` is True if the last byte of the
    request may have left this machine. It is False only if that byte was certainly never passed to
    the network. Then the HTTP framing and the JSON were incomplete, so no peer can have acted on
    the request.
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
            else f"{self.reason}; the request was not sent completely and had no effect: check "
            "base_url, the network and any proxy"
        )


class OutcomeUnknownError(TransportError):
    """A create may have succeeded, but its response was lost: the batch may or may not exist.

    Call ``settle()`` with this error before you create the batch again, or you may pay twice. If
    there are `candidates`, wait until they have ended, and compare the custom_ids of their results
    with yours.

    `requests` is the number of requests in the batch. `marker` is what ``settle()`` needs, now or
    in another process: the error and its marker can both be pickled. `marker` is None if the list
    could not be read before the create; then look for the batch with ``list_all()``. `candidates`
    are the batches that may be the created one, if ``settle()`` could not decide. ``__cause__`` is
    the failure.
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
            ids = _list_ids(tuple(batch.id for batch in self.candidates))
            which = (
                f"which of {len(self.candidates)} batches of {self.requests} requests is"
                if len(self.candidates) > 1
                else f"whether this batch of {self.requests} requests is"
            )
            return (
                f"it is not known {which} the one that was sent ({self.reason}): {ids}; once "
                "processing has ended, compare the custom_ids of the results with yours before you "
                "create the batch again"
            )
        how = (
            "look for it with list_all()"
            if self.marker is None
            else "call settle() with this error"
        )
        return (
            f"it is not known whether the batch of {self.requests} requests was created "
            f"({self.reason}); {how} before you create it again, or you may pay for it twice"
        )


class WaitTimeoutError(BatchesError, TimeoutError):
    """A wait reached its deadline before the batch ended: call ``wait_for()`` again.

    The service continues to process the batch. `batch` is the batch at the last successful poll, or
    None if no poll succeeded. ``__cause__`` is the failure of the last poll, if it failed.
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
        last = "" if failure is None else f"; the last poll failed: {failure}"
        if batch is None:
            state = f"could not be read within {timeout:g} s{last}"
            advice = "check the id and the network, then call wait_for() again"
        else:
            status = quote(batch.processing_status)
            state = f"was still {status!r} at the last successful poll within {timeout:g} s{last}"
            advice = "the service continues with it: call wait_for() again with the same id"
        super().__init__(f"batch {batch_id} {state}; {advice}")
