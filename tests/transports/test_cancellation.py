"""Cancelled and interrupted calls, and closed clients, leave no connection open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

import transports.h11
from batches_core import LocalProtocolError
from tests.support.batches import BATCH, CHUNKED, chunk, collect, ended_batch
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers, every_carrier
from tests.support.playbook import result_line
from tests.support.scripted import raw, reply, scripted
from transports._http11.connection import HTTP11Connection

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


async def cancel_after(seconds: float, call: Callable[[], Awaitable[Any]], loop: str) -> None:
    """Cancel a call after some seconds, by the event loop's own means."""
    if loop == "trio":
        with trio.move_on_after(seconds):
            await call()
        return
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await call()


@async_carriers
@pytest.mark.parametrize(
    "stage",
    ["waiting for the head", "reading the body", "waiting for the next poll", "between two items"],
)
def test_a_cancelled_call_leaves_no_connection_open(carrier: Carrier, stage: str) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "waiting for the head": lambda: client.get("msgbatch_1"),
                "reading the body": lambda: collect(
                    client.results_stream(ended_batch(served.base_url))
                ),
                "waiting for the next poll": lambda: client.wait_for("msgbatch_1"),
                "between two items": lambda: pause_after_an_item(
                    client.results_stream(ended_batch(served.base_url))
                ),
            }
            loop = "asyncio" if carrier.name.endswith("asyncio") else "trio"
            await cancel_after(0.1, calls[stage], loop)
            if stage != "waiting for the next poll":
                assert served.client_closed.wait(5)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    async def pause_after_an_item(stream: Any) -> None:
        """Sleep outside of the stream, with a piece of the body unread, until the cancellation."""
        async with stream:
            async for _ in stream:
                await anyio.sleep(10)

    half_a_body = raw(CHUNKED, chunk(result_line("a")))
    handlers = {
        "waiting for the head": raw(),
        "reading the body": half_a_body,
        "waiting for the next poll": reply(BATCH),
        "between two items": half_a_body,
    }
    with scripted(handlers[stage], reply(BATCH)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_closed_client_raises_a_local_protocol_error(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            await client.get("msgbatch_1")
        with pytest.raises(LocalProtocolError, match="client was closed"):
            await client.get("msgbatch_1")

    with scripted(reply(BATCH)) as served:
        carrier.run(scenario)


def test_a_keyboard_interrupt_closes_the_connection_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        scripted(raw()) as served,
        transports.h11.BatchesClient(api_key="k", base_url=served.base_url) as client,
    ):
        monkeypatch.setattr(HTTP11Connection, "next_event", interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.get("msgbatch_1")
        assert served.client_closed.wait(5)
