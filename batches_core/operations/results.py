"""Reading a batch's results: each one once, or an error that says how many are missing.

`read_results` decides when the file is read again, and whether it is complete. `delivered` records
what was delivered; `jsonl` and `decoding` turn the bytes into items.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from batches_core.call import (
    FAILURES,
    build_transport_error,
    check_success,
    is_not_found,
    start_exchange,
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

#: Builds the request for a ``results_url``, or for the location to which another request was
#: redirected. It decides whether the credential is sent, and raises `UntrustedHostError` for a host
#: that may not be read.
ResultsRequest: TypeAlias = Callable[[str, Request | None], Request]

#: How many redirects in a row are followed.
MAX_REDIRECTS = 5
#: A file of more lines than two for each request of the batch, and this many more, counts as
#: endless. A file may have a blank line after each result, and contain some results twice.
_SPARE_LINES = 1000
#: A line that is this many times as long as `max_line` counts as endless, and reading stops. If
#: `max_line` is below its default, the default is multiplied. A line that is only longer than
#: `max_line` is skipped, because its end can still be expected.
_ENDLESS_LINE_FACTOR = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsOptions:
    """How results are read.

    - `max_line`: the longest line in bytes;
    - `resume`: whether results that broke off are read again;
    - `expected`: the custom_ids that were requested, or None if the caller did not pass them;
    - `delivered`: the custom_ids that an earlier operation delivered.
    """

    max_line: int
    resume: bool
    expected: tuple[str, ...] | None = None
    delivered: tuple[str, ...] = ()


def read_results(
    context: OperationContext,
    batch: MessageBatch | Request,
    results_request: ResultsRequest,
    decoder: LineDecoder[Line],
    options: ResultsOptions,
) -> Flow[None]:
    """Read a batch's results, each once.

    `batch` may be the request that reads the batch. `results_request` decides where results may be
    read; `decoder` decodes their lines.

    Raises:
        ResultsUnavailableError: the batch has no `results_url`.
        UntrustedHostError: the results are at a host that may not be read.
        IncompleteResultsError: results are missing, or are not the expected ones.
        InvalidInputError: a delivered custom_id is not of this batch.
    """
    if isinstance(batch, Request):
        batch = yield from get(context, batch)
    if batch.results_url is None:
        raise ResultsUnavailableError(batch)
    request = results_request(batch.results_url, None)
    total = batch.request_counts.total
    delivered = Delivered(options.delivered)
    # `readings` counts all readings. `attempts` begins anew with each reading that adds results.
    attempts = readings = 0
    while True:
        readings += 1
        count_before = delivered.count
        is_open = False
        try:
            yield from _open(context, request, results_request)
            is_open = True
            lines = JSONLines(
                decoder,
                options.max_line,
                max_lines=2 * total + _SPARE_LINES,
                longest=_ENDLESS_LINE_FACTOR * max(options.max_line, MAX_LINE),
            )
            yield from _read(context, request, lines, delivered, total)
            _check_reading(batch, delivered, options.expected)
            break
        except FAILURES as error:
            if delivered.count - delivered.unconfirmed == total:
                break  # nothing is missing, so the failure does not matter
            attempts = 1 if count_before < delivered.count <= total else attempts + 1
            # Users reported temporary 404s for the results of batches that had just ended, and this
            # batch has a results_url. A 404 is therefore retried even if the service advises
            # against it, which it does with every refusal.
            may_retry = context.policy.retries(error) or is_not_found(error)
            if (
                (is_open and not options.resume)
                or attempts >= context.policy.attempts
                or not may_retry
            ):
                error.attempts = readings
                raise
            delay = context.policy.delay(attempts, error, context.jitter)
            # Its traceback would keep the last piece of the file alive during the pause.
            error.with_traceback(None)
            interrupted = ResultsInterrupted(error=error, delivered=delivered.count, delay=delay)
        yield interrupted
        yield from context.pause(delay)
        delivered.begin_reading()
    # By the batch's own count nothing is missing, so reading the file again would not help.
    if delivered.unconfirmed:
        raise InvalidInputError(
            f"{delivered.unconfirmed} of the custom_ids that were delivered before are not in "
            f"batch {quote(batch.id)}: they belong to another batch, so check the batch id"
        )
    incomplete = _build_incomplete_error(batch, delivered, options.expected)
    if incomplete.missing or incomplete.unexpected:
        raise incomplete


def _check_reading(
    batch: MessageBatch, delivered: Delivered, expected: tuple[str, ...] | None
) -> None:
    """Check a complete reading against the batch's own counts.

    Raises:
        RemoteProtocolError: the file has lines, but no line of results.
        IncompleteResultsError: results are missing.
    """
    total = batch.request_counts.total
    if total and delivered.is_not_a_results_file:
        raise RemoteProtocolError(
            f"the file that was read for batch {quote(batch.id)} holds no results; check whether a "
            "proxy responds in the service's place"
        )
    if delivered.accounted_for < total:
        raise _build_incomplete_error(batch, delivered, expected)


def _build_incomplete_error(
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
    """Request the file and follow redirects, until the body of a success begins.

    Raises:
        TransportError: the connection was lost.
        APIStatusError: the status is an error.
        UntrustedHostError: a redirect leads to a host that may not be read.
        RemoteProtocolError: there are too many redirects.
    """
    for _ in range(MAX_REDIRECTS + 1):
        head = yield from start_exchange(context, request)
        location = head.headers.get("location")
        if head.status not in _REDIRECTS or location is None:
            yield from check_success(context, request, head)
            return
        request = results_request(location, request)
    raise RemoteProtocolError(
        f"the results are behind more than {MAX_REDIRECTS} redirects: try again later"
    )


def _read(
    context: OperationContext,
    request: Request,
    lines: JSONLines[Line],
    delivered: Delivered,
    total: int,
) -> Flow[None]:
    """Read the file to its end, and yield its new items.

    Raises:
        TransportError: the file broke off.
        RemoteProtocolError: the file has too many lines, or one without an end.
    """
    while True:
        # The same as `receive_body`, without a generator for each piece of a large file.
        while (event := context.pop_event()) is None:
            yield Need.DATA
        if isinstance(event, Lost):
            raise build_transport_error(request, event) from event.cause
        assert isinstance(event, bytes)  # noqa: S101 - only the body or a loss follows a head
        if event == END_OF_BODY:
            break
        if items := delivered.add(lines.feed(event)):
            yield ResultsReceived(items=items)
            del items  # frees their memory before the next ones are decoded
        if lines.exceeded_limit is not None:
            raise RemoteProtocolError(
                f"the results file may have no end: {lines.exceeded_limit}, for a batch of "
                f"{total:,} requests; reading stopped: check the items so far"
            )
    block, truncated = lines.finish()
    if items := delivered.add(block):
        yield ResultsReceived(items=items)
    if truncated:
        raise TransportError("the results ended in the middle of a line", sent=True)
