"""Creates whose response is lost: settled, adopted, retried, and never confused."""

from __future__ import annotations

import pickle
import time
from typing import Any

import anyio
import pytest

from batches_core import (
    BatchCreated,
    Event,
    MessageBatch,
    OutcomeUnknownError,
    RetryScheduled,
    SettlingStarted,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.batches import QUICK_RETRIES, list_ids
from tests.support.carriers import Carrier
from tests.support.marks import async_carriers, every_carrier
from tests.support.playbook import REQUEST
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def emulator(*faults: str) -> Emulator:
    return Emulator(speed=1e6, faults=FaultPlan(*faults))


def requests(count: int, prefix: str = "r") -> list[dict[str, Any]]:
    return [{**REQUEST, "custom_id": f"{prefix}{n}"} for n in range(count)]


@every_carrier
@pytest.mark.parametrize(
    "fault",
    ["create:drop=after", "create:status=504,taken=true", "create:cut=30,end=reset"],
)
def test_a_created_batch_is_adopted_after_a_lost_response(carrier: Carrier, fault: str) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        settings = {"retry": QUICK_RETRIES, "on_event": events.append}
        async with carrier.client(base_url, **settings) as client:
            other = await client.create(requests(2))
            served.faults.add(fault)
            batch = await client.create(requests(2), if_unknown="settle", settle_time=0.02)
            assert await list_ids(client) == [batch.id, other.id]
            assert batch.request_counts.total == 2

    served = emulator()
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    assert not served.faults.unmet
    assert [event.adopted for event in events if isinstance(event, BatchCreated)] == [False, True]
    assert sum(isinstance(event, SettlingStarted) for event in events) == 1


@every_carrier
def test_a_create_that_never_arrived_is_retried_after_settling(carrier: Carrier) -> None:
    events: list[Event] = []

    async def scenario() -> None:
        settings = {"retry": QUICK_RETRIES, "on_event": events.append}
        async with carrier.client(base_url, **settings) as client:
            batch = await client.create(requests(2), if_unknown="settle", settle_time=0.01)
            assert await list_ids(client) == [batch.id]

    with running_emulator(emulator("create:drop=before")) as base_url:
        carrier.run(scenario)
    assert [event.adopted for event in events if isinstance(event, BatchCreated)] == [False]
    assert sum(isinstance(event, RetryScheduled) for event in events) == 1


@every_carrier
def test_another_client_can_settle_a_pickled_outcome(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create(requests(3))
        outcome = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            batches = [await client.settle(outcome, settle_time=0.02) for _ in range(2)]
            assert [batch.id for batch in batches] == await list_ids(client) * 2
            await client.delete(batches[0].id)
            # The ledger of this process knows the batch, although the list no longer has it.
            assert (await client.settle(outcome)).id == batches[0].id

    with running_emulator(emulator("create:drop=after")) as base_url:
        carrier.run(scenario)


@every_carrier
def test_an_outcome_is_not_settled_by_batches_that_the_client_created(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create(requests(2))
            later = [await client.create(requests(2)) for _ in range(2)]
            assert await client.settle(caught.value, settle_time=0.01) is None
            assert await list_ids(client) == [batch.id for batch in reversed(later)]

    with running_emulator(emulator("create:drop=before")) as base_url:
        carrier.run(scenario)


@every_carrier
def test_two_outcomes_of_one_client_are_not_settled_by_one_batch(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            outcomes = []
            for _ in range(2):
                with pytest.raises(OutcomeUnknownError) as caught:
                    await client.create(requests(2))
                outcomes.append(caught.value)
            (batch_id,) = await list_ids(client)
            # The marker of the second create lists this batch, so it belongs to the first one.
            settled = await client.settle(outcomes[0], settle_time=0.01)
            assert settled.id == batch_id
            assert await client.settle(outcomes[1], settle_time=0.01) is None

    with running_emulator(emulator("create:drop=after", "create:drop=before")) as base_url:
        carrier.run(scenario)


@async_carriers
def test_concurrent_creates_never_adopt_each_others_batches(carrier: Carrier) -> None:
    outcomes: dict[str, MessageBatch | OutcomeUnknownError] = {}

    async def create(client: Any, name: str) -> None:
        try:
            outcomes[name] = await client.create(
                requests(2, name), if_unknown="settle", settle_time=0.1
            )
        except OutcomeUnknownError as error:
            outcomes[name] = error

    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            async with anyio.create_task_group() as tasks:
                for name in "ABC":
                    tasks.start_soon(create, client, name)
            created = await list_ids(client)
            batches = {
                name: outcome
                for name, outcome in outcomes.items()
                if isinstance(outcome, MessageBatch)
            }
            assert len({batch.id for batch in batches.values()}) == len(batches)
            for name, batch in batches.items():
                ended = await client.wait_for(batch.id, poll_interval=0.01)
                await client.results(ended, expected=[f"{name}0", f"{name}1"])
            assert len(created) <= 3

    # One create is dropped before it arrives, and the response to another one is late.
    served = emulator("create:drop=before", "create:delay=0.05,after=1")
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    assert len(outcomes) == 3


@every_carrier
def test_successive_creates_never_adopt_the_same_batch(carrier: Carrier) -> None:
    clock = [time.time()]

    def on_event(event: Event) -> None:
        if isinstance(event, SettlingStarted):
            # From now on the list shows the first batch, which the marker does not list.
            clock[0] += 100

    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES, on_event=on_event) as client:
            first = await client.create(requests(2), if_unknown="settle")
            second = await client.create(requests(2), if_unknown="settle", settle_time=0.01)
            assert first.id != second.id
            clock[0] += 100
            assert await list_ids(client) == [second.id, first.id]

    served = emulator("create:unlisted_for=10,times=2", "create:drop=before,after=1")
    with running_emulator(served, clock=lambda: clock[0]) as base_url:
        carrier.run(scenario)
    assert len(served.faults.applied) == 3
