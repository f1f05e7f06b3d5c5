"""Reading a batch's results: every one once, or an error that says how many are missing.

Knows what was delivered and when a file is read again; how its bytes become items is `jsonl`'s
and `decoding`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

from .calls import FAILURES, check_success, not_found, opened
from .errors import (
    IncompleteResults,
    InvalidRequest,
    MalformedResult,
    RemoteProtocolError,
    ResultsUnavailable,
    TransportError,
    quote,
)
from .events import Need, ResultsInterrupted, ResultsReceived
from .exchange import Lost
from .http import Request, struck
from .jsonl import MAX_LINE, JSONLines, LineDecoder
from .models import MessageBatch, RawResult, ResultItem
from .operation import Channel, Script
from .operations import get
from .retry import RetryPolicy

#: A line as a user gets it: decoded, or as it came.
Line = TypeVar("Line", ResultItem[Any], RawResult)
_Block: TypeAlias = list[Line | MalformedResult]

#: Builds the request for a ``results_url``, or for the place to which another request was led. It
#: decides on the credentials, and raises `UntrustedHost` where nothing is to be fetched.
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

_ID = attrgetter("custom_id")


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


class _Delivered:
    """What the user has got, so that a second reading of the file adds only what is new.

    Items are known again by their custom_id. An unreadable line is known again by its bytes, of
    which only the hash is kept: of equal ones in a reading, as many are new as are more than in
    any reading before.
    """

    def __init__(self, before: Iterable[str]) -> None:
        self._lines_now = 0
        self._ids = set(before)
        #: What the user had from before, and no reading has shown yet.
        self._unseen = set(self._ids)
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
        unread = len(self._named_now - self._ids) + self._nameless_now
        return len(self._ids) - len(self._unseen) + unread

    @property
    def is_something_else(self) -> bool:
        """Whether lines came, and none of them was a result or named one."""
        return self._lines_now > 0 and not self._ids and not self._named_now

    @property
    def unseen(self) -> int:
        """How many the user had from before that no reading has shown."""
        return len(self._unseen)

    def missing(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Give those ids of which nothing came that names them."""
        return tuple(i for i in expected if i not in self._ids and i not in self._named_now)

    def unexpected(self, expected: tuple[str, ...]) -> tuple[str, ...]:
        """Give the ids that came and are not among these."""
        return tuple(sorted((self._ids | self._named_now).difference(expected)))

    def read_again(self) -> None:
        """Begin a further reading of the file."""
        self._lines_now = 0
        self._malformed_now.clear()
        self._named_now.clear()
        self._nameless_now = 0

    def new(self, block: _Block[Line]) -> _Block[Line]:
        """Give those of a block that were not delivered before, and count them as delivered."""
        if not block:
            return block
        self._lines_now += len(block)
        items = block
        if MalformedResult in map(type, block):
            items = [item for item in block if not isinstance(item, MalformedResult)]
        named = set(map(_ID, items))
        self._unseen -= named
        if len(named) == len(block) and self._ids.isdisjoint(named):
            # Nearly every block. In a large file its look-ups take longer than all else here.
            self._ids |= named
            return block
        new = named - self._ids
        self._ids |= named
        return [item for item in block if self._is_new(item, new)]

    def _is_new(self, item: Line | MalformedResult, new: set[str]) -> bool:
        if not isinstance(item, MalformedResult):
            was_new = item.custom_id in new
            new.discard(item.custom_id)
            return was_new
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
    results_request: ResultsRequest,
    decoder: LineDecoder[Line],
    options: ResultsOptions,
) -> Script[None]:
    """Read a batch's results: every one once, or an error that says how many are missing."""
    if isinstance(batch, Request):
        batch = yield from get(channel, policy, batch)
    if batch.results_url is None:
        raise ResultsUnavailable(batch)
    request = results_request(batch.results_url, None)
    total = batch.request_counts.total
    delivered = _Delivered(options.delivered)
    fruitless = readings = 0
    while True:
        readings += 1
        had = delivered.items
        is_open = False
        try:
            yield from _open(channel, request, results_request)
            is_open = True
            lines = JSONLines(
                decoder,
                options.max_line,
                max_lines=2 * total + _SPARE,
                longest=_ENDLESS * max(options.max_line, MAX_LINE),
            )
            yield from _read(channel, request, lines, delivered, total)
            _check_reading(batch, delivered, options.expected)
            break
        except FAILURES as error:
            if delivered.items - delivered.unseen == total:
                break  # whatever broke then, nothing is missing
            # A try that brought something new was worth it, however it ended.
            fruitless = 1 if had < delivered.items <= total else fruitless + 1
            # Fresh results were reported to give 404s that pass; this batch has a results_url. So
            # one is tried again even where the service says not to, as it does of any refusal.
            again = policy.retries(error) or not_found(error)
            if (is_open and not options.resume) or fruitless >= policy.attempts or not again:
                error.attempts = readings
                raise
            delay = policy.delay(fruitless, error, channel.jitter)
            # Without its traceback, which would keep the last piece of the file alive.
            error.with_traceback(None)
            interrupted = ResultsInterrupted(error=error, delivered=delivered.items, delay=delay)
        yield interrupted
        yield from channel.pause(delay)
        delivered.read_again()
    # By the batch's own count it is all there, so to read it again would not help.
    if delivered.unseen:
        raise InvalidRequest(
            f"{delivered.unseen} of the custom_ids that were delivered before are none of batch "
            f"{quote(batch.id)}'s: they belong to another one"
        )
    incomplete = _incomplete(batch, delivered, options.expected)
    if incomplete.missing or incomplete.unexpected:
        raise incomplete


def _check_reading(
    batch: MessageBatch, delivered: _Delivered, expected: tuple[str, ...] | None
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
    batch: MessageBatch, delivered: _Delivered, expected: tuple[str, ...] | None
) -> IncompleteResults:
    return IncompleteResults(
        batch_id=batch.id,
        received=delivered.accounted_for,
        expected=batch.request_counts.total,
        missing=() if expected is None else delivered.missing(expected),
        unexpected=() if expected is None else delivered.unexpected(expected),
    )


def _open(channel: Channel, request: Request, results_request: ResultsRequest) -> Script[None]:
    """Ask for the file, and follow where its place has changed."""
    for _ in range(MAX_REDIRECTS + 1):
        head = yield from opened(channel, request)
        location = head.headers.get("location")
        if head.status not in _REDIRECTS or location is None:
            yield from check_success(channel, request, head)
            return
        request = results_request(location, request)
    raise RemoteProtocolError(
        f"the results are behind more than {MAX_REDIRECTS} redirects; try again later"
    )


def _read(
    channel: Channel, request: Request, lines: JSONLines[Line], delivered: _Delivered, total: int
) -> Script[None]:
    """Read the file from its start to its end, or until it breaks off."""
    while True:
        # As `receive` does, but without a generator for each piece of a large file.
        while (arrival := channel.take()) is None:
            yield Need.DATA
        if isinstance(arrival, bytes):
            if items := delivered.new(lines.feed(arrival)):
                yield ResultsReceived(items=items)
                del items  # so that their memory can be used again for the next ones
            if lines.fault is not None:
                raise RemoteProtocolError(
                    f"the results file may have no end: {lines.fault}, for a batch of {total:,} "
                    "requests; it is not read on: check what came"
                )
        elif isinstance(arrival, Lost):
            raise TransportError(struck(request, arrival.reason), sent=True)
        else:
            break
    block, truncated = lines.finish()
    if items := delivered.new(block):
        yield ResultsReceived(items=items)
    if truncated:
        raise TransportError("the results ended in the middle of a line", sent=True)
