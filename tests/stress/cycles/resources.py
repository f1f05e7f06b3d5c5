"""Counts of the sockets, threads, tasks and objects of this process."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass

import sniffio
import trio

from tests.support.leaks import open_sockets

#: The names of pooled threads: trio and asyncio keep some for reuse, and start them when they need
#: more at once than ever before.
_POOLED = ("Trio", "asyncio_")
#: By how much the number of objects may grow: the caches of libraries fill slowly.
SPARE_OBJECTS = 500


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How many sockets are open, and how many threads, tasks and objects are alive."""

    sockets: int
    threads: int
    tasks: int
    objects: int

    def leaked_until(self, later: Resources) -> bool:
        """Whether a later count is higher."""
        return (
            later.sockets > self.sockets
            or later.threads > self.threads
            or later.tasks > self.tasks
            or later.objects > self.objects + SPARE_OBJECTS
        )


def count_resources() -> Resources:
    """Count after a garbage collection."""
    gc.collect()
    return Resources(
        sockets=len(open_sockets()),
        threads=sum(not thread.name.startswith(_POOLED) for thread in threading.enumerate()),
        tasks=_count_tasks(),
        objects=len(gc.get_objects()),
    )


def _count_tasks() -> int:
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return 0
    if library == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())
