"""Serves `batches_core.emulator` over real sockets: for examples, tests, and trying things out.

    python -m transports.emulator --port 8000 --speed 10

prints its base URL as its first line and serves until it is interrupted. ``--fault`` lets
something go wrong on purpose, ``--verbose`` logs requests. In Python::

    with running_emulator() as base_url:
        ...

Knows sockets, HTTP/1.1 (by h11) and the wall clock; what is answered, and what goes wrong on
purpose, is the emulator's. One thread serves any number of connections with a selector. It is a
test double: it does no TLS and listens on the loopback address unless told otherwise. Behind a
proxy that does TLS, ``results_url`` starts as the proxy's ``X-Forwarded-Proto`` and
``X-Forwarded-Host`` say, or as `public_url` does.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import re
import selectors
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from ._client.extras import explain

try:
    import h11
except ModuleNotFoundError as error:
    explain(error, "h11")
    raise

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Response
from batches_core.lowlevel import BytesBody, fold_headers, redact_text

#: How much is read from a socket at once, in bytes.
_READ = 64 * 1024
#: For how many seconds a client that was refused in the middle of its request may go on sending.
_LINGER = 5.0
#: How often, in seconds, the server looks for clients that linger too long, and for descriptors
#: after there were none.
_HOUSEKEEPING = 0.25
#: How many clients are accepted before those accepted earlier are served again.
_ACCEPTS = 100
#: A head larger than this is refused (h11's own limit, said here because it is a promise).
_MAX_HEAD = 64 * 1024
#: The share of the requests that a seed lets go wrong, where none is given.
_FAULT_RATE = 0.1
#: `SO_LINGER` on, for no time: closing resets the connection.
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_OVERLOADED = 529
#: The form of a target that is sent to a proxy, and an authority without user information.
_ABSOLUTE_TARGET = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
_AUTHORITY = re.compile(r"[A-Za-z0-9._~-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")
#: What a query may hold that is no secret; all else of it is not logged.
_LOGGED_PARAMS = frozenset({"limit", "before_id", "after_id", "beta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What all connections of a server have in common."""

    emulator: Emulator
    clock: Callable[[], float]
    public_url: str | None
    log: Callable[[str], object] | None


class _Connection:
    """One client's connection: bytes in, requests out; responses in, bytes out."""

    def __init__(self, sock: socket.socket, settings: _Settings) -> None:
        self.sock = sock
        self._settings = settings
        self._emulator = settings.emulator
        self._clock = settings.clock
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._request: h11.Request | None = None
        self._body: list[bytes] = []
        self._body_size = 0
        self._refused = False
        #: Set once the response is out and what still comes is only dropped.
        self.lingers_until: float | None = None
        #: What is still to be sent of the response; an iterator, so that a large one is made
        #: only as fast as the client takes it.
        self._chunks: Iterator[bytes] | None = None
        self._out = b""
        #: How the response ends, after the last of its chunks.
        self._end = "clean"
        #: A response that is sent only later, and when: nothing is read meanwhile.
        self._delayed: Response | None = None
        self.delayed_until: float | None = None
        self.closed = False
        #: For the log: when the request began that is not over yet, and what was answered so far.
        self._began: float | None = None
        self._status = 0
        self._answered = 0
        #: The events that the selector is asked for.
        self.watched = selectors.EVENT_READ

    def wanted_events(self) -> int:
        """Tell what the connection waits for: to write while there is something, else to read.

        During a delay, and once it is closed, that is nothing.
        """
        if self.delayed_until is not None or self.closed:
            return 0
        return selectors.EVENT_WRITE if self._out or self._chunks else selectors.EVENT_READ

    def close(self) -> None:
        self._end_log(is_whole=False)
        self.closed = True
        self.sock.close()

    def on_ready(self) -> None:
        """Go on, where something came that was waited for, or a delay is over."""
        if self.delayed_until is not None:
            self._end_delay()
        elif self.watched == selectors.EVENT_READ:
            self._on_readable()
        if self.wanted_events() == selectors.EVENT_WRITE:
            self._on_writable()

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
            self._advance()
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint)

    def _end_delay(self) -> None:
        response, self._delayed, self.delayed_until = self._delayed, None, None
        assert response is not None, "a delay is one of a response"  # noqa: S101
        self._begin(response)

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
                self._answered += len(chunk)
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
            self._end_log(is_whole=True)
            self._close_gently()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._end_log(is_whole=True)
            self._http.start_next_cycle()
            self._request = None
            self._body = []
            self._body_size = 0
            try:
                self._advance()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)

    def _break_off(self) -> None:
        self._end_log(is_whole=False)
        if self._end == "close":
            self._close_gently()
            return
        with contextlib.suppress(OSError):  # the client may have gone before
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close()

    def _close_gently(self) -> None:
        # A close with unread bytes resets the connection, and a reset can overtake the response.
        # So only this side is closed, and what the client still sends is read and dropped.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        self.lingers_until = time.monotonic() + _LINGER

    def _advance(self) -> None:
        while self._chunks is None and not self._out:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[])
                    self._out = self._http.send(go_on) or b""
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
            # One client's request must not end the service of the others; the fault is shown.
            traceback.print_exc()
            return self._emulator.failed(self._clock())

    def _read_request(self) -> Request:
        assert self._request is not None, "a message ends only after its head"  # noqa: S101
        method = self._request.method.decode("ascii")
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._request.headers
        )
        target = self._request.target.decode("latin-1")
        url = _read_url(target, fold_headers(headers), self._settings.public_url)
        body = BytesBody(tuple(self._body)) if self._body else None
        return Request(method=method, url=url, headers=headers, body=body)

    def _end_log(self, *, is_whole: bool) -> None:
        """Log the request that was under way, if one was; its answer is out, or never will be."""
        began, self._began = self._began, None
        if began is not None and self._settings.log is not None:
            asked = "no request"
            if self._request is not None:
                request = self._read_request()
                shown = _without_secrets(self._request.target.decode("latin-1"))
                asked = redact_text(request.headers, f"{request.method} {shown}")
            answered = f"{self._status}, {self._answered} bytes" if self._status else "no answer"
            end = ", cut off" if self._status and not is_whole else ""
            self._settings.log(f"{asked} {answered}, {time.monotonic() - began:.3f} s{end}")
        self._status = self._answered = 0

    def _respond(self, response: Response) -> None:
        if response.delay:
            self._delayed, self.delayed_until = response, time.monotonic() + response.delay
        else:
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
        bodiless = self._request is not None and self._request.method == b"HEAD"
        chunks = () if bodiless else response.chunks
        if isinstance(chunks, tuple) and len(chunks) == 1 and self._end == "clean":
            # A short answer leaves in one piece, as it does elsewhere.
            self._answered = len(chunks[0])
            data, end = h11.Data(data=chunks[0]), h11.EndOfMessage()
            self._out += (self._http.send(data) or b"") + (self._http.send(end) or b"")
        else:
            self._chunks = iter(chunks)

    def _refuse_too_large(self) -> None:
        self._refused = True
        self._respond(self._emulator.too_large(self._clock()))

    def _refuse(self, status: int) -> None:
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


def _phrase(status: int) -> str:
    if status == _OVERLOADED:
        return "Overloaded"
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _read_url(target: str, headers: Mapping[str, str], public_url: str | None) -> str:
    """Give the URL that a request is for, as the client knows it and not the last proxy."""
    scheme, authority = "http", headers.get("host", "localhost")
    absolute = _ABSOLUTE_TARGET.fullmatch(target)
    if absolute is not None:
        scheme, authority, target = absolute.groups()
        authority = authority.rpartition("@")[2]
        target = target if target.startswith("/") else f"/{target}"
    # Of several proxies the first one is that which the client talks to.
    forwarded_scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    if forwarded_scheme.lower() in {"http", "https"}:
        scheme = forwarded_scheme
    forwarded_host = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if _AUTHORITY.fullmatch(forwarded_host):
        authority = forwarded_host
    return (public_url or f"{scheme.lower()}://{authority}") + target


def _read_public_url(text: str) -> str:
    scheme, _, authority = text.removesuffix("/").partition("://")
    if scheme not in {"http", "https"} or not _AUTHORITY.fullmatch(authority):
        shown = text.rpartition("@")[2]
        raise ValueError(f"public_url is an origin, as in https://host:8443, not {shown!r}")
    return f"{scheme}://{authority}"


def _without_secrets(target: str) -> str:
    """Give the path and query of a target without what only its sender should know."""
    absolute = _ABSOLUTE_TARGET.fullmatch(target)
    path, mark, query = (target if absolute is None else absolute[3] or "/").partition("?")
    return path + mark + "&".join(map(_without_secret, query.split("&")))


def _without_secret(part: str) -> str:
    return part if not part or part.partition("=")[0] in _LOGGED_PARAMS else "[hidden]"


class EmulatorServer:
    """Serves an emulator on `host` and `port` (0: any free one) until it is closed.

    `clock` gives the emulator's time, in seconds since the epoch. `public_url` is the origin that
    clients know the emulator by, such as that of a proxy in front of it; ``results_url`` starts
    with it. By default that is said by ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, or else by
    the request itself. `log` is called with a line for each request once it is over: its method and
    target, and the status, body bytes and seconds of its answer. No line holds a credential.

    The address is bound at once, so `base_url` is known before `serve` runs, which it does in the
    thread that calls it.

    Raises:
        ValueError: `public_url` is no origin.
        OSError: the address cannot be listened on.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
        public_url: str | None = None,
        log: Callable[[str], object] | None = None,
    ) -> None:
        public = None if public_url is None else _read_public_url(public_url)
        self._settings = _Settings(emulator=emulator, clock=clock, public_url=public, log=log)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        self._listener.setblocking(False)  # noqa: FBT003 - the socket's own signature
        bound_host, bound_port = self._listener.getsockname()[:2]
        shown = f"[{bound_host}]" if family == socket.AF_INET6 else bound_host
        self.base_url = f"http://{shown}:{bound_port}"
        self._waker, self._woken = socket.socketpair()
        # Here and not in `serve`: clients may take the last descriptors before its thread begins.
        self._selector = selectors.DefaultSelector()
        self._accepts_again_at: float | None = None

    def serve(self) -> None:
        """Serve until `stop` is called, then close every connection."""
        connections: set[_Connection] = set()
        with self._selector as selector, self._listener, self._woken:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            try:
                while True:
                    for key, _ in selector.select(_patience(connections)):
                        if key.fileobj is self._woken:
                            return
                        if key.fileobj is self._listener:
                            self._accept(selector, connections)
                        else:
                            self._step(selector, connections, key.data)
                    self._keep_house(selector, connections)
            finally:
                for connection in connections:
                    connection.close()

    def _keep_house(self, selector: selectors.BaseSelector, connections: set[_Connection]) -> None:
        now = time.monotonic()
        for connection in [c for c in connections if c.delayed_until and c.delayed_until <= now]:
            self._step(selector, connections, connection)
        for connection in [c for c in connections if c.lingers_until and c.lingers_until < now]:
            self._drop(selector, connections, connection)
        if self._accepts_again_at is not None and self._accepts_again_at < now:
            self._accepts_again_at = None
            selector.register(self._listener, selectors.EVENT_READ)

    def stop(self) -> None:
        """End `serve`, from any thread; again is harmless."""
        self._waker.close()

    def _accept(self, selector: selectors.BaseSelector, connections: set[_Connection]) -> None:
        # As many as wait: with one at a time, the last of many would wait while all others are
        # served again and again.
        for _ in range(_ACCEPTS):
            try:
                sock, _address = self._listener.accept()
            except ConnectionAbortedError:
                continue  # the client is gone already
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    # The client stays in the queue, so the listener stays readable: look away a
                    # while.
                    selector.unregister(self._listener)
                    self._accepts_again_at = time.monotonic() + _HOUSEKEEPING
                return  # else nobody waits any more
            sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(sock, self._settings)
            connections.add(connection)
            selector.register(sock, selectors.EVENT_READ, connection)

    def _drop(
        self,
        selector: selectors.BaseSelector,
        connections: set[_Connection],
        connection: _Connection,
    ) -> None:
        selector.unregister(connection.sock)
        connections.discard(connection)
        connection.close()

    def _step(
        self,
        selector: selectors.BaseSelector,
        connections: set[_Connection],
        connection: _Connection,
    ) -> None:
        # By its number the selector knows a socket also once it is closed.
        sock, number = connection.sock, connection.sock.fileno()
        try:
            connection.on_ready()
        except Exception:  # noqa: BLE001 - one connection's fault must not end the others'
            traceback.print_exc()
            connection.close()
        if connection.closed:
            connections.discard(connection)
        watched, connection.watched = connection.watched, connection.wanted_events()
        if watched and not connection.watched:
            selector.unregister(number)
        elif connection.watched and not watched:
            selector.register(sock, connection.watched, connection)
        elif watched != connection.watched:
            selector.modify(sock, connection.watched, connection)


def _patience(connections: set[_Connection]) -> float:
    """For how long nothing is due, in seconds."""
    now = time.monotonic()
    delays = (c.delayed_until - now for c in connections if c.delayed_until is not None)
    return max(0.0, min([_HOUSEKEEPING, *delays]))


@contextlib.contextmanager
def running_emulator(
    emulator: Emulator | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    clock: Callable[[], float] = time.time,
    public_url: str | None = None,
    log: Callable[[str], object] | None = None,
) -> Iterator[str]:
    """Serve an emulator in a thread for as long as the ``with`` lasts; gives its base URL.

    The arguments are `EmulatorServer`'s; `log` is called in that thread.
    """
    server = EmulatorServer(
        emulator or Emulator(), host=host, port=port, clock=clock, public_url=public_url, log=log
    )
    thread = threading.Thread(target=server.serve, name="batches-emulator", daemon=True)
    thread.start()
    try:
        yield server.base_url
    finally:
        server.stop()
        thread.join()


def _fault(text: str) -> FaultRule:
    try:
        return FaultRule.parse(text)
    except ValueError as error:
        # An error of another kind argparse would show without its text.
        raise argparse.ArgumentTypeError(str(error)) from None


def main(arguments: list[str] | None = None) -> int:
    """Serve an emulator until interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m transports.emulator",
        description="A Message Batches service in memory, for trying things out.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port; 0 takes any free one")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="how many times faster it works (%(default)s)"
    )
    parser.add_argument(
        "--fault",
        metavar="RULE",
        dest="faults",
        action="append",
        default=[],
        type=_fault,
        help="let something go wrong, as in create:status=503,retry_after=1,times=2 or "
        "results:cut=1000,end=reset; can be given more than once",
    )
    parser.add_argument(
        "--fault-seed", type=int, metavar="N", help="let requests go wrong that this number chooses"
    )
    parser.add_argument(
        "--fault-rate",
        type=float,
        metavar="R",
        help=f"the share of the requests that --fault-seed chooses ({_FAULT_RATE})",
    )
    parser.add_argument(
        "--errored",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="the share of the requests of each batch that ends as errored, from 0 to 1; one that "
        "ends as expired is --fault create:expired=SHARE,times=always",
    )
    parser.add_argument(
        "--public-url",
        metavar="URL",
        help="the origin that clients use, if a proxy stands in front, as in https://host:8443",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="log each request to stderr, without secrets"
    )
    options = parser.parse_args(arguments)
    if not options.speed > 0:
        parser.error("--speed is more than 0")
    if options.fault_rate is not None and options.fault_seed is None:
        parser.error("--fault-rate goes with --fault-seed")
    rate = _FAULT_RATE if options.fault_rate is None else options.fault_rate
    if not 0 <= rate <= 1:
        parser.error("--fault-rate is a share from 0 to 1")
    if not 0 <= options.errored <= 1:
        parser.error("--errored is a share from 0 to 1")
    faults = FaultPlan(*options.faults, seed=options.fault_seed, rate=rate)
    emulator = Emulator(speed=options.speed, faults=faults, errored=options.errored)
    log = functools.partial(print, file=sys.stderr, flush=True) if options.verbose else None
    try:
        server = EmulatorServer(
            emulator,
            host=options.host,
            port=options.port,
            public_url=options.public_url,
            log=log,
        )
    except ValueError as error:
        parser.error(f"--public-url: {error}")
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        print(f"cannot listen on {options.host}:{options.port}: {why}", file=sys.stderr)  # noqa: T201 - a command
        return 1
    print(server.base_url, flush=True)  # noqa: T201 - a command
    print("any api_key will do; interrupt to stop", file=sys.stderr, flush=True)  # noqa: T201
    with contextlib.suppress(KeyboardInterrupt):
        server.serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
