"""The stream protocol on asyncio: its queue, stalls, deadlines, TLS, cancellation and closing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from batches_core import TransportError
from tests.support.batches import (
    BATCH,
    CHUNKED,
    ONE_ATTEMPT,
    QUICK_RETRIES,
    chunk,
    ended_batch,
)
from tests.support.playbook import result_line
from tests.support.scripted import Upload, raw, reply, reset, scripted, unreachable
from tests.support.tls import client_context, server_context, tls_server
from transports._http11.asyncio import _MAX_QUEUED, AsyncioBackend, AsyncioStream
from transports._http11.connection import StalledError, StreamError
from transports.asyncio import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

#: The most that asyncio reads at once, in bytes.
ASYNCIO_READ = 256 * 1024
#: Seconds in which a test that hangs fails.
PATIENCE = 10.0


@contextlib.asynccontextmanager
async def connected(
    timeout: float = PATIENCE,  # noqa: ASYNC109 - the timeout of the stream
) -> AsyncIterator[tuple[AsyncioStream, socket.socket]]:
    """Connect a stream to a socket that the test reads and writes."""
    sock, peer = socket.socketpair()
    sock.setblocking(False)  # noqa: FBT003 - as in socket
    peer.setblocking(False)  # noqa: FBT003 - as in socket

    async def connect(host: str, port: int) -> socket.socket:
        del host, port
        return sock

    with peer:
        stream = await AsyncioBackend().connect(
            "peer.test",
            80,
            connect=connect,
            deadline=asyncio.get_running_loop().time() + PATIENCE,
            stream_timeout=timeout,
        )
        try:
            yield stream, peer
        finally:
            await stream.aclose()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 3 * PATIENCE))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - sockets and threads set no event
            await asyncio.sleep(0.001)


# --- receiving -------------------------------------------------------------------------


def test_an_asyncio_stream_stops_reading_when_its_queue_is_full_and_resumes() -> None:
    payload = os.urandom(64 * 1024) * 128

    async def send_what_fits(peer: socket.socket, data: memoryview) -> int:
        """Send until nothing was accepted for 100 turns of the loop."""
        sent = refused = 0
        while refused < 100 and sent < len(data):
            try:
                sent += peer.send(data[sent : sent + 64 * 1024])
                refused = 0
            except BlockingIOError:
                refused += 1
            await asyncio.sleep(0)
        return sent

    async def scenario() -> None:
        async with connected() as (stream, peer):
            buffers = peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            sent = await send_what_fits(peer, memoryview(payload))
            assert sent <= _MAX_QUEUED + ASYNCIO_READ + 2 * buffers
            received = bytearray()
            while len(received) < len(payload):
                received += await stream.receive(None)
                sent += await send_what_fits(peer, memoryview(payload)[sent:])
                assert sent - len(received) <= _MAX_QUEUED + ASYNCIO_READ + 2 * buffers
            assert bytes(received) == payload
            peer.close()
            assert await stream.receive(None) == b""

    run(scenario)


def test_an_asyncio_stream_returns_received_bytes_before_the_error_of_a_reset() -> None:
    async def scenario() -> None:
        with scripted(prepare=send_and_reset) as served:
            stream = await AsyncioBackend().connect(
                "127.0.0.1",
                int(served.base_url.rpartition(":")[2]),
                connect=None,
                deadline=asyncio.get_running_loop().time() + PATIENCE,
                stream_timeout=PATIENCE,
            )
            await until(lambda: stream._received)
            can_reset.set()
            await until(stream._socket_closed.done)
            assert await stream.receive(None) == b"before"
            for _ in range(2):
                with pytest.raises(StreamError) as caught:
                    await stream.receive(None)
                assert isinstance(caught.value.__cause__, ConnectionResetError)
            await stream.aclose()

    can_reset = threading.Event()

    def send_and_reset(connection: socket.socket) -> socket.socket:
        connection.sendall(b"before")
        can_reset.wait(PATIENCE)
        reset(connection)
        connection.close()
        return connection

    run(scenario)


def test_an_asyncio_stream_raises_at_a_passed_deadline_although_bytes_have_arrived() -> None:
    async def scenario() -> None:
        async with connected() as (stream, peer):
            peer.send(b"late")
            await until(lambda: stream._received)
            now = asyncio.get_running_loop().time()
            with pytest.raises(StalledError):
                await stream.receive(now)
            assert await stream.receive(now + PATIENCE) == b"late"

    run(scenario)


def test_an_asyncio_stream_raises_at_its_deadline_while_the_peer_sends_single_bytes() -> None:
    async def scenario() -> None:
        async with connected() as (stream, peer):

            async def drip() -> None:
                while True:
                    peer.send(b"x")
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            deadline = asyncio.get_running_loop().time() + 0.2
            received = bytearray()
            with pytest.raises(StalledError):  # noqa: PT012 - bytes arrive before it
                while True:
                    received += await stream.receive(deadline)
            assert asyncio.get_running_loop().time() >= deadline
            assert received
            dripping.cancel()

    run(scenario)


def test_bytes_that_arrive_while_the_asyncio_loop_is_blocked_are_not_a_stall() -> None:
    async def scenario() -> None:
        async with connected(timeout=0.1) as (stream, peer):

            def block() -> None:
                peer.send(b"in time")
                time.sleep(0.3)  # other code of the caller, longer than the timeout

            asyncio.get_running_loop().call_later(0.02, block)
            assert await stream.receive(None) == b"in time"

    run(scenario)


# --- idle streams ----------------------------------------------------------------------


def test_an_asyncio_stream_is_idle_until_bytes_or_an_end_arrive() -> None:
    async def scenario() -> None:
        async with connected() as (stream, peer):
            assert await stream.is_idle()
            peer.send(b"x")
            assert not await stream.is_idle()
        async with connected() as (stream, peer):
            peer.close()
            assert not await stream.is_idle()
            assert await stream.receive(None) == b""

    run(scenario)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_asyncio_client_replaces_a_kept_connection_that_ended_unnoticed(*, tls: bool) -> None:
    async def scenario() -> None:
        settings: dict[str, Any] = {"ssl_context": client_context() if tls else None}
        async with BatchesClient(
            api_key="k", base_url=base_url, retry=ONE_ATTEMPT, **settings
        ) as client:
            await client.get("msgbatch_1")
            # The connection ends here, while the loop of the client does not run.
            for thread in served.threads:
                thread.join(PATIENCE)
            await client.get("msgbatch_1")

    handlers = [reply(BATCH, keep=False), reply(BATCH)]
    with contextlib.ExitStack() as stack:
        if tls:
            served, base_url, _ = stack.enter_context(tls_server(*handlers))
        else:
            served = stack.enter_context(scripted(*handlers))
            base_url = served.base_url
        run(scenario)
    assert (served.connections, len(served.requests)) == (2, 2)


# --- uploads ---------------------------------------------------------------------------


class RecordingConnect:
    """A `connect` with small send buffers that keeps the sockets it returned."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    async def __call__(self, host: str, port: int) -> socket.socket:
        del host
        sock = socket.socket()
        self.sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_000)
        # Loopback has segments of 64 kB, and a peer that reads slowly would open its window rarely.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1460)
        sock.setblocking(False)  # noqa: FBT003 - as in socket
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return sock

    def all_closed(self) -> bool:
        return all(sock.fileno() == -1 for sock in self.sockets)


@contextlib.contextmanager
def uploads_to(upload: Upload, *, tls: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Serve uploads; return the base URL and the settings of a client that can reach it."""
    prepare = partial(server_context().wrap_socket, server_side=True) if tls else None
    with scripted(reply(BATCH), reply(BATCH), prepare=prepare, upload=upload) as served:
        base_url = served.base_url
        if tls:
            base_url = base_url.replace("http://127.0.0.1", "https://localhost")
        yield base_url, {"ssl_context": client_context() if tls else None}


def request_of(size: int) -> dict[str, Any]:
    return {"custom_id": "a", "params": {"system": "x" * size}}


plain_and_tls = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@plain_and_tls
def test_an_asyncio_upload_stalls_after_the_timeout_if_the_peer_reads_nothing(*, tls: bool) -> None:
    durations: list[float] = []

    async def scenario() -> None:
        settings: dict[str, Any] = {"timeout": 0.3, "retry": ONE_ATTEMPT, **tls_settings}
        async with BatchesClient(
            api_key="k", base_url=base_url, connect=RecordingConnect(), **settings
        ) as client:
            began = time.monotonic()
            try:
                with pytest.raises(TransportError, match=r"no byte was sent .* in 0\.3 s"):
                    await client.create([request_of(2_000_000)], if_unmarked="send")
            finally:
                has_failed.set()
            durations.append(time.monotonic() - began)

    def read_nothing(connection: socket.socket, buffer: bytearray) -> bool:
        del connection, buffer
        has_failed.wait(PATIENCE)
        return False

    has_failed = threading.Event()
    with uploads_to(read_nothing, tls=tls) as (base_url, tls_settings):
        run(scenario)
    assert durations[0] >= 0.3


@plain_and_tls
def test_an_asyncio_upload_does_not_stall_if_the_peer_reads_slowly(*, tls: bool) -> None:
    durations: list[float] = []

    async def scenario() -> None:
        settings: dict[str, Any] = {"timeout": 0.5, "retry": ONE_ATTEMPT, **tls_settings}
        async with BatchesClient(
            api_key="k", base_url=base_url, connect=RecordingConnect(), **settings
        ) as client:
            batch = await client.create([request_of(2_000_000)], if_unmarked="send")
            assert batch.id == "msgbatch_1"

    def read_slowly(connection: socket.socket, buffer: bytearray) -> bool:
        """Read 16 KiB every 50 ms: a slice of 256 KiB takes longer than the timeout."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_000)
        began = time.monotonic()
        while len(buffer) < 600_000:
            buffer += connection.recv(16_384)
            time.sleep(0.05)
        durations.append(time.monotonic() - began)
        return True

    with uploads_to(read_slowly, tls=tls) as (base_url, tls_settings):
        run(scenario)
    assert durations[0] > 1.0


# --- cancellation ----------------------------------------------------------------------


async def cancel_three_times(task: asyncio.Task[Any]) -> None:
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_asyncio_upload_closes_its_socket_and_the_client_remains_usable() -> None:
    async def scenario() -> None:
        connect = RecordingConnect()
        async with BatchesClient(api_key="k", base_url=base_url, connect=connect) as client:
            call = client.create([request_of(30_000_000)], if_unmarked="send")
            task = asyncio.create_task(call)
            await until(has_begun.is_set)
            await asyncio.sleep(0.05)  # the buffers are full now
            await cancel_three_times(task)
            is_cancelled.set()
            *others, upload = connect.sockets
            assert upload.fileno() == -1
            assert all(sock.fileno() != -1 for sock in others)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"
        assert connect.all_closed()

    def stop_reading(connection: socket.socket, buffer: bytearray) -> bool:
        del connection, buffer
        has_begun.set()
        is_cancelled.wait(PATIENCE)
        return False

    has_begun, is_cancelled = threading.Event(), threading.Event()
    with uploads_to(stop_reading, tls=False) as (base_url, _):
        run(scenario)


def test_a_cancelled_asyncio_download_closes_its_socket_and_can_be_continued() -> None:
    async def scenario() -> None:
        connect = RecordingConnect()
        async with BatchesClient(
            api_key="k", base_url=served.base_url, connect=connect, retry=QUICK_RETRIES
        ) as client:
            stream = client.results_stream(ended_batch(served.base_url, 2))
            assert (await anext(stream)).custom_id == "a"
            task = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0.05)
            await cancel_three_times(task)
            assert connect.all_closed()
            assert [item.custom_id async for item in stream] == ["b"]

    first = raw(CHUNKED, chunk(result_line("a")))
    with scripted(first, reply(result_line("a") + result_line("b"))) as served:
        run(scenario)


def test_a_cancelled_close_of_an_asyncio_client_closes_every_socket() -> None:
    async def scenario() -> None:
        connect = RecordingConnect()
        client = BatchesClient(api_key="k", base_url=served.base_url, connect=connect)
        streams = [client.results_stream(ended_batch(served.base_url)) for _ in range(5)]
        for stream in streams:
            await anext(stream)
        task = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)  # it waits for the first socket now
        assert not task.done()
        await cancel_three_times(task)
        assert len(connect.sockets) == 5
        assert connect.all_closed()

    with scripted(*[raw(CHUNKED, chunk(result_line("a")))] * 5) as served:
        run(scenario)


def test_a_cancelled_close_of_an_asyncio_stream_waits_until_its_socket_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with connected() as (stream, _):
            sock = stream._transport.get_extra_info("socket")
            abort = stream._transport.abort
            # Other event loops than that of asyncio may need more turns to close a socket.
            monkeypatch.setattr(
                stream._transport, "abort", lambda: stream._loop.call_later(0.05, abort)
            )
            task = asyncio.create_task(stream.aclose())
            await asyncio.sleep(0)
            assert sock.fileno() != -1
            await cancel_three_times(task)
            assert sock.fileno() == -1

    run(scenario)


# --- TLS -------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["TLS handshake", "proxy tunnel"])
@pytest.mark.parametrize("end", ["failure", "cancellation", "timeout"])
def test_an_asyncio_tls_handshake_or_tunnel_that_does_not_succeed_leaves_no_socket(
    monkeypatch: pytest.MonkeyPatch, end: str, step: str
) -> None:
    async def scenario() -> None:
        connect = RecordingConnect()
        proxy = served.base_url if step == "proxy tunnel" else None
        base_url = served.base_url.replace("http://127.0.0.1", "https://localhost")
        async with BatchesClient(
            api_key="k", base_url=base_url, proxy=proxy, connect=connect, retry=ONE_ATTEMPT
        ) as client:
            task = asyncio.create_task(client.get("msgbatch_1"))
            if end == "cancellation":
                await until(is_greeted.is_set)
                await cancel_three_times(task)
            else:
                with pytest.raises(TransportError, match="cannot connect to localhost") as caught:
                    await task
                assert not caught.value.sent
            assert len(connect.sockets) == 1
            assert connect.all_closed()

    def read_the_greeting(connection: socket.socket) -> socket.socket:
        connection.recv(65536)
        is_greeted.set()
        if end == "failure":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        while connection.recv(65536):
            pass
        return connection

    is_greeted = threading.Event()
    if end == "timeout":
        monkeypatch.setattr("transports._http11._async.dialer.CONNECT_TIMEOUT", 0.2)
    with scripted(prepare=read_the_greeting) as served:
        run(scenario)


def test_bytes_before_an_asyncio_tls_handshake_are_never_read_as_its_payload() -> None:
    async def scenario() -> None:
        async with connected() as (stream, peer):
            peer.send(b"HTTP/1.1 200 OK\r\n")  # a proxy could insert bytes after its head
            await until(lambda: stream._received)
            deadline = asyncio.get_running_loop().time() + 0.5
            with pytest.raises(StreamError) as caught:
                await stream.start_tls(client_context(), "localhost", deadline)
            assert "bytes arrived before the TLS handshake" in str(caught.value.__cause__)

    run(scenario)


# --- addresses -------------------------------------------------------------------------


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)


def test_a_silent_address_leaves_time_for_the_next_one_on_asyncio(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with BatchesClient(
            api_key="k", base_url=served.base_url, timeout=1, retry=ONE_ATTEMPT
        ) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with unreachable() as silent, scripted(reply(BATCH)) as served:
        listening = ("127.0.0.1", int(served.base_url.rpartition(":")[2]))
        resolve_to(monkeypatch, silent, listening)
        run(scenario)


def test_the_reason_on_asyncio_is_that_of_the_last_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with BatchesClient(
            api_key="k", base_url="http://localhost:1", timeout=0.4, retry=ONE_ATTEMPT
        ) as client:
            with pytest.raises(TransportError, match="connection refused"):
                await client.get("msgbatch_1")
            resolve_to(monkeypatch, closed, silent)
            with pytest.raises(TransportError, match=r"no response in 0\.4 s"):
                await client.get("msgbatch_1")
            resolve_to(monkeypatch)
            with pytest.raises(TransportError, match="the host name has no address"):
                await client.get("msgbatch_1")

    with scripted() as served:
        closed = ("127.0.0.1", int(served.base_url.rpartition(":")[2]))
    with unreachable() as silent:
        resolve_to(monkeypatch, silent, closed)
        run(scenario)
