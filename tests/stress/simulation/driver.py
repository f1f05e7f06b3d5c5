"""The simulated driver: drives one operation over the network, in every way that is allowed.

It wakes late, calls `handle_timeout` too early, and passes late input, as real drivers may. It also
checks what an observer can see at any time: where credentials are sent, and what is kept in memory.
"""

from __future__ import annotations

import traceback
import weakref
from itertools import chain
from typing import Any

import msgspec

from batches_core import (
    BatchesError,
    CreateOperation,
    Directive,
    Done,
    ErroredResult,
    Event,
    LocalProtocolError,
    MalformedResultError,
    Need,
    Operation,
    Request,
    ResultItem,
    ResultsReceived,
    SendRequest,
    SucceededResult,
    WaitUntil,
)
from batches_core.exchange import END_OF_BODY, Head, Lost, ResponseEvent

from .delivery import Timeline, headers_in_form
from .network import Network
from .record import ItemSummary, OperationRecord
from .service import ORIGIN
from .world import Task, World

#: An operation with more exchanges than this counts as endless.
_MAX_EXCHANGES = 2000
#: The failure of an exchange that the operation abandoned at its deadline.
ABANDONED_AT_DEADLINE = "abandoned at its deadline"
#: The share of drivers that end exchanges at the operation's deadline. The others rely on the read
#: timeout.
_SHARE_KEEPING_DEADLINES = 0.6
#: How often a driver does something that is allowed and unnecessary.
_UNNECESSARY = 0.04


class TextPart(msgspec.Struct, frozen=True):
    text: str = ""


class TrackedMessage(msgspec.Struct, frozen=True, weakref=True):
    """A message type whose objects can be weakly referenced, to see when they are released."""

    id: str
    content: list[TextPart]


class Driver:
    """Drives one operation; its clock is `skew` seconds ahead of the world's."""

    def __init__(
        self,
        world: World,
        network: Network,
        operation: Operation[Any],
        record: OperationRecord,
        skew: float,
    ) -> None:
        self._world = world
        self._rng = world.rng
        self._network = network
        self._operation = operation
        self._record = record
        self._skew = skew
        self._timeline: Timeline = iter(())
        self._exchange = 0
        self._directives = self._events_and_directives = 0
        record.keeps_deadlines = world.rng.random() < _SHARE_KEEPING_DEADLINES
        #: The deadline of the current exchange, as last read; None when the exchange is over.
        self._deadline: float | None = None
        #: Whether the operation has not asked for data of the current exchange yet.
        self._is_unread = False
        self._live_messages: list[weakref.ref[Any]] = []
        #: The size of the last block of results, and of the last block before the latest
        #: interruption: the error of the interruption keeps that block alive.
        self._last_block = self._interrupted_block = 0

    @property
    def _clock(self) -> float:
        return self._world.now + self._skew

    def run(self) -> Task:
        """Drive the operation to its end, or until the client dies or is interrupted."""
        record, world = self._record, self._world
        if world.trace is not None:
            world.note(f"{record.name} {record.label}: begins")
        try:
            yield from self._drive()
        except LocalProtocolError as error:
            record.report_violation(f"the operation says that its driver is wrong ({error})")
        except BatchesError as error:
            self._count_abandoned_exchange()
            record.error = error
            record.ended = True
            self._check_error_repeats(error)
        except Exception as error:  # noqa: BLE001 - any other exception is a violation
            record.report_violation(
                f"it raised an exception that is not a BatchesError ({error!r})"
            )
            world.note(traceback.format_exc())
            record.ended = True
        record.finish()

    def _next_event(self) -> Event | Directive | Done[Any]:
        event = self._operation.next_event()
        if event is not Need.DATA:
            self._count_abandoned_exchange()
        return event

    def _drive(self) -> Task:
        operation, record = self._operation, self._record
        if self._rng.random() < 0.7:
            operation.handle_timeout(self._clock)
            record.start_clock()
        while True:
            event = self._next_event()
            if isinstance(event, Done):
                record.value = event.value
                record.ended = True
                if operation.next_event() != event:
                    record.report_violation("the second call at the end returns another value")
                return
            if isinstance(event, ResultsReceived):
                self._record_results(event)
                del event
                continue
            if event is not Need.DATA and not isinstance(event, SendRequest | WaitUntil):
                record.add_event(event)
                if self._interrupt_if_due():
                    return
                continue
            if self._die_if_due() or self._interrupt_if_due():
                return
            yield from self._carry_out(event)
            if record.exchanges > _MAX_EXCHANGES:
                record.report_violation("endless")
                return

    def _carry_out(self, directive: Directive) -> Task:
        if isinstance(directive, SendRequest):
            self._send(directive)
        elif isinstance(directive, WaitUntil):
            yield from self._wait(directive.deadline)
        else:
            yield from self._receive()

    def _die_if_due(self) -> bool:
        """Whether the process dies now, as its record says."""
        self._directives += 1
        record = self._record
        if record.dies_after is None or self._directives <= record.dies_after:
            return False
        self._world.count_hazard("client died")
        self._world.spawn(self._run_out(self._timeline))
        return True

    def _interrupt_if_due(self) -> bool:
        """Whether a Ctrl-C, or an exception in the caller's code, ends the operation now."""
        record = self._record
        self._events_and_directives += 1
        limit = record.interrupts_after
        if limit is None or self._events_and_directives <= limit:
            return False
        assert isinstance(self._operation, CreateOperation)
        self._world.count_hazard("client interrupted")
        self._world.spawn(self._run_out(self._timeline))
        record.interruption = KeyboardInterrupt()
        self._operation.interrupt(record.interruption, self._clock)
        return True

    def _run_out(self, timeline: Timeline) -> Task:
        """Let the rest of an exchange happen: bytes that have left the client still arrive."""
        for seconds, _ in timeline:
            yield self._world.now + seconds

    def _count_abandoned_exchange(self) -> None:
        """Count an exchange that the operation abandoned at its deadline as a failure."""
        if self._is_unread:
            self._record.report_violation("it abandoned an exchange that it had just begun")
        deadline, self._deadline = self._deadline, None
        if deadline is not None and self._clock >= deadline:
            self._record.count_failure(ABANDONED_AT_DEADLINE)
            self._record.finish_exchange()

    # --- SendRequest -------------------------------------------------------------------------

    def _send(self, send: SendRequest) -> None:
        record, world, request = self._record, self._world, send.request
        if send.exchange != self._exchange + 1:
            record.report_violation("the numbers of exchanges do not increase by one")
        self._exchange = send.exchange
        self._is_unread = True
        if self._last_block:
            self._interrupted_block, self._last_block = self._last_block, 0
        record.begin_exchange()
        if world.trace is not None:
            world.note(f"  {record.name} {record.label}: #{send.exchange} {request!r}")
        has_credential = any(world.credential in value for _, value in request.headers)
        record.credential = world.credential if has_credential else "nobody"
        self._check_recipient(request, has_credential=has_credential)
        self._timeline = self._network.carry(request, record)
        if self._exchange > 1 and self._rng.random() < _UNNECESSARY:
            self._pass_late_input(self._rng.randint(1, self._exchange - 1))

    def _check_recipient(self, request: Request, *, has_credential: bool) -> None:
        """Check that only the API gets the credential, and that other hosts are trusted."""
        record, world, url = self._record, self._world, request.url
        is_api = url.startswith(ORIGIN + "/")
        if self._exchange == 1 or not is_api:
            record.check_credential_hidden(request)
        if is_api:
            if not has_credential:
                record.report_violation("a request to the API has no credential")
        elif has_credential or world.credential in url or request.body is not None:
            record.report_violation(f"the credential or a body was sent to {request.authority}")
        elif not url.startswith(tuple(f"{origin}/" for origin in self._network.trusted)):
            record.report_violation(f"a request to {request.authority}, which is not trusted")

    def _pass_late_input(self, exchange: int) -> None:
        """Pass input for an exchange that was abandoned."""
        self._world.count_hazard("late input")
        operation, clock, rng = self._operation, self._clock, self._rng
        if rng.random() < 0.3:
            operation.receive_head(exchange, rng.choice((200, 404, 500)), (), clock)
        if rng.random() < 0.5:
            line = b'{"custom_id":"late","result":{"type":"canceled"}}\n'
            operation.receive_data(exchange, line, clock)
        if rng.random() < 0.5:
            operation.receive_eof(exchange, clock)
        if rng.random() < 0.5:
            operation.connection_lost(exchange, "late", clock, sent=rng.random() < 0.5)

    # --- Need.DATA ---------------------------------------------------------------------------

    def _receive(self) -> Task:
        """Pass the next event of the timeline, or end the exchange at its deadline."""
        record, world = self._record, self._world
        self._check_memory()
        self._is_unread = False
        self._deadline = self._operation.deadline
        for seconds, event in self._timeline:
            if record.keeps_deadlines and (left := self._time_to_deadline()) <= seconds:
                yield from self._wait_until_deadline(left, seconds)
                return
            if seconds:
                is_timed = record.is_timed and not record.undisturbed
                if is_timed and self._rng.random() < _UNNECESSARY:
                    self._operation.handle_timeout(self._clock - self._rng.random() * 5)
                yield world.now + seconds
                record.add_exchange_time(seconds)
            if event is not None:
                self._pass_event(event)
                return
        record.report_violation("it needs data of an exchange that is over")
        raise BatchesError("the simulation stopped here")

    def _time_to_deadline(self) -> float:
        return float("inf") if self._deadline is None else max(0.0, self._deadline - self._clock)

    def _wait_until_deadline(self, left: float, seconds: float) -> Task:
        """Wait `left` seconds for an event that comes after `seconds`; let the exchange run out."""
        assert self._deadline is not None
        world = self._world
        yield world.now + left
        self._record.add_exchange_time(left)
        world.spawn(self._run_out(chain([(seconds - left, None)], self._timeline)))
        self._timeline = iter(())
        # By a rounding error, the clock may not have reached the deadline.
        self._operation.handle_timeout(max(self._deadline, self._clock))
        self._deadline = min(self._deadline, self._clock)

    def _pass_event(self, event: ResponseEvent) -> None:
        operation, clock, number = self._operation, self._clock, self._exchange
        if not self._record.is_timed:
            self._record.start_clock()
        match event:
            case b"":
                operation.receive_eof(number, clock)
                # A transport may report the loss of the connection after a complete response.
                for _, late in self._timeline:
                    if isinstance(late, Lost):
                        operation.connection_lost(number, late.reason, clock, sent=late.sent)
            case bytes():
                operation.receive_data(number, event, clock)
            case Head(status=status, headers=headers):
                form = self._rng.randint(0, 2)
                operation.receive_head(number, status, headers_in_form(headers, form), clock)
            case Lost(reason=reason, sent=sent):
                operation.connection_lost(number, reason, clock, sent=sent)
                if self._rng.random() < _UNNECESSARY:
                    operation.connection_lost(number, "lost again", clock, sent=not sent)
        if event == END_OF_BODY or isinstance(event, Lost):
            self._deadline = None
            self._record.finish_exchange()

    # --- WaitUntil ---------------------------------------------------------------------------

    def _wait(self, deadline: float) -> Task:
        record, world, rng = self._record, self._world, self._rng
        self._timeline = iter(())
        begun = world.now
        until = deadline - self._skew
        late = 0.0
        if not record.undisturbed:
            chance = rng.random()
            if chance < _UNNECESSARY and until > begun:
                # A wake-up before the deadline must give the same wait again.
                self._operation.handle_timeout(self._clock)
                yield begun + (until - begun) * rng.random()
                self._operation.handle_timeout(self._clock)
                again = self._operation.next_event()
                if again != WaitUntil(deadline=deadline):
                    record.report_violation("a wait ended before its deadline")
            elif chance > 0.99:
                late = rng.choice((0.1, 2.0, 40.0, 4000.0))
                world.count_hazard("woken late")
        if self._exchange and rng.random() < _UNNECESSARY:
            self._pass_late_input(self._exchange)
        yield max(until, begun) + late
        self._operation.handle_timeout(max(deadline + late, self._clock))
        record.waited += world.now - begun
        record.late += late

    # --- what an observer sees ---------------------------------------------------------------

    def _record_results(self, event: ResultsReceived) -> None:
        """Record summaries of the items, and weak references to their messages."""
        for item in event.items:
            if isinstance(item, MalformedResultError):
                if self._world.credential in str(item):
                    self._record.report_violation("the text of a malformed line has the credential")
            elif isinstance(message := getattr(item.result, "message", None), TrackedMessage):
                self._live_messages.append(weakref.ref(message))
        self._last_block = len(event.items)
        self._record.delivered += [_summarize(item) for item in event.items]

    def _check_memory(self) -> None:
        """Check that the operation keeps only the last block, and has processed all its input."""
        exchange = self._operation._context._exchange
        if exchange is not None and exchange.inbox:
            self._record.report_violation("it asks for data before it processed all input")
        if self._live_messages:
            self._live_messages = [ref for ref in self._live_messages if ref() is not None]
            count = len(self._live_messages)
            if count > self._last_block + self._interrupted_block:
                self._record.report_violation(f"it keeps {count} delivered items in memory")

    def _check_error_repeats(self, error: BatchesError) -> None:
        try:
            self._operation.next_event()
        except BatchesError as again:
            if again is not error:
                self._record.report_violation("the second call at the end raises another error")
        else:
            self._record.report_violation("the operation continues after its error")


def _summarize(item: ResultItem[Any] | MalformedResultError) -> ItemSummary:
    if isinstance(item, MalformedResultError):
        return ItemSummary("malformed", item.custom_id, "")
    match item.result:
        case SucceededResult(message=message):
            if isinstance(message, msgspec.Raw):
                message = msgspec.json.decode(message, type=TrackedMessage)
            text = f"{message.id} {message.content[0].text}"
            return ItemSummary("succeeded", item.custom_id, text)
        case ErroredResult(error=error):
            return ItemSummary("errored", item.custom_id, error.message)
        case other:
            return ItemSummary(other.type, item.custom_id, "")
