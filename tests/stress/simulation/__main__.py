"""Runs seeds, and prints what came of them."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
from collections import Counter

from .runs import Figures, run, run_many


def main() -> int:
    """Run what the arguments say; the exit code is 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.simulation", description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, help="the first; by default one that nobody tried")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="print all that happens in the runs")
    arguments = parser.parse_args()
    first = secrets.randbelow(10**9) if arguments.seed is None else arguments.seed
    seeds = range(first, first + arguments.runs)
    if arguments.trace:
        return _trace(seeds)
    began = time.perf_counter()
    figures = Figures()
    for some in run_many(seeds, arguments.jobs):
        figures.add(some)
    _print(figures, seeds, time.perf_counter() - began)
    return 1 if figures.violations else 0


def say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _trace(seeds: range) -> int:
    broken = 0
    for seed in seeds:
        world = run(seed, traced=True)
        say(f"seed {seed}", *world.trace or ())
        broken += len(world.violations)
    say(f"{broken} violations")
    return 1 if broken else 0


def _print(figures: Figures, seeds: range, seconds: float) -> None:
    runs = figures.runs
    years = figures.virtual / 86400 / 365
    say(
        f"seeds {seeds.start} to {seeds.stop - 1}: {runs:,} runs, {figures.exchanges:,} exchanges",
        f"{seconds:,.1f} s, {runs / seconds:,.0f} runs a second, {figures.seconds:,.1f} s of "
        f"processes, the largest of {figures.memory / 1024:,.0f} MiB; {years:,.2f} virtual years",
    )
    _print_counts("faults", figures.faults)
    _print_counts("outcomes", figures.outcomes)
    say(f"violations: {len(figures.violations):,}")
    for seed, text in figures.violations:
        say(f"  seed {seed}: {text}")
    for seed in dict.fromkeys(seed for seed, _ in figures.violations):
        say(f"  python -m tests.stress.simulation --runs 1 --seed {seed} --trace")


def _print_counts(title: str, counts: Counter[str]) -> None:
    say(f"{title}: {counts.total():,}")
    for name in sorted(counts):
        say(f"  {counts[name]:>12,}  {name}")


if __name__ == "__main__":
    sys.exit(main())
