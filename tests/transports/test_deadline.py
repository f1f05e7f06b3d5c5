"""A wait ends at its deadline on every transport, whatever the service does."""

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
from tests.support.batches import BATCH
from tests.support.carriers import CARRIERS, Carrier
from tests.support.marks import each_of, every_carrier
from tests.support.playbook import REQUEST, batch_json
from tests.support.scripted import Handler, reply, scripted
from tests.support.stalling import CHUNKED_HEAD, LONG, StallingPeer

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

#: All but blocking httpx, which cannot check the time while a head drips.
exact_carriers = each_of(
    [carrier for carrier in CARRIERS if carrier.name not in {"httpx-sync", "httpx2-sync"}]
)

CHUNKED = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n"
#: The beginning of a gzip body that any number of empty blocks can follow.
GZIPPED = (
    b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    b"a\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\r\n"
)
#: Seconds; much longer than any timeout here, so that a test that waits for it fails.
LONG = 30.0


class Holding:
    """Handlers of a server that do not end until the client leaves."""

    def __init__(self) -> None:
        #: Set when a client leaves before a handler has ended.
        self.was_left = threading.Event()

    def drip(self, head: bytes, piece: bytes = b"1\r\n \r\n") -> Handler:
        """Send a head, and then one piece every 20 ms until the client leaves."""

        def handle(connection: socket.socket) -> bool:
            connection.sendall(head)
            ends = time.monotonic() + LONG
            try:
                while time.monotonic() < ends:
                    connection.sendall(piece)
                    time.sleep(0.02)
            except OSError:
                self.was_left.set()
            return False

        return handle

    def silence(self, head: bytes = b"") -> Handler:
        """Send a head or nothing, and then nothing more until the client leaves."""

        def handle(connection: socket.socket) -> bool:
            connection.sendall(head)
            connection.settimeout(LONG)
            try:
                if not connection.recv(1):
                    self.was_left.set()
            except TimeoutError:
                pass
            except OSError:
                self.was_left.set()
            return False

        return handle


HOLDS: dict[str, Callable[[Holding], Handler]] = {
    "a poll without a response": lambda holding: holding.silence(),
    "a response that stops": lambda holding: holding.silence(CHUNKED % 200 + b"1\r\n{\r\n"),
    "a response that drips": lambda holding: holding.drip(CHUNKED % 200),
    "a response that drips and decodes to nothing": lambda holding: holding.drip(
        GZIPPED, b"5\r\n\0\0\0\xff\xff\r\n"
    ),
    "an error that stops": lambda peer: peer.silence(CHUNKED_HEAD % 503),
    "an error that drips": lambda peer: peer.drip(CHUNKED_HEAD % 503),
}


@every_carrier
@pytest.mark.parametrize("hold", HOLDS)
def test_a_wait_abandons_a_poll_under_way_at_its_deadline(carrier: Carrier, hold: str) -> None:
    holding = Holding()

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(
                WaitTimeoutError, match=r"not be read within 0\.3 s; the last poll failed"
            ):
                await client.wait_for("msgbatch_1", timeout=0.3)
            # The handler was still running when the client left.
            assert holding.was_left.wait(LONG)

    with scripted(HOLDS[hold](holding)) as served:
        carrier.run(scenario)
    assert len(served.requests) == 1


@every_carrier
def test_a_wait_abandons_a_later_poll_at_its_deadline(carrier: Carrier) -> None:
    holding = Holding()
    events: list[Any] = []

    async def scenario() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, on_event=events.append
        ) as client:
            with pytest.raises(WaitTimeoutError, match="'in_progress'") as caught:
                await client.wait_for("msgbatch_1", poll_interval=0.1, timeout=0.5)
            assert caught.value.batch is not None
            assert peer.client_left.wait(LONG)

    with scripted(reply(BATCH), holding.silence()) as served:
        carrier.run(scenario)
    assert len(served.requests) == 2
    assert sum(isinstance(event, BatchState) for event in events) == 1


@exact_carriers
@pytest.mark.parametrize("hold", ["a head that drips", "informational heads that drip"])
def test_a_wait_abandons_a_dripping_head_at_its_deadline(carrier: Carrier, hold: str) -> None:
    holding = Holding()
    drip = holding.drip(b"HTTP/1.1 200 X\r\nx-long: ", b"x")
    if hold != "a head that drips":
        drip = peer.drip(b"", b"HTTP/1.1 103 X\r\n\r\n")

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for("msgbatch_1", timeout=0.3)
            assert peer.client_left.wait(LONG)

    with scripted(drip) as served:
        carrier.run(scenario)


@every_carrier
def test_a_client_remains_usable_after_abandoned_polls(carrier: Carrier) -> None:
    holding = Holding()

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            for _ in range(3):
                with pytest.raises(WaitTimeoutError):
                    await client.wait_for("msgbatch_1", timeout=0.1)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(*[holding.silence()] * 3, reply(BATCH)) as served:
        carrier.run(scenario)


@every_carrier
@pytest.mark.parametrize("hold", ["an error that drips", "an error that stops"])
def test_reading_an_error_body_is_limited_in_time_without_a_deadline(
    carrier: Carrier, hold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches_core.call.MAX_ERROR_TIME", 0.2)
    peer = StallingPeer()

    async def scenario() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, retry=RetryPolicy(attempts=1)
        ) as client:
            with pytest.raises(APIStatusError, match="503"):
                await client.get("msgbatch_1")
            assert peer.client_left.wait(LONG)
            with pytest.raises(OutcomeUnknownError, match="503") as caught:
                await client.create([REQUEST])
            assert caught.value.marker is not None

    with scripted(*[HOLDS[hold](holding)] * 2) as served:
        carrier.run(scenario)


@every_carrier
def test_a_wait_retries_a_poll_that_exceeds_the_transport_timeout(carrier: Carrier) -> None:
    holding = Holding()

    async def scenario() -> None:
        settings = {"retry": RetryPolicy(attempts=1, initial_delay=0), "timeout": 0.2}
        async with carrier.client(served.base_url, **settings) as client:
            batch = await client.wait_for("msgbatch_1", poll_interval=0.01, timeout=LONG)
            assert batch.ended

    ended = msgspec.json.encode(batch_json(status="ended"))
    with scripted(holding.silence(), reply(ended)) as served:
        carrier.run(scenario)
    assert len(served.requests) == 2
