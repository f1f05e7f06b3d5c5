"""Runs seeds, one after the other or on several processes, and adds up their figures."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from .plan import plan_tasks
from .world import World

#: How many seeds a process runs before it reports its figures.
_CHUNK = 500
#: How many violations are kept at most.
_MAX_VIOLATIONS = 50


@dataclass(slots=True)
class Figures:
    """The counts of some runs; `memory` is the largest resident size of a process, in KiB."""

    runs: int = 0
    exchanges: int = 0
    virtual_seconds: float = 0.0
    seconds: float = 0.0
    hazards: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    #: The seed and the text of each violation.
    violations: list[tuple[int, str]] = field(default_factory=list)
    memory: int = 0

    def add(self, other: Figures) -> None:
        self.runs += other.runs
        self.exchanges += other.exchanges
        self.virtual_seconds += other.virtual_seconds
        self.seconds += other.seconds
        self.hazards.update(other.hazards)
        self.outcomes.update(other.outcomes)
        self.violations += other.violations[: max(0, _MAX_VIOLATIONS - len(self.violations))]
        self.memory = max(self.memory, other.memory)


def run(seed: int, *, traced: bool = False) -> World:
    """Run one seed to its end."""
    world = World(seed, traced=traced)
    for task, after in plan_tasks(world):
        world.spawn(task, after)
    world.run()
    _check_created_once(world)
    return world


def _check_created_once(world: World) -> None:
    counts = Counter(created.label for created in world.service.created)
    for label, times in counts.items():
        if times > 1 and label.startswith("B"):
            world.report_if_promised(f"a batch was created {times} times: {label}")


def run_seeds(seeds: range) -> Figures:
    """Run seeds one after the other."""
    figures = Figures()
    began = time.perf_counter()
    for seed in seeds:
        world = run(seed)
        figures.runs += 1
        figures.exchanges += world.exchanges
        figures.virtual_seconds += world.now
        figures.hazards.update(world.hazards)
        figures.outcomes.update(world.outcomes)
        figures.violations += [(seed, text) for text in world.violations]
    figures.seconds = time.perf_counter() - began
    figures.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures


def run_on_processes(seeds: range, processes: int) -> Iterator[Figures]:
    """Run seeds on several processes; yield the figures of each part, in the order of the seeds."""
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    if processes == 1:
        yield from map(run_seeds, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_seeds, chunks)
