"""TLS, on every transport."""

from __future__ import annotations

import importlib
import os
import socket
import ssl
from typing import Any

import msgspec
import pytest

from batches_core import OutcomeUnknownError, RetryPolicy, TransportError
from tests.support.carriers import CARRIERS, Carrier
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import reply, scripted
from tests.support.tls import client_context, tls_server
from transports._http11.tls import tls_context

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
BATCH = msgspec.json.encode(batch_json())


@every
def test_tls_is_verified_and_named_and_kept(carrier: Carrier) -> None:
    async def job() -> None:
        settings = {"ssl_context": client_context(), "retry": ONCE}
        async with carrier.client(base_url, **settings) as client:
            for _ in range(3):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(*[reply(BATCH)] * 3) as (served, base_url, seen):
        carrier.run(job)
    assert seen == ["localhost", "http/1.1"]
    assert served.connections == 1


@every
def test_a_large_body_goes_up_through_tls(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, ssl_context=client_context(), retry=ONCE) as client:
            await client.create([{"custom_id": "a", "params": {"system": "x" * 5_000_000}}])

    with tls_server(reply(BATCH)) as (served, base_url, _):
        carrier.run(job)
    assert len(served.requests[0]) > 5_000_000


@every
@pytest.mark.parametrize("fault", ["unknown authority", "other host"])
def test_a_certificate_that_does_not_fit_is_refused_before_anything_is_sent(
    carrier: Carrier, fault: str
) -> None:
    context = None if fault == "unknown authority" else client_context()

    async def job() -> None:
        async with carrier.client(base_url, ssl_context=context, retry=ONCE) as client:
            with pytest.raises(TransportError, match=r"[Cc]ertificate") as e:
                await client.create([REQUEST])
            assert not e.value.sent

    host = "other.test" if fault == "other host" else "localhost"
    with tls_server(reply(BATCH), host=host) as (served, base_url, _):
        carrier.run(job)
    assert served.requests == []


@every
def test_what_is_no_tls_is_told(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=ONCE) as client:
            with pytest.raises(TransportError, match="was not sent completely"):
                await client.get("msgbatch_1")

    def prepare(connection: socket.socket) -> socket.socket:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        return connection

    with scripted(prepare=prepare) as served:
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        carrier.run(job)


@pytest.mark.parametrize("missing", [set(), {"truststore"}, {"truststore", "certifi"}], ids=str)
@pytest.mark.parametrize("system_store", [True, False], ids=["system store", "no system store"])
def test_the_default_context_verifies_whatever_is_installed(
    missing: set[str],
    system_store: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
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


@every
def test_records_that_are_broken_after_the_request_leave_the_outcome_unknown(
    carrier: Carrier,
) -> None:
    def garbage(connection: socket.socket) -> bool:
        with socket.socket(fileno=os.dup(connection.fileno())) as below:
            below.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        return False

    async def job() -> None:
        async with carrier.client(base_url, ssl_context=client_context(), retry=ONCE) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create([REQUEST])
            assert caught.value.marker is not None

    with tls_server(garbage) as (_, base_url, _):
        carrier.run(job)
