"""How connections are made: addresses, Unix sockets, and the time limits of each step."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import transports.asyncio
import transports.h11
import transports.trio
from batches_core import LocalProtocolError, TransportError
from batches_core.emulator import Emulator
from tests.support.batches import BATCH, ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.marks import raw_carriers
from tests.support.playbook import REQUEST
from tests.support.scripted import reply, scripted, unreachable
from transports._http11.sockets import _UnixSocket
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


#: The public module of each raw carrier's client.
DOORS: dict[str, Any] = {
    "h11-sync": transports.h11,
    "trio": transports.trio,
    "asyncio": transports.asyncio,
}


def unix_socket_of(carrier: Carrier, path: Path) -> Any:
    return DOORS[carrier.name].unix_socket(str(path))


# --- addresses -------------------------------------------------------------------------


@raw_carriers
def test_a_client_connects_over_ipv6(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url) as client:
            assert (await client.list()).data == []

    with running_emulator(Emulator(), host="::1") as base_url:
        carrier.run(scenario)


@raw_carriers
def test_a_client_connects_through_a_unix_socket(carrier: Carrier, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    requests: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n" + b'{"data":[]}')

    async def scenario() -> None:
        settings = {"connect": unix_socket_of(carrier, path)}
        async with carrier.client("http://localhost", **settings) as client:
            assert (await client.list()).data == []

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        carrier.run(scenario)
        thread.join()
    assert b"host: localhost" in requests[0].lower()


@raw_carriers
def test_a_missing_unix_socket_raises_a_transport_error(carrier: Carrier, tmp_path: Path) -> None:
    async def scenario() -> None:
        settings = {"connect": unix_socket_of(carrier, tmp_path / "none"), "retry": ONE_ATTEMPT}
        async with carrier.client("http://localhost", **settings) as client:
            with pytest.raises(TransportError, match="cannot connect to localhost"):
                await client.list()

    carrier.run(scenario)


# --- time limits -----------------------------------------------------------------------


@raw_carriers
@pytest.mark.parametrize("proxied", [False, True], ids=["tls handshake", "proxy response"])
def test_a_dripping_tls_or_proxy_handshake_ends_at_the_connect_timeout(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch, *, proxied: bool
) -> None:
    monkeypatch.setattr("transports._http11._sync.dialer.CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr("transports._http11._async.dialer.CONNECT_TIMEOUT", 0.2)

    sent: list[int] = []

    def drip(connection: socket.socket) -> socket.socket:
        with contextlib.suppress(OSError):
            for count in range(200):  # no single byte is late
                sent.append(count)
                connection.sendall(b"H" if proxied else b"\x16")
                time.sleep(0.05)
                if not proxied:
                    connection.recv(65536)
        return connection

    async def scenario() -> None:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        proxy = served.base_url if proxied else None
        async with carrier.client(base_url, proxy=proxy, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="cannot connect") as caught:
                await client.create([REQUEST])
            assert not caught.value.sent

    with scripted(prepare=drip) as served:
        carrier.run(scenario)
    assert len(sent) < 100


@raw_carriers
def test_a_tls_handshake_on_a_unix_socket_ends_at_the_smaller_timeout(
    carrier: Carrier, tmp_path: Path
) -> None:
    path = tmp_path / "socket"

    async def scenario() -> None:
        settings = {"connect": unix_socket_of(carrier, path), "timeout": 0.3, "retry": ONE_ATTEMPT}
        async with carrier.client("https://localhost", **settings) as client:
            with pytest.raises(TransportError, match=r"no response in 0\.3 s"):
                await client.list()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        carrier.run(scenario)


def test_a_blocking_unix_socket_connects_with_the_timeout_passed_to_it(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    connect = transports.h11.unix_socket(str(path))
    assert isinstance(connect, _UnixSocket)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with connect.connect(0.3) as sock:
            assert sock.gettimeout() == 0.3


def test_a_silent_address_leaves_time_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        unreachable() as silent,
        scripted(reply(BATCH)) as served,
        transports.h11.BatchesClient(
            api_key="k", base_url=served.base_url, timeout=1, retry=ONE_ATTEMPT
        ) as client,
    ):
        timeouts: list[float] = []
        listening = ("127.0.0.1", int(served.base_url.rpartition(":")[2]))

        def getaddrinfo(*_: object, **__: object) -> list[Any]:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
                for address in (silent, listening)
            ]

        class WatchedSocket(socket.socket):
            def settimeout(self, value: float | None) -> None:
                timeouts.append(value or 0)
                super().settimeout(value)

        monkeypatch.setattr("transports._http11.sockets.socket.getaddrinfo", getaddrinfo)
        monkeypatch.setattr("transports._http11.sockets.socket.socket", WatchedSocket)
        assert client.get("msgbatch_1").id == "msgbatch_1"
    assert timeouts[0] <= 0.5


def test_a_blocking_client_closed_while_it_connects_keeps_no_connection_open() -> None:
    sockets: list[socket.socket] = []

    def connect(host: str, port: int) -> socket.socket:
        client.close()
        sockets.append(socket.create_connection((host, port)))
        return sockets[-1]

    with scripted(reply(BATCH)) as served:
        client = transports.h11.BatchesClient(
            api_key="k", base_url=served.base_url, connect=connect
        )
        with pytest.raises(LocalProtocolError, match="was closed"):
            client.get("msgbatch_1")
        assert sockets[0].fileno() == -1
        assert served.requests == []


def test_an_asyncio_client_closed_while_it_connects_keeps_no_connection_open() -> None:
    sockets: list[socket.socket] = []

    async def scenario() -> None:
        async def connect(host: str, port: int) -> socket.socket:
            await client.aclose()
            sockets.append(socket.create_connection((host, port)))
            sockets[-1].setblocking(False)  # noqa: FBT003 - the name of the system's call
            return sockets[-1]

        client = transports.asyncio.BatchesClient(
            api_key="k", base_url=served.base_url, connect=connect
        )
        with pytest.raises(LocalProtocolError, match="was closed"):
            await client.get("msgbatch_1")

    with scripted(reply(BATCH)) as served:
        asyncio.run(scenario())
        assert sockets[0].fileno() == -1
        assert served.requests == []
