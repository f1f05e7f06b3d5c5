"""The trio transport under trio's own conditions."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel

from batches_core import (
    MessageBatch,
    Request,
    RequestTooLargeError,
    RetryPolicy,
    TransportError,
)
from batches_core.http import BytesBody
from tests.support.playbook import REQUEST, batch_json, result_line
from tests.support.scripted import Served, raw, reply, scripted
from tests.support.tls import client_context, tls_server
from transports.trio import BatchesClient

pytestmark = [pytest.mark.trio, pytest.mark.usefixtures("nothing_left_behind")]

BATCH = msgspec.json.encode(batch_json())
LINES = result_line("a") + result_line("b")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(LINES), LINES)


@contextmanager
def server(*handlers: Any, tls: bool) -> Iterator[tuple[Served, str]]:
    if tls:
        with tls_server(*handlers) as (served, base_url, _):
            yield served, base_url
    else:
        with scripted(*handlers) as served:
            yield served, served.base_url


class CancelAt(trio.abc.Instrument):
    """Cancels a scope as its task takes its n-th step."""

    def __init__(self, scope: trio.CancelScope, steps: int) -> None:
        self.task = trio.lowlevel.current_task()
        self.scope = scope
        self.left = steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if not self.left:
                self.scope.cancel()


async def use(client: BatchesClient, results_url: str) -> None:
    """Upload, read, wait and stream, the stream left in the middle."""
    await client.create([REQUEST])
    await client.get("msgbatch_1")
    await client.wait_for("msgbatch_1", until=lambda _: True)
    data = batch_json(status="ended", results_url=results_url)
    batch = msgspec.convert(data, MessageBatch, strict=False)
    async with client.results_stream(batch) as stream:
        async for item in stream:
            assert item.custom_id == "a"
            await trio.lowlevel.checkpoint()
            break


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_cancellation_at_any_step_leaves_nothing_open(tls: bool) -> None:  # noqa: FBT001
    handlers: list[Any] = [reply(BATCH), reply(BATCH), reply(BATCH), raw(CHUNKED)]
    steps = 0
    finished = False
    while not finished:
        steps += 1
        settings: dict[str, Any] = {"api_key": "k", "retry": RetryPolicy(attempts=1)}
        if tls:
            settings["ssl_context"] = client_context()
        with server(*handlers, tls=tls) as (served, base_url):
            client = BatchesClient(base_url=base_url, **settings)
            with trio.CancelScope() as scope:
                instrument = CancelAt(scope, steps)
                trio.lowlevel.add_instrument(instrument)
                try:
                    await use(client, f"{base_url}/r")
                finally:
                    trio.lowlevel.remove_instrument(instrument)
            finished = not scope.cancelled_caught
            # What is still open now has nothing to do; the rest was closed at once.
            transport: Any = client._transport
            pool = transport._pool
            idle = {id(each) for waiting in pool._idle.values() for each in waiting}
            assert {id(each) for each in pool._open} == idle
            await client.aclose()
            with trio.fail_after(5):
                while served.live():  # noqa: ASYNC110 - it lives in threads, which set no event
                    await trio.sleep(0.001)
    assert steps > 10


async def test_streams_under_a_nursery_each_in_its_own_task() -> None:
    data = batch_json(status="ended", request_counts={"succeeded": 2})
    got: list[list[str]] = []
    with scripted(*[reply(LINES)] * 5) as served:
        data["results_url"] = f"{served.base_url}/r"
        batch = msgspec.convert(data, MessageBatch, strict=False)
        async with BatchesClient(api_key="k", base_url=served.base_url) as client:

            async def one() -> None:
                async with client.results_stream(batch) as stream:
                    got.append([str(item.custom_id) async for item in stream])

            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(one)
    assert got == [["a", "b"]] * 5


async def test_a_client_that_is_closed_under_cancellation_closes_every_connection() -> None:
    held = [raw(CHUNKED) for _ in range(5)]
    data = batch_json(status="ended", request_counts={"succeeded": 9})
    with scripted(*held) as served:
        data["results_url"] = f"{served.base_url}/r"
        batch = msgspec.convert(data, MessageBatch, strict=False)
        client = BatchesClient(api_key="k", base_url=served.base_url)
        streams = [client.results_stream(batch) for _ in held]
        for stream in streams:
            await anext(stream)
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.aclose()
        with trio.fail_after(5):
            while served.live():  # noqa: ASYNC110 - it lives in threads, which set no event
                await trio.sleep(0.001)


async def test_what_a_stream_of_ones_own_raises_comes_out_as_it_is() -> None:
    class Odd(trio.abc.Stream):
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

    async def connect(host: str, port: int) -> Odd:
        assert (host, port) == ("localhost", 80)
        return Odd()

    async with BatchesClient(api_key="k", base_url="http://localhost", connect=connect) as client:
        with pytest.raises(ZeroDivisionError):
            await client.create([REQUEST], if_unmarked="send")


async def test_an_answer_that_is_there_before_the_request_is_taken() -> None:
    async def connect(host: str, port: int) -> trio.abc.Stream:
        stream = await trio.open_tcp_stream(host, port)
        while not stream.socket.is_readable():  # noqa: ASYNC110 - sockets set no event
            await trio.sleep(0.001)
        return stream

    def prepare(connection: socket.socket) -> socket.socket:
        raw(b"HTTP/1.1 413 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")(connection)
        return connection

    settings: dict[str, Any] = {"retry": RetryPolicy(attempts=1), "connect": connect}
    with scripted(prepare=prepare) as served:
        async with BatchesClient(api_key="k", base_url=served.base_url, **settings) as client:
            for _ in range(10):  # trio runs tasks in any order
                with pytest.raises(RequestTooLargeError):
                    await client.create([REQUEST], if_unmarked="send")


class Recorded(trio.abc.Stream):
    """A stream of a user's own: what is sent on it is written down, and never answered."""

    def __init__(self, *, breaks_at_end: bool = False) -> None:
        self.sent = b""
        self.breaks_at_end = breaks_at_end
        self.begun = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)
        if self.breaks_at_end and self.sent.endswith(b"]}"):
            raise trio.BrokenResourceError
        if not self.begun.is_set() and len(self.sent) > 100_000:
            self.begun.set()  # wakes who listens, who runs before or after this task
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        pass

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        del max_bytes
        if not self.breaks_at_end:
            await self.begun.wait()
            raise trio.BrokenResourceError
        while not self.sent.endswith(b"]}"):
            await trio.lowlevel.checkpoint()
        return b""

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize("breaks_at_end", [False, True])
async def test_no_last_byte_leaves_after_it_was_said_that_it_did_not(
    breaks_at_end: bool,  # noqa: FBT001
) -> None:
    said = set()
    for _ in range(30):  # trio runs tasks in any order
        stream = Recorded(breaks_at_end=breaks_at_end)

        async def connect(host: str, port: int, stream: Recorded = stream) -> Recorded:
            assert (host, port) == ("localhost", 80)
            return stream

        transport = BatchesClient(
            api_key="k", base_url="http://localhost", connect=connect
        )._transport
        body = BytesBody((b'{"requests":[', b"x" * 400_000, b"]}"))
        headers = (("content-length", str(body.content_length)),)
        url = "http://localhost/new"
        request = Request(method="POST", url=url, headers=headers, body=body)
        with pytest.raises(TransportError) as caught:
            await transport.send(request, None)
        if stream.sent.endswith(b"]}"):
            assert caught.value.sent
        said.add(caught.value.sent)
    assert (False in said) is not breaks_at_end
