"""Counts of work: calls, searched bytes and allocated memory.

Unlike time, they are the same on every machine. They do not depend on how functions are named.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self, SupportsIndex, overload

#: The methods of bytes and bytearray that search.
_SEARCHES = frozenset({"find", "rfind", "index", "rindex", "count", "split", "splitlines"})


class Work:
    """The work that was done inside of `counted`."""

    def __init__(self) -> None:
        #: How often a function of the project was called, or a generator of it was resumed.
        self.calls = 0
        #: How many bytes were searched. `CountedBytes` add the part that a search read, other bytes
        #: their whole length.
        self.searched = 0

    def _note(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "call" and _is_of_the_project(frame):
            self.calls += 1
        elif event == "c_call" and function.__name__ in _SEARCHES:
            searched = getattr(function, "__self__", None)
            counts_itself = isinstance(searched, CountedBytes) and function.__name__ in vars(
                CountedBytes
            )
            if isinstance(searched, bytes | bytearray) and not counts_itself:
                self.searched += len(searched)


def _is_of_the_project(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(("batches_core.", "transports."))


@contextmanager
def counted() -> Iterator[Work]:
    """Count the work that is done inside of the ``with``."""
    work = Work()
    before = sys.getprofile()
    # Finalizers of garbage are not part of the work.
    gc.disable()
    sys.setprofile(work._note)
    try:
        yield work
    finally:
        sys.setprofile(before)
        gc.enable()


def allocated(steps: list[Callable[[], object]]) -> int:
    """Run steps; return the sum of their peaks, each in bytes above the memory held before it.

    What a step returns is released before the next one begins.
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


class CountedBytes(bytes):
    """Bytes that add to a `Work` how many of them each search reads.

    A slice of them, and a sum of other bytes and them, does so too.
    """

    _work: Work

    @classmethod
    def of(cls, data: bytes, work: Work) -> Self:
        counted_bytes = cls(data)
        counted_bytes._work = work
        return counted_bytes

    def _read(self, start: int, end: int) -> None:
        self._work.searched += max(0, end - start)

    def find(self, sub: Any, start: Any = None, end: Any = None, /) -> int:
        place = super().find(sub, start, end)
        begin, stop, _ = slice(start, end).indices(len(self))
        self._read(begin, stop if place < 0 else place + 1)
        return place

    def rfind(self, sub: Any, start: Any = None, end: Any = None, /) -> int:
        place = super().rfind(sub, start, end)
        begin, stop, _ = slice(start, end).indices(len(self))
        self._read(begin if place < 0 else place, stop)
        return place

    def count(self, sub: Any, start: Any = None, end: Any = None, /) -> int:
        begin, stop, _ = slice(start, end).indices(len(self))
        self._read(begin, stop)
        return super().count(sub, start, end)

    def split(self, sep: Any = None, maxsplit: SupportsIndex = -1) -> list[bytes]:
        self._read(0, len(self))
        return super().split(sep, maxsplit)

    def splitlines(self, keepends: bool = False) -> list[bytes]:  # noqa: FBT001, FBT002 - as in bytes
        self._read(0, len(self))
        return super().splitlines(keepends)

    def __contains__(self, key: Any, /) -> bool:
        self._read(0, len(self))
        return super().__contains__(key)

    def __iter__(self) -> Iterator[int]:
        self._read(0, len(self))
        return super().__iter__()

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: Any, /) -> Any:
        value = super().__getitem__(key)
        return type(self).of(value, self._work) if isinstance(value, bytes) else value

    def removeprefix(self, prefix: Any, /) -> bytes:
        return type(self).of(super().removeprefix(prefix), self._work)

    def __radd__(self, other: bytes) -> Self:
        return type(self).of(bytes(other) + bytes(self), self._work)
