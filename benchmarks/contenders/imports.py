"""What a statement costs in a fresh interpreter, less what the interpreter itself does."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from statistics import median

from benchmarks.meter import Outcome, Task


def time_statement(task: Task) -> Outcome:
    """Time a statement and an empty one in turn, in processes of their own; give the medians."""
    statement = task.text("statement")
    loaded: list[tuple[float, float]] = []
    empty: list[tuple[float, float]] = []
    for _ in range(task.number("times")):
        empty.append(_run("pass"))
        loaded.append(_run(statement))
    seconds, cpu = (
        median(figures[n] for figures in loaded) - median(figures[n] for figures in empty)
        for n in (0, 1)
    )
    return Outcome(seconds=seconds, cpu=cpu, peak=0, whole_peak=0, size=0, work={})


def _run(statement: str) -> tuple[float, float]:
    """Give the seconds and the CPU seconds of a process that does one thing."""
    used = _cpu()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own words
    return time.perf_counter() - began, _cpu() - used


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
