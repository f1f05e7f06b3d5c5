"""An operation: a flow over exchanges and waits, driven from outside.

Knows how a flow is driven, not what any flow does (that is `operations`). The flow runs only inside
`Operation.next_event`, so nothing moves before the driver asks for it.

The loop of a driver is ten lines long::

    operation.handle_timeout(clock())             # reports the time; optional, and harmless
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

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

from .context import Flow, OperationContext
from .errors import LocalProtocolError
from .events import Directive, Done, Event, Need, SendRequest, WaitUntil
from .http import RawHeaders, fold_headers

T = TypeVar("T")

#: Starts a flow in the context of its operation.
StartFlow: TypeAlias = Callable[[OperationContext], Flow[T]]


class Operation(Generic[T]):
    """One call of the API, as a machine without I/O.

    Two parties use it. The *driver* pulls `next_event` and passes what happened with
    `receive_head`, `receive_data`, `receive_eof`, `connection_lost` and `handle_timeout`; the
    *user* gets the events and the value of `Done`. One operation has one owner at a time: it is
    not thread-safe, and not to be called from inside of its own jitter or predicate.

    `next_event` is lazy: state moves as an event is handed over. A driver that pulls until
    `Need.DATA` before it passes more holds at most one piece of a body in memory.

    `exchange` numbers the HTTP exchanges. Input for one that was given up is dropped, so late
    bytes of a failed attempt cannot get into the next. `now` is any monotonic clock in seconds.
    `deadline` tells by that clock how long an exchange is wanted.
    """

    def __init__(self, start: StartFlow[T], context: OperationContext) -> None:
        self._context = context
        self._flow = start(context)
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
                event = next(self._flow)
                if not isinstance(event, (Need, SendRequest, WaitUntil)):
                    self.handed_over += 1
                return event  # noqa: TRY300 - in here an interruption is noticed
            except StopIteration as stop:
                self._end = Done(value=stop.value)
            except Exception as error:  # noqa: BLE001 - kept, and raised below
                # Whatever it is, it came out of a flow that cannot go on.
                self._end = error
            except BaseException:
                # As where a predicate is interrupted: that is not this operation's to repeat.
                self._end = LocalProtocolError("this was interrupted in the middle: start it again")
                raise
            self._context.abandon()
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
        return self._context.deadline

    def receive_head(self, exchange: int, status: int, headers: RawHeaders, now: float) -> None:
        """Take a response head: its status and its header pairs, str or bytes.

        Raises:
            LocalProtocolError: no head was due for this exchange.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.receive_head(status, fold_headers(headers))

    def receive_data(self, exchange: int, data: bytes, now: float) -> None:
        """Take the next bytes of a response body, decoded: no content-encoding left.

        Raises:
            LocalProtocolError: no body bytes were due for this exchange, or `data` is empty.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.receive_data(data)

    def receive_eof(self, exchange: int, now: float) -> None:
        """Take the end of a response that is complete, as the transport's framing says.

        Raises:
            LocalProtocolError: no body was under way for this exchange.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.receive_eof()

    def connection_lost(
        self,
        exchange: int,
        reason: str,
        now: float,
        *,
        sent: bool,
        cause: BaseException | None = None,
    ) -> None:
        """Take the loss of an exchange: no connection, a reset, a timeout, a broken encoding.

        `reason` is put into the error that a person may read. `sent` tells whether the
        last byte of the request may have left this machine. Pass False only if that byte was
        certainly never given to the network, for then a create is sent again; in any doubt True.
        `cause` becomes the ``__cause__`` of the error; pass nothing that holds a credential.

        Raises:
            LocalProtocolError: there is no such exchange.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.connection_lost(reason, sent=sent, cause=cause)

    def handle_timeout(self, now: float) -> None:
        """Take the time. Too early, too late or for no reason: always harmless.

        Called once before the first `next_event`, it sets the moment that timeouts count from;
        without that they count from the first input.

        Raises:
            LocalProtocolError: `now` is not a number.
        """
        self._context.record_time(now)
