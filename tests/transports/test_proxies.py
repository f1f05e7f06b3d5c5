"""Tunnels through proxies, and proxies that fail."""

from __future__ import annotations

import base64
import contextlib
import socket
import time
from typing import Any

import pytest

import transports.h11
from batches_core import InvalidInputError, OutcomeUnknownError, TransportError
from tests.support.batches import BATCH, ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier, raw_carriers
from tests.support.playbook import REQUEST
from tests.support.scripted import close, raw, reply, reset, scripted
from tests.support.tls import client_context, tls_server
from tests.support.tunnel import tunnel_to
from transports._http11.proxy import Proxy

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def set_connect_timeout(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in ("_httpx.adapter", "_http11._async.dialer", "_http11._sync.dialer"):
        monkeypatch.setattr(f"transports.{module}.CONNECT_TIMEOUT", seconds)


# --- tunnels ---------------------------------------------------------------------------


@raw_carriers
def test_https_requests_are_tunnelled_through_the_proxy_with_connect(carrier: Carrier) -> None:
    connects: list[bytes] = []

    async def scenario() -> None:
        settings = {
            "ssl_context": client_context(),
            "proxy": proxy.base_url.replace("http://", "http://me:p%40ss@"),
            "retry": ONE_ATTEMPT,
        }
        async with carrier.client(base_url, **settings) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(reply(BATCH), reply(BATCH)) as (served, base_url, handshakes):
        port = int(base_url.rpartition(":")[2])
        prepare = tunnel_to(("127.0.0.1", port), connects, b"HTTP/1.1 200 Connected\r\n\r\n")
        with scripted(prepare=prepare) as proxy:
            carrier.run(scenario)
    (head,) = connects
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
    credentials = base64.b64encode(b"me:p@ss")
    assert b"proxy-authorization: basic " + credentials.lower() in head.lower()
    assert b"sk-carried" not in head
    assert handshakes[0] == "localhost"
    assert b"proxy-authorization" not in served.requests[0].lower()


@every_carrier
def test_the_connect_timeout_does_not_limit_an_exchange_behind_a_proxy(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connect_timeout(monkeypatch, 1.0)

    def reply_slowly(connection: socket.socket) -> bool:
        time.sleep(1.3)
        return reply(BATCH)(connection)

    async def scenario() -> None:
        settings = {
            "ssl_context": client_context(),
            "proxy": proxy.base_url,
            "retry": ONE_ATTEMPT,
            "timeout": 60,
        }
        async with carrier.client(base_url, **settings) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(reply_slowly) as (_, base_url, _):
        address = ("127.0.0.1", int(base_url.rpartition(":")[2]))
        with scripted(prepare=tunnel_to(address, [], b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
            carrier.run(scenario)


@every_carrier
def test_a_lost_response_behind_a_proxy_leaves_the_outcome_unknown(carrier: Carrier) -> None:
    async def scenario() -> None:
        settings = {"ssl_context": client_context(), "proxy": proxy.base_url, "retry": ONE_ATTEMPT}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.create([REQUEST])
            with pytest.raises(TransportError) as caught:
                await client.cancel("msgbatch_1")
            assert caught.value.sent

    with tls_server(close, close) as (served, base_url, _):
        address = ("127.0.0.1", int(base_url.rpartition(":")[2]))
        prepare = tunnel_to(address, [], b"HTTP/1.1 200 Connected\r\n\r\n")
        with scripted(prepare=prepare) as proxy:
            carrier.run(scenario)
    assert len(served.requests) == 2


# --- proxies that fail -----------------------------------------------------------------

FAILURES: dict[str, Any] = {
    "refuses": raw(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", keep=False),
    "closes": close,
    "resets": reset,
    "does not speak HTTP": raw(b"what?\r\n\r\n", keep=False),
    "breaks off": raw(b"HTTP/1.1 200 Con", keep=False),
    "is silent": raw(),
    "is silent within its head": raw(b"HTTP/1.1 200 Con"),
}


@every_carrier
@pytest.mark.parametrize("handler", FAILURES.values(), ids=FAILURES)
def test_a_proxy_that_fails_before_the_tunnel_leaves_nothing_sent(
    carrier: Carrier, handler: Any
) -> None:
    async def scenario() -> None:
        settings = {"proxy": proxy.base_url, "retry": ONE_ATTEMPT, "timeout": 0.4}
        async with carrier.client("https://api.example.test", **settings) as client:
            with pytest.raises(TransportError) as caught:
                await client.create([REQUEST])
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent
            with pytest.raises(TransportError) as caught:
                await client.delete("msgbatch_1")
            assert not caught.value.sent

    with scripted(handler, handler, handler) as proxy:
        carrier.run(scenario)
    assert len(proxy.requests) >= 2
    assert all(request.startswith(b"CONNECT ") for request in proxy.requests)


@raw_carriers
@pytest.mark.parametrize(
    "response",
    [b"HTTP/1.1 407 No\r\n\r\n", b"what?\r\n\r\n", b""],
    ids=["407", "not HTTP", "closed"],
)
def test_a_proxy_that_opens_no_tunnel_raises_a_transport_error_with_nothing_sent(
    carrier: Carrier, response: bytes
) -> None:
    async def scenario() -> None:
        async with carrier.client(
            "https://api.example.test", proxy=proxy.base_url, retry=ONE_ATTEMPT
        ) as client:
            with pytest.raises(TransportError, match="proxy") as caught:
                await client.get("msgbatch_1")
            assert not caught.value.sent

    with scripted(prepare=tunnel_to(("127.0.0.1", 9), [], response)) as proxy:
        carrier.run(scenario)


@every_carrier
def test_a_silent_proxy_fails_after_the_connect_timeout(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_connect_timeout(monkeypatch, 0.2)

    def stay_silent(connection: socket.socket) -> bool:
        connection.settimeout(10)  # much longer than the client waits
        with contextlib.suppress(TimeoutError):
            connection.recv(1)
        return False

    async def scenario() -> None:
        settings = {"proxy": proxy.base_url, "retry": ONE_ATTEMPT, "timeout": 60}
        async with carrier.client("https://api.example.test", **settings) as client:
            with pytest.raises(TransportError, match=r"no response in 0\.2 s"):
                await client.get("msgbatch_1")

    with scripted(stay_silent) as proxy:
        carrier.run(scenario)


# --- proxy URLs ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["https://p:1", "p:8080", "http://", "http://h:x", "http://me:secret/@h:1", "socks5://h:1"],
)
def test_an_invalid_proxy_url_is_rejected_and_its_password_is_not_shown(url: str) -> None:
    with pytest.raises(InvalidInputError, match="proxy cannot be used") as caught:
        transports.h11.BatchesClient(api_key="k", proxy=url)
    assert "secret" not in str(caught.value)


def test_the_repr_of_a_proxy_hides_its_password() -> None:
    assert repr(Proxy("http://me:secret@h:1")) == "<Proxy h:1>"


@raw_carriers
def test_a_proxy_that_repeats_its_credential_in_a_broken_response_does_not_show_it(
    carrier: Carrier,
) -> None:
    credential = base64.b64encode(b"me:password")

    async def scenario() -> None:
        url = proxy.base_url.replace("http://", "http://me:password@")
        async with carrier.client("https://api.test", proxy=url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match=r"Basic \[hidden\]") as caught:
                await client.get("msgbatch_1")
            assert credential.decode() not in str(caught.value)

    with scripted(raw(b"Basic " + credential + b"\r\n\r\n", keep=False)) as proxy:
        carrier.run(scenario)
