"""Request bodies on their way through httpx and httpx2."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from batches_core.http import BytesBody
from tests.support.batches import BATCH, ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.h2peer import h2_server
from tests.support.marks import httpx_carriers, httpx_libraries
from tests.support.scripted import reply, scripted
from transports._client.bodies import SLICE
from transports._httpx.upload import Upload
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def request_of(size: int) -> dict[str, Any]:
    return {"custom_id": "a", "params": {"system": "x" * size}}


def test_an_httpx_upload_can_be_iterated_again_and_records_completion() -> None:
    body = BytesBody((b"a" * SLICE, b"b" * (SLICE + 1)))
    upload = Upload(body)
    parts = iter(upload)
    next(parts)
    next(parts)
    assert not upload.is_whole
    assert b"".join(upload) == b"".join(body)
    assert upload.is_whole
    next(iter(upload))
    assert upload.is_whole


@httpx_libraries
def test_a_blocking_httpx_client_receives_small_slices(library: Any) -> None:
    sizes: list[int] = []

    class SlicesTransport(library.BaseTransport):  # type: ignore[misc]  # of either library
        def handle_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            sizes.extend(len(part) for part in request.stream)
            return library.Response(200, content=BATCH)

    with library.Client(transport=SlicesTransport()) as inner:
        BatchesClient(api_key="k", client=inner).create([request_of(3_000_000)])
    assert sum(sizes) > 3_000_000
    assert max(sizes) <= 256 * 1024


@httpx_libraries
def test_an_async_httpx_client_receives_small_slices(library: Any) -> None:
    sizes: list[int] = []

    class SlicesTransport(library.AsyncBaseTransport):  # type: ignore[misc]  # of either library
        async def handle_async_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            async for part in request.stream:
                sizes.append(len(part))  # noqa: PERF401 - an async comprehension is no clearer
            return library.Response(200, content=BATCH)

    async def scenario() -> None:
        async with library.AsyncClient(transport=SlicesTransport()) as inner:
            client = AsyncBatchesClient(api_key="k", client=inner)
            await client.create([request_of(3_000_000)])

    asyncio.run(scenario())
    assert sum(sizes) > 3_000_000
    assert max(sizes) <= 256 * 1024


@httpx_libraries
def test_an_auth_flow_on_an_async_httpx_client_sees_the_body(library: Any) -> None:
    contents: list[bytes] = []

    class SigningAuth(library.Auth):  # type: ignore[misc]  # of either library
        requires_request_body = True

        def auth_flow(self, request: Any) -> Any:
            contents.append(request.content)
            yield request

    async def scenario() -> None:
        async with library.AsyncClient(auth=SigningAuth()) as inner:
            client = AsyncBatchesClient(api_key="k", base_url=served.base_url, client=inner)
            await client.create([request_of(1000)])

    with scripted(reply(BATCH)) as served:
        anyio.run(scenario)
    assert served.requests[0].endswith(contents[-1])
    assert len(contents[-1]) > 1000


@httpx_carriers
def test_a_create_that_http2_repeats_has_its_whole_body(carrier: Carrier) -> None:
    async def scenario() -> None:
        options = {"http1": False, "http2": True}
        settings = {"retry": ONE_ATTEMPT, "timeout": 10, "options": options}
        async with carrier.client(served.base_url, **settings) as client:
            assert (await client.create([request_of(400_000)])).id == "msgbatch_1"

    with h2_server(BATCH, goaways=1) as served:
        carrier.run(scenario)
    assert served.connections == 2
    first, second = served.bodies
    assert len(first) > 400_000
    assert second == first
