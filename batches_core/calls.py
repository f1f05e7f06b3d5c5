"""One call: a request, its answer or its failure, and the tries that come after.

Knows what an answer's status and body mean, and when a policy tries again; not what any
operation does with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from .decoding import decode_body, decode_error
from .errors import APIStatusError, BatchesError, RemoteProtocolError, TransportError
from .events import RetryScheduled
from .exchange import Eof, Head, Lost
from .http import Request, struck, without_credentials
from .operation import Channel, Script
from .retry import RetryPolicy, retry_after, should_retry

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


def opened(channel: Channel, request: Request) -> Script[Head]:
    """Send a request and wait for the head of its answer, whatever it says."""
    yield from channel.send(request)
    head = yield from channel.receive()
    if isinstance(head, Lost):
        raise TransportError(struck(request, head.reason), sent=head.sent)
    assert isinstance(head, Head), "an exchange begins with its head or its loss"  # noqa: S101
    return head


def check_success(channel: Channel, request: Request, head: Head) -> Script[None]:
    """Raise what an answer says that is no success."""
    if not 200 <= head.status < 300:  # noqa: PLR2004 - HTTP's successes
        raise (yield from _status_error(channel, request, head))


def _status_error(channel: Channel, request: Request, head: Head) -> Script[APIStatusError]:
    """Read as much of an error's body as is worth it; what cannot be read is done without."""
    channel.limit(MAX_ERROR_TIME, "the error's body did not come to its end")
    read = bytearray()
    while len(read) < MAX_ERROR and isinstance(data := (yield from channel.receive()), bytes):
        read += data
    channel.abandon()
    body = without_credentials(request, bytes(read[:MAX_ERROR]))
    type_, message, error_code, request_id = decode_error(body)
    if 300 <= head.status < 400:  # noqa: PLR2004 - HTTP's redirects
        # Without its query, which can be a credential.
        location = head.headers.get("location", "nowhere").partition("?")[0]
        message = f"a redirect to {location!r}, not followed"
    request_id = request_id or head.headers.get("request-id")
    return APIStatusError.for_answer(
        head.status,
        type_ and struck(request, type_),
        # Once more, for what JSON had written with escapes.
        message=struck(request, message),
        error_code=error_code and struck(request, error_code),
        request_id=request_id and struck(request, request_id),
        body=body,
        retry_after=retry_after(head.headers),
        should_retry=should_retry(head.headers),
    )


def answer(channel: Channel, request: Request, type_: type[T], what: str) -> Script[T]:
    """Send a request and decode the JSON body of its success."""
    value, _ = yield from answer_and_head(channel, request, type_, what)
    return value


def answer_and_head(
    channel: Channel, request: Request, type_: type[T], what: str
) -> Script[tuple[T, Head]]:
    """Send a request; give the decoded body of its success, and its head."""
    head = yield from opened(channel, request)
    yield from check_success(channel, request, head)
    channel.limit(MAX_ANSWER_TIME, f"the answer did not come to its end in {MAX_ANSWER_TIME:g} s")
    pieces: list[bytes] = []
    size = 0
    while not isinstance(arrival := (yield from channel.receive()), Eof):
        if isinstance(arrival, Lost):
            raise TransportError(struck(request, arrival.reason), sent=True)
        assert isinstance(arrival, bytes), "a body is bytes up to its end or loss"  # noqa: S101
        pieces.append(arrival)
        size += len(arrival)
        if size > MAX_ANSWER:
            channel.abandon()
            raise RemoteProtocolError(
                f"the answer is not {what}: it is longer than {MAX_ANSWER:,} bytes; check that "
                "base_url is the API's"
            )
    hide = partial(without_credentials, request)
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
    channel: Channel,
    policy: RetryPolicy,
    attempt: Callable[[], Script[T]],
    is_retried: Callable[[BatchesError], bool] | None = None,
) -> Script[T]:
    """Run an attempt until it succeeds, fails for good, or was made often enough.

    `is_retried` tells what does not fail for good; by default the policy does.
    """
    retry = 1
    while True:
        try:
            return (yield from attempt())
        except FAILURES as error:
            if retry >= policy.attempts or not (is_retried or policy.retries)(error):
                error.attempts = retry
                raise
            delay = policy.delay(retry, error, channel.jitter)
            # Without its traceback, which would keep alive whatever was held where it was raised.
            error.with_traceback(None)
            scheduled = RetryScheduled(error=error, retry=retry, delay=delay)
        yield scheduled
        yield from channel.pause(delay)
        retry += 1


def fetch(
    channel: Channel, policy: RetryPolicy, request: Request, type_: type[T], what: str
) -> Script[T]:
    """Call until it succeeds, fails for good, or was tried often enough."""
    return (yield from retried(channel, policy, lambda: answer(channel, request, type_, what)))
