"""Run seeds of the simulation of jobs, and print the hazards, the outcomes and the violations."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections import Counter

from tests.stress.simulation.runs import Figures

from .breaks import BREAKS
from .runs import run, run_on_processes, run_seeds


def main() -> int:
    """Run the seeds of the command line; return 1 if there was a violation."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.jobs", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, help="the first seed; by default a random one")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="by default one for each core"
    )
    parser.add_argument("--trace", type=int, metavar="SEED", help="print the steps of one seed")
    parser.add_argument(
        "--break",
        dest="broken",
        metavar="NAME",
        choices=["all", *BREAKS],
        help=f"break a mechanism: all one by one, or {', '.join(BREAKS)}",
    )
    arguments = parser.parse_args()
    if arguments.trace is not None:
        return _trace(arguments.trace)
    first = secrets.randbelow(10**9) if arguments.seed is None else arguments.seed
    seeds = range(first, first + arguments.runs)
    if arguments.broken is not None:
        return _break(arguments.broken, seeds)
    began = time.perf_counter()
    figures = Figures()
    for part in run_on_processes(seeds, arguments.processes):
        figures.add(part)
        for seed, text in part.violations:
            # At once, in case that somebody does not wait for the end.
            sys.stderr.write(f"seed {seed}: {text}\n")
    _print_figures(figures, seeds, time.perf_counter() - began)
    return 1 if figures.violations else 0


def _write(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _trace(seed: int) -> int:
    world = run(seed, traced=True)
    _write(f"seed {seed}", *world.trace or (), f"{len(world.violations)} violations")
    return 1 if world.violations else 0


def _break(name: str, seeds: range) -> int:
    """Break mechanisms; return 1 if no seed saw one of them."""
    unseen = 0
    for each in BREAKS if name == "all" else [name]:
        seen = next((violation for seed in seeds for violation in _violations(seed, each)), None)
        unseen += seen is None
        _write(f"{each}: " + ("NOT SEEN" if seen is None else f"seed {seen[0]}: {seen[1]}"))
    return 1 if unseen else 0


def _violations(seed: int, name: str) -> list[tuple[int, str]]:
    return run_seeds(range(seed, seed + 1), name).violations


def _print_figures(figures: Figures, seeds: range, seconds: float) -> None:
    runs = figures.runs
    years = figures.virtual_seconds / 86400 / 365
    _write(
        f"seeds {seeds.start} to {seeds.stop - 1}: {runs:,} runs, {figures.exchanges:,} exchanges",
        f"{seconds:,.1f} s, {runs / seconds:,.0f} runs a second, {figures.seconds:,.1f} s of "
        f"processes, the largest of {figures.memory / 1024:,.0f} MiB; {years:,.2f} virtual years",
    )
    _print_counts("hazards", figures.hazards)
    _print_counts("outcomes", figures.outcomes)
    _write(f"violations: {len(figures.violations):,}")
    for seed, text in figures.violations:
        _write(f"  seed {seed}: {text}")
    for seed in dict.fromkeys(seed for seed, _ in figures.violations):
        _write(f"  python -m tests.stress.jobs --trace {seed}")


def _print_counts(title: str, counts: Counter[str]) -> None:
    _write(f"{title}: {counts.total():,}")
    for name in sorted(counts):
        _write(f"  {counts[name]:>12,}  {name}")


if __name__ == "__main__":
    sys.exit(main())
