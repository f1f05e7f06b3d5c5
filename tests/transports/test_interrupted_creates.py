"""Creates that their callers interrupt, and creates of several clients of one process."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from batches_core import (
    BatchCreated,
    CreateMarked,
    Event,
    MessageBatch,
    OutcomeUnknownError,
    SettlingStarted,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.batches import ONE_ATTEMPT, list_ids
from tests.support.carriers import QUICK_SETTLING, Carrier
from tests.support.marks import async_carriers, every_carrier
from tests.support.playbook import REQUEST
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def emulator(*faults: str) -> Emulator:
    return Emulator(speed=1e6, faults=FaultPlan(*faults))


def raising_at(event_type: type, error: BaseException) -> Any:
    """Return an event callback that raises an error at events of one type."""

    def on_event(event: Event) -> None:
        if isinstance(event, event_type):
            raise error

    return on_event


@every_carrier
@pytest.mark.parametrize("error", [BrokenPipeError("print"), KeyboardInterrupt()], ids=repr)
def test_an_event_callback_that_raises_does_not_lose_a_created_batch(
    carrier: Carrier, error: BaseException
) -> None:
    async def scenario() -> None:
        settings = {"on_event": raising_at(BatchCreated, error)}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(type(error)) as caught:
                await client.create([REQUEST])
        async with carrier.client(base_url) as client:
            batch: MessageBatch = vars(caught.value)["created_batch"]
            assert [batch.id] == await list_ids(client)
            assert batch.id in caught.value.__notes__[-1]
            assert batch in client.unfinished_creates()

    with running_emulator(emulator()) as base_url:
        carrier.run(scenario)


@every_carrier
def test_an_event_callback_that_raises_before_a_create_stops_it(carrier: Carrier) -> None:
    async def scenario() -> None:
        settings = {"on_event": raising_at(CreateMarked, BrokenPipeError())}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError) as caught:
                await client.create([REQUEST])
            assert await list_ids(client) == []
            assert "nothing was created" in caught.value.__notes__[-1]

    with running_emulator(emulator()) as base_url:
        carrier.run(scenario)


@every_carrier
def test_an_event_callback_that_raises_during_settling_does_not_lose_the_outcome(
    carrier: Carrier,
) -> None:
    async def scenario() -> None:
        settings = {
            "on_event": raising_at(SettlingStarted, BrokenPipeError()),
            "retry": ONE_ATTEMPT,
        }
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError) as caught:
                await client.create([REQUEST], if_unknown="settle")
        async with carrier.client(base_url) as client:
            outcome: OutcomeUnknownError = vars(caught.value)["create_outcome"]
            batch = await client.settle(outcome)
            assert batch is not None
            assert [batch.id] == await list_ids(client)

    with running_emulator(emulator("create:drop=after")) as base_url:
        carrier.run(scenario)


@async_carriers
def test_a_cancelled_create_is_settled_from_the_unfinished_creates_of_its_client(
    carrier: Carrier,
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, api_key=f"sk-{carrier.name}") as client:
            with anyio.move_on_after(0.3) as scope:
                await client.create([REQUEST])
            assert scope.cancelled_caught
            await anyio.sleep(0.5)
            (outcome,) = client.unfinished_creates()
            batch = await client.settle(outcome)
            assert batch is not None
            assert [batch.id] == await list_ids(client)
            assert client.unfinished_creates() == []

    # The response is delayed for longer than the create may take.
    with running_emulator(emulator("create:delay=0.6")) as base_url:
        carrier.run(scenario)


@every_carrier
def test_an_interrupted_create_does_not_make_later_equal_creates_undecided(
    carrier: Carrier,
) -> None:
    clock = [1_777_667_345.0]

    async def scenario() -> None:
        settings = {
            "on_event": raising_at(SettlingStarted, BrokenPipeError()),
            "retry": ONE_ATTEMPT,
        }
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError):
                await client.create([REQUEST], if_unknown="settle")
        clock[0] += 3600.0
        async with carrier.client(base_url) as client:
            batch = await client.create([REQUEST], if_unknown="settle")
            assert batch.id == (await list_ids(client))[0]

    served = emulator("create:drop=after,times=2")
    with running_emulator(served, clock=lambda: clock[0]) as base_url:
        carrier.run(scenario)


def test_two_clients_in_two_threads_never_adopt_each_others_batches() -> None:
    # Both creates are sent before either response: one is dropped, the other one is accepted.
    served = emulator("create:drop=before", "create:delay=0.3,after=1")
    outcomes: dict[str, MessageBatch | OutcomeUnknownError] = {}
    both_marked = threading.Barrier(2)

    def on_event(event: Event) -> None:
        if isinstance(event, CreateMarked):
            both_marked.wait(10)

    def run(name: str) -> None:
        settings: dict[str, Any] = {"retry": ONE_ATTEMPT, "settling": QUICK_SETTLING}
        with BatchesClient(
            api_key="sk-threads", base_url=base_url, on_event=on_event, **settings
        ) as client:
            request = {**REQUEST, "custom_id": name}
            try:
                outcomes[name] = client.create([request], if_unknown="settle", settle_time=0.6)
            except OutcomeUnknownError as error:
                outcomes[name] = error

    with running_emulator(served) as base_url:
        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with BatchesClient(api_key="sk-threads", base_url=base_url) as client:
            (batch,) = client.list().data
            (item,) = client.results(batch.id)
    accepted, dropped = ("a", "b") if item.custom_id == "a" else ("b", "a")
    assert isinstance(outcomes[accepted], MessageBatch)
    assert isinstance(outcomes[dropped], OutcomeUnknownError)


def test_unfinished_creates_outlive_the_client_that_recorded_them() -> None:
    with running_emulator(emulator("create:drop=after")) as base_url:
        with (
            BatchesClient(api_key="sk-outlives", base_url=base_url, retry=ONE_ATTEMPT) as client,
            pytest.raises(OutcomeUnknownError),
        ):
            client.create([REQUEST])
        with BatchesClient(
            api_key="sk-outlives", base_url=base_url, settling=QUICK_SETTLING
        ) as client:
            (outcome,) = client.unfinished_creates()
            assert isinstance(outcome, OutcomeUnknownError)
            batch = client.settle(outcome)
            assert batch is not None
            assert [batch.id] == [listed.id for listed in client.list().data]
        with BatchesClient(api_key="sk-another", base_url=base_url) as client:
            assert client.unfinished_creates() == []
