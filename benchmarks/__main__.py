"""Runs the named measures, or all of them, and prints a table for each."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import msgspec

from . import MEASURES
from .comparison import format_comparison
from .measure import Measure, Setup
from .runner import FAILED, ROOT, run
from .table import format_table

_ROUNDS, _QUICK_ROUNDS = 5, 2
_LIBRARIES = ("anthropic", "httpx", "httpx2", "h11", "trio", "anyio", "msgspec")


def main() -> int:
    """Run the command line. Return 1 if a contender failed, else 0."""
    options = _parse_arguments()
    checkouts = [ROOT] if options.against is None else [ROOT, options.against]
    default_rounds = _QUICK_ROUNDS if options.quick else _ROUNDS
    _print(_describe_machine())
    if options.against is not None:
        _print(f"new: {ROOT}\nold: {options.against}")
    samples: dict[str, object] = {}
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if options.data is None else options.data
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.names or MEASURES:
            measure: Measure = importlib.import_module(f"benchmarks.{name}").MEASURE
            contenders = measure.contenders()
            if options.against is not None:
                contenders = [each for each in contenders if each.role == "project"]
            began = time.monotonic()
            with ExitStack() as stack:
                cases = measure.prepare(Setup(folder=folder, quick=options.quick, stack=stack))
                found = run(
                    contenders,
                    cases,
                    options.rounds or measure.rounds or default_rounds,
                    _print_progress,
                    checkouts=checkouts,
                )
            _print_progress("")
            _print(f"\n{measure.title} ({name}, {time.monotonic() - began:.0f} s)\n")
            if options.against is None:
                [results] = found
                results.clock = "cpu" if options.cpu else "seconds"
                _print(format_table(measure, cases, results))
            else:
                _print(format_comparison(measure, contenders, cases, *found))
            samples[name] = [
                {
                    "checkout": str(checkout),
                    "samples": {" / ".join(key): each for key, each in results.samples.items()},
                }
                for checkout, results in zip(checkouts, found, strict=True)
            ]
            failed = failed or any(FAILED in results.absent.values() for results in found)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(samples)))
    return int(failed)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASURES))
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"use a tenth of the data and {_QUICK_ROUNDS} rounds, to check that all runs",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"run each contender this many times (default: {_ROUNDS}, with --quick "
        f"{_QUICK_ROUNDS}, in waits 1)",
    )
    parser.add_argument(
        "--against",
        type=_checkout,
        metavar="CHECKOUT",
        help="compare this checkout with the one in this folder: run the package's contenders in "
        "both by turns, and print the ratios new/old",
    )
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="compare speeds by CPU time, for a machine that is busy with other work. "
        "--against always prints both",
    )
    parser.add_argument(
        "--data", type=_absolute, help="keep the generated data in this folder, for later runs"
    )
    parser.add_argument("--json", type=Path, help="write all samples to this file")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(
            f"unknown measure: {', '.join(sorted(unknown))}. Choose from {', '.join(MEASURES)}"
        )
    return options


def _absolute(folder: str) -> Path:
    return Path(folder).resolve()


def _checkout(folder: str) -> Path:
    path = _absolute(folder)
    for package in ("batches_core", "transports"):
        if not (path / package / "__init__.py").is_file():
            raise argparse.ArgumentTypeError(
                f"{path} has no package {package}. Pass the root of a checkout"
            )
    return path


def _describe_machine() -> str:
    """Return the versions and the load, which shows whether other work disturbed the run."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load}\n{versions}"
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _print_progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\x1b[2K\r{line}\r")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
