"""TLS on every transport: verification, reuse, and failures before and after the request."""

from __future__ import annotations

import importlib
import os
import socket
import ssl
from typing import Any

import pytest

from batches_core import OutcomeUnknownError, TransportError
from tests.support.batches import BATCH, ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier
from tests.support.playbook import REQUEST
from tests.support.scripted import reply, scripted
from tests.support.tls import client_context, tls_server
from transports._http11.tls import tls_context

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@every_carrier
def test_a_tls_connection_is_verified_names_its_host_and_is_reused(carrier: Carrier) -> None:
    async def scenario() -> None:
        settings = {"ssl_context": client_context(), "retry": ONE_ATTEMPT}
        async with carrier.client(base_url, **settings) as client:
            for _ in range(3):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(*[reply(BATCH)] * 3) as (served, base_url, handshakes):
        carrier.run(scenario)
    assert handshakes == ["localhost", "http/1.1"]
    assert served.connections == 1


@every_carrier
def test_a_large_body_is_uploaded_over_tls(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(
            base_url, ssl_context=client_context(), retry=ONE_ATTEMPT
        ) as client:
            await client.create([{"custom_id": "a", "params": {"system": "x" * 5_000_000}}])

    with tls_server(reply(BATCH)) as (served, base_url, _):
        carrier.run(scenario)
    assert len(served.requests[0]) > 5_000_000


@every_carrier
@pytest.mark.parametrize("problem", ["unknown authority", "other host"])
def test_an_invalid_certificate_is_rejected_before_a_request_is_sent(
    carrier: Carrier, problem: str
) -> None:
    context = None if problem == "unknown authority" else client_context()

    async def scenario() -> None:
        async with carrier.client(base_url, ssl_context=context, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match=r"[Cc]ertificate") as caught:
                await client.create([REQUEST])
            assert not caught.value.sent

    host = "other.test" if problem == "other host" else "localhost"
    with tls_server(reply(BATCH), host=host) as (served, base_url, _):
        carrier.run(scenario)
    assert served.requests == []


@every_carrier
def test_a_peer_without_tls_raises_a_transport_error_with_nothing_sent(
    carrier: Carrier,
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="was not sent completely"):
                await client.get("msgbatch_1")

    def prepare(connection: socket.socket) -> socket.socket:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        return connection

    with scripted(prepare=prepare) as served:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        carrier.run(scenario)


@pytest.mark.parametrize(
    "missing",
    [set(), {"truststore"}, {"truststore", "certifi"}],
    ids=lambda missing: f"without {sorted(missing)}",
)
@pytest.mark.parametrize("system_store", [True, False], ids=["system store", "no system store"])
def test_the_default_tls_context_verifies_whatever_packages_are_installed(
    missing: set[str], monkeypatch: pytest.MonkeyPatch, *, system_store: bool
) -> None:
    original = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name in missing:
            raise ModuleNotFoundError(name)
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    if not system_store:
        empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        monkeypatch.setattr(ssl, "create_default_context", lambda: empty)
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    if missing == {"truststore"}:
        assert context.get_ca_certs()


@every_carrier
def test_broken_tls_records_after_the_request_leave_the_outcome_unknown(
    carrier: Carrier,
) -> None:
    def send_broken_record(connection: socket.socket) -> bool:
        with socket.socket(fileno=os.dup(connection.fileno())) as plain:
            plain.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        return False

    async def scenario() -> None:
        async with carrier.client(
            base_url, ssl_context=client_context(), retry=ONE_ATTEMPT
        ) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create([REQUEST])
            assert caught.value.marker is not None

    with tls_server(send_broken_record) as (_, base_url, _):
        carrier.run(scenario)
