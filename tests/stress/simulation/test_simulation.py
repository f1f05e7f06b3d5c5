"""Some hundreds of runs each time: the same as ever, and some that nobody tried."""

from __future__ import annotations

import secrets
import subprocess
import sys

import pytest

from .runs import run, run_some

_RUNS = 1000


@pytest.mark.parametrize("first", [0, secrets.randbelow(10**9)], ids=["known", "fresh"])
def test_no_run_breaks_a_promise(first: int) -> None:
    sys.stdout.write(f"the first seed is {first}\n")
    figures = run_some(range(first, first + _RUNS))

    assert figures.violations == []
    assert figures.runs == _RUNS
    # What is not met is not tested.
    for kind in ("reset in the body (results)", "short body (results)", "held (create)"):
        assert figures.faults[kind], kind
    for outcome in ("create: adopted", "settle: none", "results: done", "wait: WaitTimeoutError"):
        assert figures.outcomes[outcome], outcome


def test_a_seed_repeats_its_run() -> None:
    for seed in range(50):
        assert run(seed, traced=True).trace == run(seed, traced=True).trace


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def test_the_command_line_prints_what_was_met() -> None:
    command = [sys.executable, "-m", "tests.stress.simulation", "--runs", "20", "--seed", "7"]
    done = _run(*command, "--jobs", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seeds 7 to 26: 20 runs" in done.stdout
    assert "violations: 0" in done.stdout

    traced = _run(*command, "--trace")
    assert "create J1: begins" in traced.stdout
