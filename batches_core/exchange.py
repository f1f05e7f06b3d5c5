"""One HTTP exchange: a request, and what has arrived for it so far.

`Exchange` checks the order of a response's parts and queues them. What the parts mean is decided in
`call` and in `operations`.

An exchange begins when its request is handed to the driver. It receives informational heads (1xx),
if there are any, one final head, pieces of the body, and the end of the body::

          informational head           data
                 ┌───┐                ┌───┐
                 ▼   │      head      ▼   │      end
    request ──▶  SENT  ────────────▶  BODY  ────────────▶  COMPLETE
                  │                    │
                  │ lost               │ lost
                  └─────▶  LOST  ◀─────┘           any state ── abandon ──▶ ABANDONED

`TRANSITIONS` lists every legal transition. Any other input is a bug in the driver and raises
`LocalProtocolError`. The drawing leaves out three rules:

- A loss after a complete response changes nothing, because nothing more was expected. Nor does a
  second loss.
- More than `MAX_INFORMATIONAL` informational heads count as a loss. The exchange is then abandoned,
  so that the driver can keep reporting without an error.
- An abandoned exchange ignores every input. This is no error either, because the transport may have
  bytes in flight.

Events wait in `inbox`, in order, until the operation takes them out. Abandoning empties it.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TypeAlias

import msgspec

from .errors import LocalProtocolError


class State(enum.StrEnum):
    """What an exchange waits for, or how it ended."""

    SENT = "waiting for a response head"
    BODY = "waiting for the response body"
    COMPLETE = "complete"
    LOST = "lost"
    ABANDONED = "abandoned"


class Trigger(enum.StrEnum):
    """What can happen to an exchange."""

    INFORMATIONAL = "an informational head"
    HEAD = "a head"
    DATA = "body bytes"
    EOF = "the end of a body"
    LOST = "a lost connection"
    ABANDON = "being abandoned"


#: Every legal transition; the module's docstring draws them.
TRANSITIONS: dict[tuple[State, Trigger], State] = {
    (State.SENT, Trigger.INFORMATIONAL): State.SENT,
    (State.SENT, Trigger.HEAD): State.BODY,
    (State.SENT, Trigger.LOST): State.LOST,
    (State.BODY, Trigger.DATA): State.BODY,
    (State.BODY, Trigger.EOF): State.COMPLETE,
    (State.BODY, Trigger.LOST): State.LOST,
    (State.COMPLETE, Trigger.LOST): State.COMPLETE,
    (State.LOST, Trigger.LOST): State.LOST,
    **{(state, Trigger.ABANDON): State.ABANDONED for state in State},
    **{(State.ABANDONED, trigger): State.ABANDONED for trigger in Trigger},
}

#: How many informational heads (1xx) may precede a final head. Servers send one or two.
MAX_INFORMATIONAL = 100

# Bound once, because looking up an enum member takes longer than everything else that is done here
# for a piece of a body.
_DATA, _ABANDONED = Trigger.DATA, State.ABANDONED


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A final response head. Header names are lower-case."""

    status: int
    headers: dict[str, str]


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The loss of the connection before the response was complete.

    The fields are the arguments of `Operation.connection_lost`.
    """

    reason: str
    sent: bool
    cause: BaseException | None = None


#: An event of an exchange. In order: a head, pieces of the body, and `END_OF_BODY`. A `Lost` can
#: take the place of any of them, and is then the last.
ResponseEvent: TypeAlias = Head | bytes | Lost

#: The end of a body. No piece of a body is empty, so it cannot be mistaken for one.
END_OF_BODY = b""


class Exchange:
    """The state of one exchange, and its events until the operation takes them out."""

    __slots__ = ("_informational", "inbox", "number", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = State.SENT
        self.inbox: deque[ResponseEvent] = deque()
        self._informational = 0

    def receive_head(self, status: int, headers: dict[str, str]) -> None:
        """Receive a response head; skip up to `MAX_INFORMATIONAL` informational ones.

        Raises:
            LocalProtocolError: the exchange does not wait for a head, or the status is invalid.
        """
        if not 100 <= status <= 999:  # noqa: PLR2004 - a status has three digits
            raise LocalProtocolError(f"{status!r} is not an HTTP status: pass 100 to 999")
        if status < 200:  # noqa: PLR2004 - 1xx: the final head is still to come
            self._advance(Trigger.INFORMATIONAL)
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL and self.state is State.SENT:
                # Abandoned, so that further input is ignored. The loss is queued nevertheless.
                self._advance(Trigger.ABANDON)
                reason = f"more than {MAX_INFORMATIONAL} informational (1xx) heads arrived"
                self.inbox.append(Lost(reason=reason, sent=True))
        else:
            self._advance(Trigger.HEAD, Head(status=status, headers=headers))

    def receive_data(self, data: bytes) -> None:
        """Receive a piece of the body.

        Raises:
            LocalProtocolError: the exchange does not wait for a body, or `data` is empty or is not
                bytes.
        """
        if not isinstance(data, bytes):
            kind = type(data).__name__
            raise LocalProtocolError(f"receive_data accepts bytes, not {kind}: pass bytes(data)")
        if not data:
            raise LocalProtocolError(
                "receive_data got no bytes: report the end of a body with receive_eof, and a "
                "connection that ended too early with connection_lost"
            )
        self._advance(_DATA, data)

    def receive_eof(self) -> None:
        """Receive the end of the body.

        Raises:
            LocalProtocolError: the exchange does not wait for a body.
        """
        self._advance(Trigger.EOF, END_OF_BODY)

    def connection_lost(
        self, reason: str, *, sent: bool, cause: BaseException | None = None
    ) -> None:
        """Receive the loss of the connection. It changes nothing after a complete response."""
        # A head proves that the request was sent, even if the transport reports otherwise.
        lost = Lost(reason=reason, sent=sent or self.state is State.BODY, cause=cause)
        before = self.state
        self._advance(Trigger.LOST)
        if self.state is not before and self.state is State.LOST:
            self.inbox.append(lost)

    def abandon(self) -> None:
        """Drop the events that were not taken out, and ignore every further input."""
        self._advance(Trigger.ABANDON)
        self.inbox.clear()

    def _advance(self, trigger: Trigger, event: ResponseEvent | None = None) -> None:
        state = TRANSITIONS.get((self.state, trigger))
        if state is None:
            raise LocalProtocolError(
                f"exchange {self.number} is {self.state.value} and cannot receive {trigger.value}: "
                "report its head first, then its body bytes, then the end of its body"
            )
        self.state = state
        if event is not None and state is not _ABANDONED:
            self.inbox.append(event)
