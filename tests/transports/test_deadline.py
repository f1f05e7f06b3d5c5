"""A wait ends at its deadline on every transport, however the service holds it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from batches_core import (
    APIStatusError,
    BatchState,
    OutcomeUnknownError,
    RetryPolicy,
    WaitTimeoutError,
)
from tests.support.carriers import CARRIERS, Carrier
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import Handler, reply, scripted
from tests.support.stalling import CHUNKED_HEAD, LONG, StallingPeer

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

#: Blocking httpx cannot look at the time while a head drips, so it is not asked to.
exact = pytest.mark.parametrize(
    "carrier",
    [carrier for carrier in CARRIERS if carrier.name not in {"httpx-sync", "httpx2-sync"}],
    ids=lambda carrier: carrier.name,
)

BATCH = msgspec.json.encode(batch_json())
#: Empty blocks can follow for ever.
GZIPPED = (
    b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    b"a\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\r\n"
)


HOLDS: dict[str, Callable[[StallingPeer], Handler]] = {
    "a poll without a response": lambda peer: peer.silence(),
    "an answer that stops": lambda peer: peer.silence(CHUNKED_HEAD % 200 + b"1\r\n{\r\n"),
    "an answer that drips": lambda peer: peer.drip(CHUNKED_HEAD % 200),
    "an answer that drips and decodes to nothing": lambda peer: peer.drip(
        GZIPPED, b"5\r\n\0\0\0\xff\xff\r\n"
    ),
    "an error that stops": lambda peer: peer.silence(CHUNKED_HEAD % 503),
    "an error that drips": lambda peer: peer.drip(CHUNKED_HEAD % 503),
}


@every
@pytest.mark.parametrize("hold", HOLDS)
def test_a_poll_under_way_at_the_deadline_is_left(carrier: Carrier, hold: str) -> None:
    peer = StallingPeer()

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(
                WaitTimeoutError, match=r"not be read within 0\.3 s; the last poll failed"
            ):
                await client.wait_for("msgbatch_1", timeout=0.3)
            # The server was still at it, and not the one that went.
            assert peer.client_left.wait(LONG)

    with scripted(HOLDS[hold](peer)) as served:
        carrier.run(job)
    assert len(served.requests) == 1


@every
def test_a_later_poll_is_left_at_the_deadline_too(carrier: Carrier) -> None:
    peer = StallingPeer()
    events: list[Any] = []

    async def job() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, on_event=events.append
        ) as client:
            with pytest.raises(WaitTimeoutError, match="'in_progress'") as caught:
                await client.wait_for("msgbatch_1", poll_interval=0.1, timeout=0.5)
            assert caught.value.batch is not None
            assert peer.client_left.wait(LONG)

    with scripted(reply(BATCH), peer.silence()) as served:
        carrier.run(job)
    assert len(served.requests) == 2
    assert sum(isinstance(event, BatchState) for event in events) == 1


@exact
@pytest.mark.parametrize("hold", ["a head that drips", "informational heads that drip"])
def test_a_head_that_drips_is_left_at_the_deadline(carrier: Carrier, hold: str) -> None:
    peer = StallingPeer()
    drip = peer.drip(b"HTTP/1.1 200 X\r\nx-long: ", b"x")
    if hold != "a head that drips":
        drip = peer.drip(b"", b"HTTP/1.1 103 X\r\n\r\n")

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for("msgbatch_1", timeout=0.3)
            assert peer.client_left.wait(LONG)

    with scripted(drip) as served:
        carrier.run(job)


@every
def test_after_a_poll_that_was_left_the_client_goes_on(carrier: Carrier) -> None:
    peer = StallingPeer()

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            for _ in range(3):
                with pytest.raises(WaitTimeoutError):
                    await client.wait_for("msgbatch_1", timeout=0.1)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(*[peer.silence()] * 3, reply(BATCH)) as served:
        carrier.run(job)


@every
@pytest.mark.parametrize("hold", ["an error that drips", "an error that stops"])
def test_the_body_of_an_error_is_bounded_also_where_nobody_waits(
    carrier: Carrier, hold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches_core.call.MAX_ERROR_TIME", 0.2)
    peer = StallingPeer()

    async def job() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, retry=RetryPolicy(attempts=1)
        ) as client:
            with pytest.raises(APIStatusError, match="503"):
                await client.get("msgbatch_1")
            assert peer.client_left.wait(LONG)
            with pytest.raises(OutcomeUnknownError, match="503") as caught:
                await client.create([REQUEST])
            assert caught.value.marker is not None

    with scripted(*[HOLDS[hold](peer)] * 2) as served:
        carrier.run(job)


@every
def test_a_transports_own_timeout_is_no_deadline(carrier: Carrier) -> None:
    peer = StallingPeer()

    async def job() -> None:
        settings = {"retry": RetryPolicy(attempts=1, initial_delay=0), "timeout": 0.2}
        async with carrier.client(served.base_url, **settings) as client:
            batch = await client.wait_for("msgbatch_1", poll_interval=0.01, timeout=LONG)
            assert batch.ended

    ended = msgspec.json.encode(batch_json(status="ended"))
    with scripted(peer.silence(), reply(ended)) as served:
        carrier.run(job)
    assert len(served.requests) == 2
