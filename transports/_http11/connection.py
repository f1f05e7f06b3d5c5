"""HTTP/1.1 on one connection, without I/O and without a clock.

`HTTP11Connection` encodes a request, and parses a response into its head and decoded pieces of its
body. h11 encodes requests and parses heads. `framing` finds the end of a body, and
`content_encoding` decodes it. The transport sends and receives the bytes.
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

#: How much is read from a stream at once, in bytes. Reading more is not faster. The size is below
#: 128 KiB, because glibc maps new memory for every larger buffer, until one has been freed.
READ = 120 * 1024

#: How many informational heads may precede the final one. Servers send one or two.
_MAX_INFORMATIONAL = 100
#: The largest response head, in bytes. It is generous, and bounds the memory of a head.
_MAX_HEAD = 64 * 1024
#: The lowest status that is an error.
_LOWEST_ERROR_STATUS = 400


class ConnectionClosedError(TransportError):
    """The peer closed or reset the connection before a byte of a response arrived."""


class StreamError(Exception):
    """A stream broke. The error of its library is the cause."""


class StalledError(Exception):
    """Nothing moved on a stream in time. `seconds` is the limit of the wait."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing moved for {seconds:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The final head of a response."""

    status: int
    headers: Headers


def client_side() -> h11.Connection:
    """Return h11's connection for one exchange."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)


class HTTP11Connection:
    """The HTTP/1.1 state of one connection, for any number of exchanges, one after the other.

    **Request.** Send the bytes that `start_request` and `encode` return, then call
    `finish_request`. Report each number of bytes that the stream accepts to `record_accepted`.

    **Response.** Pass received bytes to `receive`, and call `next_event` until it returns None.
    Received bytes are buffered in one place: before the head in h11, after it in the `BodyDecoder`.

    **Next exchange.** Call `start_next_cycle`.

    `peer` is the name of the peer in errors.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._request: Request | None = None
        #: h11's connection for this exchange. The next exchange has another one.
        self._h11 = client_side()
        self._head: Head | None = None
        self._is_head_returned = False
        #: The framing and the decoder of the body, once the head has arrived.
        self._framing: Framing | None = None
        self._body = BodyDecoder({})
        self._informational = 0
        #: Whether a byte of the response has arrived.
        self._has_response = False
        #: Whether the peer has closed the connection.
        self._is_closed = False
        #: How many bytes of the request were not accepted by the operating system yet.
        self._unsent = 0

    # --- the request -------------------------------------------------------------------------

    def start_request(self, request: Request) -> bytes:
        """Begin an exchange, and return the head of the request."""
        self._request = request
        self._has_response = False
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
        """Return the bytes to send for the next bytes of the body, without copying them."""
        # h11 accepts any buffer here, although its type says bytes.
        part: Any = data
        return self._h11.send_with_data_passthrough(h11.Data(data=part)) or ()

    def finish_request(self) -> None:
        """End the request, after its whole body was encoded."""
        self._h11.send(h11.EndOfMessage())

    def record_accepted(self, count: int) -> None:
        """Record that the operating system has, or may have, accepted this many bytes."""
        self._unsent -= count

    @property
    def is_sent(self) -> bool:
        """Whether the last byte of the request may have left, or the head of a response arrived.

        Without its last byte, a request has no effect: both its framing and its JSON are
        incomplete.
        """
        return self._unsent <= 0 or self._head is not None

    # --- the response ------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Accept received bytes; empty bytes at the end of the stream."""
        self._has_response = self._has_response or bool(data)
        self._is_closed = not data
        if self._framing is None:
            self._h11.receive_data(data)
        else:
            self._receive_body(self._framing, data)

    def next_event(self) -> Head | bytes | None:
        """Return the head, then pieces of the body, then `END`; None until more bytes are received.

        Raises:
            TransportError: the response is not HTTP/1.1, is incomplete, or cannot be decoded.
        """
        if not self._is_head_returned:
            if self.has_head():
                self._is_head_returned = True
            return self._head
        piece = self._body.next_piece()
        if piece is None and self._framing is not None and self._framing.error is not None:
            raise self._response_error(self._framing.error)
        return piece

    def has_head(self) -> bool:
        """Whether the final head has arrived. This does not consume it: `next_event` returns it.

        Raises:
            TransportError: the bytes are not HTTP/1.1.
        """
        while self._head is None:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise self._no_head_error(error) from failures.cause_of(error, self._request)
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response):
                self._begin_body(event)
            else:
                self._skip_informational(event)
        return True

    def is_refused(self) -> bool:
        """Whether a head with an error status has arrived, so that the upload can stop.

        Raises:
            TransportError: the bytes are not HTTP/1.1.
        """
        return (
            self.has_head() and self._head is not None and self._head.status >= _LOWEST_ERROR_STATUS
        )

    def has_room(self) -> bool:
        """Whether more of the response should be received during the upload."""
        return self._head is None or self.wants_more()

    def wants_more(self) -> bool:
        """Whether more of a refusal should be received before the upload is stopped."""
        framing = self._framing
        if framing is None or framing.is_complete or framing.error is not None:
            return False
        return self._body.waiting < READ

    # --- errors ------------------------------------------------------------------------------

    def broken_error(self, error: StreamError) -> TransportError:
        """Return the error for a stream that broke."""
        cause = error.__cause__ or error
        kind = TransportError if self._has_response else ConnectionClosedError
        reason = failures.connection_broke(self._peer, failures.describe(cause))
        failure = kind(reason, sent=self.is_sent)
        failure.__cause__ = failures.cause_of(cause, self._request)
        return failure

    def stalled_error(self, error: StalledError) -> TransportError:
        """Return the error for a stream on which nothing moved."""
        return TransportError(failures.stalled(self._peer, error.seconds), sent=self.is_sent)

    def idle_error(self) -> ConnectionClosedError:
        """Return the error for an idle connection that ended before it was used again."""
        return ConnectionClosedError("it ended while it was idle", sent=False)

    def _no_head_error(self, error: h11.RemoteProtocolError) -> TransportError:
        if not self._is_closed:
            return self._response_error(str(error))
        kind = TransportError if self._has_response else ConnectionClosedError
        return kind(failures.closed_without_response(self._peer), sent=self.is_sent)

    def _response_error(self, why: str) -> TransportError:
        return TransportError(failures.response_broken(self._peer, why), sent=self.is_sent)

    # --- the next exchange -------------------------------------------------------------------

    def start_next_cycle(self) -> bool:
        """Prepare for the next exchange; return False if the connection cannot be reused."""
        # h11's state is DONE only if the whole request was encoded and no side asked to close.
        framing = self._framing
        if self._h11.our_state is not h11.DONE or framing is None:
            return False
        if not framing.is_complete or not framing.keeps_connection:
            return False
        self._request = None
        self._h11 = client_side()
        self._head = self._framing = None
        self._is_head_returned = False
        return True

    # --- parts of `receive` ------------------------------------------------------------------

    def _begin_body(self, response: h11.Response) -> None:
        headers = fold_headers(list(response.headers))
        self._head = Head(status=response.status_code, headers=headers)
        self._body = BodyDecoder(headers)
        self._framing = framing_of(response.status_code, headers)
        if self._framing.is_complete:
            self._body.feed(END)
        begin_of_body, is_closed = self._h11.trailing_data
        if begin_of_body:
            self.receive(begin_of_body)
        if is_closed:
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
            raise self._response_error("there is more than one response")
        if self._informational > _MAX_INFORMATIONAL:
            reason = f"more than {_MAX_INFORMATIONAL} informational (1xx) heads arrived"
            raise self._response_error(reason)
