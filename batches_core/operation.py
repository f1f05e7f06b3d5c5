"""An operation: one use of the API, such as a create or a wait, which a driver runs step by step.

`Operation` passes the driver's inputs to the current exchange, and advances the operation's flow.
The module `exchange` checks the order of the inputs; those of `operations` define the flows.

A driver is a short loop::

    operation.handle_timeout(clock())             # optional: timeouts count from here
    while True:
        match operation.next_event():
            case SendRequest(exchange=number, request=request):
                ...                               # send it; then receive_head or connection_lost
            case Need.DATA:
                ...                               # read; then receive_head, receive_data,
                                                  # receive_eof or connection_lost;
                                                  # after operation.deadline: handle_timeout
            case WaitUntil(deadline=deadline):
                ...                               # sleep; then handle_timeout
            case Done(value=value):
                return value
            case event:
                ...                               # pass it to the caller
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
    """One use of the API, as a state machine without I/O.

    The *driver* performs the I/O: it calls `next_event`, and reports what happened through the five
    inputs. The *caller* receives the events and the final value. `BatchesAPI` makes operations.

    **Output.** `next_event` returns one of these:

    - `SendRequest`: send the request; `Request` describes its fields. The `exchange` number
      identifies this HTTP exchange in every later input.
    - `Need.DATA`: wait for the peer, at most until `deadline`, and report the next input.
    - `WaitUntil`: sleep until its deadline, then call `handle_timeout`.
    - `Done`: the operation succeeded, and `Done.value` is its value.
    - any other object is an event: pass it to the caller, and call `next_event` again.

    `next_event` raises an error if the operation failed. An error, `SendRequest`, `WaitUntil` and
    `Done` each end the previous exchange. Close its connection, unless its response was read to the
    end.

    **Inputs.** After `SendRequest`, report what happens to the exchange, in the order in which it
    happens:

    - `receive_head`: a response head. Report every status, also 1xx and redirects, and do not
      follow a redirect.
    - `receive_data`: a piece of the body, without its content-encoding.
    - `receive_eof`: the response is complete, as the transport's framing says.
    - `connection_lost`: the exchange failed, before or during its response. The driver sets read
      timeouts of its own, and reports them here.
    - `handle_timeout`: nothing happened, but time has passed.

    The legal order is a final head, then pieces of the body, then its end. The docstring of the
    module `exchange` draws it. Any other order raises `LocalProtocolError`, and changes nothing.
    Input for an earlier or abandoned exchange is ignored, so that late bytes of a failed attempt
    cannot reach the next one.

    **Flow control.** `next_event` is lazy: the state advances when an event is returned, not when
    bytes arrive. Inputs are queued until then, so several may be reported in a row. If the driver
    reports an input only at `Need.DATA`, at most one piece of a body is in memory.

    **Time.** `now` is the time of an input in seconds, always from the same monotonic clock.
    `deadline` is the time by that clock until which the current exchange may last.

    **Stopping early.** Close the connection and stop calling `next_event`. For a create, call
    `CreateOperation.interrupt` too. To be able to continue the operation later, report
    `connection_lost` when you stop.

    **Threads.** An operation is not thread-safe: only one thread or task may use it at a time. The
    caller's functions `jitter` and `until`, which the operation calls, must not call it.
    """

    def __init__(self, start: StartFlow[T], context: OperationContext) -> None:
        self._context = context
        self._flow = start(context)
        self._end: Done[T] | Exception | None = None
        #: How many events `next_event` has returned, not counting directives and `Done`. A caller
        #: that counts the events it receives notices if an interrupt made it lose one.
        self.handed_over = 0

    def next_event(self) -> Event | Directive | Done[T]:
        """Advance to the next event or directive, and return it.

        After the end, every call returns the same `Done` or raises the same error.

        Raises:
            BatchesError: the operation failed.
            LocalProtocolError: an earlier call was interrupted, so the operation cannot continue.
        """
        if self._end is None:
            try:
                event = next(self._flow)
                if not isinstance(event, (Need, SendRequest, WaitUntil)):
                    self.handed_over += 1
                return event  # noqa: TRY300 - an interrupt can also arrive at this line
            except StopIteration as stop:
                self._end = Done(value=stop.value)
            except Exception as error:  # noqa: BLE001 - stored, and raised below
                # This can be any error, because the caller's `until` may raise. The flow is over.
                self._end = error
            except BaseException:
                # An interrupt, perhaps inside the caller's `until`. The flow is over. Later calls
                # raise another error, because the interrupt does not concern them.
                self._end = LocalProtocolError(
                    "this operation was interrupted in the middle: start it again, but settle a "
                    "create first"
                )
                raise
            self._context.abandon()
        if isinstance(self._end, Exception):
            raise self._end
        return self._end

    @property
    def deadline(self) -> float | None:
        """The time until which the current exchange may last, in seconds; None for no limit.

        Read it after `SendRequest` and at each `Need.DATA`, because every input can change it. Wait
        for the peer no longer than this. Then call `handle_timeout`; the next `next_event` abandons
        the exchange and continues. If the driver waits longer, the first `next_event` after an
        input with a later time does so.
        """
        return self._context.deadline

    def receive_head(self, exchange: int, status: int, headers: RawHeaders, now: float) -> None:
        """Report a response head.

        `status` is from 100 to 999. `headers` are pairs of a name and a value, both str or both
        bytes, or a mapping of str; the case of names does not matter. Heads of status 1xx are
        skipped.

        Raises:
            LocalProtocolError: the exchange cannot receive a head now, the status or the headers
                are invalid, no `SendRequest` had this number, or `now` is NaN.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.receive_head(status, fold_headers(headers))

    def receive_data(self, exchange: int, data: bytes, now: float) -> None:
        """Report the next piece of a response body: bytes, not empty, without content-encoding.

        Raises:
            LocalProtocolError: the exchange cannot receive data now, `data` is empty or not bytes,
                no `SendRequest` had this number, or `now` is NaN.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.receive_data(data)

    def receive_eof(self, exchange: int, now: float) -> None:
        """Report that the response is complete.

        Call it only if the transport's framing (content-length, chunks, HTTP/2) says so. A
        connection that ended too early is `connection_lost`.

        Raises:
            LocalProtocolError: the exchange has no body under way, no `SendRequest` had this
                number, or `now` is NaN.
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
        """Report that an exchange failed: no connection, a reset, a timeout, a broken encoding.

        `reason` is a short text for the error's message.

        `sent` says whether the last byte of the request may have left this machine. Pass False only
        if that byte was certainly never given to the network, because a create is then sent again.
        In doubt pass True.

        `cause` becomes the ``__cause__`` of the error. It must not hold a credential.

        After a complete response, or a second time, this changes nothing.

        Raises:
            LocalProtocolError: no `SendRequest` had this number, or `now` is NaN.
        """
        if (current := self._context.exchange_for(exchange, now)) is not None:
            current.connection_lost(reason, sent=sent, cause=cause)

    def handle_timeout(self, now: float) -> None:
        """Report the time. This is harmless at any moment, early, late or unneeded.

        If called before the first `next_event`, it sets the time from which timeouts count.
        Otherwise they count from the first input. A time before the latest one is ignored.

        Raises:
            LocalProtocolError: `now` is NaN.
        """
        self._context.record_time(now)
