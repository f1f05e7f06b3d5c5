"""How request bodies go out: in slices, again from the start, and at a slow peer's pace."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import anyio
import httpx
import httpx2
import msgspec
import pytest

from batches_core import RetryPolicy
from batches_core.http import BytesBody
from tests.support.carriers import CARRIERS, OVER_HTTPX, Carrier
from tests.support.h2peer import h2_server
from tests.support.playbook import batch_json
from tests.support.scripted import reply, scripted
from transports._client.bodies import SLICE, slices
from transports._httpx.upload import Upload
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
each_httpx = pytest.mark.parametrize("carrier", OVER_HTTPX, ids=lambda carrier: carrier.name)
libraries = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])

ONCE = RetryPolicy(attempts=1)
BATCH = msgspec.json.encode(batch_json())


def request_of(size: int) -> dict[str, Any]:
    return {"custom_id": "a", "params": {"system": "x" * size}}


# --- slices ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (SLICE,), (SLICE + 1,), (3, 2 * SLICE + 5, 7)])
def test_slices_are_the_body_and_none_is_larger_than_a_slice(sizes: tuple[int, ...]) -> None:
    body = BytesBody(tuple(bytes([n + 1]) * size for n, size in enumerate(sizes)))
    cut = [bytes(part) for part in slices(body)]
    assert b"".join(cut) == b"".join(body)
    assert all(len(part) <= SLICE for part in cut)


def test_an_upload_can_be_iterated_again_and_knows_whether_it_was_ever_whole() -> None:
    body = BytesBody((b"a" * SLICE, b"b" * (SLICE + 1)))
    upload = Upload(body)
    started = iter(upload)
    next(started)
    next(started)
    assert not upload.was_read_to_end
    assert b"".join(upload) == b"".join(body)
    assert upload.was_read_to_end
    next(iter(upload))
    assert upload.was_read_to_end


@libraries
def test_a_blocking_library_gets_small_slices(library: Any) -> None:
    sizes: list[int] = []

    class Sink(library.BaseTransport):  # type: ignore[misc]  # either library's
        def handle_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            sizes.extend(len(part) for part in request.stream)
            return library.Response(200, content=BATCH)

    with library.Client(transport=Sink()) as inner:
        BatchesClient(api_key="k", client=inner).create([request_of(3_000_000)])
    assert sum(sizes) > 3_000_000
    assert max(sizes) <= 256 * 1024


@libraries
def test_an_async_library_gets_small_slices(library: Any) -> None:
    sizes: list[int] = []

    class Sink(library.AsyncBaseTransport):  # type: ignore[misc]  # either library's
        async def handle_async_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            async for part in request.stream:
                sizes.append(len(part))  # noqa: PERF401 - an async comprehension is no clearer
            return library.Response(200, content=BATCH)

    async def job() -> None:
        async with library.AsyncClient(transport=Sink()) as inner:
            ours = AsyncBatchesClient(api_key="k", client=inner)
            await ours.create([request_of(3_000_000)])

    asyncio.run(job())
    assert sum(sizes) > 3_000_000
    assert max(sizes) <= 256 * 1024


@libraries
def test_what_signs_requests_on_an_async_client_sees_the_body(library: Any) -> None:
    seen: list[bytes] = []

    class Signing(library.Auth):  # type: ignore[misc]  # either library's
        requires_request_body = True

        def auth_flow(self, request: Any) -> Any:
            seen.append(request.content)
            yield request

    async def job() -> None:
        async with library.AsyncClient(auth=Signing()) as inner:
            ours = AsyncBatchesClient(api_key="k", base_url=served.base_url, client=inner)
            await ours.create([request_of(1000)])

    with scripted(reply(BATCH)) as served:
        anyio.run(job)
    assert served.requests[0].endswith(seen[-1])
    assert len(seen[-1]) > 1000


# --- a slow peer -------------------------------------------------------------------------


@every
def test_an_upload_may_take_longer_than_the_timeout_if_it_never_stalls(carrier: Carrier) -> None:
    took: list[float] = []

    def read_slowly(connection: socket.socket, buffer: bytearray) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        began = time.monotonic()
        while time.monotonic() < began + 2.2:
            buffer += connection.recv(200_000)
            time.sleep(0.02)
        took.append(time.monotonic() - began)
        return True

    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE, timeout=1) as client:
            assert (await client.create([request_of(36_000_000)])).id == "msgbatch_1"

    with scripted(reply(BATCH), upload=read_slowly) as served:
        carrier.run(job)
    assert len(served.requests[0]) > 36_000_000
    assert took[0] > 2


# --- HTTP/2 ------------------------------------------------------------------------------


@each_httpx
def test_a_create_that_http2_sends_again_has_its_whole_body(carrier: Carrier) -> None:
    async def job() -> None:
        options = {"http1": False, "http2": True}
        settings = {"retry": ONCE, "timeout": 10, "options": options}
        async with carrier.client(served.base_url, **settings) as client:
            assert (await client.create([request_of(400_000)])).id == "msgbatch_1"

    with h2_server(BATCH, goaways=1) as served:
        carrier.run(job)
    assert served.connections == 2
    first, second = served.bodies
    assert len(first) > 400_000
    assert second == first
