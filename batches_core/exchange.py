"""One HTTP exchange, from the moment its request is handed out.

An exchange is an explicit state machine: `TRANSITIONS` is the table of its legal moves, and what is
not in it is a `LocalProtocolError`, a mistake of whoever drives it. It knows the order in which
a message's parts may come, not what they mean::

           informational head
                ┌───┐
                ▼   │  head            end
    request ──▶ SENT ────────▶ BODY ────────▶ COMPLETE
                 │            ▲   │ │
                 │ lost       └───┘ │ lost
                 └────▶ LOST ◀──────┘        any ── given up ──▶ ABANDONED
                              data

A flood of informational heads is a loss, after which the exchange is given up.

What came is kept in `inbox`, in order, until the operation takes it. Once an exchange is given up
nothing that still comes for it is kept, and nothing that comes for it is an error: the transport
may well have bytes in flight.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TypeAlias

import msgspec

from .errors import LocalProtocolError


class State(enum.StrEnum):
    """Where an exchange stands."""

    SENT = "waiting for the response's head"
    BODY = "waiting for the response's body"
    COMPLETE = "complete"
    LOST = "lost"
    ABANDONED = "given up"


class Trigger(enum.StrEnum):
    """What can happen to an exchange."""

    INFORMATIONAL = "an informational head"
    HEAD = "a head"
    DATA = "body bytes"
    EOF = "the end of the body"
    LOST = "the loss of the connection"
    ABANDON = "giving it up"


#: The legal moves. A connection that is lost after a whole message took nothing away.
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

#: How many heads may say that the response itself is still to come; servers send one or two.
MAX_INFORMATIONAL = 100

# To look up a member in its enum takes longer than all else that a piece of a body takes here.
_DATA, _ABANDONED = Trigger.DATA, State.ABANDONED


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A final response head; header names are lower-case."""

    status: int
    headers: dict[str, str]


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a connection in the middle of an exchange."""

    reason: str
    sent: bool
    cause: BaseException | None = None


#: What arrives for an exchange, in order: its head, the bytes of its body and `END_OF_BODY`; or, at
#: any point, its loss.
ResponseEvent: TypeAlias = Head | bytes | Lost

#: Received bytes are never empty, so an empty piece is the end of a body.
END_OF_BODY = b""


class Exchange:
    """One request and what has come back for it so far."""

    __slots__ = ("_informational", "inbox", "number", "state")

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = State.SENT
        self.inbox: deque[ResponseEvent] = deque()
        self._informational = 0

    def receive_head(self, status: int, headers: dict[str, str]) -> None:
        """Receive a response head; skip informational ones, up to `MAX_INFORMATIONAL`.

        Raises:
            LocalProtocolError: no head was due, or the status is no HTTP status.
        """
        if not 100 <= status <= 999:  # noqa: PLR2004 - a status has three digits
            raise LocalProtocolError(f"{status!r} is no HTTP status")
        if status < 200:  # noqa: PLR2004 - 1xx: the response itself is still to come
            self._move(Trigger.INFORMATIONAL)
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL and self.state is State.SENT:
                # Lost, but as if it was given up: the driver is not to stumble over what follows.
                self._move(Trigger.ABANDON)
                self.inbox.append(Lost(reason="there is no end of 1xx heads", sent=True))
        else:
            self._move(Trigger.HEAD, Head(status=status, headers=headers))

    def receive_data(self, data: bytes) -> None:
        """Take body bytes.

        Raises:
            LocalProtocolError: none were due, or there are none, or they are no bytes.
        """
        if not isinstance(data, bytes):
            kind = type(data).__name__
            raise LocalProtocolError(f"receive_data takes bytes, not a {kind}: pass bytes(data)")
        if not data:
            raise LocalProtocolError(
                "receive_data got no bytes; the end of a body is told by receive_eof, a "
                "connection that ended too early by connection_lost"
            )
        self._move(_DATA, data)

    def receive_eof(self) -> None:
        """Take the end of the body.

        Raises:
            LocalProtocolError: no body was under way.
        """
        self._move(Trigger.EOF, END_OF_BODY)

    def connection_lost(
        self, reason: str, *, sent: bool, cause: BaseException | None = None
    ) -> None:
        """Take the loss of the connection; after a whole response it means nothing."""
        # A head that came proves that the request was sent, whatever the transport believes.
        lost = Lost(reason=reason, sent=sent or self.state is State.BODY, cause=cause)
        was = self.state
        self._move(Trigger.LOST)
        if self.state is not was and self.state is State.LOST:
            self.inbox.append(lost)

    def abandon(self) -> None:
        """Give the exchange up: what has come and was not taken is dropped."""
        self._move(Trigger.ABANDON)
        self.inbox.clear()

    def _move(self, trigger: Trigger, arrival: ResponseEvent | None = None) -> None:
        state = TRANSITIONS.get((self.state, trigger))
        if state is None:
            raise LocalProtocolError(
                f"exchange {self.number} is {self.state.value}: {trigger.value} cannot come now"
            )
        self.state = state
        if arrival is not None and state is not _ABANDONED:
            self.inbox.append(arrival)
