"""Many waits at once, each a task: how late their polls are.

A client is told its waits' jitter and their predicates. Both are asked in one go between a poll's
answer and the pause after it, first the predicate: so the two together know each poll's time.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from batches_core import MessageBatch, RetryScheduled
from benchmarks.meter import Meter, Outcome, Task

#: By how much of its interval a poll can come early, as `BatchesAPI.wait_for` documents.
_POLL_SPREAD = 0.2
#: Connections that a client of httpx has at most. Before each request it goes through all of them
#: and all requests that wait for one, so that once it falls behind every poll costs more.
_CONNECTIONS = 10


class _Watch:
    """When each wait's next poll is due, and how late the polls were."""

    def __init__(self, waits: int, interval: float) -> None:
        self.late: list[float] = []
        self.failures = 0
        self.end = float("inf")
        self.due = [0.0] * waits
        self._interval = interval
        self._current = 0

    def until(self, wait: int) -> Callable[[MessageBatch], bool]:
        """Give the predicate of a wait."""

        def is_over(batch: MessageBatch) -> bool:
            del batch
            now = time.monotonic()
            self.late.append(now - self.due[wait])
            self._current = wait
            return now >= self.end

        return is_over

    def jitter(self) -> float:
        """Choose when the wait that was just asked polls next."""
        share = random.random()  # noqa: S311 - no secret
        delay = self._interval * (1 - _POLL_SPREAD * (1 - share))
        self.due[self._current] = time.monotonic() + delay
        return share

    def on_event(self, event: object) -> None:
        """Count what went wrong."""
        self.failures += isinstance(event, RetryScheduled)


def wait(task: Task) -> Outcome:
    """Wait for every batch that the emulator has."""
    watch = _Watch(task.number("waits"), task.seconds("interval"))
    meter = Meter()
    if task.text("loop") == "trio":
        trio: Any = importlib.import_module("trio")
        trio.run(_main, task, watch, meter, _together_on_trio, trio.sleep)
    else:
        asyncio.run(_main(task, watch, meter, _together_on_asyncio, asyncio.sleep))
    late = sorted(watch.late)
    return meter.outcome(
        0,
        {},
        polls=len(late),
        latest=late[-1],
        late_99=late[len(late) * 99 // 100],
        median_late=late[len(late) // 2],
        cpu_per_poll=meter.cpu / len(late),
        failures=watch.failures,
    )


async def _main(
    task: Task,
    watch: _Watch,
    meter: Meter,
    together: Callable[[list[Callable[[], Awaitable[None]]]], Awaitable[None]],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    async with _client(task, watch) as client:
        ids = [batch.id async for batch in client.list_all(limit=1000)]
        interval = task.seconds("interval")
        with meter:
            start = time.monotonic()
            watch.end = start + task.seconds("duration")

            def begin(number: int) -> Callable[[], Awaitable[None]]:
                async def run() -> None:
                    watch.due[number] = start + interval * number / len(ids)
                    await sleep(max(0.0, watch.due[number] - time.monotonic()))
                    until = watch.until(number)
                    await client.wait_for(ids[number], poll_interval=interval, until=until)

                return run

            await together([begin(number) for number in range(task.number("waits"))])


def _client(task: Task, watch: _Watch) -> Any:
    module, _, name = task.text("client").partition(":")
    arguments: dict[str, Any] = {}
    if library := task.parameters.get("library"):
        httpx = importlib.import_module(library)
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        arguments["client"] = httpx.AsyncClient(limits=limits)
    return getattr(importlib.import_module(module), name)(
        api_key="a key",
        base_url=task.text("base_url"),
        jitter=watch.jitter,
        on_event=watch.on_event,
        **arguments,
    )


async def _together_on_asyncio(functions: list[Callable[[], Awaitable[None]]]) -> None:
    await asyncio.gather(*(function() for function in functions))


async def _together_on_trio(functions: list[Callable[[], Awaitable[None]]]) -> None:
    async with importlib.import_module("trio").open_nursery() as nursery:
        for function in functions:
            nursery.start_soon(function)
