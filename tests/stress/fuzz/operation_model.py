"""A model of one operation's contract, which checks every input and every output.

The model sees the operation from outside, as its documentation describes it. Beside the operation
runs a twin that is passed only the inputs that are legal and not late. Both must return the same.
`operation_machine` chooses the inputs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

from hypothesis import note

from batches_core import (
    BatchCreated,
    BatchesError,
    BatchState,
    CreateMarked,
    Done,
    LocalProtocolError,
    MalformedResultError,
    Need,
    Operation,
    OutcomeUnknownError,
    PageReceived,
    Request,
    ResultsInterrupted,
    ResultsReceived,
    RetryScheduled,
    SendRequest,
    SettlingStarted,
    WaitUntil,
)
from batches_core.exchange import State

from .operations import KINDS, TIMEOUT, describe, make_operation

#: The state of an exchange after an input, by its state before and the input. Any other input for
#: the current exchange is illegal.
TRANSITIONS = {
    ("sent", "informational"): "sent",
    ("sent", "head"): "body",
    ("sent", "lost"): "lost",
    ("body", "data"): "body",
    ("body", "eof"): "complete",
    ("body", "lost"): "lost",
    ("complete", "lost"): "complete",
    ("lost", "lost"): "lost",
}
EVENTS = (
    *(BatchCreated, BatchState, CreateMarked, PageReceived, ResultsInterrupted),
    *(ResultsReceived, RetryScheduled, SettlingStarted),
)

#: Passes one input for the exchange with this number.
Input: TypeAlias = Callable[[Operation[Any], int], None]


class ModelExchange:
    """What is known about one exchange: its request, its state, and what was received."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.state = "sent"
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        #: Whether the last byte of the request may have left the client.
        self.was_sent = True
        self.body = bytearray()

    @property
    def certainly_had_no_effect(self) -> bool:
        if self.status is None:
            return not self.was_sent
        return self.status in {429, 529} or self.headers.get("x-should-retry") == "true"

    def count_line(self, line: bytes) -> int:
        """Count how often a line is in the received body."""
        lines = bytes(self.body).removeprefix(b"\xef\xbb\xbf").split(b"\n")
        return sum(each.removesuffix(b"\r") == line or each == line for each in lines)


def _flow_position(operation: Operation[Any]) -> list[int]:
    """Return where the operation's flow, and each flow that it runs, is suspended."""
    position = []
    flow: Any = operation._flow
    while flow is not None and flow.gi_frame is not None:
        position.append(flow.gi_frame.f_lasti)
        flow = flow.gi_yieldfrom
    return position


def _exchange_content(operation: Operation[Any]) -> object:
    """Return what inputs leave behind in an operation, except the time."""
    exchange = operation._context._exchange
    return exchange and (exchange.number, exchange.state, list(exchange.inbox))


class OperationModel:
    """An operation, its twin, and everything that follows from their inputs and outputs."""

    def __init__(self, kind: str, *, attempts: int, jitter: float) -> None:
        self._kind = kind
        self._operation = make_operation(kind, attempts=attempts, jitter=lambda: jitter)
        self._twin = make_operation(kind, attempts=attempts, jitter=lambda: jitter)
        self.exchanges: list[ModelExchange] = []
        self.now = -math.inf
        #: The deadline of the latest wait.
        self.wait_deadline = 0.0
        #: The directive that has to be repeated until there is an input, or None.
        self.waits_for: object = None
        #: The `Done` or the error that has to be repeated for ever, or None.
        self.end: object = None
        self._started = -math.inf
        self._delivered = {"a"} if kind == "raw results, continued" else set[str]()
        self._malformed: Counter[bytes] = Counter()
        self._pages: set[str] = set()
        self._is_created = False
        self._may_create = True

    # --- inputs --------------------------------------------------------------------------

    def handle_timeout(self, now: float) -> None:
        """Pass the time, which may be NaN, and check that nothing else changes."""
        before = _flow_position(self._operation), _exchange_content(self._operation)
        try:
            self._operation.handle_timeout(now)
        except LocalProtocolError:
            assert math.isnan(now)
        else:
            self._twin.handle_timeout(now)
            self._advance_to(now)
        assert (_flow_position(self._operation), _exchange_content(self._operation)) == before

    def pass_input(self, number: int, now: float, kind: str, input_: Input) -> bool:
        """Pass an input for an exchange, legal or not; return whether the operation uses it.

        `kind` is "informational", "head", "data", "eof" or "lost". Any other kind is never legal.
        """
        newest = len(self.exchanges)
        exchange = self.exchanges[-1] if 0 < number == newest else None
        is_known = newest > 0 and number <= newest
        has_time = is_known and not math.isnan(now)
        is_late = number < newest or (exchange is not None and exchange.state == "abandoned")
        is_legal = has_time and kind != "nonsense"
        is_used = False
        if is_legal and exchange is not None and not is_late:
            is_used = is_legal = (exchange.state, kind) in TRANSITIONS
        # Input for an older exchange is dropped without being checked.
        is_legal = is_legal or (has_time and number < newest)
        position, content = _flow_position(self._operation), _exchange_content(self._operation)
        refused: LocalProtocolError | None = None
        try:
            input_(self._operation, number)
        except LocalProtocolError as error:
            refused = error
        assert (refused is None) == is_legal, (
            f"{kind} for {number}: {refused and describe(refused)}"
        )
        assert _flow_position(self._operation) == position, "an input resumed the flow"
        if is_used and exchange is not None:
            self.waits_for = None
            exchange.state = TRANSITIONS[exchange.state, kind]
            input_(self._twin, number)
        else:
            assert _exchange_content(self._operation) == content, "a dropped input changed it"
            if has_time:
                self._twin.handle_timeout(now)
        if has_time:
            self._advance_to(now)
        return is_used

    def _advance_to(self, now: float) -> None:
        if self.now == -math.inf:
            self._started = now
        self.now = max(self.now, now)
        if isinstance(self.waits_for, WaitUntil) and self.now >= self.waits_for.deadline:
            self.waits_for = None
        deadline = self._operation.deadline
        if self.waits_for is Need.DATA and deadline is not None and self.now >= deadline:
            self.waits_for = None

    # --- outputs -------------------------------------------------------------------------

    def pull(self, times: int) -> None:
        """Ask for the next event, and check it, this many times."""
        for _ in range(times):
            self._pull_once()

    def pull_until_it_waits(self) -> None:
        """Ask for events until the operation needs an input or has ended."""
        for _ in range(50):
            self._pull_once()
            if self.end is not None or self.waits_for is not None:
                return
        raise AssertionError("the operation does not come to rest")

    def _pull_once(self) -> None:
        output, twins = _next_output(self._operation), _next_output(self._twin)
        note(f"→ {output!r}")
        assert describe(output) == describe(twins), "an illegal or late input made a difference"
        if self.end is not None:
            assert output is self.end, "the end is not repeated"
            return
        if self.waits_for is not None:
            assert output == self.waits_for, "the operation continued without an input"
        self._check_output(output)
        exchange = self._operation._context._exchange
        if self.exchanges and exchange is not None:
            newest = self.exchanges[-1]
            if exchange.state is State.ABANDONED:
                newest.state = "abandoned"
            assert newest.state != "abandoned" or not exchange.inbox
        if isinstance(output, (WaitUntil, Done, BatchesError)) and self.exchanges:
            assert self.exchanges[-1].state == "abandoned"

    def _check_output(self, output: object) -> None:
        self.waits_for = None
        match output:
            case LocalProtocolError():
                raise AssertionError("the operation blames its driver for its own act") from output
            case BatchesError():
                self.end = output
            case Done(value=value):
                self.end = output
                assert isinstance(value, KINDS[self._kind][1])
            case SendRequest(exchange=number, request=request):
                self._check_request(number, request)
            case Need.DATA:
                self._check_need_data()
                self.waits_for = output
            case WaitUntil(deadline=deadline):
                assert deadline > self.now
                assert self._operation.deadline is None
                if self._kind == "wait_for, with a timeout":
                    assert deadline <= self._started + TIMEOUT
                self.wait_deadline = deadline
                self.waits_for = output
            case _:
                assert isinstance(output, EVENTS), output
                self._check_event(output)

    def _check_request(self, number: int, request: Request) -> None:
        assert number == len(self.exchanges) + 1
        is_create = request.method == "POST" and request.body is not None
        if is_create:
            assert self._may_create, "a create was retried that may have had an effect"
            self._may_create = False
        elif self._kind.startswith("list_all"):
            assert request.target not in self._pages, "a page was read twice"
        self.exchanges.append(ModelExchange(request))

    def _check_need_data(self) -> None:
        # In any other state no input could follow.
        assert self.exchanges[-1].state in {"sent", "body"}
        exchange = self._operation._context._exchange
        assert exchange is None or not exchange.inbox
        deadline = self._operation.deadline
        assert deadline is None or self.now < deadline

    def _check_event(self, event: object) -> None:
        newest = self.exchanges[-1] if self.exchanges else None
        match event:
            case RetryScheduled(error=error, delay=delay):
                assert 0 <= delay < math.inf
                assert newest is not None
                if self._kind.startswith("create, ") and isinstance(error, OutcomeUnknownError):
                    self._may_create = True
                elif self._kind.startswith("create") and newest.request.body is not None:
                    self._may_create = newest.certainly_had_no_effect
            case PageReceived():
                assert newest is not None
                self._pages.add(newest.request.target)
            case BatchCreated():
                assert not self._is_created, "a batch was created twice"
                self._is_created = True
            case ResultsReceived(items=items):
                assert items
                for item in items:
                    self._check_item(item)
            case ResultsInterrupted(delivered=delivered, delay=delay):
                assert delivered == len(self._delivered)
                assert 0 <= delay < math.inf

    def _check_item(self, item: Any) -> None:
        if isinstance(item, MalformedResultError):
            # A malformed line is delivered as often as it was in one reading, at most.
            self._malformed[item.raw] += 1
            most = max(exchange.count_line(item.raw) for exchange in self.exchanges)
            assert self._malformed[item.raw] <= most
        else:
            assert item.custom_id not in self._delivered, "a result was delivered twice"
            self._delivered.add(item.custom_id)


def _next_output(operation: Operation[Any]) -> object:
    try:
        return operation.next_event()
    except BatchesError as error:
        return error
