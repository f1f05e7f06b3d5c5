"""Iterating over results: leaving, continuing, closing, failing."""

from __future__ import annotations

import anyio
import pytest

from batches_core import BatchesError, LocalProtocolError, TransportError
from tests.support.batches import (
    BATCH,
    CHUNKED,
    QUICK_RETRIES,
    chunk,
    collect,
    ended_batch,
    read_until_error,
)
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers, every_carrier
from tests.support.playbook import result_line
from tests.support.scripted import raw, reply, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

A, B, C = result_line("a"), result_line("b"), result_line("c")

# --- results ---------------------------------------------------------------------------


@every_carrier
def test_leaving_a_results_stream_early_closes_its_connection(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            async with client.results_stream(ended_batch(served.base_url)) as stream:
                async for item in stream:
                    assert item.custom_id == "a"
                    break
            assert served.client_closed.wait(5)
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(raw(CHUNKED, chunk(A)), reply(BATCH)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_results_stream_continues_after_a_break_and_not_after_a_close(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended_batch(served.base_url))
            async for item in stream:
                assert item.custom_id == "a"
                break
            assert [item.custom_id async for item in stream] == ["b", "c"]
            assert [item async for item in stream] == []
            await stream.aclose()

            half_read = client.results_stream(ended_batch(served.base_url))
            async for _ in half_read:
                break
            await half_read.aclose()
            with pytest.raises(LocalProtocolError, match="closed before its end"):
                await collect(half_read)

            unread = client.results_stream(ended_batch(served.base_url))
            await unread.aclose()
            with pytest.raises(Exception, match="closed before its end"):
                await collect(unread)

    with scripted(reply(A + B + C), reply(A + B + C)) as served:
        carrier.run(scenario)


@every_carrier
def test_closing_a_client_closes_its_open_streams(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            stream = client.results_stream(ended_batch(served.base_url))
            assert (await anext(stream)).custom_id == "a"
        assert served.client_closed.wait(5)
        custom_ids, error = await read_until_error(stream)
        assert custom_ids == []
        assert isinstance(error, BatchesError)
        await stream.aclose()

    with scripted(raw(CHUNKED, chunk(A))) as served:
        carrier.run(scenario)


@every_carrier
def test_a_failed_results_stream_raises_its_error_again(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url) as client:
            stream = client.results_stream(ended_batch(served.base_url), resume=False)
            assert (await read_until_error(stream))[0] == ["a"]
            for _ in range(2):
                custom_ids, error = await read_until_error(stream)
                assert custom_ids == []
                assert isinstance(error, TransportError)

    with scripted(reply(A + B, cut=len(A) + 3)) as served:
        carrier.run(scenario)


@async_carriers
def test_a_results_stream_continues_after_a_timed_out_item_without_loss(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            stream = client.results_stream(ended_batch(served.base_url))
            assert (await anext(stream)).custom_id == "a"
            with anyio.move_on_after(0.1) as scope:
                await anext(stream)
            assert scope.cancelled_caught
            assert [item.custom_id async for item in stream] == ["b", "c"]

    with scripted(raw(CHUNKED, chunk(A)), reply(A + B + C)) as served:
        carrier.run(scenario)


@async_carriers
def test_closing_a_results_stream_ends_the_iteration_of_another_task(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            stream = client.results_stream(ended_batch(served.base_url))
            outcome: list[object] = []

            async def read() -> None:
                custom_ids, error = await read_until_error(stream)
                outcome.extend([custom_ids, type(error)])

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await anyio.sleep(0.1)
                await stream.aclose()
            assert outcome == [["a"], LocalProtocolError]
            assert served.client_closed.wait(5)

    with scripted(raw(CHUNKED, chunk(A)), reply(A + B + C)) as served:
        carrier.run(scenario)
