"""Reading a batch's results: every one once, or an error that says how many are missing.

Knows what was delivered and when a file is read again; how its bytes become items is `jsonl`'s
and `decoding`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from batches_core.call import (
    FAILURES,
    check_success,
    not_found,
    start_exchange,
    transport_error,
)
from batches_core.context import Flow, OperationContext
from batches_core.errors import (
    IncompleteResultsError,
    InvalidInputError,
    RemoteProtocolError,
    ResultsUnavailableError,
    TransportError,
    quote,
)
from batches_core.events import Need, ResultsInterrupted, ResultsReceived
from batches_core.exchange import END_OF_BODY, Lost
from batches_core.http import Request
from batches_core.jsonl import MAX_LINE, JSONLines, LineDecoder
from batches_core.models import MessageBatch

from .batch import get
from .delivered import Delivered, Line

#: Builds the request for a ``results_url``, or for the place to which another request was led. It
#: decides on the credentials, and raises `UntrustedHostError` where nothing is to be fetched.
ResultsRequest: TypeAlias = Callable[[str, Request | None], Request]

#: How many redirects are followed, one after the other.
MAX_REDIRECTS = 5
#: How many lines beyond twice the batch's size are read before a file counts as endless, blank
#: ones included: a file may have a blank line behind each result, and some are there twice.
_SPARE = 1000
#: How many times the longest line, by its limit or by the default of that, a line can have before
#: it counts as endless. One that is only too long is passed over; this one may never end.
_ENDLESS = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsOptions:
    """How results are read.

    The longest line in bytes, whether a broken stream is resumed, the ids that were requested,
    where the user said them, and those that the user has already.
    """

    max_line: int
    resume: bool
    expected: tuple[str, ...] | None = None
    delivered: tuple[str, ...] = ()


def results(
    context: OperationContext,
    batch: MessageBatch | Request,
    results_request: ResultsRequest,
    decoder: LineDecoder[Line],
    options: ResultsOptions,
) -> Flow[None]:
    """Read a batch's results: every one once, or an error that says how many are missing."""
    if isinstance(batch, Request):
        batch = yield from get(context, batch)
    if batch.results_url is None:
        raise ResultsUnavailableError(batch)
    request = results_request(batch.results_url, None)
    total = batch.request_counts.total
    delivered = Delivered(options.delivered)
    fruitless = readings = 0
    while True:
        readings += 1
        had = delivered.items
        is_open = False
        try:
            yield from _open(context, request, results_request)
            is_open = True
            lines = JSONLines(
                decoder,
                options.max_line,
                max_lines=2 * total + _SPARE,
                longest=_ENDLESS * max(options.max_line, MAX_LINE),
            )
            yield from _read(context, request, lines, delivered, total)
            _check_reading(batch, delivered, options.expected)
            break
        except FAILURES as error:
            if delivered.items - delivered.unseen == total:
                break  # whatever broke then, nothing is missing
            # A try that brought something new was worth it, however it ended.
            fruitless = 1 if had < delivered.items <= total else fruitless + 1
            # Fresh results were reported to give 404s that pass; this batch has a results_url. So
            # one is tried again even where the service says not to, as it does of any refusal.
            again = context.policy.retries(error) or not_found(error)
            if (
                (is_open and not options.resume)
                or fruitless >= context.policy.attempts
                or not again
            ):
                error.attempts = readings
                raise
            delay = context.policy.delay(fruitless, error, context.jitter)
            # Without its traceback, which would keep the last piece of the file alive.
            error.with_traceback(None)
            interrupted = ResultsInterrupted(error=error, delivered=delivered.items, delay=delay)
        yield interrupted
        yield from context.pause(delay)
        delivered.read_again()
    # By the batch's own count it is all there, so to read it again would not help.
    if delivered.unseen:
        raise InvalidInputError(
            f"{delivered.unseen} of the custom_ids that were delivered before are none of batch "
            f"{quote(batch.id)}'s: they belong to another one"
        )
    incomplete = _incomplete(batch, delivered, options.expected)
    if incomplete.missing or incomplete.unexpected:
        raise incomplete


def _check_reading(
    batch: MessageBatch, delivered: Delivered, expected: tuple[str, ...] | None
) -> None:
    """Hold a reading that came to its end against the batch's own counts."""
    total = batch.request_counts.total
    if total and delivered.is_something_else:
        raise RemoteProtocolError(
            f"what came as the results of batch {quote(batch.id)} has no line that is one; is "
            "there a proxy that answers in the service's place?"
        )
    if delivered.accounted_for < total:
        raise _incomplete(batch, delivered, expected)


def _incomplete(
    batch: MessageBatch, delivered: Delivered, expected: tuple[str, ...] | None
) -> IncompleteResultsError:
    return IncompleteResultsError(
        batch_id=batch.id,
        received=delivered.accounted_for,
        expected=batch.request_counts.total,
        missing=() if expected is None else delivered.missing(expected),
        unexpected=() if expected is None else delivered.unexpected(expected),
    )


def _open(
    context: OperationContext, request: Request, results_request: ResultsRequest
) -> Flow[None]:
    """Ask for the file, and follow where its place has changed."""
    for _ in range(MAX_REDIRECTS + 1):
        head = yield from start_exchange(context, request)
        location = head.headers.get("location")
        if head.status not in _REDIRECTS or location is None:
            yield from check_success(context, request, head)
            return
        request = results_request(location, request)
    raise RemoteProtocolError(
        f"the results are behind more than {MAX_REDIRECTS} redirects; try again later"
    )


def _read(
    context: OperationContext,
    request: Request,
    lines: JSONLines[Line],
    delivered: Delivered,
    total: int,
) -> Flow[None]:
    """Read the file from its start to its end, or until it breaks off."""
    while True:
        # As `receive` does, but without a generator for each piece of a large file.
        while (event := context.take()) is None:
            yield Need.DATA
        if isinstance(event, Lost):
            raise transport_error(request, event) from event.cause
        assert isinstance(event, bytes), "a head is followed by a body"  # noqa: S101
        if event == END_OF_BODY:
            break
        if items := delivered.new(lines.feed(event)):
            yield ResultsReceived(items=items)
            del items  # so that their memory can be used again for the next ones
        if lines.exceeded_limit is not None:
            raise RemoteProtocolError(
                f"the results file may have no end: {lines.exceeded_limit}, for a batch of "
                f"{total:,} requests; it is not read on: check what came"
            )
    block, truncated = lines.finish()
    if items := delivered.new(block):
        yield ResultsReceived(items=items)
    if truncated:
        raise TransportError("the results ended in the middle of a line", sent=True)
