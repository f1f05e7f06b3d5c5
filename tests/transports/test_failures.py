"""The reason of a failure is the same on every transport, and shows no credential."""

from __future__ import annotations

import re
import socket
import ssl
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from batches_core import MessageBatch, Request, TransportError
from tests.support.batches import CHUNKED, ONE_ATTEMPT, chunk
from tests.support.carriers import OVER_HTTPX, Carrier
from tests.support.marks import every_carrier
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, reset, scripted, unreachable
from tests.support.tls import client_context, server_context
from transports._client import failures

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

each_httpx = pytest.mark.parametrize("carrier", OVER_HTTPX, ids=lambda carrier: carrier.name)

SECRET = "sk-secret-0123456789"
PASSWORD = "proxy-pass-word"
QUERY = "signature=0123456789abcdef"
A = result_line("a")


@dataclass
class FailingServer:
    """Where a failure happens, and a pattern of its reason; ``{peer}`` stands for host and port."""

    base_url: str
    settings: dict[str, Any]
    reason: str
    reads_results: bool = False


@contextmanager
def refused_connection() -> Iterator[FailingServer]:
    with scripted() as served:
        base_url = served.base_url
    yield FailingServer(base_url, {}, "cannot connect to {peer}: connection refused")


@contextmanager
def unknown_name() -> Iterator[FailingServer]:
    error: socket.gaierror | None = None
    try:
        socket.getaddrinfo("nobody.invalid", 443)
    except socket.gaierror as caught:
        error = caught
    assert error is not None
    why = f"the host name cannot be resolved: {error.strerror}"
    yield FailingServer(
        "https://nobody.invalid", {}, f"cannot connect to nobody.invalid:443: {why}"
    )


@contextmanager
def during_tls(prepare: Any, context: Any, why: str) -> Iterator[FailingServer]:
    with scripted(prepare=prepare) as served:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        peer = base_url.removeprefix("https://")
        settings = {"ssl_context": context, "timeout": 0.4}
        yield FailingServer(base_url, settings, f"cannot connect to {peer}: {why}")


def unknown_certificate() -> Any:
    context = server_context()

    def prepare(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True)

    why = "the certificate was rejected: unable to get local issuer certificate"
    return during_tls(prepare, ssl.create_default_context(), why)


def plain_http() -> Any:
    def prepare(connection: socket.socket) -> socket.socket:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while connection.recv(65536):
            pass
        return connection

    return during_tls(prepare, client_context(), "TLS failed: (WRONG VERSION NUMBER|.*record.*)")


def silent_handshake() -> Any:
    def prepare(connection: socket.socket) -> socket.socket:
        while connection.recv(65536):
            pass
        return connection

    return during_tls(prepare, client_context(), r"no response in 0\.4 s")


@contextmanager
def unanswered_connection() -> Iterator[FailingServer]:
    with unreachable() as address:
        base_url = f"http://{address[0]}:{address[1]}"
        reason = r"cannot connect to {peer}: no response in 0\.4 s"
        yield FailingServer(base_url, {"timeout": 0.4}, reason)


@contextmanager
def behind_a_proxy(handler: Any, why: str) -> Iterator[FailingServer]:
    with scripted(handler, handler) as served:
        peer = served.base_url.removeprefix("http://")
        settings = {"proxy": f"http://me:{PASSWORD}@{peer}", "timeout": 0.4}
        reason = f"cannot connect to api.example.test:443 through the proxy {peer}: {why}"
        yield FailingServer("https://api.example.test", settings, reason)


@contextmanager
def refusing_proxy() -> Iterator[FailingServer]:
    with scripted() as served:
        peer = served.base_url.removeprefix("http://")
    settings = {"proxy": f"http://me:{PASSWORD}@{peer}"}
    reason = f"cannot connect to api.example.test:443 through the proxy {peer}: "
    yield FailingServer("https://api.example.test", settings, reason + "connection refused")


@contextmanager
def responding(
    handler: Any, reason: str, *, reads_results: bool = False
) -> Iterator[FailingServer]:
    with scripted(handler) as served:
        yield FailingServer(served.base_url, {"timeout": 0.4}, reason, reads_results)


#: The beginning of a chunked response: one result and no end.
OPEN_RESPONSE = CHUNKED + chunk(A)

FAILURES: dict[str, Callable[[], Any]] = {
    "connection refused": refused_connection,
    "connection not answered": unanswered_connection,
    "name not found": unknown_name,
    "certificate refused": unknown_certificate,
    "no TLS": plain_http,
    "no response while connecting": silent_handshake,
    "proxy refused": lambda: behind_a_proxy(
        # The proxy repeats the password of its URL.
        raw(b"HTTP/1.1 407 No %b\r\ncontent-length: 0\r\n\r\n" % PASSWORD.encode(), keep=False),
        "the proxy refused the tunnel: 407",
    ),
    "proxy closed": lambda: behind_a_proxy(
        close, "the proxy closed the connection without a response"
    ),
    "proxy reset": lambda: behind_a_proxy(reset, "connection reset"),
    "proxy broken": lambda: behind_a_proxy(
        raw(b"what?\r\n\r\n", keep=False),
        r"the response from the proxy is broken: illegal status line: bytearray\(b'what\?'\)",
    ),
    "proxy silent": lambda: behind_a_proxy(raw(), r"no response in 0\.4 s"),
    "proxy connection refused": refusing_proxy,
    "no response": lambda: responding(
        raw(), r"no byte was sent to or received from {peer} in 0\.4 s"
    ),
    "closed": lambda: responding(close, "{peer} closed the connection without a response"),
    "closed in the head": lambda: responding(
        raw(b"HTTP/1.1 200 O", keep=False), "{peer} closed the connection without a response"
    ),
    "reset": lambda: responding(reset, "the connection to {peer} broke: connection reset"),
    "not HTTP": lambda: responding(
        raw(b"SSH-2.0-x\r\n\r\n", keep=False),
        "the response from {peer} is broken: illegal status line",
    ),
    "closed in the body": lambda: responding(
        reply(A * 9, cut=len(A)),
        "the response from {peer} is broken: the connection was closed before the end of the body",
        reads_results=True,
    ),
    "silent in the body": lambda: responding(
        raw(OPEN_RESPONSE),
        r"no byte was sent to or received from {peer} in 0\.4 s",
        reads_results=True,
    ),
    "closed in a chunk": lambda: responding(
        raw(OPEN_RESPONSE + b"500\r\n", keep=False),
        "the response from {peer} is broken: the connection was closed before the end of the body",
        reads_results=True,
    ),
}


def batch_with_query(base_url: str) -> MessageBatch:
    """Return an ended batch whose results URL has a query that must not be shown."""
    data = batch_json(status="ended", results_url=f"{base_url}/results?{QUERY}")
    return msgspec.convert(data, MessageBatch, strict=False)


async def use(client: Any, server: FailingServer) -> None:
    """Make the call that fails."""
    if server.reads_results:
        await client.results(batch_with_query(server.base_url), resume=False)
    else:
        await client.get("msgbatch_1")


@every_carrier
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_has_the_same_reason_on_every_transport(
    carrier: Carrier, failure: Callable[[], Any]
) -> None:
    async def scenario() -> None:
        settings = {"api_key": SECRET, "retry": ONE_ATTEMPT, "trusted_hosts": (), **server.settings}
        async with carrier.client(server.base_url, **settings) as client:
            with pytest.raises(TransportError) as caught:
                await use(client, server)
        error = caught.value
        expected = server.reason.replace("{peer}", server.base_url.partition("://")[2])
        assert re.match(expected, error.reason), error.reason
        shown = "".join(traceback.format_exception(error)) + repr(error)
        assert SECRET not in shown
        assert PASSWORD not in shown
        assert QUERY not in error.reason

    with failure() as server:
        carrier.run(scenario)


@every_carrier
def test_a_reset_in_a_body_has_the_same_reason_on_every_transport(carrier: Carrier) -> None:
    connections: list[socket.socket] = []

    def begin(connection: socket.socket) -> bool:
        connections.append(connection)
        raw(OPEN_RESPONSE)(connection)
        connection.recv(1)  # until the test ends the connection
        return False

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT, timeout=5) as client:
            stream = client.results_stream(batch_with_query(served.base_url), resume=False)
            assert (await anext(stream)).custom_id == "a"
            reset(connections[0])
            connections[0].shutdown(socket.SHUT_RD)
            with pytest.raises(TransportError) as caught:
                await anext(stream)
            await stream.aclose()
            peer = served.base_url.partition("://")[2]
            assert caught.value.reason == f"the connection to {peer} broke: connection reset"

    with scripted(begin) as served:
        carrier.run(scenario)


# --- causes ------------------------------------------------------------------------------


def test_a_cause_has_no_traceback_and_no_credential() -> None:
    request = Request(method="GET", url="https://api.test", headers=(("x-api-key", SECRET),))
    try:
        try:
            raise ConnectionResetError(104, "Connection reset by peer")
        except OSError as error:
            raise RuntimeError(f"the library quotes {SECRET}") from error
    except RuntimeError as error:
        cause = failures.cause_of(error, request)
    assert type(cause) is RuntimeError
    assert str(cause) == "the library quotes [hidden]"
    root = cause.__cause__
    assert isinstance(root, ConnectionResetError)
    for each in (cause, root):
        assert (each.__traceback__, each.__context__) == (None, None)
    assert root.__cause__ is None


def test_a_cause_that_cannot_be_copied_keeps_its_name_and_text() -> None:
    class KeywordError(Exception):
        def __init__(self, text: str, *, more: int) -> None:
            super().__init__(text)
            self.more = more

    cause = failures.cause_of(KeywordError("broken", more=1))
    assert (type(cause), str(cause)) == (Exception, "KeywordError: broken")


def test_a_cause_excludes_the_exception_that_the_caller_was_handling() -> None:
    error = RuntimeError("the library's")
    error.__context__ = ConnectionRefusedError(111, "the caller's own")
    cause = failures.cause_of(error)
    assert (cause.__cause__, cause.__context__) == (None, None)
    assert failures.describe(error) == "the library's"


@pytest.mark.parametrize(
    ("handler", "root_type"),
    [
        (reset, OSError),
        (raw(b"HTTP/1.1 200 OK\r\nnot a header " + SECRET.encode() + b"\r\n\r\n"), Exception),
    ],
    ids=["reset", "not HTTP"],
)
@every_carrier
def test_a_transport_error_has_the_librarys_error_as_its_cause(
    carrier: Carrier, handler: Any, root_type: type[Exception]
) -> None:
    async def scenario() -> None:
        settings = {"api_key": SECRET, "retry": ONE_ATTEMPT}
        async with carrier.client(served.base_url, **settings) as client:
            with pytest.raises(TransportError) as caught:
                await client.get("msgbatch_1")
        causes = []
        error = caught.value.__cause__
        while error is not None:
            causes.append(error)
            error = error.__cause__
        assert causes
        assert isinstance(causes[-1], root_type)
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    with scripted(handler) as served:
        carrier.run(scenario)


def test_the_root_of_several_attempts_is_the_first_system_error() -> None:
    attempts = [TimeoutError(), ConnectionRefusedError(111, "no")]
    error = OSError("all attempts failed")
    error.__cause__ = ExceptionGroup("several", attempts)
    assert failures.root_of(error) is attempts[1]
    assert failures.describe(error) == "connection refused"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (BrokenPipeError(32, "Broken pipe"), "connection reset"),
        (OSError(113, "No route to host"), "No route to host"),
        (OSError("odd"), "odd"),
        (RuntimeError(), "RuntimeError"),
        (ssl.SSLEOFError(8, "EOF occurred"), "the TLS connection was cut off"),
        (ssl.SSLError(1, "[SSL: X] broken"), "TLS failed: [SSL: X] broken"),
    ],
    ids=["EPIPE", "EHOSTUNREACH", "no errno", "no text", "TLS EOF", "TLS error"],
)
def test_a_system_error_is_described_in_plain_words(error: Exception, words: str) -> None:
    assert failures.describe(error) == words


def test_an_ipv6_host_is_named_in_brackets() -> None:
    assert failures.peer_name("::1", 80) == "[::1]:80"
    assert failures.peer_name("api.test", 443) == "api.test:443"
