"""What `TransportError.sent` says on every transport: whether the last byte may have left."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import httpx2
import msgspec
import pytest

from batches_core import OutcomeUnknownError, Request, RetryPolicy, TransportError
from batches_core.http import BytesBody
from batches_core.requests import prepare
from tests.support.carriers import CARRIERS, OVER_HTTPX, RAW, Carrier
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import close, raw, reply, reset, scripted
from tests.support.tls import client_context, tls_server
from tests.support.tunnel import tunnel_to
from transports._http11.connection import HTTP11Connection
from transports.files import RequestsFile
from transports.httpx import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
each_raw = pytest.mark.parametrize("carrier", RAW, ids=lambda carrier: carrier.name)
each_httpx = pytest.mark.parametrize("carrier", OVER_HTTPX, ids=lambda carrier: carrier.name)
libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])

ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(initial_delay=0.001)
BATCH = msgspec.json.encode(batch_json())
#: More than the buffers of loopback hold, so that a peer that stops reading stops the upload.
BIG = {"custom_id": "a", "params": {"system": "x" * 30_000_000}}


def read_some_and(end: Any) -> Any:
    def upload(connection: socket.socket, buffer: bytearray) -> bool:
        buffer += connection.recv(100_000)
        return bool(end(connection))

    return upload


# --- why an incomplete request has no effect ---------------------------------------------


@pytest.mark.parametrize("form", ["dicts", "lines", "file"])
def test_the_body_of_a_create_is_no_json_without_its_last_byte(form: str, tmp_path: Path) -> None:
    line = json.dumps(REQUEST).encode()
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line + b"\n\n")
    if form == "file":
        body = b"".join(RequestsFile(path).prepare().body)
    else:
        body = b"".join(prepare([REQUEST] if form == "dicts" else [line + b"\n"]).body)
    assert msgspec.json.decode(body)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body[:-1])


# --- uploads that break ------------------------------------------------------------------


@every
@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
def test_an_upload_that_breaks_before_its_last_byte_was_not_taken(
    carrier: Carrier, end: Any
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(TransportError) as caught:
                await client.create([BIG])
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    with scripted(upload=read_some_and(end)) as served:
        carrier.run(job)
    assert served.requests == []


@every
def test_a_create_whose_upload_broke_is_sent_again(carrier: Carrier) -> None:
    broken: list[bool] = []

    def upload(connection: socket.socket, buffer: bytearray) -> bool:
        broken.append(len(broken) == 0)
        return not broken[-1] or bool(read_some_and(reset)(connection, buffer))

    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            assert (await client.create([BIG])).id == "msgbatch_1"

    with scripted(reply(BATCH), upload=upload) as served:
        carrier.run(job)
    assert broken == [True, False]
    assert len(served.requests) == 1


@every
def test_an_upload_that_stalls_before_its_last_byte_was_not_taken(carrier: Carrier) -> None:
    gone = threading.Event()

    def upload(connection: socket.socket, buffer: bytearray) -> bool:
        gone.wait(20)
        return bool(read_some_and(reset)(connection, buffer))

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE, timeout=0.3) as client:
            try:
                with pytest.raises(TransportError) as caught:
                    await client.create([BIG])
            finally:
                gone.set()
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    with scripted(upload=upload) as served:
        carrier.run(job)


@every
@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_once_the_last_byte_left_the_outcome_is_unknown(
    carrier: Carrier, end: Any, size: int
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create([{"custom_id": "a", "params": {"system": "x" * size}}])
            assert caught.value.sent

    with scripted(end) as served:
        carrier.run(job)
    assert len(served.requests) == 1


@each_httpx
def test_a_last_slice_that_a_library_asked_for_is_in_doubt_even_if_nobody_read_it(
    carrier: Carrier,
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.create([REQUEST])

    with scripted(upload=lambda connection, _: reset(connection)) as served:
        carrier.run(job)


@each_raw
def test_a_success_that_was_said_early_leaves_a_doubt_although_the_upload_broke(
    carrier: Carrier,
) -> None:
    gone = threading.Event()

    def upload(connection: socket.socket, buffer: bytearray) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        gone.wait(20)
        return bool(read_some_and(reset)(connection, buffer))

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE, timeout=0.3) as client:
            try:
                with pytest.raises(OutcomeUnknownError):
                    await client.create([BIG])
            finally:
                gone.set()

    with scripted(upload=upload) as served:
        carrier.run(job)


def test_a_request_counts_as_sent_only_once_its_last_byte_was_accepted() -> None:
    body = BytesBody((b"x" * 300_000, b"y" * 10))
    request = Request(
        method="POST",
        url="https://api.test/new",
        headers=(("content-length", str(body.content_length)),),
        body=body,
    )
    http = HTTP11Connection("api.test:443")
    total = len(http.start_request(request)) + body.content_length
    assert not http.is_sent
    http.record_accepted(total - 1)
    assert not http.is_sent
    http.record_accepted(1)
    assert http.is_sent


# --- proxies -----------------------------------------------------------------------------

PROXY_ENDS: dict[str, Any] = {
    "refuses": raw(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n", keep=False),
    "closes": close,
    "resets": reset,
    "is no proxy": raw(b"what?\r\n\r\n", keep=False),
    "breaks off": raw(b"HTTP/1.1 200 Con", keep=False),
    "is silent": raw(),
    "is silent in its head": raw(b"HTTP/1.1 200 Con"),
}


@every
@pytest.mark.parametrize("end", PROXY_ENDS.values(), ids=PROXY_ENDS)
def test_with_a_proxy_that_fails_in_the_connect_exchange_nothing_was_sent(
    carrier: Carrier, end: Any
) -> None:
    async def job() -> None:
        settings = {"proxy": proxy.base_url, "retry": ONCE, "timeout": 0.4}
        async with carrier.client("https://api.example.test", **settings) as client:
            with pytest.raises(TransportError) as caught:
                await client.create([REQUEST])
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent
            with pytest.raises(TransportError) as caught:
                await client.delete("msgbatch_1")
            assert not caught.value.sent

    with scripted(end, end, end) as proxy:
        carrier.run(job)
    assert len(proxy.requests) >= 2
    assert all(request.startswith(b"CONNECT ") for request in proxy.requests)


@every
def test_a_proxy_that_is_silent_is_given_up_after_the_time_for_connecting(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("_httpx.adapter", "_http11._async.dialer", "_http11._sync.dialer"):
        monkeypatch.setattr(f"transports.{module}.CONNECT_TIMEOUT", 0.2)

    def waits(connection: socket.socket) -> bool:
        connection.settimeout(10)  # much longer than a client may take to give up
        with contextlib.suppress(TimeoutError):
            connection.recv(1)
        return False

    async def job() -> None:
        settings = {"proxy": proxy.base_url, "retry": ONCE, "timeout": 60}
        async with carrier.client("https://api.example.test", **settings) as client:
            with pytest.raises(TransportError, match=r"no response in 0\.2 s"):
                await client.get("msgbatch_1")

    with scripted(waits) as proxy:
        carrier.run(job)


@every
def test_behind_a_proxy_the_time_for_connecting_is_not_that_of_the_exchange(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("_httpx.adapter", "_http11._async.dialer", "_http11._sync.dialer"):
        monkeypatch.setattr(f"transports.{module}.CONNECT_TIMEOUT", 1.0)

    def slowly(connection: socket.socket) -> bool:
        time.sleep(1.3)
        return reply(BATCH)(connection)

    async def job() -> None:
        settings = {
            "ssl_context": client_context(),
            "proxy": proxy.base_url,
            "retry": ONCE,
            "timeout": 60,
        }
        async with carrier.client(base_url, **settings) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with tls_server(slowly) as (_, base_url, _):
        address = ("127.0.0.1", int(base_url.rpartition(":")[2]))
        with scripted(prepare=tunnel_to(address, [], b"HTTP/1.1 200 OK\r\n\r\n")) as proxy:
            carrier.run(job)


@every
def test_behind_a_proxy_an_answer_that_is_lost_leaves_the_outcome_unknown(carrier: Carrier) -> None:
    asked: list[bytes] = []

    async def job() -> None:
        settings = {"ssl_context": client_context(), "proxy": proxy.base_url, "retry": ONCE}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.create([REQUEST])
            with pytest.raises(TransportError) as caught:
                await client.cancel("msgbatch_1")
            assert caught.value.sent

    with tls_server(close, close) as (served, base_url, _):
        address = ("127.0.0.1", int(base_url.rpartition(":")[2]))
        prepare = tunnel_to(address, asked, b"HTTP/1.1 200 Connected\r\n\r\n")
        with scripted(prepare=prepare) as proxy:
            carrier.run(job)
    assert len(served.requests) == 2


# --- what a user puts between ------------------------------------------------------------


@each_httpx
@pytest.mark.parametrize("end", [reply(BATCH), close], ids=["answered", "closed"])
def test_a_users_own_trace_extension_goes_on_to_work(carrier: Carrier, end: Any) -> None:
    seen: list[str] = []

    def note(name: str, info: dict[str, Any]) -> None:
        del info
        seen.append(name)

    async def anote(name: str, info: dict[str, Any]) -> None:
        note(name, info)

    blocking = carrier.name.endswith("sync")

    def hook(request: Any) -> None:
        request.extensions["trace"] = note if blocking else anote

    async def ahook(request: Any) -> None:
        hook(request)

    async def job() -> None:
        options = {"event_hooks": {"request": [hook if blocking else ahook]}}
        async with carrier.client(served.base_url, options=options, retry=ONCE) as client:
            if end is close:
                with pytest.raises(OutcomeUnknownError):
                    await client.create([REQUEST])
            else:
                assert (await client.create([REQUEST])).id == "msgbatch_1"

    with scripted(end) as served:
        carrier.run(job)
    assert "http11.send_request_headers.started" in seen


@libraries
@pytest.mark.parametrize(
    ("kind", "sent"), [("ConnectError", False), ("ReadError", True), ("ReadTimeout", True)]
)
def test_of_a_transport_that_tells_no_steps_the_kind_of_its_error_counts(
    library: Any,
    kind: str,
    sent: bool,  # noqa: FBT001
) -> None:
    def handle(request: Any) -> Any:
        if request.method == "GET":
            return library.Response(200, json={"data": []})
        raise getattr(library, kind)("it broke")

    with library.Client(transport=library.MockTransport(handle)) as inner:
        ours = BatchesClient(api_key="k", client=inner, retry=ONCE)
        with pytest.raises(TransportError) as caught:
            ours.create([REQUEST])
        assert caught.value.sent is sent


@libraries
def test_a_transport_that_never_asked_for_the_last_slice_has_not_sent_it(library: Any) -> None:
    class Halfway(library.BaseTransport):  # type: ignore[misc]  # either library's
        def handle_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            next(iter(request.stream))
            raise library.ReadError("it broke")

    with library.Client(transport=Halfway()) as inner:
        ours = BatchesClient(api_key="k", client=inner, retry=ONCE)
        with pytest.raises(TransportError, match="it broke") as caught:
            ours.create([{"custom_id": "a", "params": {"system": "x" * 600_000}}])
        assert not caught.value.sent


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_an_auth_flow_that_reads_the_body_first_does_not_make_it_sent(library: Any) -> None:
    class Signing(library.Auth):  # type: ignore[misc]  # either library's
        requires_request_body = True

        def auth_flow(self, request: Any) -> Any:
            yield request

    with scripted() as served:
        base_url = served.base_url  # nobody listens there afterwards
    with library.Client(auth=Signing()) as inner:
        ours = BatchesClient(api_key="k", base_url=base_url, client=inner, retry=ONCE)
        with pytest.raises(TransportError) as caught:
            ours.create([REQUEST])
        assert not caught.value.sent
