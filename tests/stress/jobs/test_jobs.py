"""Short simulations of jobs in every test run: some fixed seeds and some random ones."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from .breaks import BREAKS
from .runs import run, run_seeds

_RUNS = 100
#: For each mechanism, a seed of a short run that sees it broken. The others take long.
_SEEN = {
    "intent written after the create left": (0, "its intent is not durable"),
    "batch recorded only when its create has ended": (0, "before its batch was durable"),
    "intents forgotten by the next process": (8, "nobody has said so"),
    "lost response taken for a refusal": (4, "nobody has said so"),
    "settle looks only once": (8, "and one does"),
    "adopted batch not proven by its ids": (0, "not what the service says"),
    "missing money costs a round": (5, "no money"),
    "rows to send again forgotten": (0, "have no end"),
    "room ignored": (1, "rows are in flight"),
}


@pytest.mark.parametrize("first", [0, secrets.randbelow(10**9)], ids=["fixed", "random"])
def test_simulated_jobs_keep_every_promise(first: int) -> None:
    sys.stdout.write(f"the first seed is {first}\n")
    figures = run_seeds(range(first, first + _RUNS))

    assert figures.violations == []
    assert figures.runs == _RUNS
    # A promise is only tested if the runs meet the hazards that it is about.
    for hazard in ("killed before a write", "killed after a write", "killed between two steps"):
        assert figures.hazards[hazard], hazard
    for ending in ("finished", "paused"):
        assert figures.outcomes[f"ending: {ending}"], ending


def test_a_seed_repeats_its_run() -> None:
    for seed in range(10):
        assert run(seed, traced=True).trace == run(seed, traced=True).trace


@pytest.mark.parametrize("name", _SEEN)
def test_a_broken_mechanism_is_seen(name: str) -> None:
    seed, text = _SEEN[name]
    [(_, first), *_] = run_seeds(range(seed, seed + 1), name).violations
    assert text in first
    assert run_seeds(range(seed, seed + 1)).violations == []


def test_every_mechanism_can_be_broken_by_its_name() -> None:
    assert _SEEN.keys() <= BREAKS.keys()


def test_the_command_prints_the_figures_of_its_runs_or_a_trace() -> None:
    command = [sys.executable, "-m", "tests.stress.jobs"]
    done = _run(*command, "--runs", "10", "--seed", "7", "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds 7 to 16: 10 runs" in done.stdout
    assert "violations: 0" in done.stdout

    traced = _run(*command, "--trace", "7")
    assert "J0: process 1 begins" in traced.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
