"""Short simulations in every test run: a thousand fixed seeds and a thousand random ones."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from .runs import run, run_seeds

_RUNS = 1000


@pytest.mark.parametrize("first", [0, secrets.randbelow(10**9)], ids=["fixed", "random"])
def test_a_thousand_simulated_runs_keep_every_promise(first: int) -> None:
    sys.stdout.write(f"the first seed is {first}\n")
    figures = run_seeds(range(first, first + _RUNS))

    assert figures.violations == []
    assert figures.runs == _RUNS
    # A promise is only tested if the runs meet the hazards and reach the outcomes that it is about.
    for hazard in ("reset in the body (results)", "short body (results)", "held (create)"):
        assert figures.hazards[hazard], hazard
    for outcome in ("create: adopted", "settle: none", "results: done", "wait: WaitTimeoutError"):
        assert figures.outcomes[outcome], outcome


def test_a_seed_repeats_its_run() -> None:
    for seed in range(50):
        assert run(seed, traced=True).trace == run(seed, traced=True).trace


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own program


def test_the_command_prints_the_figures_of_its_runs_or_their_traces() -> None:
    command = [sys.executable, "-m", "tests.stress.simulation", "--runs", "20", "--seed", "7"]
    done = _run(*command, "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds 7 to 26: 20 runs" in done.stdout
    assert "violations: 0" in done.stdout

    traced = _run(*command, "--trace")
    assert "create B1: begins" in traced.stdout
