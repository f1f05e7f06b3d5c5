"""Runs contenders, each in its own process, and starts the servers that they need.

A contender does the work and measures it. This module only compares the digests that they return.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .measure import Case, Contender, Results, Setup
from .task import Sample, Task

#: The checkout that this module belongs to.
ROOT = Path(__file__).resolve().parents[1]
#: What a table prints for a contender whose process failed. Its own traceback is on stderr.
FAILED = "failed"
#: Seconds after which a contender is considered stuck.
_TIMEOUT = 900.0


class BenchmarkError(Exception):
    """The contenders of a case produced different things, or a server did not start."""


def run(
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    rounds: int,
    report: Callable[[str], None],
    *,
    checkouts: Sequence[Path] = (ROOT,),
) -> list[Results]:
    """Run the contenders of every case round by round, and return the results of each checkout.

    In each round a contender runs in all checkouts, one right after the other. A contender that
    cannot run in one of them is left out from then on. `report` is called with the progress.

    Raises:
        BenchmarkError: The verification runs of a case did not all produce the same.

    """
    results = [Results() for _ in checkouts]
    for case in cases:
        running = case.contenders(contenders)
        digests: dict[str, dict[str, Any]] = {}
        for number in range(0 if case.verify else 1, rounds + 1):
            for contender in _rotated(running, number):
                report(f"{case.name}: {contender.name}, round {number} of {rounds}")
                key = (case.name, contender.name)
                # Reverse every second round, so that no checkout is always the first.
                order = [*zip(checkouts, results, strict=True)][:: 1 if number % 2 else -1]
                for checkout, found in order:
                    sample = _run_once(contender, case, checkout, verify=not number)
                    if isinstance(sample, str):
                        found.absent[key] = sample
                        running = [each for each in running if each is not contender]
                        break
                    if number:
                        found.samples.setdefault(key, []).append(sample)
                    elif sample.digest:
                        digests[f"{contender.name} in {checkout}"] = sample.digest
        if len({msgspec.json.encode(each, order="sorted") for each in digests.values()}) > 1:
            raise BenchmarkError(f"the contenders of {case.name!r} produced different: {digests}")
    return results


def _rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Begin each round with another contender, so that none is always the first."""
    first = number % max(1, len(contenders))
    return [*contenders[first:], *contenders[:first]]


def _run_once(contender: Contender, case: Case, checkout: Path, *, verify: bool) -> Sample | str:
    """Run a contender once. Return its sample, or the reason why there is none."""
    task = Task(parameters={**case.parameters, **contender.parameters}, verify=verify)
    arguments = (contender.function, msgspec.json.encode(task).decode(), str(checkout))
    done = subprocess.run(  # noqa: S603 - our own command line
        _python("-m", "benchmarks.child", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        return FAILED
    return msgspec.json.decode(done.stdout, type=Sample | str)


def start_server(setup: Setup, *arguments: str) -> str:
    """Start ``python -m ARGUMENTS`` and return its first line, which is its base URL.

    The server stops when the stack of `setup` closes.

    Raises:
        BenchmarkError: The server ended without a line.

    """
    process = subprocess.Popen(  # noqa: S603 - our own command line
        _python("-m", *arguments), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    setup.stack.callback(_stop, process)
    assert process.stdout is not None, "it is a pipe"  # noqa: S101
    first = process.stdout.readline().decode().strip()
    if not first:
        raise BenchmarkError(f"the server {arguments[0]} did not start")
    return first


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
