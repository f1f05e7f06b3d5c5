"""The stream protocol on trio: cancellation at any step, and streams of the caller."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel

from batches_core import Request, RequestTooLargeError, TransportError
from batches_core.http import BytesBody
from tests.support.batches import BATCH, CHUNKED, ONE_ATTEMPT, chunk, ended_batch
from tests.support.playbook import REQUEST, result_line
from tests.support.scripted import Served, raw, reply, scripted
from tests.support.tls import client_context, tls_server
from transports.trio import BatchesClient

pytestmark = [pytest.mark.trio, pytest.mark.usefixtures("nothing_left_behind")]


LINES = result_line("a") + result_line("b")

#: The beginning of a chunked response: two results and no end.
OPEN_RESPONSE = CHUNKED + chunk(LINES)

# --- cancellation ----------------------------------------------------------------------


@contextmanager
def server(*handlers: Any, tls: bool) -> Iterator[tuple[Served, str]]:
    if tls:
        with tls_server(*handlers) as (served, base_url, _):
            yield served, base_url
    else:
        with scripted(*handlers) as served:
            yield served, served.base_url


async def until_closed(served: Served) -> None:
    """Wait until no connection is open on the side of the server."""
    with trio.fail_after(5):
        while served.live():  # noqa: ASYNC110 - the threads of the server set no event
            await trio.sleep(0.001)


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when its task begins its n-th step."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.task = trio.lowlevel.current_task()
        self.scope = scope
        self.steps_left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.steps_left -= 1
            if not self.steps_left:
                self.scope.cancel()


async def use(client: BatchesClient, base_url: str) -> None:
    """Upload, read, wait and stream, and leave the stream early."""
    await client.create([REQUEST])
    await client.get("msgbatch_1")
    await client.wait_for("msgbatch_1", until=lambda _: True)
    async with client.results_stream(ended_batch(base_url)) as stream:
        async for item in stream:
            assert item.custom_id == "a"
            await trio.lowlevel.checkpoint()
            break


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_cancellation_at_any_trio_step_leaves_no_connection_open(*, tls: bool) -> None:
    handlers: list[Any] = [reply(BATCH), reply(BATCH), reply(BATCH), raw(OPEN_RESPONSE)]
    steps = 0
    finished = False
    while not finished:
        steps += 1
        settings: dict[str, Any] = {"api_key": "k", "retry": ONE_ATTEMPT}
        if tls:
            settings["ssl_context"] = client_context()
        with server(*handlers, tls=tls) as (served, base_url):
            client = BatchesClient(base_url=base_url, **settings)
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, steps)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await use(client, base_url)
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            finished = not scope.cancelled_caught
            # Every open connection is idle; the others were closed at once.
            transport: Any = client._transport
            pool = transport._pool
            idle = {connection for kept in pool._idle.values() for connection in kept}
            assert pool._open == idle
            await client.aclose()
            await until_closed(served)
    assert steps > 10


async def test_closing_a_client_in_a_cancelled_trio_scope_closes_every_connection() -> None:
    with scripted(*[raw(OPEN_RESPONSE)] * 5) as served:
        batch = ended_batch(served.base_url, 9)
        client = BatchesClient(api_key="k", base_url=served.base_url)
        streams = [client.results_stream(batch) for _ in range(5)]
        for stream in streams:
            await anext(stream)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.aclose()
        await until_closed(served)


async def test_results_streams_run_in_the_tasks_of_a_trio_nursery() -> None:
    results: list[list[str]] = []
    with scripted(*[reply(LINES)] * 5) as served:
        batch = ended_batch(served.base_url, 2)
        async with BatchesClient(api_key="k", base_url=served.base_url) as client:

            async def read_all() -> None:
                async with client.results_stream(batch) as stream:
                    results.append([str(item.custom_id) async for item in stream])

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(read_all)
    assert results == [["a", "b"]] * 5


# --- streams of the caller -------------------------------------------------------------


async def test_an_error_of_a_custom_trio_stream_is_raised_unchanged() -> None:
    class FailingStream(trio.abc.Stream):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            if bytes(data).startswith(b"GET"):
                raise trio.BrokenResourceError
            raise ZeroDivisionError(len(data))

        async def wait_send_all_might_not_block(self) -> None:
            pass

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.sleep(0.01)
            return b"" * (max_bytes or 1)

        async def aclose(self) -> None:
            pass

    async def connect(host: str, port: int) -> FailingStream:
        assert (host, port) == ("localhost", 80)
        return FailingStream()

    async with BatchesClient(api_key="k", base_url="http://localhost", connect=connect) as client:
        with pytest.raises(ZeroDivisionError):
            await client.create([REQUEST], if_unmarked="send")


async def test_a_refusal_that_precedes_the_request_is_raised_on_trio() -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(host, port)
        while not stream.socket.is_readable():  # noqa: ASYNC110 - a socket sets no event
            await trio.sleep(0.001)
        return stream

    def prepare(connection: socket.socket) -> socket.socket:
        raw(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")(connection)
        return connection

    settings: dict[str, Any] = {"retry": ONE_ATTEMPT, "connect": connect}
    with scripted(prepare=prepare) as served:
        async with BatchesClient(api_key="k", base_url=served.base_url, **settings) as client:
            for _ in range(10):  # trio runs tasks in any order
                with pytest.raises(RequestTooLargeError):
                    await client.create([REQUEST], if_unmarked="send")


class RecordingStream(trio.abc.Stream):
    """A stream of the caller that records sent bytes and breaks in one of two ways.

    With `breaks_at_end` it breaks when the last byte is sent, and ends for the receiver. Otherwise
    it breaks for the receiver once 100 kB were sent.
    """

    def __init__(self, *, breaks_at_end: bool = False) -> None:
        self.sent = b""
        self.breaks_at_end = breaks_at_end
        self.is_begun = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)
        if self.breaks_at_end and self.sent.endswith(b"]}"):
            raise trio.BrokenResourceError
        if not self.is_begun.is_set() and len(self.sent) > 100_000:
            self.is_begun.set()  # wakes the receiving task, which runs before or after this one
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        if not self.breaks_at_end:
            await self.is_begun.wait()
            raise trio.BrokenResourceError
        while not self.sent.endswith(b"]}"):
            await trio.lowlevel.checkpoint()
        return b""

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("breaks_at_end", [False, True], ids=["receiving breaks", "sending breaks"])
async def test_no_last_byte_is_sent_on_trio_after_an_error_reported_it_unsent(
    *, breaks_at_end: bool
) -> None:
    reported = set()
    for _ in range(30):  # trio runs tasks in any order
        stream = RecordingStream(breaks_at_end=breaks_at_end)

        async def connect(
            host: str, port: int, stream: RecordingStream = stream
        ) -> RecordingStream:
            assert (host, port) == ("localhost", 80)
            return stream

        transport = BatchesClient(
            api_key="k", base_url="http://localhost", connect=connect
        )._transport
        body = BytesBody((b'{"requests":[', b"x" * 400_000, b"]}"))
        headers = (("content-length", str(body.content_length)),)
        request = Request(method="POST", url="http://localhost/new", headers=headers, body=body)
        with pytest.raises(TransportError) as caught:
            await transport.send(request, None)
        if stream.sent.endswith(b"]}"):
            assert caught.value.sent
        reported.add(caught.value.sent)
    assert (False in reported) is not breaks_at_end


async def test_a_cancelled_trio_upload_raises_the_cancellation_and_not_a_group() -> None:
    raised: list[BaseException] = []
    has_ended = threading.Event()

    def read_nothing(connection: socket.socket, buffer: bytearray) -> bool:
        del connection, buffer
        has_ended.wait(10)
        return False

    with scripted(upload=read_nothing) as served:
        async with BatchesClient(api_key="k", base_url=served.base_url) as client:
            with trio.move_on_after(0.3):
                try:
                    await client.create(
                        [{"custom_id": "a", "params": {"system": "x" * 30_000_000}}]
                    )
                except BaseException as error:
                    raised.append(error)
                    raise
                finally:
                    has_ended.set()
            (outcome,) = client.unfinished_creates()
    assert isinstance(raised[0], trio.Cancelled)
    assert "interrupted by Cancelled" in str(outcome)
