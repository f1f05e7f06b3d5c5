"""What a contender is given, what it hands back, and how time and memory are measured.

Knows the process that it runs in, and nothing of the work. Peak memory is what the process held
at most during the work beyond what it held when that began, so imports, clients and input that
is there already are left out.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

_STATUS = Path("/proc/self/status")
#: Writing this there lets the kernel forget the peak of before.
_CLEAR_REFS, _FORGET_THE_PEAK = Path("/proc/self/clear_refs"), "5"


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's work: the case's parameters, where data and server are, and whether to prove.

    With `proof` a contender looks into what it made, so that all can be seen to have done the
    same; such a run is not timed.
    """

    parameters: dict[str, Any]
    proof: bool = False

    def text(self, name: str) -> str:
        """Give a parameter that is a str."""
        return str(self.parameters[name])

    def number(self, name: str) -> int:
        """Give a parameter that is a whole number."""
        return int(self.parameters[name])

    def seconds(self, name: str) -> float:
        """Give a parameter that is a time."""
        return float(self.parameters[name])


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender did, and at what cost.

    `work` is what all contenders of a case have to agree on. `figures` are what else was measured.
    """

    seconds: float
    cpu: float
    peak: int
    whole_peak: int
    size: int
    work: dict[str, Any]
    figures: dict[str, float] = {}


class NotThere(Exception):  # noqa: N818 - no error, but the answer of a contender
    """What a contender would measure does not exist in this version."""


class Meter:
    """Measures what happens inside of its ``with``."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self.peak = self.whole_peak = 0

    def __enter__(self) -> Self:
        gc.collect()
        with suppress(OSError):
            _CLEAR_REFS.write_text(_FORGET_THE_PEAK)
        self._held = _memory("VmRSS")
        self._cpu_began = time.process_time()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu = time.process_time() - self._cpu_began
        self.whole_peak = _memory("VmHWM")
        self.peak = self.whole_peak - self._held

    def outcome(self, size: int, work: dict[str, Any], **figures: float) -> Outcome:
        """Put the figures to the work that was done: `size` bytes of it."""
        return Outcome(
            seconds=self.seconds,
            cpu=self.cpu,
            peak=self.peak,
            whole_peak=self.whole_peak,
            size=size,
            work=work,
            figures=figures,
        )


def _memory(name: str) -> int:
    """Read a figure of this process's memory, in bytes."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # Elsewhere only the peak is known, which a child may have inherited.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
