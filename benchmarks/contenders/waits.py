"""Many waits at once, each in its own task, and the lateness of their polls.

After the response to a poll, the client calls the predicate of the wait and then `jitter`, without
running another task in between. Together the two calls tell when the next poll of that wait is due.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from batches_core import MessageBatch, RetryScheduled
from benchmarks.meter import ResourceMeter
from benchmarks.task import Sample, Task

from .shared import client_class

#: The largest share of its interval by which a poll comes early, see `BatchesAPI.wait_for`.
_POLL_SPREAD = 0.2
#: The most connections of an httpx client. Before each request, httpx goes through all connections
#: and all requests that wait for one. The more there are, the further a late client falls behind.
_CONNECTIONS = 10

_Function = Callable[[], Awaitable[None]]


class _PollTimes:
    """The due time of the next poll of each wait, and the lateness of all past polls."""

    def __init__(self, waits: int, interval: float) -> None:
        self.late: list[float] = []
        self.failures = 0
        self.end = float("inf")
        self.due = [0.0] * waits
        self._interval = interval
        self._current = 0

    def until(self, wait: int) -> Callable[[MessageBatch], bool]:
        """Return the predicate of a wait. It records the lateness of the poll."""

        def is_over(batch: MessageBatch) -> bool:
            del batch
            now = time.monotonic()
            self.late.append(now - self.due[wait])
            self._current = wait
            return now >= self.end

        return is_over

    def jitter(self) -> float:
        """Return a jitter for the current wait, and record when its next poll is due."""
        share = random.random()  # noqa: S311 - no secret
        delay = self._interval * (1 - _POLL_SPREAD * (1 - share))
        self.due[self._current] = time.monotonic() + delay
        return share

    def on_event(self, event: object) -> None:
        """Count the retries."""
        self.failures += isinstance(event, RetryScheduled)


def wait(task: Task) -> Sample:
    """Wait for every batch of the emulator."""
    polls = _PollTimes(task.number("waits"), task.seconds("interval"))
    meter = ResourceMeter()
    if task.text("loop") == "trio":
        trio: Any = importlib.import_module("trio")
        trio.run(_main, task, polls, meter, _gather_on_trio, trio.sleep)
    else:
        asyncio.run(_main(task, polls, meter, _gather_on_asyncio, asyncio.sleep))
    late = sorted(polls.late)
    return meter.sample(
        0,
        {},
        polls=len(late),
        latest=late[-1],
        late_99=late[len(late) * 99 // 100],
        median_late=late[len(late) // 2],
        cpu_per_poll=meter.cpu / len(late),
        failures=polls.failures,
    )


async def _main(
    task: Task,
    polls: _PollTimes,
    meter: ResourceMeter,
    gather: Callable[[list[_Function]], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    async with _make_client(task, polls) as client:
        ids = [batch.id async for batch in client.list_all(limit=1000)]
        interval = task.seconds("interval")
        with meter:
            start = time.monotonic()
            polls.end = start + task.seconds("duration")

            def waiting(number: int) -> _Function:
                async def run() -> None:
                    polls.due[number] = start + interval * number / len(ids)
                    await sleep(max(0.0, polls.due[number] - time.monotonic()))
                    until = polls.until(number)
                    await client.wait_for(ids[number], poll_interval=interval, until=until)

                return run

            await gather([waiting(number) for number in range(task.number("waits"))])


def _make_client(task: Task, polls: _PollTimes) -> Any:
    arguments: dict[str, Any] = {}
    if library := task.parameters.get("library"):
        httpx = importlib.import_module(library)
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        arguments["client"] = httpx.AsyncClient(limits=limits)
    return client_class(task)(
        api_key="a key",
        base_url=task.text("base_url"),
        jitter=polls.jitter,
        on_event=polls.on_event,
        **arguments,
    )


async def _gather_on_asyncio(functions: list[_Function]) -> None:
    await asyncio.gather(*(function() for function in functions))


async def _gather_on_trio(functions: list[_Function]) -> None:
    async with importlib.import_module("trio").open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)
