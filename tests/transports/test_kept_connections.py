"""Which connections are kept, reused and replaced."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
import trio

import transports.h11
from batches_core import Event, NotFoundError
from tests.support.batches import BATCH, ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier, raw_carriers
from tests.support.playbook import REQUEST
from tests.support.scripted import close, raw, reply, reset, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


async def pause(carrier: Carrier) -> None:
    """Let the threads of the server run."""
    if carrier.name == "trio":
        await trio.sleep(0.001)
    else:
        time.sleep(0.001)  # noqa: ASYNC251 - blocking clients have no loop


@every_carrier
def test_successive_reads_share_one_connection(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            for _ in range(5):
                await client.get("msgbatch_1")
            with pytest.raises(NotFoundError):
                await client.get("msgbatch_1")
            await client.get("msgbatch_1")

    with scripted(*[reply(BATCH)] * 5, reply(b"{}", 404), reply(BATCH)) as served:
        carrier.run(scenario)
    assert served.connections == 1


@raw_carriers
def test_a_create_uses_a_new_connection(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            await client.get("msgbatch_1")
            await client.create([REQUEST])
            await client.get("msgbatch_1")

    with scripted(*[reply(BATCH)] * 3) as served:
        carrier.run(scenario)
    assert served.connections == 2


@raw_carriers
@pytest.mark.parametrize(
    ("handler", "is_reused"),
    [
        (reply(BATCH, headers=b"connection: close\r\n"), False),
        (raw(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BATCH) + BATCH), False),
        # The core reads this body to its end, so it is complete.
        (reply(BATCH + b" "), True),
        (
            raw(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%sHTTP/1.1" % (len(BATCH), BATCH)),
            False,
        ),
    ],
    ids=["connection: close", "http/1.0", "complete body", "bytes after the end"],
)
def test_a_connection_is_reused_only_after_a_clean_http_1_1_response(
    carrier: Carrier, handler: Any, *, is_reused: bool
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(handler, reply(BATCH)) as served:
        carrier.run(scenario)
    assert served.connections == (1 if is_reused else 2)


def test_an_early_refusal_of_a_get_keeps_the_connection_open() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reply(b"{}", 404)(theirs)
        with transports.h11.BatchesClient(
            base_url="http://localhost",
            api_key="k",
            retry=ONE_ATTEMPT,
            connect=lambda _host, _port: ours,
        ) as client:
            with pytest.raises(NotFoundError):
                client.get("msgbatch_1")
            assert theirs.recv(65536).startswith(b"GET ")
            theirs.settimeout(0)
            with pytest.raises(BlockingIOError):
                theirs.recv(1)


@raw_carriers
def test_at_most_eight_idle_connections_are_kept(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            for _ in range(20):
                await client.create([REQUEST])
            # The threads of the server need time to see that their connections were closed.
            for _ in range(5000):
                if sum(thread.is_alive() for thread in served.threads) <= 8:
                    break
                await pause(carrier)
            assert sum(thread.is_alive() for thread in served.threads) <= 8

    with scripted(*[reply(BATCH)] * 20) as served:
        carrier.run(scenario)


@raw_carriers
def test_a_kept_connection_closed_by_the_peer_is_replaced_without_an_event(
    carrier: Carrier,
) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        settings = {"retry": ONE_ATTEMPT, "on_event": events.append}
        async with carrier.client(served.base_url, **settings) as client:
            for _ in range(3):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(*[reply(BATCH, keep=False)] * 3) as served:
        carrier.run(scenario)
    assert served.connections == 3
    assert not events


@raw_carriers
@pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])
def test_a_kept_connection_that_dies_during_a_get_is_replaced(carrier: Carrier, end: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            for _ in range(2):
                assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(reply(BATCH), end, reply(BATCH)) as served:
        carrier.run(scenario)
    assert (served.connections, len(served.requests)) == (2, 3)


def reply_and_reset(connection: socket.socket) -> bool:
    reply(BATCH)(connection)
    return reset(connection)


def reply_and_send_a_408(connection: socket.socket) -> bool:
    """Reply, and 50 ms later send an unsolicited response, as some servers do before a close."""
    reply(BATCH)(connection)
    time.sleep(0.05)
    return reply(b"{}", 408, keep=False)(connection)


@raw_carriers
@pytest.mark.parametrize("end", [reply_and_reset, reply_and_send_a_408])
def test_a_kept_connection_that_ended_while_idle_is_replaced(carrier: Carrier, end: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"
            while not served.threads or served.live():
                await pause(carrier)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(end, reply(BATCH)) as served:
        carrier.run(scenario)
    assert served.connections == 2
