"""Sending one request: its response or its failure, and the retries.

This module interprets a response's status and body, and repeats an attempt as the policy in `retry`
allows. `exchange` checks the order of events; `operations` decides what a decoded response means.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from .context import Flow, OperationContext
from .decoding import decode_body, decode_error
from .errors import APIStatusError, BatchesError, RemoteProtocolError, TransportError
from .events import RetryScheduled
from .exchange import END_OF_BODY, Head, Lost
from .http import Request
from .redaction import redact, redact_text
from .retry import parse_retry_after, parse_should_retry

T = TypeVar("T")

#: The largest JSON response that is read, in bytes; results files are not limited by it. The
#: largest legal one, a page of 1,000 batches, is well under 1 MB.
MAX_RESPONSE = 16 * 1024 * 1024
#: How long such a response may take from its head to its end, in seconds, even if bytes keep
#: arriving.
MAX_RESPONSE_TIME = 600.0
#: How much of an error's body is read and kept, in bytes. An API error has a few hundred bytes, and
#: the beginning of a proxy's error page is enough.
MAX_ERROR_BODY = 64 * 1024
#: How long an error response may take from its head to its end, in seconds. The head has already
#: said what matters most. A healthy peer sends the few hundred bytes of the body together with it.
MAX_ERROR_TIME = 10.0

#: Every error that an exchange can fail with. `RetryPolicy.retries` decides which are retried.
FAILURES = (TransportError, APIStatusError, RemoteProtocolError)


def start_exchange(context: OperationContext, request: Request) -> Flow[Head]:
    """Send a request and wait for the head of its response, of any status.

    Raises:
        TransportError: the connection was lost before the head.
    """
    yield from context.send(request)
    head = yield from context.receive()
    if isinstance(head, Lost):
        raise build_transport_error(request, head) from head.cause
    assert isinstance(head, Head)  # noqa: S101 - a head or a loss comes first
    return head


def receive_body(context: OperationContext, request: Request) -> Flow[bytes]:
    """Wait for the next piece of the body; `END_OF_BODY` follows the last one.

    Raises:
        TransportError: the connection was lost before the end.
    """
    event = yield from context.receive()
    if isinstance(event, Lost):
        raise build_transport_error(request, event) from event.cause
    assert isinstance(event, bytes)  # noqa: S101 - only the body or a loss follows a head
    return event


def build_transport_error(request: Request, lost: Lost) -> TransportError:
    """Build the error for a lost exchange, with the request's credentials redacted."""
    return TransportError(redact_text(request.headers, lost.reason), sent=lost.sent)


def check_success(context: OperationContext, request: Request, head: Head) -> Flow[None]:
    """Check that a response's status is 2xx.

    Raises:
        APIStatusError: it is not. The start of the body has been read for the error.
    """
    if not 200 <= head.status < 300:  # noqa: PLR2004 - HTTP's successes
        raise (yield from _read_status_error(context, request, head))


def _read_status_error(
    context: OperationContext, request: Request, head: Head
) -> Flow[APIStatusError]:
    context.limit(MAX_ERROR_TIME, "the error's body did not end in time")
    read = bytearray()
    # If the body breaks off, the head and the bytes so far still make a useful error.
    with suppress(TransportError):
        while len(read) < MAX_ERROR_BODY:
            if (data := (yield from receive_body(context, request))) == END_OF_BODY:
                break
            read += data
    context.abandon()
    body = redact(request.headers, bytes(read[:MAX_ERROR_BODY]))
    type_, message, error_code, request_id = decode_error(body)
    if 300 <= head.status < 400:  # noqa: PLR2004 - HTTP's redirects
        # Without its query, which can be a credential.
        location = head.headers.get("location", "nowhere").partition("?")[0]
        message = f"a redirect to {location!r}, not followed"
    request_id = request_id or head.headers.get("request-id")
    return APIStatusError.for_response(
        head.status,
        type_ and redact_text(request.headers, type_),
        # Redacted a second time, because JSON escapes can hide a credential from the first.
        message=redact_text(request.headers, message),
        error_code=error_code and redact_text(request.headers, error_code),
        request_id=request_id and redact_text(request.headers, request_id),
        body=body,
        retry_after=parse_retry_after(head.headers),
        should_retry=parse_should_retry(head.headers),
    )


def request_json(context: OperationContext, request: Request, type_: type[T], what: str) -> Flow[T]:
    """Send a request once, and decode the JSON body of a successful response.

    `what` names the expected value in error messages, as in "a batch".

    Raises:
        TransportError: the connection was lost, or the response took too long.
        APIStatusError: the status is not 2xx.
        RemoteProtocolError: the body is too long, or is not JSON of this type.
    """
    value, _ = yield from request_json_and_head(context, request, type_, what)
    return value


def request_json_and_head(
    context: OperationContext, request: Request, type_: type[T], what: str
) -> Flow[tuple[T, Head]]:
    """Do the same as `request_json`, and return the response's head as well."""
    head = yield from start_exchange(context, request)
    yield from check_success(context, request, head)
    context.limit(MAX_RESPONSE_TIME, f"the response did not end within {MAX_RESPONSE_TIME:g} s")
    pieces: list[bytes] = []
    size = 0
    while (piece := (yield from receive_body(context, request))) != END_OF_BODY:
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE:
            context.abandon()
            raise RemoteProtocolError(
                f"the response is not {what}: it is longer than {MAX_RESPONSE:,} bytes; check that "
                "base_url is the API's"
            )
    hide = partial(redact, request.headers)
    return decode_body(b"".join(pieces), type_, what, hide), head


def request_json_with_retries(
    context: OperationContext, request: Request, type_: type[T], what: str
) -> Flow[T]:
    """Do the same as `request_json`, and retry as the policy says."""
    return (yield from with_retries(context, lambda: request_json(context, request, type_, what)))


def with_retries(
    context: OperationContext,
    attempt: Callable[[], Flow[T]],
    is_retryable: Callable[[BatchesError], bool] | None = None,
) -> Flow[T]:
    """Repeat an attempt until it succeeds, cannot be retried, or was made `policy.attempts` times.

    `is_retryable` decides whether a failure may be retried; by default the policy does. A
    `RetryScheduled` and a pause precede each retry.
    """
    failures = 0
    while True:
        try:
            return (yield from attempt())
        except FAILURES as error:
            failures += 1
            may_retry = is_retryable or context.policy.retries
            if failures >= context.policy.attempts or not may_retry(error):
                error.attempts = failures
                raise
            delay = context.policy.delay(failures, error, context.jitter)
            # Its traceback would keep the objects of every frame alive during the pause.
            error.with_traceback(None)
            scheduled = RetryScheduled(error=error, retry=failures, delay=delay)
        yield scheduled
        yield from context.pause(delay)


def is_not_found(error: BatchesError) -> bool:
    """Return whether the response was a 404."""
    return isinstance(error, APIStatusError) and error.status == 404  # noqa: PLR2004 - Not Found


def is_safe_to_repeat(error: BatchesError) -> bool:
    """Return whether a request that must not take effect twice may be repeated after this failure.

    It may if its last byte never left this machine, or if the service refused it: with a 429, a
    529, or another refusal with ``x-should-retry: true``. A 408 and server errors but 529 are no
    refusals, whatever this header says: it is advice for clients that tolerate a second effect.
    """
    match error:
        case TransportError(sent=sent):
            return not sent
        case APIStatusError(status=429 | 529):
            return True
        case APIStatusError(should_retry=True):
            return not _leaves_outcome_unknown(error.status)
        case _:
            return False


def may_have_had_effect(error: BatchesError) -> bool:
    """Return whether the outcome of the request is unknown. A refused request has no effect."""
    match error:
        case TransportError(sent=sent):
            return sent
        case APIStatusError(status=529):  # a refusal, unlike the other server errors
            return False
        case APIStatusError(status=status):
            return _leaves_outcome_unknown(status)
        case _:
            return True


def _leaves_outcome_unknown(status: int) -> bool:
    # A bare 503 is no refusal: a proxy also sends it when its upstream died after accepting the
    # request. A 408 can come from a proxy that forwarded half of the request.
    return status >= 500 or status == 408  # noqa: PLR2004 - HTTP's server errors, Request Timeout
