"""An operation: a script over exchanges and waits, driven from outside.

Knows how a script is driven, not what any script does (that is `operations`). The script is a
generator. It yields events, and `Need.DATA` or `WaitUntil` again and again until what it waits
for has come; it looks for that in its `Channel`, where the inputs leave it. It runs only inside
of `Operation.next_event`, so that nothing moves before somebody asks for it.

The loop of a driver is ten lines long::

    operation.handle_timeout(clock())             # tells the time; optional, and harmless
    while True:
        match operation.next_event():
            case SendRequest(exchange=number, request=request):
                ...                               # send it; then receive_head, or connection_lost
            case Need.DATA:
                ...                               # receive_data, receive_eof or connection_lost;
                                                  # or, after operation.deadline, handle_timeout
            case WaitUntil(deadline=deadline):
                ...                               # sleep; then handle_timeout
            case Done(value=value):
                return value
            case event:
                ...                               # the user's
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Generic, TypeAlias, TypeVar

from .errors import LocalProtocolError
from .events import Directive, Done, Event, Need, SendRequest, WaitUntil
from .exchange import Arrival, Exchange, Lost, State
from .http import RawHeaders, Request, read_headers
from .retry import Jitter

T = TypeVar("T")
R = TypeVar("R")

_NEVER = float("-inf")
_FOREVER = float("inf")
_NO_LIMIT = _FOREVER, ""

Script: TypeAlias = Generator[Event | Directive, None, R]


class Channel:
    """What a script sees of the outside: the time, its exchanges, and its jitter.

    `now` is the latest time that any input told, and `started` the first, in the seconds of the
    driver's clock; before the first input both are minus infinity.
    """

    __slots__ = ("_bound", "_exchange", "_limit", "_sent_at", "jitter", "now", "started")

    def __init__(self, jitter: Jitter) -> None:
        self.jitter = jitter
        self.now = _NEVER
        self.started = _NEVER
        self._exchange: Exchange | None = None
        self._sent_at = _NEVER
        #: When the current exchange is given up, and in what words.
        self._limit = _NO_LIMIT
        #: The same for every exchange, by the time at which it was begun.
        self._bound: Callable[[float], tuple[float, str]] | None = None

    @property
    def deadline(self) -> float | None:
        """The time at which the exchange under way is given up; None where there is none."""
        exchange = self._exchange
        if exchange is None or exchange.state not in {State.SENT, State.BODY}:
            return None
        deadline, _ = self._nearest_limit()
        return None if deadline == _FOREVER else deadline

    def take_input(self, number: int, now: float) -> Exchange | None:
        """Take an input's time; give the exchange that it is for, None for one that was given up.

        Raises:
            LocalProtocolError: no `SendRequest` with this number was handed out, or `now` is not a
                number.
        """
        newest = self._exchange
        if newest is None or number > newest.number:
            raise LocalProtocolError(
                f"there is no exchange {number}: the newest SendRequest that was handed out has "
                f"number {0 if newest is None else newest.number}"
            )
        self.tell_time(now)
        return newest if number == newest.number else None

    def tell_time(self, now: float) -> None:
        """Take the time of an input; a clock that ran backwards is not followed.

        Raises:
            LocalProtocolError: `now` is not a number.
        """
        if now > self.now:
            if self.now == _NEVER:
                self.started = now
            self.now = now
        elif now != now:  # noqa: PLR0124 - the test for a NaN, with which no deadline ever comes
            raise LocalProtocolError("now is not a number")

    # What follows is for scripts.

    def send(self, request: Request) -> Script[None]:
        """Open the next exchange; the one before it is given up."""
        number = 1 if self._exchange is None else self._exchange.number + 1
        self.abandon()
        self._exchange = Exchange(number)
        self._sent_at = self.now
        self._limit = _NO_LIMIT
        yield SendRequest(exchange=number, request=request)

    def limit(self, seconds: float, reason: str) -> None:
        """Give the current exchange up after so many seconds from now, for this reason."""
        self._limit = (self.now + seconds, reason)

    def limit_each(self, bound: Callable[[float], tuple[float, str]]) -> None:
        """Limit every exchange: `bound` gives the end of one by the time at which it began."""
        self._bound = bound

    def receive(self) -> Script[Arrival]:
        """Wait for the next thing of the current exchange and take it.

        One that outlasts its limit is given up, and so is lost. What came is taken all the same.
        """
        while (arrival := self.take()) is None:
            deadline, reason = self._nearest_limit()
            if deadline != _FOREVER and self.now >= deadline:
                self.abandon()
                return Lost(reason=reason, sent=True)
            yield Need.DATA
        return arrival

    def _nearest_limit(self) -> tuple[float, str]:
        if self._bound is None or self.now == _NEVER:
            return self._limit
        # One that was sent before anybody told the time began when somebody did.
        return min(self._limit, self._bound(max(self._sent_at, self.started)))

    def take(self) -> Arrival | None:
        """Take the next thing of the current exchange; None where nothing has come."""
        assert self._exchange is not None, "a script receives only after it sent"  # noqa: S101
        inbox = self._exchange.inbox
        return inbox.popleft() if inbox else None

    def abandon(self) -> None:
        """Give the current exchange up; the driver closes it on the next directive but DATA."""
        if self._exchange is not None:
            self._exchange.abandon()

    def pause(self, seconds: float) -> Script[None]:
        """Wait; the current exchange is given up, so that a wait holds no connection busy."""
        self.abandon()
        deadline = self.now + seconds
        while self.now < deadline:
            yield WaitUntil(deadline=deadline)


class Operation(Generic[T]):
    """One call of the API, as a machine without I/O.

    Two parties use it. The *driver* pulls `next_event` and hands in what happened with
    `receive_head`, `receive_data`, `receive_eof`, `connection_lost` and `handle_timeout`; the
    *user* gets the events and the value of `Done`. One operation has one owner at a time: it is
    not thread-safe, and not to be called from inside of its own jitter or predicate.

    `next_event` is lazy: state moves as an event is handed over. A driver that pulls until
    `Need.DATA` before it hands in more holds at most one piece of a body in memory.

    `exchange` numbers the HTTP exchanges. Input for one that was given up is dropped, so late
    bytes of a failed attempt cannot get into the next. `now` is any monotonic clock in seconds.
    `deadline` tells by that clock how long an exchange is wanted.
    """

    def __init__(self, script: Callable[[Channel], Script[T]], jitter: Jitter) -> None:
        self._channel = Channel(jitter)
        self._script = script(self._channel)
        self._end: Done[T] | Exception | None = None
        #: How many events were handed over, directives not counted. A caller that is interrupted
        #: between `next_event` and its own next step tells by it that one was lost.
        self.handed_over = 0

    def next_event(self) -> Event | Directive | Done[T]:
        """Hand over the next event or directive; at the end `Done`, again and again.

        Raises:
            BatchesError: the operation failed; the same error again at each later call.
        """
        if self._end is None:
            try:
                event = next(self._script)
                if not isinstance(event, (Need, SendRequest, WaitUntil)):
                    self.handed_over += 1
                return event  # noqa: TRY300 - in here an interruption is noticed
            except StopIteration as stop:
                self._end = Done(value=stop.value)
            except Exception as error:  # noqa: BLE001 - kept, and raised below
                # Whatever it is, it came out of a script that cannot go on.
                self._end = error
            except BaseException:
                # As where a predicate is interrupted: that is not this operation's to repeat.
                self._end = LocalProtocolError("this was interrupted in the middle: start it again")
                raise
            self._channel.abandon()
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    @property
    def deadline(self) -> float | None:
        """The time after which the exchange under way is not wanted any more, or None.

        To be read after `SendRequest` and at each `Need.DATA`, for it can change with every input.
        A driver bounds by it what it does for the exchange, and calls `handle_timeout` when it has
        passed; then `next_event` goes on without the exchange. A driver that does not look at it
        has only its own timeouts, and the exchange is given up at the first input that is later.
        """
        return self._channel.deadline

    def receive_head(self, exchange: int, status: int, headers: RawHeaders, now: float) -> None:
        """Take a response head: its status and its header pairs, str or bytes.

        Raises:
            LocalProtocolError: no head was due for this exchange.
        """
        if (current := self._channel.take_input(exchange, now)) is not None:
            current.receive_head(status, read_headers(headers))

    def receive_data(self, exchange: int, data: bytes, now: float) -> None:
        """Take the next bytes of a response body, decoded: no content-encoding left.

        Raises:
            LocalProtocolError: no body bytes were due for this exchange, or `data` is empty.
        """
        if (current := self._channel.take_input(exchange, now)) is not None:
            current.receive_data(data)

    def receive_eof(self, exchange: int, now: float) -> None:
        """Take the end of a response that is complete, as the transport's framing says.

        Raises:
            LocalProtocolError: no body was under way for this exchange.
        """
        if (current := self._channel.take_input(exchange, now)) is not None:
            current.receive_eof()

    def connection_lost(self, exchange: int, reason: str, now: float, *, sent: bool) -> None:
        """Take the loss of an exchange: no connection, a reset, a timeout, a broken encoding.

        `reason` is put into the error that a person may read. `sent` tells whether the
        last byte of the request may have left this machine. Pass False only if that byte was
        certainly never given to the network, for then a create is sent again; in any doubt True.

        Raises:
            LocalProtocolError: there is no such exchange.
        """
        if (current := self._channel.take_input(exchange, now)) is not None:
            current.connection_lost(reason, sent=sent)

    def handle_timeout(self, now: float) -> None:
        """Take the time. Too early, too late or for no reason: always harmless.

        Called once before the first `next_event`, it sets the moment that timeouts count from;
        without that they count from the first input.

        Raises:
            LocalProtocolError: `now` is not a number.
        """
        self._channel.tell_time(now)
