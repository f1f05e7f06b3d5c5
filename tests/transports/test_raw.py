"""What the trio and h11 transports have to do themselves: kept connections, proxies, sockets."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import transports.asyncio
import transports.h11
import transports.trio
from batches_core import Event, InvalidInputError, NotFoundError, RetryPolicy, TransportError
from batches_core.emulator import Emulator
from tests.support.carriers import RAW, Carrier
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import close, raw, reply, reset, scripted, unreachable
from tests.support.tls import client_context, tls_server
from tests.support.tunnel import tunnel_to
from transports._client.environment import proxy_of, settings_from_env
from transports._http11.connection import HTTP11Connection
from transports._http11.proxy import Proxy
from transports._http11.sockets import _UnixSocket
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

#: The module of each carrier's client.
DOORS: dict[str, Any] = {
    "h11-sync": transports.h11,
    "trio": transports.trio,
    "asyncio": transports.asyncio,
}


def door_of(carrier: Carrier) -> Any:
    return DOORS[carrier.name]


each = pytest.mark.parametrize("carrier", RAW, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
BATCH = msgspec.json.encode(batch_json())


# --- kept connections --------------------------------------------------------------------


@each
def test_one_that_the_server_closed_while_idle_is_replaced_without_a_word(
    carrier: Carrier,
) -> None:
    events: list[Event] = []

    async def job() -> None:
        settings = {"retry": ONCE, "on_event": events.append}
        async with carrier.client(served.base_url, **settings) as client:
            for _ in range(3):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(*[reply(BATCH, keep=False)] * 3) as served:
        carrier.run(job)
    assert served.connections == 3
    assert not events


@each
@pytest.mark.parametrize("death", [close, reset], ids=["closed", "reset"])
def test_one_that_dies_under_a_request_without_a_body_is_replaced(
    carrier: Carrier, death: Any
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(reply(BATCH), death, reply(BATCH)) as served:
        carrier.run(job)
    assert (served.connections, len(served.requests)) == (2, 3)


async def asleep(carrier: Carrier) -> None:
    """Let the server's threads run for a moment."""
    if carrier.name == "trio":
        await trio.sleep(0.001)
    else:
        time.sleep(0.001)  # noqa: ASYNC251 - a blocking client's job has no loop to block


def reply_and_reset(connection: socket.socket) -> bool:
    reply(BATCH)(connection)
    return reset(connection)


def reply_and_say_goodbye(connection: socket.socket) -> bool:
    """Answer, and a little later say what nobody asked for, as servers do that close."""
    reply(BATCH)(connection)
    time.sleep(0.05)
    return reply(b"{}", 408, keep=False)(connection)


@each
@pytest.mark.parametrize("end", [reply_and_reset, reply_and_say_goodbye])
def test_one_that_ended_while_idle_is_replaced_without_a_word(carrier: Carrier, end: Any) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"
            while not served.threads or served.live():
                await asleep(carrier)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(end, reply(BATCH)) as served:
        carrier.run(job)
    assert served.connections == 2


@each
def test_few_are_kept_however_many_were_needed(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            for _ in range(20):
                await client.create([REQUEST])
            # The server's threads take a moment to see that theirs was closed.
            for _ in range(5000):
                if sum(thread.is_alive() for thread in served.threads) <= 8:
                    break
                await asleep(carrier)
            assert sum(thread.is_alive() for thread in served.threads) <= 8

    with scripted(*[reply(BATCH)] * 20) as served:
        carrier.run(job)


@each
def test_a_create_gets_a_connection_of_its_own(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            await client.get("msgbatch_1")
            await client.create([REQUEST])
            await client.get("msgbatch_1")

    with scripted(*[reply(BATCH)] * 3) as served:
        carrier.run(job)
    assert served.connections == 2


@each
@pytest.mark.parametrize(
    "answer",
    [
        reply(BATCH, headers=b"connection: close\r\n"),
        raw(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BATCH) + BATCH),
        reply(BATCH + b" "),  # a body that the core reads to its end is not what closes it
        raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%sHTTP/1.1" % (len(BATCH), BATCH)),
    ],
    ids=["connection: close", "http/1.0", "kept", "bytes behind the end"],
)
def test_which_connections_are_used_again(carrier: Carrier, answer: Any) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    kept = answer.__closure__[1].cell_contents[0].endswith(b" ")
    with scripted(answer, reply(BATCH)) as served:
        carrier.run(job)
    assert served.connections == (1 if kept else 2)


def test_a_refusal_that_is_there_before_the_request_is_costs_no_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reply(b"{}", 404)(theirs)
        with transports.h11.BatchesClient(
            base_url="http://localhost",
            api_key="k",
            retry=ONCE,
            connect=lambda _host, _port: ours,
        ) as client:
            with pytest.raises(NotFoundError):
                client.get("msgbatch_1")
            assert theirs.recv(65536).startswith(b"GET ")
            theirs.settimeout(0)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)


@each
def test_1xx_heads_without_end_are_left(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(TransportError, match=r"more than 100 informational"):
                await client.get("msgbatch_1")

    with scripted(raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 200)) as served:
        carrier.run(job)


# --- proxies -----------------------------------------------------------------------------


@each
def test_https_goes_through_a_proxy_by_connect(carrier: Carrier) -> None:
    asked: list[bytes] = []

    async def job() -> None:
        settings = {
            "ssl_context": client_context(),
            "proxy": proxy.base_url.replace("http://", "http://me:p%40ss@"),
            "retry": ONCE,
        }
        async with carrier.client(base_url, **settings) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(reply(BATCH), reply(BATCH)) as (served, base_url, seen):
        port = int(base_url.rpartition(":")[2])
        prepare = tunnel_to(("127.0.0.1", port), asked, b"HTTP/1.1 200 Connected\r\n\r\n")
        with scripted(prepare=prepare) as proxy:
            carrier.run(job)
    (head,) = asked
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % port)
    credentials = base64.b64encode(b"me:p@ss")
    assert b"proxy-authorization: basic " + credentials.lower() in head.lower()
    assert b"sk-carried" not in head
    assert seen[0] == "localhost"
    assert b"proxy-authorization" not in served.requests[0].lower()


@each
@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"what?\r\n\r\n", b""])
def test_a_proxy_that_refuses_is_told(carrier: Carrier, answer: bytes) -> None:
    async def job() -> None:
        async with carrier.client(
            "https://api.example.test", proxy=proxy.base_url, retry=ONCE
        ) as client:
            with pytest.raises(TransportError, match="proxy") as caught:
                await client.get("msgbatch_1")
            assert not caught.value.sent

    with scripted(prepare=tunnel_to(("127.0.0.1", 9), [], answer)) as proxy:
        carrier.run(job)


@pytest.mark.parametrize(
    "url",
    ["https://p:1", "p:8080", "http://", "http://h:x", "http://me:secret/@h:1", "socks5://h:1"],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidInputError, match="proxy cannot be used") as caught:
        transports.h11.BatchesClient(api_key="k", proxy=url)
    assert "secret" not in str(caught.value)


def test_a_proxys_password_is_in_no_repr() -> None:
    assert repr(Proxy("http://me:secret@h:1")) == "<Proxy h:1>"


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p"}, "http://p"),
        ({"https_proxy": "http://p"}, "http://p"),
        ({"ALL_PROXY": "http://p"}, "http://p"),
        ({"HTTP_PROXY": "http://p"}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.example.test"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "a.test, .example.test"}, None),
        ({"HTTPS_PROXY": "http://p", "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "ample.test"}, "http://p"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": ","}, "http://p"),
        ({"HTTPS_PROXY": "p:8080"}, "http://p:8080"),
        ({"HTTPS_PROXY": "http://p", "NO_PROXY": "api.example.test:443"}, None),
    ],
)
def test_the_proxy_of_an_environment(environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_of(environment, "api.example.test") == proxy


def test_from_env_reads_the_proxy_for_a_transport_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    monkeypatch.setenv("HTTPS_PROXY", "http://p:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert settings_from_env({}, with_proxy=True)["proxy"] == "http://p:1"
    assert settings_from_env({"proxy": None}, with_proxy=True)["proxy"] is None
    assert "proxy" not in settings_from_env({}, with_proxy=False)
    for module in (transports.h11, transports.trio):
        client: Any = module.BatchesClient.from_env()
        assert repr(client._transport._dialer._proxy) == "<Proxy p:1>"


# --- time limits of connecting ---


@each
@pytest.mark.parametrize("proxied", [False, True], ids=["tls", "proxy"])
def test_a_peer_that_does_not_finish_connecting_is_given_up(
    carrier: Carrier,
    proxied: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transports._http11._sync.dialer.CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr("transports._http11._async.dialer.CONNECT_TIMEOUT", 0.2)

    dripped: list[int] = []

    def drip(connection: socket.socket) -> socket.socket:
        with contextlib.suppress(OSError):
            for count in range(200):  # each byte alone would be in time
                dripped.append(count)
                connection.sendall(b"H" if proxied else b"\x16")
                time.sleep(0.05)
                if not proxied:
                    connection.recv(65536)
        return connection

    async def job() -> None:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        proxy = served.base_url if proxied else None
        async with carrier.client(base_url, proxy=proxy, retry=ONCE) as client:
            with pytest.raises(TransportError, match="cannot connect") as caught:
                await client.create([REQUEST])
            assert not caught.value.sent

    with scripted(prepare=drip) as served:
        carrier.run(job)
    assert len(dripped) < 100


@each
def test_the_smaller_bound_holds_for_tls_on_a_unix_socket(carrier: Carrier, tmp_path: Path) -> None:
    module = door_of(carrier)
    path = str(tmp_path / "s")

    async def job() -> None:
        settings = {"connect": module.unix_socket(path), "timeout": 0.3, "retry": ONCE}
        async with carrier.client("https://localhost", **settings) as client:
            with pytest.raises(TransportError, match=r"no response in 0\.3 s"):
                await client.list()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        carrier.run(job)


def test_a_unix_socket_is_connected_to_within_the_smaller_bound(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    connect = transports.h11.unix_socket(path)
    assert isinstance(connect, _UnixSocket)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with connect.connect(0.3) as sock:
            assert sock.gettimeout() == 0.3


def test_one_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        unreachable() as silent,
        scripted(reply(BATCH)) as served,
        transports.h11.BatchesClient(
            api_key="k", base_url=served.base_url, timeout=1, retry=ONCE
        ) as client,
    ):
        waits: list[float] = []
        good = ("127.0.0.1", int(served.base_url.rpartition(":")[2]))

        def getaddrinfo(*_: object, **__: object) -> list[Any]:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in (silent, good)
            ]

        class Watched(socket.socket):
            def settimeout(self, value: float | None) -> None:
                waits.append(value or 0)
                super().settimeout(value)

        monkeypatch.setattr("transports._http11.sockets.socket.getaddrinfo", getaddrinfo)
        monkeypatch.setattr("transports._http11.sockets.socket.socket", Watched)
        assert client.get("msgbatch_1").id == "msgbatch_1"
    assert waits[0] <= 0.5


# --- other ways in -----------------------------------------------------------------------


@each
def test_ipv6(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url) as client:
            assert (await client.list()).data == []

    with running_emulator(Emulator(), host="::1") as base_url:
        carrier.run(job)


@each
def test_a_unix_socket(carrier: Carrier, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    module = door_of(carrier)
    served: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            served.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b'{"data":[]}')

    async def job() -> None:
        settings = {"connect": module.unix_socket(path)}
        async with carrier.client("http://localhost", **settings) as client:
            assert (await client.list()).data == []

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        carrier.run(job)
        thread.join()
    assert b"host: localhost" in served[0].lower()


@each
def test_a_unix_socket_that_is_not_there_is_told(carrier: Carrier, tmp_path: Path) -> None:
    module = door_of(carrier)

    async def job() -> None:
        settings = {"connect": module.unix_socket(str(tmp_path / "none")), "retry": ONCE}
        async with carrier.client("http://localhost", **settings) as client:
            with pytest.raises(TransportError, match="cannot connect to localhost"):
                await client.list()

    carrier.run(job)


def test_an_interrupt_closes_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        scripted(raw()) as served,
        transports.h11.BatchesClient(api_key="k", base_url=served.base_url) as client,
    ):
        monkeypatch.setattr(HTTP11Connection, "next_event", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.get("msgbatch_1")
        assert served.client_closed.wait(5)
