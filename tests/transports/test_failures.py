"""One failure reads the same on every transport, and shows no credential."""

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

from batches_core import MessageBatch, Request, RetryPolicy, TransportError
from tests.support.carriers import CARRIERS, OVER_HTTPX, Carrier
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, reset, scripted, unreachable
from tests.support.tls import client_context, server_context
from transports._client import failures

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
each_httpx = pytest.mark.parametrize("carrier", OVER_HTTPX, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
SECRET = "sk-secret-0123456789"
PASSWORD = "proxy-pass-word"
QUERY = "signature=0123456789abcdef"
A = result_line("a")


@dataclass
class Place:
    """Where a failure happens, and what it reads like."""

    base_url: str
    settings: dict[str, Any]
    reason: str
    reads_results: bool = False


@contextmanager
def nobody_listens() -> Iterator[Place]:
    with scripted() as served:
        base_url = served.base_url
    yield Place(base_url, {}, "cannot connect to {peer}: connection refused")


@contextmanager
def unknown_name() -> Iterator[Place]:
    error: socket.gaierror | None = None
    try:
        socket.getaddrinfo("nobody.invalid", 443)
    except socket.gaierror as caught:
        error = caught
    assert error is not None
    why = f"the host name cannot be resolved: {error.strerror}"
    yield Place("https://nobody.invalid", {}, f"cannot connect to nobody.invalid:443: {why}")


@contextmanager
def in_tls(prepare: Any, context: Any, why: str) -> Iterator[Place]:
    with scripted(prepare=prepare) as served:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        peer = base_url.removeprefix("https://")
        settings = {"ssl_context": context, "timeout": 0.4}
        yield Place(base_url, settings, f"cannot connect to {peer}: {why}")


def certificate_of_nobody() -> Any:
    context = server_context()

    def prepare(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True)

    why = "the certificate was rejected: unable to get local issuer certificate"
    return in_tls(prepare, ssl.create_default_context(), why)


def no_tls() -> Any:
    def prepare(connection: socket.socket) -> socket.socket:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while connection.recv(65536):
            pass
        return connection

    return in_tls(prepare, client_context(), "TLS failed: (WRONG VERSION NUMBER|.*record.*)")


def silence_in_tls() -> Any:
    def prepare(connection: socket.socket) -> socket.socket:
        while connection.recv(65536):
            pass
        return connection

    return in_tls(prepare, client_context(), r"no response in 0\.4 s")


@contextmanager
def nothing_comes_back() -> Iterator[Place]:
    with unreachable() as address:
        base_url = f"http://{address[0]}:{address[1]}"
        reason = r"cannot connect to {peer}: no response in 0\.4 s"
        yield Place(base_url, {"timeout": 0.4}, reason)


@contextmanager
def behind_a_proxy(handler: Any, why: str) -> Iterator[Place]:
    with scripted(handler, handler) as served:
        peer = served.base_url.removeprefix("http://")
        settings = {"proxy": f"http://me:{PASSWORD}@{peer}", "timeout": 0.4}
        reason = f"cannot connect to api.example.test:443 through the proxy {peer}: {why}"
        yield Place("https://api.example.test", settings, reason)


@contextmanager
def no_proxy() -> Iterator[Place]:
    with scripted() as served:
        peer = served.base_url.removeprefix("http://")
    settings = {"proxy": f"http://me:{PASSWORD}@{peer}"}
    reason = f"cannot connect to api.example.test:443 through the proxy {peer}: "
    yield Place("https://api.example.test", settings, reason + "connection refused")


@contextmanager
def answered(handler: Any, reason: str, *, reads_results: bool = False) -> Iterator[Place]:
    with scripted(handler) as served:
        yield Place(served.base_url, {"timeout": 0.4}, reason, reads_results)


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(A), A)

FAILURES: dict[str, Callable[[], Any]] = {
    "connection refused": nobody_listens,
    "connection not answered": nothing_comes_back,
    "name not found": unknown_name,
    "certificate refused": certificate_of_nobody,
    "no TLS": no_tls,
    "no answer while connecting": silence_in_tls,
    "proxy refused": lambda: behind_a_proxy(
        raw(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", keep=False),
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
    "no proxy": no_proxy,
    "no answer": lambda: answered(raw(), r"no byte was sent to or received from {peer} in 0\.4 s"),
    "closed": lambda: answered(close, "{peer} closed the connection without a response"),
    "closed in the head": lambda: answered(
        raw(b"HTTP/1.1 200 O", keep=False), "{peer} closed the connection without a response"
    ),
    "reset": lambda: answered(reset, "the connection to {peer} broke: connection reset"),
    "no HTTP": lambda: answered(
        raw(b"SSH-2.0-x\r\n\r\n", keep=False),
        "the response from {peer} is broken: illegal status line",
    ),
    "closed in the body": lambda: answered(
        reply(A * 9, cut=len(A)),
        "the response from {peer} is broken: the connection was closed before the end of the body",
        reads_results=True,
    ),
    "silent in the body": lambda: answered(
        raw(CHUNKED), r"no byte was sent to or received from {peer} in 0\.4 s", reads_results=True
    ),
    "closed in a chunk": lambda: answered(
        raw(CHUNKED + b"500\r\n", keep=False),
        "the response from {peer} is broken: the connection was closed before the end of the body",
        reads_results=True,
    ),
}


async def use(client: Any, place: Place) -> None:
    """Do what fails there."""
    if place.reads_results:
        url = f"{place.base_url}/results?{QUERY}"
        data = batch_json(status="ended", results_url=url)
        batch = msgspec.convert(data, MessageBatch, strict=False)
        await client.results(batch, resume=False)
    else:
        await client.get("msgbatch_1")


@every
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_reads_the_same_on_every_transport(
    carrier: Carrier, failure: Callable[[], Any]
) -> None:
    async def job() -> None:
        settings = {"api_key": SECRET, "retry": ONCE, "trusted_hosts": (), **place.settings}
        async with carrier.client(place.base_url, **settings) as client:
            with pytest.raises(TransportError) as caught:
                await use(client, place)
        error = caught.value
        expected = place.reason.replace("{peer}", place.base_url.partition("://")[2])
        assert re.match(expected, error.reason), error.reason
        shown = "".join(traceback.format_exception(error)) + repr(error)
        assert SECRET not in shown
        assert PASSWORD not in shown
        assert QUERY not in error.reason

    with failure() as place:
        carrier.run(job)


@every
def test_a_reset_in_a_body_reads_the_same_on_every_transport(carrier: Carrier) -> None:
    held: list[socket.socket] = []

    def begin(connection: socket.socket) -> bool:
        held.append(connection)
        raw(CHUNKED)(connection)
        connection.recv(1)  # until the test ends the connection
        return False

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE, timeout=5) as client:
            data = batch_json(status="ended", results_url=f"{served.base_url}/results?{QUERY}")
            batch = msgspec.convert(data, MessageBatch, strict=False)
            stream = client.results_stream(batch, resume=False)
            assert (await anext(stream)).custom_id == "a"
            reset(held[0])
            held[0].shutdown(socket.SHUT_RD)
            with pytest.raises(TransportError) as caught:
                await anext(stream)
            await stream.aclose()
            peer = served.base_url.partition("://")[2]
            assert caught.value.reason == f"the connection to {peer} broke: connection reset"

    with scripted(begin) as served:
        carrier.run(job)


# --- causes ------------------------------------------------------------------------------


def test_a_librarys_error_is_kept_as_the_cause_without_its_frames_and_without_credentials() -> None:
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


def test_an_error_that_cannot_be_copied_is_kept_by_its_name_and_words() -> None:
    class DemandingError(Exception):
        def __init__(self, text: str, *, more: int) -> None:
            super().__init__(text)
            self.more = more

    cause = failures.cause_of(DemandingError("broken", more=1))
    assert (type(cause), str(cause)) == (Exception, "DemandingError: broken")


def test_what_the_caller_was_handling_is_not_part_of_the_cause() -> None:
    error = RuntimeError("the library's")
    error.__context__ = ConnectionRefusedError(111, "the caller's own")
    cause = failures.cause_of(error)
    assert (cause.__cause__, cause.__context__) == (None, None)
    assert failures.describe(error) == "the library's"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reset, OSError),
        (raw(b"HTTP/1.1 200 OK\r\nno header " + SECRET.encode() + b"\r\n\r\n"), Exception),
    ],
    ids=["reset", "not HTTP"],
)
@every
def test_the_error_of_a_call_has_the_librarys_error_as_its_cause(
    carrier: Carrier, answer: Any, kind: type[Exception]
) -> None:
    async def job() -> None:
        settings = {"api_key": SECRET, "retry": ONCE}
        async with carrier.client(served.base_url, **settings) as client:
            with pytest.raises(TransportError) as caught:
                await client.get("msgbatch_1")
        causes = []
        error = caught.value.__cause__
        while error is not None:
            causes.append(error)
            error = error.__cause__
        assert causes
        assert isinstance(causes[-1], kind)
        assert SECRET not in "".join(traceback.format_exception(caught.value))

    with scripted(answer) as served:
        carrier.run(job)


def test_the_first_attempt_that_says_why_is_the_root_of_several() -> None:
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
)
def test_the_words_for_an_error_of_the_system(error: Exception, words: str) -> None:
    assert failures.describe(error) == words


def test_an_ipv6_host_is_named_in_brackets() -> None:
    assert failures.peer_name("::1", 80) == "[::1]:80"
    assert failures.peer_name("api.test", 443) == "api.test:443"
