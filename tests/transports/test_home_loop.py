"""A client's connections belong to the event loop of its first call."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

import transports.asyncio
import transports.trio
from batches_core import LocalProtocolError
from tests.support.batches import BATCH, CHUNKED, chunk, ended_batch, list_ids
from tests.support.playbook import REQUEST, result_line
from tests.support.scripted import raw, reply, scripted
from transports.files import RequestsFile
from transports.httpx import AsyncBatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

OTHER_LOOP = (
    "this client was used in another event loop, and its connections belong to that loop: make a "
    "new client inside this asyncio.run()"
)


CLIENTS = [AsyncBatchesClient, transports.asyncio.BatchesClient]
asyncio_clients = pytest.mark.parametrize("client_type", CLIENTS, ids=["httpx", "asyncio"])


def calls(client: Any, folder: Path) -> list[Callable[[], Coroutine[Any, Any, Any]]]:
    """Return a function for each kind of call."""
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
        lambda: list_ids(client),
    ]


@asyncio_clients
def test_a_client_used_in_another_event_loop_raises_and_sends_nothing(
    client_type: Any, tmp_path: Path
) -> None:
    with (
        scripted(reply(BATCH), reply(BATCH)) as served,
        asyncio.Runner() as first,
        asyncio.Runner() as second,
    ):
        client = client_type(api_key="k", base_url=served.base_url)
        first.run(client.get("msgbatch_1"))
        for call in [*calls(client, tmp_path), client.aclose]:
            with pytest.raises(LocalProtocolError) as caught:
                second.run(call())
            assert str(caught.value) == OTHER_LOOP
            assert not hasattr(caught.value, "create_outcome")
        assert len(served.requests) == 1
        # It remains usable in its own loop.
        first.run(client.get("msgbatch_1"))
        first.run(client.aclose())
        assert (len(served.requests), served.connections) == (2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


@asyncio_clients
def test_a_client_whose_event_loop_ended_raises_and_can_be_closed(client_type: Any) -> None:
    async def use_again() -> None:
        async with client:
            await client.get("msgbatch_1")

    with scripted(reply(BATCH, headers=b"connection: close\r\n", keep=False)) as served:
        client = client_type(api_key="k", base_url=served.base_url)
        asyncio.run(client.get("msgbatch_1"))
        with pytest.raises(LocalProtocolError, match="another event loop") as caught:
            asyncio.run(use_again())
        # Closing the client raised nothing.
        assert caught.value.__context__ is None
        asyncio.run(client.aclose())
    assert len(served.requests) == 1


def test_closing_an_asyncio_client_after_its_loop_ended_raises_nothing() -> None:
    with scripted(reply(BATCH)) as served:
        client = transports.asyncio.BatchesClient(api_key="k", base_url=served.base_url)
        asyncio.run(client.get("msgbatch_1"))
        with pytest.raises(LocalProtocolError, match="another event loop"):
            asyncio.run(client.get("msgbatch_1"))
        asyncio.run(client.aclose())
        # Only its own loop could have closed the connection; asyncio warns when it is collected.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del client
            gc.collect()
    assert len(served.requests) == 1


@asyncio_clients
def test_a_client_made_outside_an_event_loop_belongs_to_its_first_loop(client_type: Any) -> None:
    with scripted(reply(BATCH), reply(BATCH)) as served:
        client = client_type(api_key="k", base_url=served.base_url)

        async def scenario() -> None:
            async with client:
                await client.get("msgbatch_1")
                await client.get("msgbatch_1")

        asyncio.run(scenario())
    assert served.connections == 1


def test_an_httpx_client_whose_asyncio_loop_ended_raises_on_trio() -> None:
    with scripted(reply(BATCH, headers=b"connection: close\r\n", keep=False)) as served:
        client = AsyncBatchesClient(api_key="k", base_url=served.base_url)
        asyncio.run(client.get("msgbatch_1"))
        with pytest.raises(LocalProtocolError, match="another event loop"):
            trio.run(client.get, "msgbatch_1")
        asyncio.run(client.aclose())
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "client_type", [AsyncBatchesClient, transports.trio.BatchesClient], ids=["httpx", "trio"]
)
def test_a_client_on_trio_is_usable_in_a_second_run(client_type: Any) -> None:
    def run(call: Callable[..., Awaitable[Any]], *arguments: Any) -> None:
        trio.run(call, *arguments)

    with scripted(reply(BATCH), reply(BATCH)) as served:
        client = client_type(api_key="k", base_url=served.base_url)
        run(client.get, "msgbatch_1")
        run(client.get, "msgbatch_1")
        run(client.aclose)
    assert (len(served.requests), served.connections) == (2, 1)


@pytest.mark.parametrize("has_ended", [False, True], ids=["stopped", "closed"])
def test_an_asyncio_stream_in_another_event_loop_raises_and_does_not_hang(
    *, has_ended: bool
) -> None:
    async def within(call: Callable[[], Awaitable[Any]], seconds: float = 2.0) -> None:
        task = asyncio.ensure_future(call())
        done, _ = await asyncio.wait({task}, timeout=seconds)
        assert done
        await task

    endless = raw(CHUNKED + chunk(result_line("a")))
    with (
        warnings.catch_warnings(),
        scripted(endless) as served,
        asyncio.Runner() as first,
        asyncio.Runner() as second,
    ):
        warnings.simplefilter("ignore", ResourceWarning)
        client = transports.asyncio.BatchesClient(api_key="k", base_url=served.base_url)
        stream = client.results_stream(ended_batch(served.base_url))
        first.run(stream.__anext__())
        if has_ended:
            first.close()
        with pytest.raises(LocalProtocolError, match="another event loop"):
            second.run(within(stream.__anext__))
        second.run(within(stream.aclose))
        if not has_ended:
            first.run(client.aclose())
        del client, stream
        gc.collect()
