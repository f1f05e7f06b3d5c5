"""A wait ends at its deadline on every transport, however the service holds it up."""

from __future__ import annotations

import socket
import threading
import time
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

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

#: Blocking httpx cannot look at the time while a head drips, so it is not asked to.
exact = pytest.mark.parametrize(
    "carrier",
    [carrier for carrier in CARRIERS if carrier.name not in {"httpx-sync", "httpx2-sync"}],
    ids=lambda carrier: carrier.name,
)

BATCH = msgspec.json.encode(batch_json())
CHUNKED = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n"
#: Empty blocks can follow for ever.
GZIPPED = (
    b"HTTP/1.1 200 X\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    b"a\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\r\n"
)
#: Many times as long as any of the timeouts here: whoever waits for it did not keep his.
LONG = 30.0


class Holding:
    """A server's handlers that never come to their end by themselves; it counts what it sent."""

    def __init__(self) -> None:
        self.sent = 0
        #: Whether a client went while something was still being held back from it.
        self.was_left = threading.Event()

    def drip(self, head: bytes, piece: bytes = b"1\r\n \r\n") -> Handler:
        """Send a head, and then a piece again and again, until the client goes."""

        def handle(connection: socket.socket) -> bool:
            connection.sendall(head)
            ends = time.monotonic() + LONG
            try:
                while time.monotonic() < ends:
                    connection.sendall(piece)
                    self.sent += 1
                    time.sleep(0.02)
            except OSError:
                self.was_left.set()
            return False

        return handle

    def silence(self, head: bytes = b"") -> Handler:
        """Send a head or nothing, and then nothing more, until the client goes."""

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
    "an answer that stops": lambda holding: holding.silence(CHUNKED % 200 + b"1\r\n{\r\n"),
    "an answer that drips": lambda holding: holding.drip(CHUNKED % 200),
    "an answer that drips and decodes to nothing": lambda holding: holding.drip(
        GZIPPED, b"5\r\n\0\0\0\xff\xff\r\n"
    ),
    "an error that stops": lambda holding: holding.silence(CHUNKED % 503),
    "an error that drips": lambda holding: holding.drip(CHUNKED % 503),
}


@every
@pytest.mark.parametrize("hold", HOLDS)
def test_a_poll_under_way_at_the_deadline_is_left(carrier: Carrier, hold: str) -> None:
    holding = Holding()

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(
                WaitTimeoutError, match=r"not be read within 0\.3 s; the last poll failed"
            ):
                await client.wait_for("msgbatch_1", timeout=0.3)
            # The server was still at it, and not the one that went.
            assert holding.was_left.wait(LONG)

    with scripted(HOLDS[hold](holding)) as served:
        carrier.run(job)
    assert len(served.requests) == 1


@every
def test_a_later_poll_is_left_at_the_deadline_too(carrier: Carrier) -> None:
    holding = Holding()
    events: list[Any] = []

    async def job() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, on_event=events.append
        ) as client:
            with pytest.raises(WaitTimeoutError, match="'in_progress'") as caught:
                await client.wait_for("msgbatch_1", poll_interval=0.1, timeout=0.5)
            assert caught.value.batch is not None
            assert holding.was_left.wait(LONG)

    with scripted(reply(BATCH), holding.silence()) as served:
        carrier.run(job)
    assert len(served.requests) == 2
    assert sum(isinstance(event, BatchState) for event in events) == 1


@exact
@pytest.mark.parametrize("hold", ["a head that drips", "informational heads that drip"])
def test_a_head_that_drips_is_left_at_the_deadline(carrier: Carrier, hold: str) -> None:
    holding = Holding()
    drip = holding.drip(b"HTTP/1.1 200 X\r\nx-long: ", b"x")
    if hold != "a head that drips":
        drip = holding.drip(b"", b"HTTP/1.1 103 X\r\n\r\n")

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            with pytest.raises(WaitTimeoutError):
                await client.wait_for("msgbatch_1", timeout=0.3)
            assert holding.was_left.wait(LONG)

    with scripted(drip) as served:
        carrier.run(job)


@every
def test_after_a_poll_that_was_left_the_client_goes_on(carrier: Carrier) -> None:
    holding = Holding()

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=2 * LONG) as client:
            for _ in range(3):
                with pytest.raises(WaitTimeoutError):
                    await client.wait_for("msgbatch_1", timeout=0.1)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(*[holding.silence()] * 3, reply(BATCH)) as served:
        carrier.run(job)


@every
@pytest.mark.parametrize("hold", ["an error that drips", "an error that stops"])
def test_the_body_of_an_error_is_bounded_also_where_nobody_waits(
    carrier: Carrier, hold: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches_core.call.MAX_ERROR_TIME", 0.2)
    holding = Holding()

    async def job() -> None:
        async with carrier.client(
            served.base_url, timeout=2 * LONG, retry=RetryPolicy(attempts=1)
        ) as client:
            with pytest.raises(APIStatusError, match="503"):
                await client.get("msgbatch_1")
            assert holding.was_left.wait(LONG)
            with pytest.raises(OutcomeUnknownError, match="503") as caught:
                await client.create([REQUEST])
            assert caught.value.marker is not None

    with scripted(*[HOLDS[hold](holding)] * 2) as served:
        carrier.run(job)


@every
def test_a_transports_own_timeout_is_no_deadline(carrier: Carrier) -> None:
    holding = Holding()

    async def job() -> None:
        settings = {"retry": RetryPolicy(attempts=1, initial_delay=0), "timeout": 0.2}
        async with carrier.client(served.base_url, **settings) as client:
            batch = await client.wait_for("msgbatch_1", poll_interval=0.01, timeout=LONG)
            assert batch.ended

    ended = msgspec.json.encode(batch_json(status="ended"))
    with scripted(holding.silence(), reply(ended)) as served:
        carrier.run(job)
    assert len(served.requests) == 2
