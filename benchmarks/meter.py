"""Measures the time and memory that a block of code uses in this process."""

from __future__ import annotations

import gc
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .task import Sample

_STATUS = Path("/proc/self/status")
#: Writing this value to this file resets the kernel's record of the peak (VmHWM in `_STATUS`).
_CLEAR_REFS, _RESET_PEAK = Path("/proc/self/clear_refs"), "5"


class ResourceMeter:
    """A context manager that measures elapsed time, CPU time and peak memory.

    `peak` counts only memory above the level at entry. It leaves out imports, clients and input
    that exist before the work begins.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self.peak = self.process_peak = 0

    def __enter__(self) -> Self:
        gc.collect()
        with suppress(OSError):
            _CLEAR_REFS.write_text(_RESET_PEAK)
        self._memory_before = _memory("VmRSS")
        self._cpu_before = time.process_time()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.cpu = time.process_time() - self._cpu_before
        self.process_peak = _memory("VmHWM")
        self.peak = self.process_peak - self._memory_before

    def sample(self, size: int, digest: dict[str, Any], **metrics: float) -> Sample:
        """Return the measurements as a `Sample` of `size` bytes of work."""
        return Sample(
            seconds=self.seconds,
            cpu=self.cpu,
            peak=self.peak,
            process_peak=self.process_peak,
            size=size,
            digest=digest,
            metrics=metrics,
        )


def _memory(field: str) -> int:
    """Return a memory figure of this process in bytes: VmRSS is the current one, VmHWM the peak."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # Outside Linux only the peak is known. A child process may inherit it from its parent.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
