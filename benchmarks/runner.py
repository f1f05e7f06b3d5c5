"""Runs a measure: its contenders in turn, each in a process of its own, round after round.

Knows processes, and that all contenders of a case have to have done the same work; what the work
is, is the contenders' own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .measure import Case, Contender, Results, Workshop
from .meter import Outcome, Task

#: Seconds after which a contender is taken for stuck.
_STUCK = 900.0
_ROOT = Path(__file__).parent.parent


#: What a table says of a contender that broke off; why, it said itself.
FAILED = "failed"


class ContenderError(Exception):
    """Contenders did different work, or a server did not start."""


def python(*arguments: str) -> list[str]:
    """Build a command line for this interpreter."""
    return [sys.executable, *arguments]


def run_once(contender: Contender, case: Case, *, proof: bool) -> Outcome | str:
    """Run one contender once; a str says why it cannot be run."""
    task = Task(parameters={**case.parameters, **contender.parameters}, proof=proof)
    command = python("-m", "benchmarks.child", contender.function)
    done = subprocess.run(  # noqa: S603 - our own command line
        [*command, msgspec.json.encode(task).decode()],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        timeout=_STUCK,
        check=False,
    )
    if done.returncode:
        return FAILED
    return msgspec.json.decode(done.stdout, type=Outcome | str)


def run(
    contenders: Sequence[Contender],
    cases: Sequence[Case],
    rounds: int,
    say: Callable[[str], None],
) -> Results:
    """Run every contender of every case: once as a proof, then round after round."""
    results = Results()
    for case in cases:
        running = [c for c in contenders if c.cases is None or case.name in c.cases]
        proofs: dict[str, dict[str, Any]] = {}
        for number in range(0 if case.prove else 1, rounds + 1):
            # Each round begins with another one, so that none is always the first.
            turn = number % max(1, len(running))
            for contender in [*running[turn:], *running[:turn]]:
                say(f"{case.name}: {contender.name}, round {number} of {rounds}")
                outcome = run_once(contender, case, proof=not number)
                key = (case.name, contender.name)
                if isinstance(outcome, str):
                    results.absent[key] = outcome
                elif number:
                    results.outcomes.setdefault(key, []).append(outcome)
                elif outcome.work:
                    proofs[contender.name] = outcome.work
            running = [c for c in running if (case.name, c.name) not in results.absent]
        if len({msgspec.json.encode(work, order="sorted") for work in proofs.values()}) > 1:
            raise ContenderError(f"not all did the same work ({case.name}): {proofs}")
    return results


def start_server(workshop: Workshop, *arguments: str) -> str:
    """Start a server that says its first line once it is ready; it ends with the workshop."""
    process = subprocess.Popen(  # noqa: S603 - our own command line
        python("-m", *arguments), cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    workshop.opened.callback(_stop, process)
    assert process.stdout is not None, "it is a pipe"  # noqa: S101
    first = process.stdout.readline().decode().strip()
    if not first:
        raise ContenderError(f"the server {arguments[0]} did not start")
    return first


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
