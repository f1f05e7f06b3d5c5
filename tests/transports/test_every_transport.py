"""One suite for every transport, over real sockets: a difference between two is a failure."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec
import pytest
import trio

from batches_core import (
    AuthenticationError,
    BatchCreated,
    BatchesError,
    BatchState,
    CreateMarked,
    Event,
    IncompleteResultsError,
    InternalServerError,
    LocalProtocolError,
    MalformedResultError,
    MessageBatch,
    NotFoundError,
    OutcomeUnknownError,
    PageReceived,
    RequestTooLargeError,
    ResultsInterrupted,
    RetryPolicy,
    TransportError,
    WaitTimeoutError,
)
from batches_core.emulator import Emulator
from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, Carrier
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import Served, close, raw, reply, reset, scripted
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
every_async = pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)

ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(initial_delay=0.001)
REQUESTS: list[dict[str, Any]] = [
    {
        "custom_id": f"r-{n}",
        "params": {
            "model": "claude-test",
            "max_tokens": 50,
            "messages": [{"role": "user", "content": f"Frage {n} — 漢字 🎉"}],
        },
    }
    for n in range(30)
]
INVALID = {"custom_id": "invalid", "params": {"model": "claude-test"}}
BATCH = msgspec.json.encode(batch_json())
A, B, C = result_line("a"), result_line("b"), result_line("c")


def ended(served: Served, total: int = 3) -> Any:
    counts = {"succeeded": total}
    url = f"{served.base_url}/results"
    data = batch_json(status="ended", request_counts=counts, results_url=url)
    return msgspec.convert(data, MessageBatch, strict=False)


async def collect(stream: Any) -> list[Any]:
    async with stream:
        return [item async for item in stream]


async def until_error(stream: Any) -> tuple[list[Any], BatchesError | None]:
    got: list[Any] = []
    try:
        async for item in stream:
            got.append(item.custom_id)  # noqa: PERF401 - what came before the error is kept
    except BatchesError as error:
        return got, error
    return got, None


# --- the main job ------------------------------------------------------------------------


@every
def test_the_main_job_end_to_end(carrier: Carrier) -> None:
    events: list[Event] = []

    async def job() -> None:
        async with carrier.client(base_url, on_event=events.append) as client:
            batch = await client.create([*REQUESTS, INVALID])
            assert batch.request_counts.total == 31
            batch = await client.wait_for(batch.id, poll_interval=0.02)
            assert batch.ended
            items = await collect(client.results_stream(batch))
            assert sorted(item.custom_id for item in items) == sorted(
                [request["custom_id"] for request in REQUESTS] + ["invalid"]
            )
            (bad,) = [item for item in items if item.result.type == "errored"]
            assert bad.result.error.type == "invalid_request_error"
            assert all(i.result.message.text for i in items if i.result.type == "succeeded")
            assert await client.results(batch.id) == items
            others = [await client.create(REQUESTS[:1]) for _ in range(4)]
            page = await client.list(limit=2)
            assert [b.id for b in page.data] == [b.id for b in others[:1:-1]]
            everything = [b.id async for b in client.list_all(limit=2)]
            assert everything == [b.id for b in others[::-1]] + [batch.id]
            assert (await client.get(batch.id)).id == batch.id
            assert (await client.delete(batch.id)).id == batch.id
            with pytest.raises(NotFoundError):
                await client.get(batch.id)

    with running_emulator(Emulator(speed=40)) as base_url:
        carrier.run(job)
    assert {type(event) for event in events} == {
        CreateMarked,
        BatchCreated,
        BatchState,
        PageReceived,
    }


@every
def test_a_batch_can_be_passed_wherever_its_id_can(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(REQUESTS[:1])
            assert (await client.get(batch)).id == batch.id
            assert (await client.cancel(batch=batch)).id == batch.id
            clock[0] += 7200
            ended = await client.wait_for(batch=batch, poll_interval=0.01)
            assert (ended.id, ended.ended) == (batch.id, True)
            assert (await client.delete(ended)).id == batch.id
            with pytest.raises(NotFoundError):
                await client.get(batch=ended)

    clock = [time.time()]
    served = Emulator(seconds_per_request=3600)
    with running_emulator(served, clock=lambda: clock[0]) as base_url:
        carrier.run(job)


@every
def test_cancel_and_a_wait_that_times_out(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(REQUESTS)
            with pytest.raises(WaitTimeoutError, match="in_progress"):
                await client.wait_for(batch.id, poll_interval=0.01, timeout=0.03)
            assert (await client.cancel(batch.id)).processing_status == "canceling"

    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        carrier.run(job)


@every
def test_a_large_body_goes_up_and_a_large_file_comes_down(carrier: Carrier) -> None:
    requests = [
        {**request, "params": {**request["params"], "system": "x" * 200_000}}
        for request in REQUESTS
    ]

    def answer(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
        message = {
            "id": custom_id,
            "model": "m",
            "content": [{"type": "text", "text": params["system"]}],
        }
        return {"type": "succeeded", "message": message}

    async def job() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(requests)
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            items = await collect(client.results_stream(batch))
            assert [len(item.result.message.text) for item in items] == [200_000] * 30

    with running_emulator(Emulator(speed=1000, responder=answer)) as base_url:
        carrier.run(job)


@every
def test_a_batch_that_is_too_large_is_a_413_and_not_a_broken_pipe(carrier: Carrier) -> None:
    class Small(Emulator):
        max_body = 100_000

    async def job() -> None:
        async with carrier.client(base_url, retry=ONCE) as client:
            big = {"custom_id": "a", "params": {"system": "x" * 3_000_000}}
            with pytest.raises(RequestTooLargeError):
                await client.create([big])

    with running_emulator(Small()) as base_url:
        carrier.run(job)


@every
def test_a_wrong_key_is_told_without_being_shown(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, api_key="sk-secret-and-wrong") as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.get("msgbatch_1")
            assert (
                "sk-secret" not in f"{caught.value}{caught.value!r}{vars(caught.value)}{client!r}"
            )

    with running_emulator(Emulator(api_keys={"right"})) as base_url:
        carrier.run(job)


# --- the wire ----------------------------------------------------------------------------


@every
def test_what_goes_over_the_wire(carrier: Carrier) -> None:
    async def job() -> None:
        settings = {"betas": ["one", "two"], "user_profile_id": "p"}
        async with carrier.client(served.base_url, **settings) as client:
            await client.create(iter([b'{"custom_id":"a","params":{"x": 1.0}}\n', b"\n"]))

    with scripted(reply(BATCH)) as served:
        carrier.run(job)
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


@every
def test_connections_are_kept_and_used_again(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            for _ in range(5):
                await client.get("msgbatch_1")
            with pytest.raises(NotFoundError):
                await client.get("msgbatch_1")
            await client.get("msgbatch_1")

    with scripted(*[reply(BATCH)] * 5, reply(b"{}", 404), reply(BATCH)) as served:
        carrier.run(job)
    assert served.connections == 1


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(A + B + C), A + B + C)
UNTIL_CLOSE = b"HTTP/1.0 200 OK\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


FRAMINGS: dict[str, Any] = {
    "content-length": reply(A + B + C),
    "chunked": raw(CHUNKED, chunk(A[:7]), chunk(A[7:] + B), chunk(C), b"0\r\n\r\n"),
    "chunked with trailers": raw(CHUNKED, chunk(A + B + C), b"0\r\nx-sum: 1\r\n\r\n"),
    "until close": raw(UNTIL_CLOSE, A + B, C, keep=False),
    "informational first": raw(b"HTTP/1.1 103 Early\r\nlink: </x>\r\n\r\n" + WHOLE),
    "a byte at a time": raw(*(bytes([byte]) for byte in WHOLE)),
    "gzip": reply(gzip.compress(A + B + C), headers=b"content-encoding: gzip\r\n"),
    "deflate": reply(zlib.compress(A + B + C), headers=b"content-encoding: deflate\r\n"),
    "gzip in bits": raw(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n",
        *(chunk(bytes([byte])) for byte in gzip.compress(A + B + C)),
        b"0\r\n\r\n",
    ),
}


@every
@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
def test_every_framing_gives_the_same_items(carrier: Carrier, framing: Any) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            items = await collect(client.results_stream(ended(served)))
            assert [item.custom_id for item in items] == ["a", "b", "c"]

    with scripted(framing) as served:
        carrier.run(job)
    assert len(served.requests) == 1


def gzip_without_end(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)


BREAKS: dict[str, Any] = {
    "gzip without an end": reply(gzip_without_end(A), headers=b"content-encoding: gzip\r\n"),
    "content-length not reached": reply(A + B + C, cut=len(A) + 20),
    "chunked without an end": raw(CHUNKED, chunk(A), chunk(B[:20]), keep=False),
    "a chunk not reached": raw(CHUNKED, chunk(A), b"500\r\n" + B[:20], keep=False),
    "until close, cut in a line": raw(UNTIL_CLOSE, A + B[:20], keep=False),
    "until close, cut between lines": raw(UNTIL_CLOSE, A, keep=False),
}


@every
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_a_file_that_breaks_off_is_read_again_and_given_once(carrier: Carrier, broken: Any) -> None:
    events: list[Event] = []

    async def job() -> None:
        settings = {"on_event": events.append, "retry": AT_ONCE}
        async with carrier.client(served.base_url, **settings) as client:
            items = await collect(client.results_stream(ended(served)))
            assert [item.custom_id for item in items] == ["a", "b", "c"]

    with scripted(broken, reply(A + B + C)) as served:
        carrier.run(job)
    (interrupted,) = events
    assert isinstance(interrupted, ResultsInterrupted)
    assert interrupted.delivered == 1


@every
@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS)
def test_without_resume_what_was_complete_comes_before_the_break(
    carrier: Carrier, broken: Any
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended(served), resume=False)
            got, error = await until_error(stream)
        assert got == ["a"]
        assert isinstance(error, (TransportError, IncompleteResultsError))

    with scripted(broken) as served:
        carrier.run(job)


@every
def test_bad_lines_come_as_malformed_results(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            _, bad, _ = await client.results(ended(served))
            assert isinstance(bad, MalformedResultError)
            assert (bad.line_number, bad.raw) == (2, b"oops")

    with scripted(reply(A + b"oops\r\n" + C)) as served:
        carrier.run(job)


# --- failures ----------------------------------------------------------------------------


@every
@pytest.mark.parametrize("failure", [close, reset], ids=["closed", "reset"])
def test_a_create_whose_answer_is_lost_is_unknown_and_not_sent_again(
    carrier: Carrier, failure: Any
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            with pytest.raises(OutcomeUnknownError, match="30 requests"):
                await client.create(REQUESTS)

    with scripted(failure, reply(BATCH)) as served:
        carrier.run(job)
    assert len(served.requests) == 1


@every
@pytest.mark.parametrize("failure", [close, reset], ids=["closed", "reset"])
def test_a_read_whose_answer_is_lost_is_sent_again(carrier: Carrier, failure: Any) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(failure, reply(BATCH)) as served:
        carrier.run(job)
    assert len(served.requests) == 2


@every
def test_a_host_that_is_not_there_is_told_as_nothing_sent(carrier: Carrier) -> None:
    with scripted() as served:
        base_url = served.base_url  # nobody listens there afterwards

    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            with pytest.raises(
                TransportError, match=r"127\.0\.0\.1.*was not sent completely"
            ) as caught:
                await client.create(REQUESTS)
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    carrier.run(job)


@every
def test_a_server_that_falls_silent_is_given_up(carrier: Carrier) -> None:
    async def job() -> None:
        settings = {"timeout": 0.1, "retry": ONCE}
        async with carrier.client(served.base_url, **settings) as client:
            with pytest.raises(TransportError, match=r"no byte was sent .* in 0\.1 s"):
                await client.get("msgbatch_1")
            got, error = await until_error(client.results_stream(ended(served)))
            assert got == ["a"]
            assert isinstance(error, TransportError)
            assert "no byte was sent" in str(error)

    silent_in_body = raw(CHUNKED, chunk(A))
    with scripted(raw(), silent_in_body) as served:
        carrier.run(job)


def early(piece: bytes) -> Callable[[socket.socket], socket.socket]:
    """Say something as soon as a request's head is there, before its body is read."""

    def prepare(connection: socket.socket) -> socket.socket:
        while b"\r\n\r\n" not in connection.recv(65536, socket.MSG_PEEK):
            pass
        connection.sendall(piece)
        return connection

    return prepare


EARLY = {
    "an informational head": (b"HTTP/1.1 102 Processing\r\n\r\n", reply(BATCH)),
    "a head that refuses nothing": (
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BATCH),
        raw(BATCH),
    ),
}


@every
@pytest.mark.parametrize(("piece", "handler"), EARLY.values(), ids=EARLY)
def test_what_is_said_early_and_refuses_nothing_does_not_end_an_upload(
    carrier: Carrier, piece: bytes, handler: Any
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE, timeout=5) as client:
            big = {"custom_id": "a", "params": {"system": "x" * 8_000_000}}
            batch = await client.create([big], if_unmarked="send")
            assert batch.id == "msgbatch_1"

    with scripted(handler, prepare=early(piece)) as served:
        carrier.run(job)
    assert len(served.requests[0]) > 8_000_000


@every
def test_a_server_that_says_yes_and_does_not_read_is_given_up(carrier: Carrier) -> None:
    gone = threading.Event()

    def prepare(connection: socket.socket) -> socket.socket:
        early(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")(connection)
        gone.wait(10)
        return connection

    async def job() -> None:
        async with carrier.client(served.base_url, timeout=0.2, retry=ONCE) as client:
            big = {"custom_id": "a", "params": {"system": "x" * 50_000_000}}
            with pytest.raises(TransportError, match="no byte was sent"):
                await client.create([big], if_unmarked="send")
        gone.set()

    with scripted(prepare=prepare) as served:
        carrier.run(job)


@every
def test_a_delete_whose_answer_is_lost_on_a_used_client_has_succeeded(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            await client.get("msgbatch_1")
            assert (await client.delete("msgbatch_1")).id == "msgbatch_1"

    with scripted(reply(BATCH), close, reply(b"{}", 404)) as served:
        carrier.run(job)


@every
def test_closing_the_client_closes_what_is_under_way(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            stream = client.results_stream(ended(served))
            assert (await anext(stream)).custom_id == "a"
        assert served.client_closed.wait(5)
        got, error = await until_error(stream)
        assert got == []
        assert isinstance(error, BatchesError)
        await stream.aclose()

    with scripted(raw(CHUNKED, chunk(A))) as served:
        carrier.run(job)


@every
def test_a_server_that_does_not_read_is_given_up_as_well(carrier: Carrier) -> None:
    gone = threading.Event()

    def never_read(connection: socket.socket) -> socket.socket:
        gone.wait(10)
        return connection

    async def job() -> None:
        settings = {"timeout": 0.2, "retry": ONCE}
        async with carrier.client(served.base_url, **settings) as client:
            big = {"custom_id": "a", "params": {"system": "x" * 50_000_000}}
            with pytest.raises(TransportError, match=r"no byte was sent .* in 0\.2 s"):
                await client.create([big], if_unmarked="send")
        gone.set()

    with scripted(prepare=never_read) as served:
        carrier.run(job)


@every
def test_a_proxys_page_is_told_for_what_it_is(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(Exception, match=r"502: <html>.*proxy or gateway") as caught:
                await client.get("msgbatch_1")
            assert getattr(caught.value, "status", None) == 502
            with pytest.raises(InternalServerError):
                await client.get("msgbatch_1")

    html = b"<html><h1>Bad Gateway</h1></html>"
    with scripted(reply(html, 502), reply(html, 500)) as served:
        carrier.run(job)


@every
def test_what_is_no_http_is_a_transport_error(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(TransportError):
                await client.get("msgbatch_1")
            with pytest.raises(TransportError):
                await client.results(ended(served))

    no_gzip = reply(b"this is no gzip", headers=b"content-encoding: gzip\r\n")
    with scripted(raw(b"SSH-2.0-x\r\n", keep=False), no_gzip) as served:
        carrier.run(job)


@every
def test_an_encoded_body_that_is_cut_behind_its_last_byte_of_text_is_not_whole(
    carrier: Carrier,
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(TransportError, match="it is incomplete"):
                await client.get("msgbatch_1")

    without_checksum = gzip.compress(BATCH)[:-8]
    with scripted(reply(without_checksum, headers=b"content-encoding: gzip\r\n")) as served:
        carrier.run(job)


def endless(start: bytes, more: bytes) -> Any:
    """Send a head that has no end."""

    def handle(connection: socket.socket) -> bool:
        connection.sendall(start)
        while True:
            connection.sendall(more)

    return handle


@every
@pytest.mark.parametrize(
    "handler",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"x-more: 1\r\n" * 100),
        endless(b"HTTP/1.1 200 OK\r\nx-more: ", b"y" * 1000),
        endless(b"HTTP/1.1 200 ", b"O" * 1000),
    ],
    ids=["lines", "one line", "the first line"],
)
def test_a_head_without_end_is_left(carrier: Carrier, handler: Any) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=ONCE) as client:
            with pytest.raises(TransportError, match="is broken"):
                await client.get("msgbatch_1")

    with scripted(handler) as served:
        carrier.run(job)


@every
def test_redirects_are_not_followed(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            with pytest.raises(Exception, match=r"redirect to 'http://127\.0\.0\.1:9/'"):
                await client.get("msgbatch_1")

    with scripted(reply(b"", 302, b"location: http://127.0.0.1:9/\r\n")) as served:
        carrier.run(job)
    assert len(served.requests) == 1


# --- ends --------------------------------------------------------------------------------


@every
def test_leaving_a_stream_early_closes_its_connection(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            async with client.results_stream(ended(served)) as stream:
                async for item in stream:
                    assert item.custom_id == "a"
                    break
            assert served.client_closed.wait(5)
            # And the client is as good as new.
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(raw(CHUNKED, chunk(A)), reply(BATCH)) as served:
        carrier.run(job)


@every
def test_a_stream_goes_on_after_a_break_and_not_after_a_close(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended(served))
            async for item in stream:
                assert item.custom_id == "a"
                break
            assert [item.custom_id async for item in stream] == ["b", "c"]
            assert [item async for item in stream] == []
            await stream.aclose()

            half_read = client.results_stream(ended(served))
            async for _ in half_read:
                break
            await half_read.aclose()
            with pytest.raises(LocalProtocolError, match="closed before its end"):
                await collect(half_read)

            unread = client.results_stream(ended(served))
            await unread.aclose()
            with pytest.raises(Exception, match="closed before its end"):
                await collect(unread)

    with scripted(reply(A + B + C), reply(A + B + C)) as served:
        carrier.run(job)


async def _within(seconds: float, work: Callable[[], Awaitable[Any]], loop: str) -> None:
    """Cancel the work after a while, as each event loop does it."""
    if loop == "trio":
        with trio.move_on_after(seconds):
            await work()
        return
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await work()


@every_async
@pytest.mark.parametrize("where", ["head", "body", "wait", "between"])
def test_cancellation_leaves_nothing_open(carrier: Carrier, where: str) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            work: dict[str, Callable[[], Awaitable[Any]]] = {
                "head": lambda: client.get("msgbatch_1"),
                "body": lambda: collect(client.results_stream(ended(served))),
                "wait": lambda: client.wait_for("msgbatch_1"),
                "between": lambda: dawdle(client.results_stream(ended(served))),
            }
            await _within(
                0.1, work[where], "asyncio" if carrier.name.endswith("asyncio") else "trio"
            )
            if where != "wait":
                assert served.client_closed.wait(5)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    async def dawdle(stream: Any) -> None:
        """Be somewhere else when the cancellation comes, with a piece of the body unread."""
        async with stream:
            async for _ in stream:
                await anyio.sleep(10)

    in_body = raw(CHUNKED, chunk(A))
    handlers = {"head": raw(), "body": in_body, "wait": reply(BATCH), "between": in_body}
    with scripted(handlers[where], reply(BATCH)) as served:
        carrier.run(job)


@every
def test_a_client_that_was_closed_says_so(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            await client.get("msgbatch_1")
        with pytest.raises(LocalProtocolError, match="client was closed"):
            await client.get("msgbatch_1")

    with scripted(reply(BATCH)) as served:
        carrier.run(job)


@every
def test_an_error_of_a_stream_comes_again_and_is_no_end(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended(served), resume=False)
            assert (await until_error(stream))[0] == ["a"]
            for _ in range(2):
                got, error = await until_error(stream)
                assert got == []
                assert isinstance(error, TransportError)

    with scripted(reply(A + B, cut=len(A) + 3)) as served:
        carrier.run(job)


@every_async
def test_a_time_limit_on_one_item_loses_nothing(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            stream = client.results_stream(ended(served))
            assert (await anext(stream)).custom_id == "a"
            with anyio.move_on_after(0.1) as scope:
                await anext(stream)
            assert scope.cancelled_caught
            assert [item.custom_id async for item in stream] == ["b", "c"]

    with scripted(raw(CHUNKED, chunk(A)), reply(A + B + C)) as served:
        carrier.run(job)


@every_async
def test_closing_a_stream_wakes_the_task_that_reads_it(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, retry=AT_ONCE) as client:
            stream = client.results_stream(ended(served))
            ended_with: list[object] = []

            async def read() -> None:
                got, error = await until_error(stream)
                ended_with.extend([got, type(error)])

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                await anyio.sleep(0.1)
                await stream.aclose()
            assert ended_with == [["a"], LocalProtocolError]
            assert served.client_closed.wait(5)

    with scripted(raw(CHUNKED, chunk(A)), reply(A + B + C)) as served:
        carrier.run(job)


@every_async
def test_many_streams_at_once_on_one_client(carrier: Carrier) -> None:
    counts: list[int] = []

    async def job() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(REQUESTS)
            await client.wait_for(batch.id, poll_interval=0.01)

            async def one() -> None:
                counts.append(len(await collect(client.results_stream(batch.id))))

            if carrier.name.endswith("trio"):
                async with trio.open_nursery() as nursery:
                    for _ in range(8):
                        nursery.start_soon(one)
            else:
                await asyncio.gather(*(one() for _ in range(8)))

    with running_emulator(Emulator(speed=1000)) as base_url:
        carrier.run(job)
    assert counts == [30] * 8
