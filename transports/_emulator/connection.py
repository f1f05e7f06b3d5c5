"""One client's connection: it reads requests and writes responses, with HTTP/1.1 by h11.

The server calls a connection when its socket is ready or a delay is over. `Emulator` decides what
the responses are.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from http import HTTPStatus

from transports._client.extras import explain

try:
    import h11
except ModuleNotFoundError as error:
    explain(error, "h11")
    raise

from batches_core import Request
from batches_core.emulator import Response
from batches_core.lowlevel import BytesBody, fold_headers, redact_text

from .settings import Settings
from .targets import read_url, redact_target

#: The most bytes that one read from a socket returns.
_READ = 64 * 1024
#: For how many seconds a client may go on sending after the last response of its connection.
_LINGER = 5.0
#: The largest head that is accepted, in bytes. It is h11's default, repeated here so that another
#: version of h11 does not change it.
_MAX_HEAD = 64 * 1024
#: The value of `SO_LINGER` with which a close resets the connection: on, with a time of 0.
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_OVERLOADED = 529


class Connection:
    """The HTTP/1.1 state of one socket: the request being read, the response being written."""

    def __init__(self, sock: socket.socket, settings: Settings) -> None:
        self.sock = sock
        self.closed = False
        #: The events that the selector is registered for.
        self.watched = selectors.EVENT_READ
        self._settings = settings
        self._emulator = settings.emulator
        #: The emulator's clock. All other times here are of the monotonic clock.
        self._clock = settings.clock
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        #: Whether the request was refused before its end; then the connection is closed.
        self._refused = False
        #: Until when the connection stays open after its last response. Received bytes are dropped
        #: meanwhile. None before that response was sent.
        self.lingers_until: float | None = None
        #: The body chunks still to be written. An iterator, so that a large body is made no faster
        #: than the client reads it.
        self._chunks: Iterator[bytes] | None = None
        self._out = b""
        #: What follows the last chunk; see `Response.end`.
        self._end = "clean"
        #: A response to be sent later, and when. Nothing is read until then.
        self._delayed: Response | None = None
        self.delayed_until: float | None = None
        #: For the log: when the unfinished request began, and the status and the number of body
        #: bytes of its response so far.
        self._began: float | None = None
        self._status = 0
        self._sent = 0

    def wanted_events(self) -> int:
        """Return the selector events to wait for: write if there is output, else read.

        During a delay, and after the close, there are none.
        """
        if self.delayed_until is not None or self.closed:
            return 0
        return selectors.EVENT_WRITE if self._out or self._chunks else selectors.EVENT_READ

    def close(self) -> None:
        """Close the socket at once."""
        self._log_request(is_whole=False)
        self.closed = True
        self.sock.close()

    def on_ready(self) -> None:
        """Continue after a watched event, or after the delay."""
        if self.delayed_until is not None:
            self._end_delay()
        elif self.watched == selectors.EVENT_READ:
            self._on_readable()
        if self.wanted_events() == selectors.EVENT_WRITE:
            self._on_writable()

    # --- reading -----------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = self.sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if self.lingers_until is not None:
            if not data:
                self.close()
            return
        try:
            self._http.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _read_events(self) -> None:
        while self._chunks is None and not self._out:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._http.they_are_waiting_for_100_continue:
                    proceed = h11.InformationalResponse(status_code=100, headers=[])
                    self._out = self._http.send(proceed) or b""
                return
            if isinstance(event, h11.Request):
                self._request = event
                self._began = time.monotonic()
                length = dict(event.headers).get(b"content-length", b"0")
                if int(length) > self._emulator.max_body:
                    self._refuse_too_large()
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
                self._body_size += len(event.data)
                if self._body_size > self._emulator.max_body:
                    self._refuse_too_large()
            elif isinstance(event, h11.EndOfMessage):
                self._respond(self._handle())
            else:
                self.close()
                return

    def _handle(self) -> Response:
        try:
            return self._emulator.handle(self._read_request(), self._clock())
        except Exception:  # noqa: BLE001 - a user's responder may raise anything
            # Show the traceback and go on: one client's request must not end the server.
            traceback.print_exc()
            return self._emulator.failed(self._clock())

    def _read_request(self) -> Request:
        assert self._request is not None, "a message ends only after its head"  # noqa: S101 - for the type checker
        method = self._request.method.decode("ascii")
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._request.headers
        )
        target = self._request.target.decode("latin-1")
        url = read_url(target, fold_headers(headers), self._settings.public_url)
        body = BytesBody(tuple(self._body)) if self._body else None
        return Request(method=method, url=url, headers=headers, body=body)

    # --- writing -----------------------------------------------------------------------

    def _refuse_too_large(self) -> None:
        self._refused = True
        self._respond(self._emulator.too_large(self._clock()))

    def _refuse(self, status: int) -> None:
        """Respond to bytes that are not HTTP with a status and no body."""
        self._refused = True
        if self._began is None:
            self._began = time.monotonic()
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.close()
            return
        self._status = status
        headers = [("connection", "close")]
        head = h11.Response(status_code=status, headers=headers, reason=_phrase(status))
        self._out = self._http.send(head) or b""
        self._chunks = iter(())

    def _respond(self, response: Response) -> None:
        if response.delay:
            self._delayed, self.delayed_until = response, time.monotonic() + response.delay
        else:
            self._begin(response)

    def _end_delay(self) -> None:
        response, self._delayed, self.delayed_until = self._delayed, None, None
        assert response is not None, "a delay has a response"  # noqa: S101 - for the type checker
        self._begin(response)

    def _begin(self, response: Response) -> None:
        self._end = response.end
        self._status = response.status
        if not response.status:
            self._break_off()
            return
        headers = list(response.headers)
        if self._refused:
            headers.append(("connection", "close"))
        reason = _phrase(response.status)
        head = h11.Response(status_code=response.status, headers=headers, reason=reason)
        self._out = self._http.send(head) or b""
        is_head = self._request is not None and self._request.method == b"HEAD"
        chunks = () if is_head else response.chunks
        if isinstance(chunks, tuple) and len(chunks) == 1 and self._end == "clean":
            # Send a short response in one piece, as other servers do.
            self._sent = len(chunks[0])
            data, end = h11.Data(data=chunks[0]), h11.EndOfMessage()
            self._out += (self._http.send(data) or b"") + (self._http.send(end) or b"")
        else:
            self._chunks = iter(chunks)

    def _on_writable(self) -> None:
        while not self._out and self._chunks is not None:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._chunks = None
                if self._end != "clean":
                    self._break_off()
                    return
                self._out = self._http.send(h11.EndOfMessage()) or b""
            else:
                self._out = self._http.send(h11.Data(data=chunk)) or b""
                self._sent += len(chunk)
        if self._out:
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._out = self._out[sent:]
        if not self._out and self._chunks is None:
            self._after_response()

    def _after_response(self) -> None:
        if self._http.our_state is h11.MUST_CLOSE or self._refused:
            self._log_request(is_whole=True)
            self._close_gently()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._log_request(is_whole=True)
            self._http.start_next_cycle()
            self._request = None
            self._body = []
            self._body_size = 0
            try:
                self._read_events()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)

    def _break_off(self) -> None:
        """Close or reset the connection in the middle of a response, for an injected fault."""
        self._log_request(is_whole=False)
        if self._end == "close":
            self._close_gently()
            return
        with contextlib.suppress(OSError):  # the client may have closed the connection already
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def _close_gently(self) -> None:
        # Closing a socket with unread bytes resets the connection, and the reset can overtake the
        # response. So close only this side, and read and drop what the client still sends.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.lingers_until = time.monotonic() + _LINGER

    # --- the log -----------------------------------------------------------------------

    def _log_request(self, *, is_whole: bool) -> None:
        """Log the request in progress, if there is one, at the end of its response.

        `is_whole` says whether the whole response was sent.
        """
        began, self._began = self._began, None
        if began is not None and self._settings.log is not None:
            shown = "no request"
            if self._request is not None:
                request = self._read_request()
                target = redact_target(self._request.target.decode("latin-1"))
                shown = redact_text(request.headers, f"{request.method} {target}")
            result = f"{self._status}, {self._sent} bytes" if self._status else "no response"
            end = ", cut off" if self._status and not is_whole else ""
            self._settings.log(f"{shown} {result}, {time.monotonic() - began:.3f} s{end}")
        self._status = self._sent = 0


def _phrase(status: int) -> str:
    if status == _OVERLOADED:
        return "Overloaded"
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
