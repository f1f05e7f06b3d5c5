"""One call: a request, its answer or its failure, and the tries that come after.

Knows what an answer's status and body mean, and when a policy tries again; not what any
operation does with it.
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
from .retry import retry_after, should_retry

T = TypeVar("T")

#: What an answer that is no results file may hold, in bytes. The largest legal one, a page of
#: 1,000 batches, is well under 1 MB.
MAX_ANSWER = 16 * 1024 * 1024
#: How long such an answer may take from its head to its end, in seconds, however it drips.
MAX_ANSWER_TIME = 600.0
#: What is read and kept of an error's body. An API error is a few hundred bytes; of a proxy's
#: page the beginning is enough.
MAX_ERROR = 64 * 1024
#: How long an error's body may take from its head on, in seconds. The head has said what matters
#: most; the few hundred bytes behind it come with it, or something is wrong with the peer.
MAX_ERROR_TIME = 10.0

#: What `RetryPolicy.retries` can be asked about: everything that an exchange can fail with.
FAILURES = (TransportError, APIStatusError, RemoteProtocolError)


def start_exchange(context: OperationContext, request: Request) -> Flow[Head]:
    """Send a request and wait for the head of its answer, whatever it says."""
    yield from context.send(request)
    head = yield from context.receive()
    if isinstance(head, Lost):
        raise transport_error(request, head) from head.cause
    assert isinstance(head, Head), "an exchange begins with its head or its loss"  # noqa: S101
    return head


def receive_body(context: OperationContext, request: Request) -> Flow[bytes]:
    """Wait for the next bytes of a body; `END_OF_BODY` after the last ones.

    Raises:
        TransportError: the connection was lost before the end.
    """
    event = yield from context.receive()
    if isinstance(event, Lost):
        raise transport_error(request, event) from event.cause
    assert isinstance(event, bytes), "a head is followed by a body"  # noqa: S101
    return event


def transport_error(request: Request, lost: Lost) -> TransportError:
    """Build the error for a lost exchange, without the credentials of its request."""
    return TransportError(redact_text(request.headers, lost.reason), sent=lost.sent)


def check_success(context: OperationContext, request: Request, head: Head) -> Flow[None]:
    """Raise what an answer says that is no success."""
    if not 200 <= head.status < 300:  # noqa: PLR2004 - HTTP's successes
        raise (yield from _status_error(context, request, head))


def _status_error(context: OperationContext, request: Request, head: Head) -> Flow[APIStatusError]:
    """Read as much of an error's body as is worth it; what cannot be read is done without."""
    context.limit(MAX_ERROR_TIME, "the error's body did not come to its end")
    read = bytearray()
    with suppress(TransportError):
        while len(read) < MAX_ERROR:
            if (data := (yield from receive_body(context, request))) == END_OF_BODY:
                break
            read += data
    context.abandon()
    body = redact(request.headers, bytes(read[:MAX_ERROR]))
    type_, message, error_code, request_id = decode_error(body)
    if 300 <= head.status < 400:  # noqa: PLR2004 - HTTP's redirects
        # Without its query, which can be a credential.
        location = head.headers.get("location", "nowhere").partition("?")[0]
        message = f"a redirect to {location!r}, not followed"
    request_id = request_id or head.headers.get("request-id")
    return APIStatusError.for_response(
        head.status,
        type_ and redact_text(request.headers, type_),
        # Once more, for what JSON had written with escapes.
        message=redact_text(request.headers, message),
        error_code=error_code and redact_text(request.headers, error_code),
        request_id=request_id and redact_text(request.headers, request_id),
        body=body,
        retry_after=retry_after(head.headers),
        should_retry=should_retry(head.headers),
    )


def request_json(context: OperationContext, request: Request, type_: type[T], what: str) -> Flow[T]:
    """Send a request and decode the JSON body of its success."""
    value, _ = yield from request_json_and_head(context, request, type_, what)
    return value


def request_json_and_head(
    context: OperationContext, request: Request, type_: type[T], what: str
) -> Flow[tuple[T, Head]]:
    """Send a request; give the decoded body of its success, and its head."""
    head = yield from start_exchange(context, request)
    yield from check_success(context, request, head)
    context.limit(MAX_ANSWER_TIME, f"the answer did not come to its end in {MAX_ANSWER_TIME:g} s")
    pieces: list[bytes] = []
    size = 0
    while (piece := (yield from receive_body(context, request))) != END_OF_BODY:
        pieces.append(piece)
        size += len(piece)
        if size > MAX_ANSWER:
            context.abandon()
            raise RemoteProtocolError(
                f"the answer is not {what}: it is longer than {MAX_ANSWER:,} bytes; check that "
                "base_url is the API's"
            )
    hide = partial(redact, request.headers)
    return decode_body(b"".join(pieces), type_, what, hide), head


def not_found(error: BatchesError) -> bool:
    """Whether the answer was a 404."""
    return isinstance(error, APIStatusError) and error.status == 404  # noqa: PLR2004 - Not Found


def surely_had_no_effect(error: BatchesError) -> bool:
    """Whether the request did not go out whole, or the service said that it did not take it.

    ``x-should-retry: true`` is advice for clients that do not mind an effect twice, no proof that
    there was none: beside a server error it says nothing here.
    """
    match error:
        case TransportError(sent=sent):
            return not sent
        case APIStatusError(status=429 | 529):
            return True
        case APIStatusError(should_retry=True):
            return not _says_nothing(error.status)
        case _:
            return False


def may_have_had_effect(error: BatchesError) -> bool:
    """Whether nobody can say what became of the request; a refusal has no effect."""
    if isinstance(error, APIStatusError):
        return error.status != 529 and _says_nothing(error.status)  # noqa: PLR2004 - Overloaded
    return not surely_had_no_effect(error)


def _says_nothing(status: int) -> bool:
    # A bare 503 is no refusal: it is also what a proxy says when its upstream died after taking
    # the request, and a 408 can come from one that forwarded half of it.
    return status >= 500 or status == 408  # noqa: PLR2004 - HTTP's server errors, Request Timeout


def retried(
    context: OperationContext,
    attempt: Callable[[], Flow[T]],
    is_retried: Callable[[BatchesError], bool] | None = None,
) -> Flow[T]:
    """Run an attempt until it succeeds, fails for good, or was made often enough.

    `is_retried` tells what does not fail for good; by default the policy does.
    """
    retry = 1
    while True:
        try:
            return (yield from attempt())
        except FAILURES as error:
            if retry >= context.policy.attempts or not (is_retried or context.policy.retries)(
                error
            ):
                error.attempts = retry
                raise
            delay = context.policy.delay(retry, error, context.jitter)
            # Without its traceback, which would keep alive whatever was held where it was raised.
            error.with_traceback(None)
            scheduled = RetryScheduled(error=error, retry=retry, delay=delay)
        yield scheduled
        yield from context.pause(delay)
        retry += 1


def request_json_with_retries(
    context: OperationContext, request: Request, type_: type[T], what: str
) -> Flow[T]:
    """Call until it succeeds, fails for good, or was tried often enough."""
    return (yield from retried(context, lambda: request_json(context, request, type_, what)))
