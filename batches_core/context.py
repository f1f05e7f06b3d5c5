"""What a flow sees of the outside: the time, the retry policy, the jitter and the exchange.

`OperationContext` holds these for one operation, and abandons an exchange that exceeds its time
limit. `Operation` reports the inputs to it; `call` interprets the responses.

A *flow* is a generator that reads like the protocol. It yields events and directives. To wait, it
yields `Need.DATA` until the context has a `ResponseEvent`, or `WaitUntil` until the time has come.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from .errors import LocalProtocolError
from .events import Directive, Event, Need, SendRequest, WaitUntil
from .exchange import Exchange, Lost, ResponseEvent, State
from .http import Request
from .retry import Jitter, RetryPolicy

R = TypeVar("R")

_NEVER = float("-inf")
_FOREVER = float("inf")
_NO_LIMIT = _FOREVER, ""

Flow: TypeAlias = Generator[Event | Directive, None, R]


class OperationContext:
    """The time, the policy, the jitter and the current exchange of one operation.

    `now` is the latest time that any input reported, and `started` the first, in seconds of the
    driver's clock. Before the first input both are minus infinity.
    """

    __slots__ = (
        "_exchange",
        "_limit",
        "_limit_of_each",
        "_sent_at",
        "jitter",
        "now",
        "policy",
        "started",
    )

    def __init__(self, policy: RetryPolicy, jitter: Jitter) -> None:
        self.policy = policy
        self.jitter = jitter
        self.now = _NEVER
        self.started = _NEVER
        self._exchange: Exchange | None = None
        self._sent_at = _NEVER
        #: The time at which the current exchange is abandoned, and the reason to report.
        self._limit = _NO_LIMIT
        #: Returns such a time and reason for any exchange, from the time at which it began.
        self._limit_of_each: Callable[[float], tuple[float, str]] | None = None

    # --- for `Operation` ---------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The time at which the current exchange is abandoned, or None."""
        exchange = self._exchange
        if exchange is None or exchange.state not in {State.SENT, State.BODY}:
            return None
        deadline, _ = self._nearest_limit()
        return None if deadline == _FOREVER else deadline

    def exchange_for(self, number: int, now: float) -> Exchange | None:
        """Record the time of an input and return its exchange, or None for an earlier one.

        Raises:
            LocalProtocolError: no `SendRequest` had this number, or `now` is NaN.
        """
        newest = self._exchange
        if newest is None or number > newest.number:
            latest = "there was none yet" if newest is None else f"it has number {newest.number}"
            raise LocalProtocolError(
                f"there is no exchange {number}: pass the latest SendRequest's number ({latest})"
            )
        self.record_time(now)
        return newest if number == newest.number else None

    def record_time(self, now: float) -> None:
        """Record the time of an input; ignore it if the clock ran backwards.

        Raises:
            LocalProtocolError: `now` is NaN.
        """
        if now > self.now:
            if self.now == _NEVER:
                self.started = now
            self.now = now
        elif now != now:  # noqa: PLR0124 - true for NaN alone, which no deadline could reach
            raise LocalProtocolError(
                "now is not a number (NaN): pass the seconds of a monotonic clock"
            )

    # --- for flows ---------------------------------------------------------------------------

    def send(self, request: Request) -> Flow[None]:
        """Begin the next exchange, and abandon the previous one."""
        number = 1 if self._exchange is None else self._exchange.number + 1
        self.abandon()
        self._exchange = Exchange(number)
        self._sent_at = self.now
        self._limit = _NO_LIMIT
        yield SendRequest(exchange=number, request=request)

    def limit(self, seconds: float, reason: str) -> None:
        """Abandon the current exchange if it lasts `seconds` from now, and report `reason`."""
        self._limit = (self.now + seconds, reason)

    def limit_each(self, limit_of: Callable[[float], tuple[float, str]]) -> None:
        """Limit every exchange.

        `limit_of` accepts the time at which an exchange began. It returns the time at which the
        exchange is abandoned, and the reason to report.
        """
        self._limit_of_each = limit_of

    def receive(self) -> Flow[ResponseEvent]:
        """Wait for the next event of the current exchange.

        An exchange that exceeds its time limit is abandoned and counts as lost. Events that arrived
        before are still returned.
        """
        while (event := self.pop_event()) is None:
            deadline, reason = self._nearest_limit()
            if deadline != _FOREVER and self.now >= deadline:
                self.abandon()
                return Lost(reason=reason, sent=True)
            yield Need.DATA
        return event

    def pop_event(self) -> ResponseEvent | None:
        """Return the next event of the current exchange, or None if none has arrived."""
        assert self._exchange is not None  # noqa: S101 - a flow receives only after it has sent
        inbox = self._exchange.inbox
        return inbox.popleft() if inbox else None

    def abandon(self) -> None:
        """Abandon the current exchange.

        The driver closes its connection at the next `SendRequest` or `WaitUntil`, or at the end.
        """
        if self._exchange is not None:
            self._exchange.abandon()

    def pause(self, seconds: float) -> Flow[None]:
        """Wait. The current exchange is abandoned, so that the wait keeps no connection busy."""
        self.abandon()
        deadline = self.now + seconds
        while self.now < deadline:
            yield WaitUntil(deadline=deadline)

    def _nearest_limit(self) -> tuple[float, str]:
        if self._limit_of_each is None or self.now == _NEVER:
            return self._limit
        # If no time was known when the request was sent, the exchange began at the first input.
        return min(self._limit, self._limit_of_each(max(self._sent_at, self.started)))
