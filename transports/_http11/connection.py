"""HTTP/1.1 on one connection, without I/O.

Knows h11 and the core's `Request`; no socket and no clock. `HTTP11Connection` turns a request into
bytes to send, and received bytes into a head and decoded pieces of a body. h11 writes requests and
reads heads; `framing` and `content_encoding` read bodies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transports._client.extras import explain

try:
    import h11
except ModuleNotFoundError as error:
    explain(error, "h11")
    raise

from batches_core import Request, TransportError
from batches_core.lowlevel import Headers, fold_headers
from transports._client import failures
from transports._client.content_encoding import ACCEPTED, END, BodyDecoder

from .framing import Framing, framing_of

#: How much is read from a stream at once, in bytes. More is of no use, and from 128 KiB on glibc
#: maps memory anew for each buffer until it has seen one of that size freed.
READ = 120 * 1024

#: How many informational heads may precede the final one.
_MAX_INFORMATIONAL = 100
#: The largest response head, in bytes: generous, and bounded.
_MAX_HEAD = 64 * 1024
#: The first status that is an error.
_ERROR = 400


class ConnectionClosedError(TransportError):
    """The peer closed or reset the connection before any byte of a response."""


class StreamError(Exception):
    """A stream broke. The cause is the error of its library."""


class StalledError(Exception):
    """Nothing moved on a stream for as long as it may wait, in seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing moved for {seconds:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The final head of a response."""

    status: int
    headers: Headers


def client_side() -> h11.Connection:
    """Make h11's state of one exchange."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)


class HTTP11Connection:
    """The HTTP/1.1 of one connection, for any number of exchanges one after the other.

    Send what `start_request` and `encode` return, and report what was accepted by
    `record_accepted`. Pass received bytes to `receive`, and take `next_event` until it needs more.
    Received bytes wait in one place: before the head in h11, after it in the `BodyDecoder`.
    `peer` names the other end in errors.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._request: Request | None = None
        #: Of one exchange; the next one has its own.
        self._h11 = client_side()
        self._head: Head | None = None
        self._is_head_taken = False
        #: The body's framing and decoder, once there is a head.
        self._framing: Framing | None = None
        self._body = BodyDecoder({})
        self._informational = 0
        #: Whether any byte of a response has arrived.
        self._is_answered = False
        #: Whether the peer has closed the connection.
        self._is_closed = False
        #: How many bytes of the request the system has not accepted.
        self._unsent = 0

    # --- the request -------------------------------------------------------------------------

    def start_request(self, request: Request) -> bytes:
        """Begin an exchange; return the head to send."""
        self._request = request
        self._is_answered = False
        self._informational = 0
        headers = [
            ("host", request.authority),
            *request.headers,
            ("accept-encoding", ACCEPTED),
        ]
        event = h11.Request(method=request.method, target=request.target, headers=headers)
        head = self._h11.send(event) or b""
        self._unsent = len(head) + (0 if request.body is None else request.body.content_length)
        return head

    def encode(self, data: bytes | memoryview) -> Sequence[bytes | memoryview]:
        """Return what to send for the next bytes of the body."""
        # "Passing through" is h11's word for not copying: any buffer is accepted.
        part: Any = data
        return self._h11.send_with_data_passthrough(h11.Data(data=part)) or ()

    def finish_request(self) -> None:
        """End the request: its whole body was encoded."""
        self._h11.send(h11.EndOfMessage())

    def record_accepted(self, count: int) -> None:
        """Record that the system has accepted, or may have accepted, this many bytes."""
        self._unsent -= count

    @property
    def is_sent(self) -> bool:
        """Whether the last byte of the request may have left, or a response says that it did.

        No peer can act on less: the framing and the JSON both lack their end.
        """
        return self._unsent <= 0 or self._head is not None

    # --- the response ------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Accept received bytes; empty at the end of the stream."""
        self._is_answered = self._is_answered or bool(data)
        self._is_closed = not data
        if self._framing is None:
            self._h11.receive_data(data)
        else:
            self._receive_body(self._framing, data)

    def next_event(self) -> Head | bytes | None:
        """Return the head, then pieces of the body, then `END`; None if more must be received.

        Raises:
            TransportError: the response is not HTTP/1.1, or is not complete.
        """
        if not self._is_head_taken:
            if self.has_head():
                self._is_head_taken = True
            return self._head
        piece = self._body.next_piece()
        if piece is None and self._framing is not None and self._framing.error is not None:
            raise self._broken(self._framing.error)
        return piece

    def has_head(self) -> bool:
        """Whether the final head has arrived; it stays for `next_event`.

        Raises:
            TransportError: the bytes are not HTTP/1.1.
        """
        while self._head is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise self._no_head(error) from failures.cause_of(error, self._request)
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response):
                self._begin_body(event)
            else:
                self._skip_informational(event)
        return True

    def is_refused(self) -> bool:
        """Whether a head has arrived that makes the rest of an upload pointless."""
        return self.has_head() and self._head is not None and self._head.status >= _ERROR

    def wants_more(self) -> bool:
        """Whether more of the response should be received before the upload is stopped."""
        framing = self._framing
        if framing is None or framing.is_complete or framing.error is not None:
            return False
        return self._body.waiting < READ

    # --- errors ------------------------------------------------------------------------------

    def broke(self, error: StreamError) -> TransportError:
        """Build the error for a stream that broke."""
        cause = error.__cause__ or error
        kind = TransportError if self._is_answered else ConnectionClosedError
        lost = kind(failures.broke(self._peer, failures.why(cause)), sent=self.is_sent)
        lost.__cause__ = failures.cause_of(cause, self._request)
        return lost

    def stalled(self, error: StalledError) -> TransportError:
        """Build the error for a stream on which nothing moved."""
        return TransportError(failures.stalled(self._peer, error.seconds), sent=self.is_sent)

    def ended_idle(self) -> ConnectionClosedError:
        """Build the error for a kept connection that ended before it was used again."""
        return ConnectionClosedError("it ended while it was idle", sent=False)

    def _no_head(self, error: h11.RemoteProtocolError) -> TransportError:
        if not self._is_closed:
            return self._broken(str(error))
        kind = TransportError if self._is_answered else ConnectionClosedError
        return kind(failures.closed_without_response(self._peer), sent=self.is_sent)

    def _broken(self, why: str) -> TransportError:
        return TransportError(failures.response_broken(self._peer, why), sent=self.is_sent)

    # --- the next exchange -------------------------------------------------------------------

    def start_next_cycle(self) -> bool:
        """Prepare for the next exchange; return False if this connection cannot have another."""
        # h11 is done only if the whole request was sent and neither side asked to close.
        framing = self._framing
        if self._h11.our_state is not h11.DONE or framing is None:
            return False
        if not framing.is_complete or not framing.keeps_connection:
            return False
        self._request = None
        self._h11 = client_side()
        self._head = self._framing = None
        self._is_head_taken = False
        return True

    # --- parts of `receive` ------------------------------------------------------------------

    def _begin_body(self, response: h11.Response) -> None:
        headers = fold_headers(list(response.headers))
        self._head = Head(status=response.status_code, headers=headers)
        self._body = BodyDecoder(headers)
        self._framing = framing_of(response.status_code, headers)
        if self._framing.is_complete:
            self._body.feed(END)
        begun, closed = self._h11.trailing_data
        if begun:
            self.receive(begun)
        if closed:
            self.receive(b"")

    def _receive_body(self, framing: Framing, data: bytes) -> None:
        was_complete = framing.is_complete
        if not data:
            framing.close()
        elif payload := framing.feed(data):
            self._body.feed(payload)
        if framing.is_complete and not was_complete:
            self._body.feed(END)

    def _skip_informational(self, event: object) -> None:
        self._informational += 1
        if not isinstance(event, h11.InformationalResponse):
            raise self._broken("there is more than one response")
        if self._informational > _MAX_INFORMATIONAL:
            raise self._broken("there is no end of 1xx heads")
