"""A client's connections belong to the event loop of its first call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import transports.trio
from batches_core import LocalProtocolError
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import reply, scripted
from transports.files import RequestsFile
from transports.httpx import AsyncBatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

BATCH = msgspec.json.encode(batch_json())
ELSEWHERE = (
    "this client was used in another event loop, and its connections belong to that loop: make a "
    "new client inside this asyncio.run()"
)


async def walk(client: AsyncBatchesClient) -> None:
    [batch async for batch in client.list_all()]


def calls(client: AsyncBatchesClient, folder: Path) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    path = folder / "requests.jsonl"
    path.write_bytes(msgspec.json.encode(REQUEST))
    return [
        lambda: client.get("msgbatch_1"),
        lambda: client.wait_for("msgbatch_1"),
        lambda: client.create([REQUEST]),
        lambda: client.create([REQUEST], if_unknown="settle"),
        lambda: client.create(RequestsFile(path)),
        lambda: client.results("msgbatch_1"),
        lambda: client.download("msgbatch_1", folder / "results.jsonl"),
        lambda: walk(client),
    ]


def test_a_client_of_another_event_loop_says_so_and_sends_nothing(tmp_path: Path) -> None:
    with (
        scripted(reply(BATCH), reply(BATCH)) as served,
        asyncio.Runner() as first,
        asyncio.Runner() as second,
    ):
        client = AsyncBatchesClient(api_key="k", base_url=served.base_url)
        first.run(client.get("msgbatch_1"))
        for call in [*calls(client, tmp_path), client.aclose]:
            with pytest.raises(LocalProtocolError) as caught:
                second.run(call())
            assert str(caught.value) == ELSEWHERE
            assert not hasattr(caught.value, "create_outcome")
        assert len(served.requests) == 1
        # It is as it was where it belongs.
        first.run(client.get("msgbatch_1"))
        first.run(client.aclose())
        assert (len(served.requests), served.connections) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_a_client_whose_event_loop_has_ended_says_so_and_can_be_closed() -> None:
    async def again() -> None:
        async with client:
            await client.get("msgbatch_1")

    with scripted(reply(BATCH, headers=b"connection: close\r\n", keep=False)) as served:
        client = AsyncBatchesClient(api_key="k", base_url=served.base_url)
        asyncio.run(client.get("msgbatch_1"))
        with pytest.raises(LocalProtocolError, match="another event loop") as caught:
            asyncio.run(again())
        # Told once: closing it says nothing of its own.
        assert caught.value.__context__ is None
        with pytest.raises(LocalProtocolError, match="another event loop"):
            trio.run(client.get, "msgbatch_1")
    assert len(served.requests) == 1


def test_a_client_that_was_made_outside_of_an_event_loop_belongs_to_its_first() -> None:
    with scripted(reply(BATCH), reply(BATCH)) as served:
        client = AsyncBatchesClient(api_key="k", base_url=served.base_url)

        async def job() -> None:
            async with client:
                await client.get("msgbatch_1")
                await client.get("msgbatch_1")

        asyncio.run(job())
    assert served.connections == 1


@pytest.mark.parametrize("client_type", [AsyncBatchesClient, transports.trio.BatchesClient])
def test_on_trio_a_client_goes_on_in_the_next_run(client_type: Any) -> None:
    def run(call: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        trio.run(call, *arguments)

    with scripted(reply(BATCH), reply(BATCH)) as served:
        client = client_type(api_key="k", base_url=served.base_url)
        run(client.get, "msgbatch_1")
        run(client.get, "msgbatch_1")
        run(client.aclose)
    assert (len(served.requests), served.connections) == (2, 1)
