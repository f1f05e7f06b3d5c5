"""Drives one operation over the network, as early, late and clumsy as a driver may be.

Knows the contract of an operation from the driver's side, and what may be seen of an operation
from outside at any moment: where its credentials go, and what it holds.
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

from .calls import Call, Told
from .network import Network, Steps, as_sent
from .world import ORIGIN, Task, World

#: Exchanges after which an operation counts as one that never ends.
_MOST_EXCHANGES = 2000
#: The failure of an exchange that was not wanted any more.
GIVEN_UP = "given up at its deadline"
#: How often a driver keeps the deadlines of an operation; otherwise it has only its timeouts.
_PROMPT = 0.6
#: How often a driver does what it need not do.
_CLUMSY = 0.04


class Part(msgspec.Struct, frozen=True):
    text: str = ""


class Watched(msgspec.Struct, frozen=True, weakref=True):
    """A message type whose objects tell when nobody holds them any more."""

    id: str
    content: list[Part]


class Driver:
    """Drives one operation for one call; its clock runs `skew` seconds apart from the world's."""

    def __init__(
        self, world: World, network: Network, operation: Operation[Any], call: Call, skew: float
    ) -> None:
        self._world = world
        self._rng = world.rng
        self._network = network
        self._operation = operation
        self._call = call
        self._skew = skew
        self._steps: Steps = iter(())
        self._exchange = 0
        self._directives = self._steps_taken = 0
        call.keeps_deadlines = world.rng.random() < _PROMPT
        #: The deadline of the exchange under way, as last seen; None also once it is over.
        self._deadline: float | None = None
        #: Whether nothing was asked for yet of the exchange under way.
        self._is_new = False
        self._alive: list[weakref.ref[Any]] = []
        #: The sizes of the last block, and of that which was the last when a reading broke off: the
        #: error of the break keeps it until the next.
        self._last_block = self._broken_block = 0

    @property
    def _clock(self) -> float:
        return self._world.now + self._skew

    def run(self) -> Task:
        """Driver to the end, or to the death of the client."""
        call, world = self._call, self._world
        if world.trace is not None:
            world.note(f"{call.name} {call.label}: begins")
        try:
            yield from self._drive()
        except LocalProtocolError as error:
            call.violate(f"the driver is said to be wrong ({error})")
        except BatchesError as error:
            self._note_cut()
            call.error = error
            call.ended = True
            self._check_end(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not come out
            call.violate(f"an error that is none of the project's ({error!r})")
            world.note(traceback.format_exc())
            call.ended = True
        call.close()

    def _next_event(self) -> Event | Directive | Done[Any]:
        event = self._operation.next_event()
        if event is not Need.DATA:
            self._note_cut()
        return event

    def _drive(self) -> Task:
        operation, call = self._operation, self._call
        if self._rng.random() < 0.7:
            operation.handle_timeout(self._clock)
            call.start()
        while True:
            event = self._next_event()
            if isinstance(event, Done):
                call.value = event.value
                call.ended = True
                if operation.next_event() != event:
                    call.violate("the end is another when it is asked for again")
                return
            if isinstance(event, ResultsReceived):
                self._take(event)
                del event
                continue
            if event is not Need.DATA and not isinstance(event, SendRequest | WaitUntil):
                call.take(event)
                if self._is_interrupted():
                    return
                continue
            if self._dies() or self._is_interrupted():
                return
            yield from self._carry_out(event)
            if call.exchanges > _MOST_EXCHANGES:
                call.violate("endless")
                return

    def _carry_out(self, directive: Directive) -> Task:
        if isinstance(directive, SendRequest):
            self._send(directive)
        elif isinstance(directive, WaitUntil):
            yield from self._wait(directive.deadline)
        else:
            yield from self._receive()

    def _dies(self) -> bool:
        self._directives += 1
        call = self._call
        if call.dies_after is None or self._directives <= call.dies_after:
            return False
        # What has left the client's machine goes its way.
        self._world.fault("client died")
        self._world.spawn(self._drained(self._steps))
        return True

    def _is_interrupted(self) -> bool:
        """Stop as a client does whose caller's code raised, or whose user pressed Ctrl-C."""
        call = self._call
        self._steps_taken += 1
        if call.interrupts_after is None or self._steps_taken <= call.interrupts_after:
            return False
        assert isinstance(self._operation, CreateOperation)
        self._world.fault("client interrupted")
        self._world.spawn(self._drained(self._steps))
        call.interruption = KeyboardInterrupt()
        self._operation.interrupt(call.interruption, self._clock)
        return True

    def _note_cut(self) -> None:
        """Count an exchange that the operation gave up because of its deadline as a failure."""
        if self._is_new:
            self._call.violate("gave an exchange up that it had just begun")
        deadline, self._deadline = self._deadline, None
        if deadline is not None and self._clock >= deadline:
            self._call.fail(GIVEN_UP)
            self._call.finish_exchange()

    def _drained(self, steps: Steps) -> Task:
        for seconds, _ in steps:
            yield self._world.now + seconds

    # --- directives ------------------------------------------------------------------------------

    def _send(self, send: SendRequest) -> None:
        call, world, request = self._call, self._world, send.request
        if send.exchange != self._exchange + 1:
            call.violate("the numbers of exchanges do not count up")
        self._exchange = send.exchange
        self._is_new = True
        if self._last_block:
            self._broken_block, self._last_block = self._last_block, 0
        call.begin_exchange()
        if world.trace is not None:
            world.note(f"  {call.name} {call.label}: #{send.exchange} {request!r}")
        is_told = any(world.secret in value for _, value in request.headers)
        call.credential = world.secret if is_told else "nobody"
        self._check_addressee(request, is_told=is_told)
        self._steps = self._network.carry(request, call)
        if self._exchange > 1 and self._rng.random() < _CLUMSY:
            self._late_input(self._rng.randint(1, self._exchange - 1))

    def _check_addressee(self, request: Request, *, is_told: bool) -> None:
        """The API gets the credential, another host that is trusted gets none, and no other any."""
        call, world, url = self._call, self._world, request.url
        is_api = url.startswith(ORIGIN + "/")
        if self._exchange == 1 or not is_api:
            call.check_text(request)
        if is_api:
            if not is_told:
                call.violate("no credential for the API")
        elif is_told or world.secret in url or request.body is not None:
            call.violate(f"credential sent to {request.authority}")
        elif not url.startswith(tuple(f"{origin}/" for origin in self._network.trusted)):
            call.violate(f"a request to {request.authority}, which is not trusted")

    def _late_input(self, exchange: int) -> None:
        """Hand in what still came for an exchange that was given up."""
        self._world.fault("late input")
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

    def _receive(self) -> Task:
        call, world = self._call, self._world
        self._check_held()
        self._is_new = False
        self._deadline = self._operation.deadline
        step = next(self._steps, None)
        while step is not None:
            seconds, arrival = step
            if call.keeps_deadlines and (left := self._left()) <= seconds:
                yield from self._cut(left, seconds)
                return
            if seconds:
                if call.is_timed and not call.calm and self._rng.random() < _CLUMSY:
                    self._operation.handle_timeout(self._clock - self._rng.random() * 5)
                yield world.now + seconds
                self._count(seconds)
            if arrival is not None:
                self._hand_in(arrival)
                return
            step = next(self._steps, None)
        call.violate("data is needed of an exchange that is over")
        raise BatchesError("the simulation stopped here")

    def _left(self) -> float:
        return float("inf") if self._deadline is None else max(0.0, self._deadline - self._clock)

    def _cut(self, left: float, seconds: float) -> Task:
        """Wait no longer than to the deadline; what has left goes its way."""
        assert self._deadline is not None
        world = self._world
        yield world.now + left
        self._count(left)
        world.spawn(self._drained(chain([(seconds - left, None)], self._steps)))
        self._steps = iter(())
        # The clock may be a rounding error short of it.
        self._operation.handle_timeout(max(self._deadline, self._clock))
        self._deadline = min(self._deadline, self._clock)

    def _count(self, seconds: float) -> None:
        call = self._call
        call.busy += seconds
        call.last_exchange += seconds
        call.longest_exchange = max(call.longest_exchange, call.last_exchange)

    def _hand_in(self, arrival: ResponseEvent) -> None:
        operation, clock, number = self._operation, self._clock, self._exchange
        if not self._call.is_timed:
            self._call.start()
        match arrival:
            case b"":
                operation.receive_eof(number, clock)
                # What comes after the end belongs to nothing any more.
                for _, late in self._steps:
                    if isinstance(late, Lost):
                        operation.connection_lost(number, late.reason, clock, sent=late.sent)
            case bytes():
                operation.receive_data(number, arrival, clock)
            case Head(status=status, headers=headers):
                form = self._rng.randint(0, 2)
                operation.receive_head(number, status, as_sent(headers, form), clock)
            case Lost(reason=reason, sent=sent):
                operation.connection_lost(number, reason, clock, sent=sent)
                if self._rng.random() < _CLUMSY:
                    operation.connection_lost(number, "lost again", clock, sent=not sent)
        if arrival == END_OF_BODY or isinstance(arrival, Lost):
            self._deadline = None
            self._call.finish_exchange()

    def _wait(self, deadline: float) -> Task:
        call, world, rng = self._call, self._world, self._rng
        self._steps = iter(())
        begun = world.now
        until = deadline - self._skew
        late = 0.0
        if not call.calm:
            chance = rng.random()
            if chance < _CLUMSY and until > begun:
                # Too early, and for no reason: the same wait again.
                self._operation.handle_timeout(self._clock)
                yield begun + (until - begun) * rng.random()
                self._operation.handle_timeout(self._clock)
                again = self._operation.next_event()
                if again != WaitUntil(deadline=deadline):
                    call.violate("a wait that is not over ended")
            elif chance > 0.99:
                late = rng.choice((0.1, 2.0, 40.0, 4000.0))
                world.fault("woken late")
        if self._exchange and rng.random() < _CLUMSY:
            self._late_input(self._exchange)
        yield max(until, begun) + late
        self._operation.handle_timeout(max(deadline + late, self._clock))
        call.waited += world.now - begun
        call.late += late

    # --- what can be seen from outside ---------------------------------------------------------

    def _take(self, event: ResultsReceived) -> None:
        """Keep what the judge needs to know of results, and none of the items itself."""
        for item in event.items:
            if isinstance(item, MalformedResultError):
                if self._world.secret in str(item):
                    self._call.violate("credential in the text of a malformed line")
            elif isinstance(message := getattr(item.result, "message", None), Watched):
                self._alive.append(weakref.ref(message))
        self._last_block = len(event.items)
        self._call.delivered += [_told(item) for item in event.items]

    def _check_held(self) -> None:
        """Between two inputs nothing is held but the last block and a line that is not whole."""
        exchange = self._operation._context._exchange
        if exchange is not None and exchange.inbox:
            self._call.violate("input was not taken before more was asked for")
        if self._alive:
            self._alive = [ref for ref in self._alive if ref() is not None]
            if len(self._alive) > self._last_block + self._broken_block:
                self._call.violate(f"{len(self._alive)} delivered items are held")

    def _check_end(self, error: BatchesError) -> None:
        try:
            self._operation.next_event()
        except BatchesError as again:
            if again is not error:
                self._call.violate("the end is another when it is asked for again")
        else:
            self._call.violate("an operation goes on after its error")


def _told(item: ResultItem[Any] | MalformedResultError) -> Told:
    if isinstance(item, MalformedResultError):
        return Told("malformed", item.custom_id, "")
    match item.result:
        case SucceededResult(message=message):
            if isinstance(message, msgspec.Raw):
                message = msgspec.json.decode(message, type=Watched)
            return Told("succeeded", item.custom_id, f"{message.id} {message.content[0].text}")
        case ErroredResult(error=error):
            return Told("errored", item.custom_id, error.message)
        case other:
            return Told(other.type, item.custom_id, "")
