"""Runs seeds of jobs, one after the other or on several processes, and adds up their figures."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.stress.simulation.runs import Figures

from .breaks import broken
from .checks import check_job
from .plan import plan_jobs
from .world import JobWorld

#: How many seeds a process runs before it reports its figures.
_CHUNK = 200


def run(seed: int, *, traced: bool = False) -> JobWorld:
    """Run one seed to its end."""
    world = JobWorld(seed, traced=traced)
    jobs = plan_jobs(world)
    world.run()
    for job in jobs:
        check_job(job)
    return world


def run_seeds(seeds: range, name: str | None = None) -> Figures:
    """Run seeds one after the other, with one mechanism broken if it is named."""
    figures = Figures()
    began = time.perf_counter()
    with broken(name):
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


def run_on_processes(seeds: range, processes: int, name: str | None = None) -> Iterator[Figures]:
    """Run seeds on several processes; yield the figures of each part, in the order of the seeds."""
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    run_part = partial(run_seeds, name=name)
    if processes == 1:
        yield from map(run_part, chunks)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_part, chunks)
