"""Whole calls of every client against the emulator, over sockets."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import trio

from batches_core import (
    BatchCreated,
    BatchState,
    CreateMarked,
    Event,
    IncompleteResultsError,
    NotFoundError,
    PageReceived,
    WaitTimeoutError,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.batches import QUICK_RETRIES, collect
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers, every_carrier
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

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


def emulator(*faults: str) -> Emulator:
    return Emulator(speed=1e6, faults=FaultPlan(*faults))


@every_carrier
def test_a_batch_is_created_awaited_read_listed_and_deleted(carrier: Carrier) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        async with carrier.client(base_url, on_event=events.append) as client:
            batch = await client.create([*REQUESTS, INVALID])
            assert batch.request_counts.total == 31
            batch = await client.wait_for(batch.id, poll_interval=0.02)
            assert batch.ended
            items = await collect(client.results_stream(batch))
            assert sorted(item.custom_id for item in items) == sorted(
                [request["custom_id"] for request in REQUESTS] + ["invalid"]
            )
            (errored,) = [item for item in items if item.result.type == "errored"]
            assert errored.result.error.type == "invalid_request_error"
            assert all(
                item.result.message.text for item in items if item.result.type == "succeeded"
            )
            assert await client.results(batch.id) == items
            others = [await client.create(REQUESTS[:1]) for _ in range(4)]
            page = await client.list(limit=2)
            assert [listed.id for listed in page.data] == [other.id for other in others[:1:-1]]
            everything = [listed.id async for listed in client.list_all(limit=2)]
            assert everything == [other.id for other in others[::-1]] + [batch.id]
            assert (await client.get(batch.id)).id == batch.id
            assert (await client.delete(batch.id)).id == batch.id
            with pytest.raises(NotFoundError):
                await client.get(batch.id)

    with running_emulator(Emulator(speed=40)) as base_url:
        carrier.run(scenario)
    assert {type(event) for event in events} == {
        CreateMarked,
        BatchCreated,
        BatchState,
        PageReceived,
    }


@every_carrier
def test_a_batch_is_accepted_in_place_of_its_id(carrier: Carrier) -> None:
    async def scenario() -> None:
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
        carrier.run(scenario)


@every_carrier
def test_a_batch_can_be_canceled_after_a_wait_for_it_timed_out(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(REQUESTS)
            with pytest.raises(WaitTimeoutError, match="in_progress"):
                await client.wait_for(batch.id, poll_interval=0.01, timeout=0.03)
            assert (await client.cancel(batch.id)).processing_status == "canceling"

    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        carrier.run(scenario)


@every_carrier
def test_large_requests_and_large_results_are_transferred_completely(carrier: Carrier) -> None:
    requests = [
        {**request, "params": {**request["params"], "system": "x" * 200_000}}
        for request in REQUESTS
    ]

    def responder(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
        message = {
            "id": custom_id,
            "model": "m",
            "content": [{"type": "text", "text": params["system"]}],
        }
        return {"type": "succeeded", "message": message}

    async def scenario() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(requests)
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            items = await collect(client.results_stream(batch))
            assert [len(item.result.message.text) for item in items] == [200_000] * 30

    with running_emulator(Emulator(speed=1000, responder=responder)) as base_url:
        carrier.run(scenario)


@every_carrier
def test_a_wait_outlasts_errors_resets_and_a_temporary_404(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            batch = await client.create(REQUESTS[:1])
            assert (await client.wait_for(batch.id, poll_interval=0.005)).ended

    served = emulator("get:status=503,times=4", "get:drop=before,times=3", "get:status=404")
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    assert not served.faults.unmet


@every_carrier
@pytest.mark.parametrize("end", ["clean", "close", "reset"])
def test_results_that_break_off_are_completed_and_checked_against_expected_ids(
    carrier: Carrier, end: str
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            batch = await client.create(REQUESTS[:20])
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            ids = [request["custom_id"] for request in REQUESTS[:20]]
            items = await client.results(batch, expected=ids)
            assert sorted(item.custom_id for item in items) == sorted(ids)
            with pytest.raises(
                IncompleteResultsError, match=r"missing ids \(1\): z; unexpected ids \(1\): r-19"
            ):
                await client.results(batch, expected=[*ids[:-1], "z"])

    served = emulator(f"results:cut=3000,end={end}")
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    assert not served.faults.unmet


@async_carriers
def test_several_results_streams_run_at_once_on_one_client(carrier: Carrier) -> None:
    counts: list[int] = []

    async def scenario() -> None:
        async with carrier.client(base_url) as client:
            batch = await client.create(REQUESTS)
            await client.wait_for(batch.id, poll_interval=0.01)

            async def read_all() -> None:
                counts.append(len(await collect(client.results_stream(batch.id))))

            if carrier.name.endswith("trio"):
                async with trio.open_nursery() as nursery:
                    for _ in range(8):
                        nursery.start_soon(read_all)
            else:
                await asyncio.gather(*(read_all() for _ in range(8)))

    with running_emulator(Emulator(speed=1000)) as base_url:
        carrier.run(scenario)
    assert counts == [30] * 8
