"""A worker in a process of its own, which can stop itself at a chosen instant, once.

The instants:

- ``marked``: the create's marker is in the history, and the create has not left;
- ``last-bytes``: all of the create but its last bytes has left;
- ``answered``: the batch is known here, and nowhere else;
- ``download``: some results have arrived;
- ``raw``, ``output``: half of a chunk's results, or of the output, is written to the storage.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from batches_core import BatchCreated, CreateMarked, Event, ResultsReceived, SettlingPolicy
from batches_core.lowlevel import prepare
from batches_jobs._inputs import chunk_file
from batches_jobs.engines import temporal
from batches_jobs.storage import FolderStorage
from transports.h11 import BatchesClient

QUICK = SettlingPolicy(settle_time=0.5, alone=0.02, first_look=0.01, longest_look=0.05)
EVENTS: dict[str, type[Any]] = {
    "marked": CreateMarked,
    "answered": BatchCreated,
    "download": ResultsReceived,
}


class Stop:
    """Sends this process a signal at the chosen instant; no other process does so again."""

    def __init__(self, instant: str, number: int, folder: Path) -> None:
        self._instant = instant
        self._number = number
        self._flag = folder / "stopped"

    def at(self, instant: str) -> None:
        if instant != self._instant:
            return
        try:
            self._flag.touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), self._number)

    def observing(self, on_event: Callable[[Event], None] | None) -> Callable[[Event], None]:
        def observe(event: Event) -> None:
            for instant, kind in EVENTS.items():
                if isinstance(event, kind):
                    self.at(instant)
            if on_event is not None:
                on_event(event)

        return observe


class StoppingClient(BatchesClient):
    """A client that stops its process at some event."""

    stop: Stop

    def run(self, operation: Any, on_event: Any = None) -> Any:
        return super().run(operation, self.stop.observing(on_event))

    def download(self, batch: Any, path: Any, **more: Any) -> int:
        more["on_event"] = self.stop.observing(more.get("on_event"))
        return super().download(batch, path, **more)


class StoppingStorage(FolderStorage):
    """A folder that stops its process in the middle of a write."""

    stop: Stop

    def put_new(self, name: str, path: Path) -> bool:
        for instant in ("raw", "output"):
            if instant in name:
                target = self._target(name)
                target.parent.mkdir(parents=True, exist_ok=True)
                data = path.read_bytes()
                target.with_name(f".{target.name}.half.part").write_bytes(data[: len(data) // 2])
                self.stop.at(instant)
        return super().put_new(name, path)


def stop_in_body(stop: Stop) -> None:
    """Stop before the last bytes of a create, and after them."""
    whole = chunk_file._ChunkBody.__iter__

    def pieces(body: Any) -> Iterator[bytes]:
        *first, last = whole(body)
        yield from first
        half = len(last) // 2
        yield last[:half]
        stop.at("last-bytes")
        yield last[half:]

    setattr(chunk_file._ChunkBody, "__iter__", pieces)  # noqa: B010 - a method of a class


async def main(address: str, base_url: str, folder: Path, queue: str, stop: Stop) -> None:
    StoppingClient.stop = StoppingStorage.stop = stop
    stop_in_body(stop)

    def make_client() -> BatchesClient:
        return StoppingClient(base_url=base_url, api_key="sk-of-a-job", settling=QUICK)

    client = await Client.connect(address)
    options = temporal.worker(
        make_client, StoppingStorage(folder / "storage"), scratch=folder / "scratch"
    )
    # Work that a killed worker would have got goes to another one after a second, not after ten.
    soon = timedelta(seconds=1)
    async with Worker(
        client, task_queue=queue, sticky_queue_schedule_to_start_timeout=soon, **options
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    prepare([{"custom_id": "a", "params": {}}])  # the first request costs the most
    ADDRESS, BASE_URL, FOLDER, QUEUE, INSTANT, NUMBER = sys.argv[1:]
    STOP = Stop(INSTANT, int(NUMBER), Path(FOLDER))
    asyncio.run(main(ADDRESS, BASE_URL, Path(FOLDER), QUEUE, STOP))
