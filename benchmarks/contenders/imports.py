"""The cost of a statement in a fresh interpreter, less that of starting the interpreter."""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
import time
from statistics import median

from benchmarks.task import NotThereError, Sample, Task


def time_statement(task: Task) -> Sample:
    """Time a statement and an empty one by turns, each in its own process.

    Return the difference of the medians. The parameter ``module`` names the module that the
    statement imports.
    """
    if importlib.util.find_spec(task.text("module")) is None:
        raise NotThereError(f"no module {task.text('module')}")
    statement = task.text("statement")
    full: list[tuple[float, float]] = []
    empty: list[tuple[float, float]] = []
    for _ in range(task.number("times")):
        empty.append(_run("pass"))
        full.append(_run(statement))
    seconds, cpu = (
        median(times[n] for times in full) - median(times[n] for times in empty) for n in (0, 1)
    )
    return Sample(seconds=seconds, cpu=cpu, peak=0, process_peak=0, size=0, digest={})


def _run(statement: str) -> tuple[float, float]:
    """Run a statement in a process. Return the elapsed and the CPU time in seconds."""
    cpu_before = _children_cpu()
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)  # noqa: S603 - our own statement
    return time.perf_counter() - started, _children_cpu() - cpu_before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
