"""Peers that respond before they have read a request, and then close, fall silent or never end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from batches_core import BadRequestError, OutcomeUnknownError, TransportError
from batches_core.requests import PreparedRequests
from tests.support.batches import BATCH, CHUNKED, ONE_ATTEMPT, chunk
from tests.support.carriers import Carrier
from tests.support.marks import raw_carriers
from tests.support.scripted import reply, reset, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

#: Seconds in which a test that hangs fails.
PATIENCE = 10.0


#: More than the buffers of loopback hold, so that a peer that does not read stops the upload.
LARGE = {"custom_id": "a", "params": {"system": "x" * 30_000_000}}


class WaitingBody:
    """A body that blocks before each piece but the first until an event is set.

    It stands for an event loop that is busy while a response arrives.
    """

    def __init__(self, pieces: list[bytes], event: threading.Event) -> None:
        self.content_length = sum(map(len, pieces))
        self._pieces = pieces
        self._event = event

    def __iter__(self) -> Iterator[bytes]:
        first, *others = self._pieces
        yield first
        for piece in others:
            self._event.wait(PATIENCE)
            time.sleep(0.05)  # for the system to receive what was sent before the event
            yield piece


@raw_carriers
def test_a_refusal_is_read_if_the_peer_closed_before_the_next_piece_was_sent(
    carrier: Carrier,
) -> None:
    has_closed = threading.Event()

    def refuse(connection: socket.socket, buffer: bytearray) -> bool:
        del buffer
        reply(b"", 400)(connection)
        reset(connection)
        connection.close()
        has_closed.set()
        return False

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            body: Any = WaitingBody([b"x"] * 9, has_closed)
            with pytest.raises(BadRequestError):
                await client.create(PreparedRequests(body=body, count=1))

    with scripted(upload=refuse) as served:
        carrier.run(scenario)


class SilentPeer:
    """Sends some bytes before it reads a body, may end its side, and then does nothing."""

    def __init__(self, early: bytes, *, ends: bool) -> None:
        self._early = early
        self._ends = ends
        self.has_failed = threading.Event()

    def __call__(self, connection: socket.socket, buffer: bytearray) -> bool:
        del buffer
        connection.sendall(self._early)
        if self._ends:
            connection.shutdown(socket.SHUT_WR)
        self.has_failed.wait(PATIENCE)
        return False


@raw_carriers
@pytest.mark.parametrize("ends", [False, True], ids=["stays open", "ends its side"])
def test_a_whole_response_is_returned_although_the_peer_does_not_read_the_request(
    carrier: Carrier,
    ends: bool,  # noqa: FBT001 - a parameter
) -> None:
    peer = SilentPeer(
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BATCH) + BATCH, ends=ends
    )

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=0.3, retry=ONE_ATTEMPT) as client:
            began, computed = time.monotonic(), time.process_time()
            try:
                assert (await client.create([LARGE])).id == "msgbatch_1"
            finally:
                peer.has_failed.set()
            assert time.monotonic() - began < 2
            assert time.process_time() - computed < 0.3  # it waited, and did not poll

    with scripted(upload=peer) as served:
        carrier.run(scenario)


@raw_carriers
def test_an_upload_fails_at_once_if_the_peer_ends_its_side_without_a_response(
    carrier: Carrier,
) -> None:
    peer = SilentPeer(b"", ends=True)

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=5, retry=ONE_ATTEMPT) as client:
            began = time.monotonic()
            try:
                with pytest.raises(TransportError, match="without a response") as caught:
                    await client.create([LARGE])
            finally:
                peer.has_failed.set()
            assert time.monotonic() - began < 2
            assert not caught.value.sent

    with scripted(upload=peer) as served:
        carrier.run(scenario)


@raw_carriers
def test_an_endless_response_that_begins_during_the_upload_is_not_kept_in_memory(
    carrier: Carrier,
) -> None:
    sent = [0]

    def flood(connection: socket.socket, buffer: bytearray) -> bool:
        del buffer
        connection.sendall(CHUNKED)
        connection.settimeout(0.5)
        piece = chunk(b" " * 65536)
        # Until the client does not receive any more, or 100 MB.
        while sent[0] < 100_000_000:
            connection.sendall(piece)
            sent[0] += len(piece)
        return False

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=2, retry=ONE_ATTEMPT) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.create([LARGE])

    with scripted(upload=flood) as served:
        carrier.run(scenario)
    assert sent[0] < 20_000_000
