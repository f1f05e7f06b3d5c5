"""Uploads over sockets: at a slow peer's pace, broken, stalled, and answered early."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from batches_core import OutcomeUnknownError, RequestTooLargeError, TransportError
from batches_core.emulator import Emulator
from batches_core.requests import prepare
from tests.support.batches import BATCH, ONE_ATTEMPT, QUICK_RETRIES
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier, raw_carriers
from tests.support.playbook import REQUEST
from tests.support.scripted import close, raw, reply, reset, scripted
from transports.emulator import running_emulator
from transports.files import RequestsFile

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


#: A success whose body is never sent.
SUCCESS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"

ends = pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])


def request_of(size: int) -> dict[str, Any]:
    return {"custom_id": "a", "params": {"system": "x" * size}}


#: Larger than the buffers of loopback, so that a peer that stops reading stops the upload.
LARGE = request_of(30_000_000)


def read_some_and(end: Any) -> Any:
    """Return an upload handler that reads up to 100 kB, and then ends the connection."""

    def upload(connection: socket.socket, buffer: bytearray) -> bool:
        buffer += connection.recv(100_000)
        return bool(end(connection))

    return upload


# --- whole uploads ---------------------------------------------------------------------


@every_carrier
def test_a_create_sends_each_header_once_and_its_body_with_a_length(carrier: Carrier) -> None:
    async def scenario() -> None:
        settings = {"betas": ["one", "two"], "user_profile_id": "p"}
        async with carrier.client(served.base_url, **settings) as client:
            await client.create(iter([b'{"custom_id":"a","params":{"x": 1.0}}\n', b"\n"]))

    with scripted(reply(BATCH)) as served:
        carrier.run(scenario)
    head, _, body = served.requests[0].partition(b"\r\n\r\n")
    assert body == b'{"requests":[{"custom_id":"a","params":{"x": 1.0}}]}'
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/messages/batches http/1.1"
    for line in (
        b"x-api-key: sk-carried",
        b"anthropic-version: 2023-06-01",
        b"anthropic-beta: one,two",
        b"anthropic-user-profile-id: p",
        b"content-type: application/json",
        b"content-length: %d" % len(body),
    ):
        assert lines.count(line) == 1
    assert not any(line.startswith(b"transfer-encoding") for line in lines)


@every_carrier
def test_an_upload_to_a_slow_peer_may_take_longer_than_the_timeout(carrier: Carrier) -> None:
    durations: list[float] = []

    def read_slowly(connection: socket.socket, buffer: bytearray) -> bool:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        began = time.monotonic()
        while time.monotonic() < began + 2.2:
            buffer += connection.recv(200_000)
            time.sleep(0.02)
        durations.append(time.monotonic() - began)
        return True

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT, timeout=1) as client:
            assert (await client.create([request_of(36_000_000)])).id == "msgbatch_1"

    with scripted(reply(BATCH), upload=read_slowly) as served:
        carrier.run(scenario)
    assert len(served.requests[0]) > 36_000_000
    assert durations[0] > 2


# --- uploads that break ----------------------------------------------------------------


@pytest.mark.parametrize("form", ["dicts", "lines", "file"])
def test_the_body_of_a_create_is_not_json_without_its_last_byte(form: str, tmp_path: Path) -> None:
    line = json.dumps(REQUEST).encode()
    path = tmp_path / "requests.jsonl"
    path.write_bytes(line + b"\n\n")
    if form == "file":
        body = b"".join(RequestsFile(path).prepare().body)
    else:
        body = b"".join(prepare([REQUEST] if form == "dicts" else [line + b"\n"]).body)
    assert msgspec.json.decode(body)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body[:-1])


@every_carrier
@ends
def test_an_upload_broken_before_its_last_byte_counts_as_not_sent(
    carrier: Carrier, end: Any
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError) as caught:
                await client.create([LARGE])
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    with scripted(upload=read_some_and(end)) as served:
        carrier.run(scenario)
    assert served.requests == []


@every_carrier
def test_a_create_is_retried_after_a_broken_upload(carrier: Carrier) -> None:
    uploads: list[str] = []

    def break_the_first(connection: socket.socket, buffer: bytearray) -> bool:
        uploads.append("complete" if uploads else "broken")
        return len(uploads) > 1 or bool(read_some_and(reset)(connection, buffer))

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            assert (await client.create([LARGE])).id == "msgbatch_1"

    with scripted(reply(BATCH), upload=break_the_first) as served:
        carrier.run(scenario)
    assert uploads == ["broken", "complete"]
    assert len(served.requests) == 1


@every_carrier
@ends
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_create_lost_after_its_last_byte_has_an_unknown_outcome(
    carrier: Carrier, end: Any, size: int
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create([request_of(size)])
            assert caught.value.sent

    with scripted(end) as served:
        carrier.run(scenario)
    assert len(served.requests) == 1


# --- uploads that stall ----------------------------------------------------------------


@every_carrier
def test_an_upload_stalled_before_its_last_byte_counts_as_not_sent(carrier: Carrier) -> None:
    has_failed = threading.Event()

    def stall(connection: socket.socket, buffer: bytearray) -> bool:
        has_failed.wait(20)
        return bool(read_some_and(reset)(connection, buffer))

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT, timeout=0.3) as client:
            try:
                with pytest.raises(TransportError) as caught:
                    await client.create([LARGE])
            finally:
                has_failed.set()
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    with scripted(upload=stall) as served:
        carrier.run(scenario)


@every_carrier
def test_an_upload_to_a_peer_that_does_not_read_times_out(carrier: Carrier) -> None:
    has_failed = threading.Event()

    def never_read(connection: socket.socket) -> socket.socket:
        has_failed.wait(10)
        return connection

    async def scenario() -> None:
        settings = {"timeout": 0.2, "retry": ONE_ATTEMPT}
        async with carrier.client(served.base_url, **settings) as client:
            with pytest.raises(TransportError, match=r"no byte came .* in 0\.2 s"):
                await client.create([request_of(50_000_000)], if_unmarked="send")
        has_failed.set()

    with scripted(prepare=never_read) as served:
        carrier.run(scenario)


def send_early(piece: bytes) -> Callable[[socket.socket], socket.socket]:
    """Return a `prepare` that sends bytes after the head of a request, before its body is read."""

    def prepare(connection: socket.socket) -> socket.socket:
        while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
            pass
        connection.sendall(piece)
        return connection

    return prepare


@every_carrier
def test_an_upload_to_a_peer_that_responds_but_does_not_read_times_out(carrier: Carrier) -> None:
    has_failed = threading.Event()

    def prepare(connection: socket.socket) -> socket.socket:
        send_early(SUCCESS_HEAD)(connection)
        has_failed.wait(10)
        return connection

    async def scenario() -> None:
        async with carrier.client(served.base_url, timeout=0.2, retry=ONE_ATTEMPT) as client:
            with pytest.raises(TransportError, match="no byte came"):
                await client.create([request_of(50_000_000)], if_unmarked="send")
        has_failed.set()

    with scripted(prepare=prepare) as served:
        carrier.run(scenario)


# --- early responses -------------------------------------------------------------------

EARLY_PIECES = {
    "an informational head": (b"HTTP/1.1 102 Processing\r\n\r\n", reply(BATCH)),
    "the head of a success": (
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BATCH),
        raw(BATCH),
    ),
}


@every_carrier
@pytest.mark.parametrize(("piece", "handler"), EARLY_PIECES.values(), ids=EARLY_PIECES)
def test_an_early_response_that_is_not_an_error_does_not_stop_an_upload(
    carrier: Carrier, piece: bytes, handler: Any
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT, timeout=5) as client:
            batch = await client.create([request_of(8_000_000)], if_unmarked="send")
            assert batch.id == "msgbatch_1"

    with scripted(handler, prepare=send_early(piece)) as served:
        carrier.run(scenario)
    assert len(served.requests[0]) > 8_000_000


@every_carrier
def test_a_create_refused_during_its_upload_raises_the_refusal(carrier: Carrier) -> None:
    class SmallEmulator(Emulator):
        max_body = 100_000

    async def scenario() -> None:
        async with carrier.client(base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(RequestTooLargeError):
                await client.create([request_of(3_000_000)])

    with running_emulator(SmallEmulator()) as base_url:
        carrier.run(scenario)


@raw_carriers
def test_an_early_success_leaves_the_outcome_of_a_broken_upload_unknown(carrier: Carrier) -> None:
    has_failed = threading.Event()

    def respond_and_stall(connection: socket.socket, buffer: bytearray) -> bool:
        connection.sendall(SUCCESS_HEAD)
        has_failed.wait(20)
        return bool(read_some_and(reset)(connection, buffer))

    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT, timeout=0.3) as client:
            try:
                with pytest.raises(OutcomeUnknownError):
                    await client.create([LARGE])
            finally:
                has_failed.set()

    with scripted(upload=respond_and_stall) as served:
        carrier.run(scenario)
