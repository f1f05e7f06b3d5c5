"""Peers that respond before they have read a request, and then close, fall silent or never end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from batches_core import BadRequestError
from batches_core.requests import PreparedRequests
from tests.support.batches import ONE_ATTEMPT
from tests.support.carriers import Carrier
from tests.support.marks import raw_carriers
from tests.support.scripted import reply, reset, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

#: Seconds in which a test that hangs fails.
PATIENCE = 10.0


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
