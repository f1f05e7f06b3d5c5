"""Serves `batches_core.emulator` over real sockets: for examples, tests, and trying things out.

    python -m transports.emulator --port 8000 --speed 10

prints its base URL as its first line and serves until it is interrupted. ``--fault`` lets
something go wrong on purpose. In Python::

    with running_emulator() as base_url:
        ...

Knows sockets, HTTP/1.1 (by h11) and the wall clock; what is answered, and what goes wrong on
purpose, is the emulator's. One thread serves any number of connections with a selector. It is a
test double: it does no TLS and listens on the loopback address unless told otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import selectors
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import h11

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Response
from batches_core.http import BytesBody

#: How much is read from a socket at once, in bytes.
_READ = 64 * 1024
#: For how many seconds a client that was refused in the middle of its request may go on sending.
_LINGER = 5.0
#: How often, in seconds, the server looks for clients that linger too long, and for descriptors
#: after there were none.
_HOUSEKEEPING = 0.25
#: A head larger than this is refused (h11's own limit, said here because it is a promise).
_MAX_HEAD = 64 * 1024
#: The share of the requests that a seed lets go wrong, where none is given.
_FAULT_RATE = 0.1
#: `SO_LINGER` on, for no time: closing resets the connection.
_RESET = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
_OUT_OF_DESCRIPTORS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class _Connection:
    """One client's connection: bytes in, requests out; responses in, bytes out."""

    def __init__(self, sock: socket.socket, emulator: Emulator, clock: Callable[[], float]) -> None:
        self.sock = sock
        self._emulator = emulator
        self._clock = clock
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
            self._close_gently()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            self._request = None
            self._body = []
            self._body_size = 0
            try:
                self._advance()
            except h11.RemoteProtocolError as error:
                self._refuse(error.error_status_hint)

    def _break_off(self) -> None:
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
        headers = tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self._request.headers
        )
        host = dict(headers).get("host", "localhost")
        return Request(
            method=self._request.method.decode("ascii"),
            url=f"http://{host}{self._request.target.decode('latin-1')}",
            headers=headers,
            body=BytesBody(tuple(self._body)) if self._body else None,
        )

    def _respond(self, response: Response) -> None:
        if response.delay:
            self._delayed, self.delayed_until = response, time.monotonic() + response.delay
        else:
            self._begin(response)

    def _begin(self, response: Response) -> None:
        self._end = response.end
        if not response.status:
            self._break_off()
            return
        headers = list(response.headers)
        if self._refused:
            headers.append(("connection", "close"))
        head = h11.Response(status_code=response.status, headers=headers)
        self._out = self._http.send(head) or b""
        bodiless = self._request is not None and self._request.method == b"HEAD"
        chunks = () if bodiless else response.chunks
        if isinstance(chunks, tuple) and len(chunks) == 1 and self._end == "clean":
            # A short answer leaves in one piece, as it does elsewhere.
            data, end = h11.Data(data=chunks[0]), h11.EndOfMessage()
            self._out += (self._http.send(data) or b"") + (self._http.send(end) or b"")
        else:
            self._chunks = iter(chunks)

    def _refuse_too_large(self) -> None:
        self._refused = True
        self._respond(self._emulator.too_large(self._clock()))

    def _refuse(self, status: int) -> None:
        self._refused = True
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.close()
            return
        head = h11.Response(status_code=status, headers=[("connection", "close")])
        self._out = self._http.send(head) or b""
        self._chunks = iter(())


class EmulatorServer:
    """Serves an emulator on `host` and `port` (0: any free one) until it is closed.

    `clock` gives the emulator's time, in seconds since the epoch. The address is bound at once,
    so `base_url` is known before `serve` runs, which it does in the thread that calls it.
    """

    def __init__(
        self,
        emulator: Emulator,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._emulator = emulator
        self._clock = clock
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
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                # The client stays in the queue, so the listener stays readable: look away a while.
                selector.unregister(self._listener)
                self._accepts_again_at = time.monotonic() + _HOUSEKEEPING
            return  # else the client is gone already
        sock.setblocking(False)  # noqa: FBT003 - the socket's own signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(sock, self._emulator, self._clock)
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
) -> Iterator[str]:
    """Serve an emulator in a thread for as long as the ``with`` lasts; gives its base URL."""
    server = EmulatorServer(emulator or Emulator(), host=host, port=port, clock=clock)
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
    options = parser.parse_args(arguments)
    if not options.speed > 0:
        parser.error("--speed is more than 0")
    if options.fault_rate is not None and options.fault_seed is None:
        parser.error("--fault-rate goes with --fault-seed")
    rate = _FAULT_RATE if options.fault_rate is None else options.fault_rate
    if not 0 <= rate <= 1:
        parser.error("--fault-rate is a share from 0 to 1")
    faults = FaultPlan(*options.faults, seed=options.fault_seed, rate=rate)
    emulator = Emulator(speed=options.speed, faults=faults)
    try:
        server = EmulatorServer(emulator, host=options.host, port=options.port)
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
