"""Counts work, which does not differ from machine to machine as time does."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_SEARCHES = frozenset({"find", "rfind", "index", "rindex", "count", "split", "splitlines"})


class Work:
    """What was done inside of `counted`."""

    def __init__(self) -> None:
        #: How often each of the project's functions was entered or gone on with, by its name.
        self.calls: Counter[str] = Counter()
        #: How often each method of bytes that searches was called, by its name.
        self.searches: Counter[str] = Counter()
        self._searched: dict[int, bytes | bytearray] = {}

    @property
    def searched(self) -> int:
        """The size of all that was searched, each object once, in bytes."""
        return sum(map(len, self._searched.values()))

    def _note(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and _is_ours(frame):
            self.calls[frame.f_code.co_qualname] += 1
        elif event == "c_call" and function.__name__ in _SEARCHES:
            searched = getattr(function, "__self__", None)
            if isinstance(searched, bytes | bytearray):
                self.searches[function.__name__] += 1
                # Held until the end, so that no other object can get its identity.
                self._searched[id(searched)] = searched


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(("batches_core.", "transports."))


@contextmanager
def counted() -> Iterator[Work]:
    """Count what is done inside of the ``with``."""
    work = Work()
    before = sys.getprofile()
    # What is collected meanwhile is somebody else's.
    gc.disable()
    sys.setprofile(work._note)
    try:
        yield work
    finally:
        sys.setprofile(before)
        gc.enable()


def allocated(steps: list[Callable[[], object]]) -> int:
    """Add up, over the steps, how far each rose above the memory held before it, in bytes.

    What a step gives is let go of before the next one begins.
    """
    total = 0
    tracemalloc.start()
    try:
        for step in steps:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            step()
            total += tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    return total
