"""The operations, each as a script that reads like the protocol's description.

Knows the protocol of batches: what is sent, what an answer means, what may be sent again. Knows
nothing of credentials or paths (`api` hands in ready requests) and nothing of who drives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from .decoding import ResultDecoder, decode_body, decode_error
from .errors import (
    APIStatusError,
    BatchesError,
    IncompleteResults,
    MalformedResult,
    OutcomeUnknown,
    RemoteProtocolError,
    ResultsUnavailable,
    TransportError,
    WaitTimeout,
)
from .events import BatchState, PageReceived, ResultsInterrupted, ResultsReceived, RetryScheduled
from .exchange import Eof, Head, Lost
from .http import Request, without_credentials
from .jsonl import JSONLines
from .models import DeletedMessageBatch, M, MessageBatch, Page, ResultItem
from .operation import Channel, Script
from .retry import RetryPolicy, retry_after, should_retry

T = TypeVar("T")
_Block: TypeAlias = list[ResultItem[M] | MalformedResult]

#: What an answer that is no results file may hold, in bytes. The largest legal one, a page of
#: 1,000 batches, is well under 1 MB.
MAX_ANSWER = 16 * 1024 * 1024
#: What is read and kept of an error's body. An API error is a few hundred bytes; of a proxy's
#: page the beginning is enough.
MAX_ERROR = 64 * 1024
#: For how long after its start a wait takes a 404 for one that passes: reads right after a
#: create were reported to give them.
PASSING_404 = 60.0
#: The least that a wait adds to its delay with each failed poll, in seconds.
_LEAST_DELAY = 0.5

#: What `RetryPolicy.retries` can be asked about: everything that an exchange can fail with.
_Failure = (TransportError, APIStatusError, RemoteProtocolError)


# --- one exchange ------------------------------------------------------------------------


def _head(channel: Channel, request: Request) -> Script[Head]:
    """Send a request and wait for the head of a success; raise what else comes."""
    yield from channel.send(request)
    head = yield from channel.receive()
    if isinstance(head, Lost):
        raise TransportError(head.reason, sent=head.sent)
    assert isinstance(head, Head), "an exchange begins with its head or its loss"  # noqa: S101
    if not 200 <= head.status < 300:  # noqa: PLR2004 - HTTP's successes
        raise (yield from _status_error(channel, request, head))
    return head


def _status_error(channel: Channel, request: Request, head: Head) -> Script[APIStatusError]:
    """Read as much of an error's body as is worth it; what cannot be read is done without."""
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
    return APIStatusError.for_answer(
        head.status,
        type_,
        message=message,
        error_code=error_code,
        request_id=request_id or head.headers.get("request-id"),
        body=body,
        retry_after=retry_after(head.headers),
        should_retry=should_retry(head.headers),
    )


def _answer(channel: Channel, request: Request, type_: type[T], what: str) -> Script[T]:
    """Send a request and decode the JSON body of its success."""
    yield from _head(channel, request)
    pieces: list[bytes] = []
    size = 0
    while not isinstance(arrival := (yield from channel.receive()), Eof):
        if isinstance(arrival, Lost):
            raise TransportError(arrival.reason, sent=True)
        assert isinstance(arrival, bytes), "a body is bytes up to its end or loss"  # noqa: S101
        pieces.append(arrival)
        size += len(arrival)
        if size > MAX_ANSWER:
            channel.abandon()
            raise RemoteProtocolError(
                f"the answer is not {what}: it is longer than {MAX_ANSWER:,} bytes; check that "
                "base_url is the API's"
            )
    return decode_body(without_credentials(request, b"".join(pieces)), type_, what)


def _not_found(error: BatchesError) -> bool:
    return isinstance(error, APIStatusError) and error.status == 404  # noqa: PLR2004 - Not Found


def _retried(
    channel: Channel,
    policy: RetryPolicy,
    attempt: Callable[[], Script[T]],
    may_be_sent_again: Callable[[BatchesError], bool] = lambda _: True,
) -> Script[T]:
    """Run an attempt until it succeeds, fails for good, or was made often enough."""
    retry = 1
    while True:
        try:
            return (yield from attempt())
        except _Failure as error:
            again = policy.retries(error) and may_be_sent_again(error)
            if retry >= policy.attempts or not again:
                raise
            delay = policy.delay(retry, error, channel.jitter)
            scheduled = RetryScheduled(error=error, retry=retry, delay=delay)
        yield scheduled
        yield from channel.pause(delay)
        retry += 1


def _fetch(
    channel: Channel, policy: RetryPolicy, request: Request, type_: type[T], what: str
) -> Script[T]:
    return (yield from _retried(channel, policy, lambda: _answer(channel, request, type_, what)))


# --- the operations ----------------------------------------------------------------------


def create(
    channel: Channel, policy: RetryPolicy, request: Request, count: int
) -> Script[MessageBatch]:
    """Create a batch, and never twice.

    A create is sent again only where the try before surely had no effect: nothing of it left, or
    the service said that it did not take it. Where neither is sure, the outcome is unknown.
    """

    def attempt() -> Script[MessageBatch]:
        try:
            return (yield from _answer(channel, request, MessageBatch, "a batch"))
        except _Failure as error:
            if _may_have_had_effect(error):
                raise OutcomeUnknown(_summary(error), requests=count) from error
            raise

    return (yield from _retried(channel, policy, attempt, _surely_had_no_effect))


def _surely_had_no_effect(error: BatchesError) -> bool:
    match error:
        case TransportError(sent=sent):
            return not sent
        case APIStatusError(should_retry=True) | APIStatusError(status=429 | 529):
            return True
        case _:
            return False


def _may_have_had_effect(error: BatchesError) -> bool:
    if isinstance(error, APIStatusError) and not _surely_had_no_effect(error):
        # A refusal has no effect. But a bare 503 is also what a proxy says when its upstream died
        # after taking the request, and a 408 can come from one that forwarded half of it.
        return error.status >= 500 or error.status == 408  # noqa: PLR2004 - HTTP's server errors
    return not _surely_had_no_effect(error)


def _summary(error: BatchesError) -> str:
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the answer was {status}: {message}"
        case _:
            return str(error)


def cancel(channel: Channel, policy: RetryPolicy, request: Request) -> Script[MessageBatch]:
    """Ask for the end of a batch; asking twice is harmless."""
    return (yield from _fetch(channel, policy, request, MessageBatch, "a batch"))


def get(channel: Channel, policy: RetryPolicy, request: Request) -> Script[MessageBatch]:
    """Read a batch."""
    return (yield from _fetch(channel, policy, request, MessageBatch, "a batch"))


def delete(
    channel: Channel, policy: RetryPolicy, request: Request, batch_id: str
) -> Script[DeletedMessageBatch]:
    """Delete a batch; gone after a try with an unknown outcome is deleted by that try."""
    unknown = False

    def attempt() -> Script[DeletedMessageBatch]:
        nonlocal unknown
        try:
            return (yield from _answer(channel, request, DeletedMessageBatch, "a deletion"))
        except _Failure as error:
            if unknown and _not_found(error):
                return DeletedMessageBatch(id=batch_id)
            unknown = unknown or _may_have_had_effect(error)
            raise

    return (yield from _retried(channel, policy, attempt))


def list_page(channel: Channel, policy: RetryPolicy, request: Request) -> Script[Page]:
    """Read one page of the list."""
    return (yield from _fetch(channel, policy, request, Page, "a page of batches"))


def list_all(
    channel: Channel,
    policy: RetryPolicy,
    *,
    page_request: Callable[[str | None], Request],
    start: str | None,
    backwards: bool,
) -> Script[None]:
    """Read page after page, each when it is asked for.

    The walk ends with ``has_more: false``, an empty page or a null cursor. A cursor that comes
    again would lead round in a circle, and is an error instead.
    """
    cursor = start
    seen = {start}
    while True:
        page = yield from list_page(channel, policy, page_request(cursor))
        yield PageReceived(page=page)
        cursor = page.first_id if backwards else page.last_id
        if not page.has_more or not page.data or not cursor:
            return
        if cursor in seen:
            raise RemoteProtocolError(
                f"the list of batches runs in a circle: its cursor {cursor!r} came a second time; "
                "what was listed is good, try the rest again later"
            )
        seen.add(cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOptions:
    """How a wait goes about it; all times in seconds."""

    poll_interval: float
    timeout: float | None
    max_outage: float
    until: Callable[[MessageBatch], bool] | None

    def settled(self, batch: MessageBatch) -> bool:
        """Whether the wait is over with this batch.

        A status that this version does not know is not waited out: nobody can say what it waits
        for, so the caller gets to see it.
        """
        if self.until is not None and self.until(batch):
            return True
        return batch.processing_status not in {"in_progress", "canceling"}


def wait_for(
    channel: Channel, policy: RetryPolicy, request: Request, batch_id: str, options: WaitOptions
) -> Script[MessageBatch]:
    """Poll a batch until it ended.

    One failed poll is no reason to end a wait of a day: what may pass is waited out for up to
    `max_outage`. The last sleep is cut to the deadline, and one last poll follows it.
    """
    last: MessageBatch | None = None
    outage_began: float | None = None
    failures = 0
    while True:
        failure: BatchesError | None = None
        try:
            batch = yield from _answer(channel, request, MessageBatch, "a batch")
        except _Failure as error:
            fresh = channel.now - channel.started < PASSING_404
            if not policy.retries(error) and not (fresh and _not_found(error)):
                raise
            failure = error
        else:
            last, outage_began, failures = batch, None, 0
            yield BatchState(batch=batch)
            if options.settled(batch):
                return batch
        now = channel.now
        deadline = None if options.timeout is None else channel.started + options.timeout
        if deadline is not None and now >= deadline:
            assert options.timeout is not None, "without a timeout there is no deadline"  # noqa: S101
            raise WaitTimeout(
                batch_id, timeout=options.timeout, batch=last, failure=failure
            ) from failure
        delay = options.poll_interval
        if failure is not None:
            failures += 1
            outage_began = now if outage_began is None else outage_began
            outage_left = outage_began + options.max_outage - now
            if outage_left <= 0:
                raise failure
            delay = policy.delay(failures, failure, channel.jitter)
            # A wait has no number of attempts, so no policy and no answer may make it a hot loop.
            delay = max(delay, min(options.poll_interval, failures * _LEAST_DELAY))
            delay = min(delay, outage_left)
            yield RetryScheduled(error=failure, retry=failures, delay=delay)
        if deadline is not None:
            delay = min(delay, deadline - now)
        yield from channel.pause(delay)


# --- results -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsOptions:
    """How results are read: the longest line in bytes, and whether a broken stream is resumed."""

    max_line: int
    resume: bool


class _Delivered:
    """What the user has got, so that a second reading of the file adds only what is new.

    Items are known again by their custom_id. An unreadable line is known again by its bytes, of
    which only the hash is kept: of equal ones in a reading, as many are new as are more than in
    any reading before.
    """

    def __init__(self) -> None:
        self._ids: set[str] = set()
        self._malformed: Counter[int] = Counter()
        self._malformed_now: Counter[int] = Counter()
        self._named_now: set[str] = set()
        self._nameless_now = 0

    @property
    def items(self) -> int:
        """How many items were delivered, each custom_id once."""
        return len(self._ids)

    @property
    def accounted_for(self) -> int:
        """How many results are delivered or, in the present reading, were seen to be unreadable."""
        return len(self._ids) + len(self._named_now - self._ids) + self._nameless_now

    def read_again(self) -> None:
        """Begin a further reading of the file."""
        self._malformed_now.clear()
        self._named_now.clear()
        self._nameless_now = 0

    def new(self, block: _Block[M]) -> _Block[M]:
        """Give those of a block that were not delivered before, and count them as delivered."""
        ids = {item.custom_id for item in block if isinstance(item, ResultItem)}
        if len(ids) == len(block) and self._ids.isdisjoint(ids):
            self._ids |= ids
            return block
        return [item for item in block if self._is_new(item)]

    def _is_new(self, item: ResultItem[M] | MalformedResult) -> bool:
        if isinstance(item, ResultItem):
            before = len(self._ids)
            self._ids.add(item.custom_id)
            return len(self._ids) > before
        if item.custom_id is None:
            self._nameless_now += 1
        else:
            self._named_now.add(item.custom_id)
        key = hash(item.raw)
        self._malformed_now[key] += 1
        if self._malformed_now[key] <= self._malformed[key]:
            return False
        self._malformed[key] += 1
        return True


def results(
    channel: Channel,
    policy: RetryPolicy,
    *,
    batch: MessageBatch | Request,
    results_request: Callable[[str], Request],
    decoder: ResultDecoder[M],
    options: ResultsOptions,
) -> Script[None]:
    """Read a batch's results: every one once, or an error that says how many are missing."""
    if isinstance(batch, Request):
        batch = yield from get(channel, policy, batch)
    if batch.results_url is None:
        raise ResultsUnavailable(batch)
    request = results_request(batch.results_url)
    expected = batch.request_counts.total
    delivered = _Delivered()
    fruitless = 0
    while True:
        had = delivered.items
        try:
            yield from _results_once(
                channel, request, JSONLines(decoder, options.max_line), delivered
            )
            received = delivered.accounted_for
            if received >= expected:
                return
            raise IncompleteResults(batch_id=batch.id, received=received, expected=expected)
        except _Failure as error:
            # A try that brought something new was worth it, however it ended.
            fruitless = 1 if delivered.items > had else fruitless + 1
            # Fresh results were reported to give 404s that pass; this batch has a results_url. So
            # one is tried again even where the service says not to, as it does of any refusal.
            again = policy.retries(error) or _not_found(error)
            if not options.resume or fruitless >= policy.attempts or not again:
                raise
            delay = policy.delay(fruitless, error, channel.jitter)
            interrupted = ResultsInterrupted(error=error, delivered=delivered.items, delay=delay)
        yield interrupted
        yield from channel.pause(delay)
        delivered.read_again()


def _results_once(
    channel: Channel, request: Request, lines: JSONLines[ResultItem[M]], delivered: _Delivered
) -> Script[None]:
    """Read the file from its start to its end, or until it breaks off."""
    yield from _head(channel, request)
    while True:
        arrival = yield from channel.receive()
        if isinstance(arrival, bytes):
            if (block := lines.feed(arrival)) and (items := delivered.new(block)):
                yield ResultsReceived(items=items)
        elif isinstance(arrival, Lost):
            raise TransportError(arrival.reason, sent=True)
        else:
            break
    block, truncated = lines.finish()
    if items := delivered.new(block):
        yield ResultsReceived(items=items)
    if truncated:
        raise TransportError("the results ended in the middle of a line", sent=True)
