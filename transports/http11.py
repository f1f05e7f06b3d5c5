"""What the raw transports share: HTTP/1.1 on one connection, without I/O.

Knows h11 and the core's `Request`; no socket and no clock. A `Wire` turns a request into the
bytes to send, and the bytes that come into a head, decoded body pieces and an end. Requests and
heads are h11's work, the body is `framing`'s. What else both transports have to agree on is here
too: where a connection leads, which may be used again, and the words of errors.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import importlib
import ssl
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from .extras import explain

try:
    import h11
except ModuleNotFoundError as error:
    explain(error, "h11")
    raise

from batches_core import (
    InvalidInputError,
    LocalProtocolError,
    RawHeaders,
    Request,
    TransportError,
)

from . import wording
from .content_encoding import ACCEPTED, Identity, Inflate, Refused, decoder_for
from .framing import Body, body_of
from .settings import CLOSED
from .uploads import slices

#: The longest that a read or write can be told to wait, in seconds; sockets cannot take any number.
LONGEST_TIMEOUT = 7 * 24 * 3600.0
#: How much is read from a stream at once, in bytes. As much as is of use, and below the 128 KiB
#: from which glibc maps memory anew for each buffer until it has seen one of that size freed.
READ = 120 * 1024

#: How many connections with nothing to do are kept for one origin.
_KEPT = 8
#: How many heads may say that the response is still to come.
_MAX_INFORMATIONAL = 100
#: The largest response head, in bytes: generous, and bounded.
_MAX_HEAD = 64 * 1024

#: Scheme, host and port, as `Request.origin` has them.
Origin = tuple[str, str, int]


class ConnectionClosedError(TransportError):
    """The peer closed or reset the connection; nothing else went wrong."""


class Stalled(Exception):  # noqa: N818 - named for what happened
    """Nothing moved on a connection for as long as it may wait: so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing moved for {seconds:g} s")


class TunnelError(Exception):
    """The proxy opened no tunnel; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A response's head, informational ones left out."""

    status: int
    headers: RawHeaders


class Signal(enum.Enum):
    """What a `Wire` gives that is no piece of a response."""

    END = "the response is complete"
    NEED_DATA = "more bytes have to be read first"


def _client_side() -> h11.Connection:
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)


class Wire:
    """One connection's side of HTTP/1.1, for any number of exchanges one after the other.

    `peer` names the other side in errors.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        #: For one exchange; the next one has its own.
        self._h11 = _client_side()
        #: The response's body, once there is a head.
        self._body: Body | None = None
        self._payloads: deque[bytes] = deque()
        self._decoder: Identity | Inflate | Refused = Identity()
        self._pieces: Iterator[bytes] = iter(())
        #: What came while the request was still being sent.
        self._early: deque[Head | bytes | Signal] = deque()
        self._informational = 0
        #: Whether any byte has come since the present request was begun.
        self.answered = False
        #: Whether the peer has ended the connection.
        self._is_closed = False
        #: How many bytes of the present request have not left, in bytes.
        self._unsent = 0

    def request(self, request: Request) -> Iterator[bytes | memoryview]:
        """Begin a request; give its bytes, the head first. They can be left off at any point.

        They come in pieces so small that a slow connection is seen to move.
        """
        self.answered = False
        self._informational = 0
        headers = [
            ("host", request.authority),
            *request.headers,
            ("accept-encoding", ACCEPTED),
        ]
        event = h11.Request(method=request.method, target=request.target, headers=headers)
        head = self._h11.send(event) or b""
        self._unsent = len(head) + (0 if request.body is None else request.body.content_length)
        return self._rest_of(head, request)

    def _rest_of(self, head: bytes, request: Request) -> Iterator[bytes | memoryview]:
        yield head
        for piece in () if request.body is None else slices(request.body):
            # Uncopied, which is what h11 calls passing through: any buffer will do for it.
            part: Any = piece
            yield from self._h11.send_with_data_passthrough(h11.Data(data=part)) or ()
        self._h11.send(h11.EndOfMessage())

    def took(self, count: int) -> None:
        """Know that the system has accepted, or may have accepted, so many bytes of the request."""
        self._unsent -= count

    @property
    def is_sent(self) -> bool:
        """Whether the last byte of the request may have left, or the peer said that it had.

        No peer can act on less: its framing and its JSON both lack their end.
        """
        return self._unsent <= 0 or self._body is not None or bool(self._early)

    def receive(self, data: bytes) -> None:
        """Take bytes as they came; none at the end of the stream."""
        self.answered = self.answered or bool(data)
        self._is_closed = not data
        if self._body is None:
            self._h11.receive_data(data)
        elif not data:
            self._body.close()
        elif payload := self._body.feed(data):
            self._payloads.append(payload)

    def next(self) -> Head | bytes | Signal:
        """Give the next thing of the response.

        Raises:
            TransportError: it is no HTTP/1.1, or it ended too early, or is encoded wrongly.
        """
        return self._early.popleft() if self._early else self._parse()

    def has_head(self) -> bool:
        """Whether the response has begun; what has come stays there for `next`."""
        if not self._early and (item := self._parse()) is not Signal.NEED_DATA:
            self._early.append(item)
        return bool(self._early)

    def is_refused(self) -> bool:
        """Whether a head has come that makes the rest of an upload pointless."""
        head = self._early[0] if self.has_head() else None
        return isinstance(head, Head) and head.status >= 400  # noqa: PLR2004 - where HTTP's errors begin

    def read_ahead(self) -> bool:
        """Set aside, for `next`, what has come; False once it is all of the response, or enough."""
        while sum(len(item) for item in self._early if isinstance(item, bytes)) < READ:
            if (item := self._parse()) is Signal.NEED_DATA:
                return True
            self._early.append(item)
            if item is Signal.END:
                return False
        return False

    def lost(self, error: BaseException) -> TransportError:
        """Tell of a connection that broke, as the next thing of the response."""
        kind = TransportError if self.answered else ConnectionClosedError
        return kind(wording.broke(self._peer, wording.why(error)), sent=self.is_sent)

    def stalled(self, error: Stalled) -> TransportError:
        """Tell of a connection on which nothing moved."""
        return TransportError(wording.stalled(self._peer, error.seconds), sent=self.is_sent)

    def ended_idle(self) -> ConnectionClosedError:
        """Tell of a kept connection that ended before it was used again."""
        return ConnectionClosedError("it ended while it had nothing to do", sent=False)

    def _broken(self, why: str) -> TransportError:
        return TransportError(wording.answer_broken(self._peer, why), sent=self.is_sent)

    def _parse(self) -> Head | bytes | Signal:
        return self._parse_head() if self._body is None else self._parse_body(self._body)

    def _parse_head(self) -> Head | Signal:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                if not self._is_closed:
                    raise self._broken(str(error)) from None
                kind = TransportError if self.answered else ConnectionClosedError
                why = wording.closed_without_answer(self._peer)
                raise kind(why, sent=self.is_sent) from None
            if event is h11.NEED_DATA:
                return Signal.NEED_DATA
            if isinstance(event, h11.Response):
                headers = list(event.headers)
                self._decoder = decoder_for(headers)
                self._body = body_of(event.status_code, headers)
                begun, closed = self._h11.trailing_data
                if begun:
                    self.receive(begun)
                if closed:
                    self.receive(b"")
                return Head(status=event.status_code, headers=headers)
            self._pass_over(event)

    def _parse_body(self, body: Body) -> bytes | Signal:
        while True:
            for piece in self._pieces:
                return piece
            if self._payloads:
                self._pieces = self._decoder.feed(self._payloads.popleft())
            elif body.fault is not None:
                raise self._broken(body.fault)
            elif body.ended:
                self._decoder.finish()
                return Signal.END
            else:
                return Signal.NEED_DATA

    def _pass_over(self, event: object) -> None:
        self._informational += 1
        if not isinstance(event, h11.InformationalResponse):
            raise self._broken("there is more than was asked for")
        if self._informational > _MAX_INFORMATIONAL:
            raise self._broken("there is no end of 1xx heads")

    def start_over(self) -> bool:
        """Get ready for the next exchange; False where this connection cannot have another."""
        # h11 is done only where all of the request was sent and nobody asked to close.
        if self._h11.our_state is not h11.DONE or self._body is None:
            return False
        if not self._body.ended or not self._body.leaves_connection:
            return False
        self._h11 = _client_side()
        self._body = None
        return True


# --- connections -------------------------------------------------------------------------


class Connection(Protocol):
    """What a pool has to know of a transport's connection."""

    @property
    def origin(self) -> Origin:
        """Where it leads."""
        ...

    @property
    def wire(self) -> Wire:
        """The HTTP/1.1 on it."""
        ...


C = TypeVar("C", bound=Connection)


@dataclass
class Pool(Generic[C]):
    """The connections that are open, and of those that have nothing to do, where they lead."""

    _open: set[C] = field(default_factory=set)
    _idle: dict[Origin, list[C]] = field(default_factory=dict)
    _closed: bool = False

    def add(self, connection: C) -> C:
        """Know of a new connection."""
        self._open.add(connection)
        return connection

    def forget(self, connection: C) -> None:
        """Know that one was closed."""
        self._open.discard(connection)

    def take(self, request: Request) -> C | None:
        """Take the one that was used last, which is the likeliest to be alive.

        One can die just as a request is sent on it, and then nobody knows whether the request was
        taken. One that only reads is sent again without a word. Any other gets a connection of
        its own from the start, for there its loss is not the transport's to hide.
        """
        waiting = self._idle.get(request.origin)
        return waiting.pop() if waiting and request.method == "GET" else None

    def keep(self, connection: C) -> bool:
        """Keep one whose exchange is over; False where it has to be closed."""
        waiting = self._idle.setdefault(connection.origin, [])
        if self._closed or len(waiting) >= _KEPT or not connection.wire.start_over():
            return False
        waiting.append(connection)
        return True

    def check_open(self) -> None:
        """Refuse to go on behind the end.

        Raises:
            LocalProtocolError: the pool was closed.
        """
        if self._closed:
            raise LocalProtocolError(CLOSED)

    def close(self) -> list[C]:
        """Give all that are open, to be closed; there will be no others."""
        self._closed = True
        self._idle.clear()
        return [*self._open]


def tls_context() -> ssl.SSLContext:
    """Build a context that verifies: by the system's store, or else by certifi's.

    truststore, where it is installed, asks the operating system itself.
    """
    try:
        truststore = importlib.import_module("truststore")
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except ImportError:
        context = ssl.create_default_context()
        if not context.get_ca_certs():
            with contextlib.suppress(ImportError):
                context.load_verify_locations(importlib.import_module("certifi").where())
    context.set_alpn_protocols(["http/1.1"])
    return context


# --- proxies -----------------------------------------------------------------------------


class Proxy:
    """An HTTP proxy that https goes through by CONNECT: ``http://[user:password@]host:port``.

    Raises:
        InvalidInputError: the URL is of another form; it is not shown, for it may hold a password.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or 80
        except ValueError:
            raise InvalidInputError("proxy cannot be used: its host or port is malformed") from None
        if parts.scheme != "http" or not self.host or parts.path.strip("/"):
            raise InvalidInputError("proxy cannot be used: it is to be http://host:port")
        self._credentials: str | None = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._credentials = base64.b64encode(pair.encode()).decode()

    def __repr__(self) -> str:
        return f"<Proxy {self.peer}>"

    @property
    def peer(self) -> str:
        """Its name in errors."""
        return wording.peer_of(self.host, self.port)

    def tunnel(self, origin: Origin) -> Tunnel:
        """Begin to ask for a tunnel to an origin."""
        return Tunnel(origin, self._credentials)


class Tunnel:
    """The exchange that asks a proxy for a tunnel."""

    def __init__(self, origin: Origin, credentials: str | None) -> None:
        self._h11 = _client_side()
        target = wording.peer_of(*origin[1:])
        headers = [("host", target)]
        if credentials is not None:
            headers.append(("proxy-authorization", f"Basic {credentials}"))
        head = h11.Request(method="CONNECT", target=target, headers=headers)
        self.request: bytes = (self._h11.send(head) or b"") + (
            self._h11.send(h11.EndOfMessage()) or b""
        )

    def receive(self, data: bytes) -> bool:
        """Take what the proxy sent, no bytes at its end; True once the tunnel stands.

        Raises:
            TunnelError: the proxy refused, or is none.
        """
        self._h11.receive_data(data)
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                broke = wording.proxy_broke(str(error)) if data else wording.PROXY_CLOSED
                raise TunnelError(broke) from None
            if isinstance(event, h11.InformationalResponse):
                continue
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response) and 200 <= event.status_code < 300:  # noqa: PLR2004 - HTTP's successes
                return True
            status = getattr(event, "status_code", "no status")
            raise TunnelError(wording.proxy_refused(status))
