"""Fuzzing by the clock: `python -m tests.stress.fuzz TARGET --minutes 10`.

TARGET is `machines` (hypothesis) or one of `jsonl`, `head` and `operation`, which atheris leads by
coverage (`pip install '.[fuzz]'`). What is found is printed and kept, with what it takes to see it
again: a seed, or a file for `--replay`.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: The longest input that atheris makes up, in bytes.
_LONGEST = 4096
#: How long one input may take before it counts as a hang, in seconds.
_HANG = 30
#: How many examples make a round of a state machine, and of how many steps each.
_EXAMPLES, _STEPS = 150, 60


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def machines(minutes: float, seed: int) -> None:
    """Run each machine in turn, each round with a seed of its own, until the time is up."""
    hypothesis = importlib.import_module("hypothesis")
    stateful = importlib.import_module("hypothesis.stateful")
    tests = importlib.import_module("tests.stress.fuzz.test_machines")
    settings = hypothesis.settings(
        max_examples=_EXAMPLES,
        stateful_step_count=_STEPS,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    counts: dict[str, list[int]] = {}
    end = time.monotonic() + minutes * 60
    number = seed
    while time.monotonic() < end:
        for machine in tests.MACHINES:
            examples_and_steps = counts.setdefault(machine.__name__, [0, 0])
            counting = _counting(machine, examples_and_steps)
            try:
                stateful.run_state_machine_as_test(
                    hypothesis.seed(number)(counting), settings=settings
                )
            except BaseException:
                say(f"{machine.__name__} found something: --seed {number} shows it again")
                raise
        number += 1
    for name, (examples, steps) in counts.items():
        say(f"{name}: {examples} examples, {steps} steps, no finding")
    say(f"seeds {seed} to {number - 1}")


def _counting(machine: Any, counts: list[int]) -> Any:
    """Make a machine that counts its runs, and the steps of each."""

    class Counting(machine):  # type: ignore[misc]  # which machine it is, is known at run time alone
        def __init__(self) -> None:
            super().__init__()
            counts[0] += 1

        def check_invariants(self, *args: Any, **kwargs: Any) -> None:
            counts[1] += 1
            super().check_invariants(*args, **kwargs)

    Counting.__name__ = Counting.__qualname__ = machine.__name__
    return Counting


def fuzz(target: str, minutes: float, seed: int, artifacts: Path) -> None:
    """Hand a target over to atheris, which ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["batches_core", "transports", "h11"]):
        targets = importlib.import_module("tests.stress.fuzz.targets")
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "corpus")
        corpus.mkdir()
        for number, data in enumerate(targets.SEEDS[target]):
            (corpus / f"seed-{number}").write_bytes(data)
        words = Path(name, "words")
        spelled = ("".join(f"\\x{byte:02x}" for byte in word) for word in targets.WORDS)
        # libFuzzer takes no longer ones.
        words.write_text("".join(f'"{word}"\n' for word in spelled if len(word) < 250))
        options = {
            "max_total_time": round(minutes * 60),
            "seed": seed,
            "max_len": _LONGEST,
            "len_control": 0,  # long inputs from the start, for an operation takes many answers
            "timeout": _HANG,
            "dict": words,
            "artifact_prefix": f"{artifacts}/{target}-",
            "print_final_stats": 1,
        }
        say(f"{target}: --seed {seed}, what is found is kept in {artifacts}")
        arguments = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], targets.TARGETS[target])
        atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.fuzz", description=__doc__)
    parser.add_argument("target", choices=["machines", "jsonl", "head", "operation"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="by default a new one, which is printed")
    parser.add_argument("--artifacts", type=Path, default=Path(tempfile.gettempdir(), "fuzz"))
    parser.add_argument("--replay", type=Path, help="one file instead, as atheris kept it")
    given = parser.parse_args()
    seed = random.randrange(1, 2**31) if given.seed is None else given.seed
    if given.target == "machines":
        machines(given.minutes, seed)
    elif given.replay is not None:
        targets = importlib.import_module("tests.stress.fuzz.targets")
        targets.TARGETS[given.target](given.replay.read_bytes())
        say("nothing wrong")
    else:
        fuzz(given.target, given.minutes, seed, given.artifacts)


if __name__ == "__main__":
    main()
