"""Fuzz for a number of minutes: `python -m tests.stress.fuzz TARGET --minutes 10`.

TARGET is `machines`, which hypothesis runs, or one of `jsonl`, `head` and `operation`, which
atheris runs and guides by coverage (`pip install '.[fuzz]'`). A finding is printed with what
repeats it: a seed, or a file for `--replay`.
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

#: The longest input that atheris makes, in bytes.
_MAX_INPUT = 4096
#: An input that takes longer than this counts as a hang, in seconds.
_HANG = 30
#: The longest word that libFuzzer accepts in a dictionary, in escaped characters.
_MAX_WORD = 250
#: One round of a state machine: so many examples, of so many steps each.
_EXAMPLES, _STEPS = 150, 60


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run_machines(minutes: float, seed: int) -> None:
    """Run the machines in turn until the time is up; each round has a seed of its own."""
    hypothesis = importlib.import_module("hypothesis")
    stateful = importlib.import_module("hypothesis.stateful")
    machines = importlib.import_module("tests.stress.fuzz.machines").MACHINES
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
        for machine in machines:
            examples_and_steps = counts.setdefault(machine.__name__, [0, 0])
            counting = _with_counts(machine, examples_and_steps)
            try:
                stateful.run_state_machine_as_test(
                    hypothesis.seed(number)(counting), settings=settings
                )
            except BaseException:
                _write(f"{machine.__name__} found something: --seed {number} repeats it")
                raise
        number += 1
    for name, (examples, steps) in counts.items():
        _write(f"{name}: {examples} examples, {steps} steps, no finding")
    _write(f"seeds {seed} to {number - 1}")


def _with_counts(machine: Any, counts: list[int]) -> Any:
    """Make a machine that counts its examples and their steps."""

    class Counting(machine):  # type: ignore[misc]  # the base class is known only at run time
        def __init__(self) -> None:
            super().__init__()
            counts[0] += 1

        def check_invariants(self, *args: Any, **kwargs: Any) -> None:
            counts[1] += 1
            super().check_invariants(*args, **kwargs)

    Counting.__name__ = Counting.__qualname__ = machine.__name__
    return Counting


def run_atheris(target: str, minutes: float, seed: int, artifacts: Path) -> None:
    """Run a target under atheris, which exits the process at the end."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["batches_core", "transports", "h11"]):
        targets = importlib.import_module("tests.stress.fuzz.targets")
    artifacts.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        corpus = Path(name, "corpus")
        corpus.mkdir()
        for number, data in enumerate(targets.SEEDS[target]):
            (corpus / f"seed-{number}").write_bytes(data)
        dictionary = Path(name, "dictionary")
        words = ("".join(f"\\x{byte:02x}" for byte in word) for word in targets.WORDS)
        dictionary.write_text("".join(f'"{word}"\n' for word in words if len(word) < _MAX_WORD))
        options = {
            "max_total_time": round(minutes * 60),
            "seed": seed,
            "max_len": _MAX_INPUT,
            "len_control": 0,  # long inputs from the start: an operation needs many responses
            "timeout": _HANG,
            "dict": dictionary,
            "artifact_prefix": f"{artifacts}/{target}-",
            "print_final_stats": 1,
        }
        _write(f"{target}: --seed {seed}, findings are kept in {artifacts}")
        arguments = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, str(corpus)], targets.TARGETS[target])
        atheris.Fuzz()


def main() -> None:
    """Run the target of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.fuzz", description=__doc__)
    parser.add_argument("target", choices=["machines", "jsonl", "head", "operation"])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="by default a random one, which is printed")
    parser.add_argument(
        "--artifacts",
        type=Path,
        default=Path(tempfile.gettempdir(), "fuzz"),
        help="the folder in which atheris keeps findings",
    )
    parser.add_argument("--replay", type=Path, help="run the target once, with a kept finding")
    arguments = parser.parse_args()
    seed = random.randrange(1, 2**31) if arguments.seed is None else arguments.seed
    if arguments.target == "machines":
        run_machines(arguments.minutes, seed)
    elif arguments.replay is not None:
        targets = importlib.import_module("tests.stress.fuzz.targets")
        targets.TARGETS[arguments.target](arguments.replay.read_bytes())
        _write("nothing is wrong")
    else:
        run_atheris(arguments.target, arguments.minutes, seed, arguments.artifacts)


if __name__ == "__main__":
    main()
