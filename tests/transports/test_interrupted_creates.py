"""Creates that are stopped by their callers, and creates of several clients of one process."""

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
    RetryPolicy,
    SettlingStarted,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, QUICK_SETTLING, Carrier
from tests.support.playbook import REQUEST
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
every_async = pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda each: each.name)

ONCE = RetryPolicy(attempts=1)


def emulator(*faults: str) -> Emulator:
    return Emulator(speed=1e6, faults=FaultPlan(*faults))


async def listed(client: Any) -> list[str]:
    return [batch.id async for batch in client.list_all()]


def raising_at(kind: type, error: BaseException) -> Any:
    def on_event(event: Event) -> None:
        if isinstance(event, kind):
            raise error

    return on_event


@every
@pytest.mark.parametrize("error", [BrokenPipeError("print"), KeyboardInterrupt()], ids=repr)
def test_an_event_handler_that_raises_does_not_lose_a_batch(
    carrier: Carrier, error: BaseException
) -> None:
    async def job() -> None:
        settings = {"on_event": raising_at(BatchCreated, error)}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(type(error)) as caught:
                await client.create([REQUEST])
        async with carrier.client(base_url) as client:
            batch: MessageBatch = vars(caught.value)["created_batch"]
            assert [batch.id] == await listed(client)
            assert batch.id in caught.value.__notes__[-1]
            assert batch in client.unfinished_creates()

    with running_emulator(emulator()) as base_url:
        carrier.run(job)


@every
def test_an_event_handler_that_raises_before_the_create_is_sent_stops_it(carrier: Carrier) -> None:
    async def job() -> None:
        settings = {"on_event": raising_at(CreateMarked, BrokenPipeError())}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError) as caught:
                await client.create([REQUEST])
            assert await listed(client) == []
            assert "nothing was created" in caught.value.__notes__[-1]

    with running_emulator(emulator()) as base_url:
        carrier.run(job)


@every
def test_an_event_handler_that_raises_while_a_create_is_settled_does_not_lose_its_outcome(
    carrier: Carrier,
) -> None:
    async def job() -> None:
        settings = {"on_event": raising_at(SettlingStarted, BrokenPipeError()), "retry": ONCE}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError) as caught:
                await client.create([REQUEST], if_unknown="settle")
        async with carrier.client(base_url) as client:
            outcome: OutcomeUnknownError = vars(caught.value)["create_outcome"]
            found = await client.settle(outcome)
            assert found is not None
            assert [found.id] == await listed(client)

    with running_emulator(emulator("create:drop=after")) as base_url:
        carrier.run(job)


@every_async
def test_a_cancelled_create_is_settled_by_what_its_client_knows(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, api_key=f"sk-{carrier.name}") as client:
            with anyio.move_on_after(0.3) as scope:
                await client.create([REQUEST])
            assert scope.cancelled_caught
            await anyio.sleep(0.5)
            (outcome,) = client.unfinished_creates()
            found = await client.settle(outcome)
            assert found is not None
            assert [found.id] == await listed(client)
            assert client.unfinished_creates() == []

    # The answer is held back for so long that the create is cancelled first.
    with running_emulator(emulator("create:delay=0.6")) as base_url:
        carrier.run(job)


@every
def test_one_interrupted_create_does_not_make_later_ones_of_its_size_undecided(
    carrier: Carrier,
) -> None:
    clock = [1_777_667_345.0]

    async def job() -> None:
        settings = {"on_event": raising_at(SettlingStarted, BrokenPipeError()), "retry": ONCE}
        async with carrier.client(base_url, **settings) as client:
            with pytest.raises(BrokenPipeError):
                await client.create([REQUEST], if_unknown="settle")
        clock[0] += 3600.0
        async with carrier.client(base_url) as client:
            batch = await client.create([REQUEST], if_unknown="settle")
            assert batch.id == (await listed(client))[0]

    served = emulator("create:drop=after,times=2")
    with running_emulator(served, clock=lambda: clock[0]) as base_url:
        carrier.run(job)


def test_two_clients_in_two_threads_never_adopt_each_others_batches() -> None:
    # Both creates are sent before either is answered: one is lost on its way, one is taken.
    served = emulator("create:drop=before", "create:delay=0.3,after=1")
    outcomes: dict[str, MessageBatch | OutcomeUnknownError] = {}
    marked = threading.Barrier(2)

    def on_event(event: Event) -> None:
        if isinstance(event, CreateMarked):
            marked.wait(10)

    def run(name: str) -> None:
        settings: dict[str, Any] = {"retry": ONCE, "settling": QUICK_SETTLING}
        with BatchesClient(
            api_key="sk-threads", base_url=base_url, on_event=on_event, **settings
        ) as client:
            wanted = {**REQUEST, "custom_id": name}
            try:
                outcomes[name] = client.create([wanted], if_unknown="settle", settle_time=0.6)
            except OutcomeUnknownError as error:
                outcomes[name] = error

    with running_emulator(served) as base_url:
        threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with BatchesClient(api_key="sk-threads", base_url=base_url) as client:
            (made,) = client.list().data
            (item,) = client.results(made.id)
            adopted = {name: o for name, o in outcomes.items() if isinstance(o, MessageBatch)}
    assert list(adopted) == [item.custom_id]
    assert isinstance(outcomes["ab".replace(str(item.custom_id), "")], OutcomeUnknownError)


def test_what_a_process_knows_outlives_the_client_that_learned_it() -> None:
    with running_emulator(emulator("create:drop=after")) as base_url:
        with (
            BatchesClient(api_key="sk-outlives", base_url=base_url, retry=ONCE) as client,
            pytest.raises(OutcomeUnknownError),
        ):
            client.create([REQUEST])
        with BatchesClient(
            api_key="sk-outlives", base_url=base_url, settling=QUICK_SETTLING
        ) as client:
            (outcome,) = client.unfinished_creates()
            assert isinstance(outcome, OutcomeUnknownError)
            found = client.settle(outcome)
            assert found is not None
            assert [found.id] == [batch.id for batch in client.list().data]
        with BatchesClient(api_key="sk-another", base_url=base_url) as client:
            assert client.unfinished_creates() == []
