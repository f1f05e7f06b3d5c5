"""Makes the measures that are named, or all of them, and prints a table of each."""

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
from typing import cast

import msgspec

from . import MEASURES
from .measure import Measure, Workshop
from .runner import FAILED, run
from .table import lay_out

_ROUNDS, _QUICK_ROUNDS = 5, 2
_LIBRARIES = ("anthropic", "httpx", "httpx2", "h11", "trio", "anyio", "msgspec")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _progress(line: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\x1b[2K\r{line}\r")
        sys.stderr.flush()


def _machine() -> str:
    """Say what the figures were made on; the load tells whether others used it as well."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, load {load}\n{versions}"
    )


def main() -> int:
    """Run what the command line names; 1 where a contender failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(MEASURES))
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the data, two rounds: to see that it runs"
    )
    parser.add_argument("--rounds", type=int, help=f"how often each is run ({_ROUNDS})")
    parser.add_argument(
        "--cpu", action="store_true", help="compare CPU time, where others use the machine as well"
    )
    parser.add_argument("--data", type=Path, help="keep the data in this folder, for other runs")
    parser.add_argument("--json", type=Path, help="write every outcome to this file as well")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"there is no measure {', '.join(sorted(unknown))}")
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    _say(_machine())
    kept: dict[str, object] = {}
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.data or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.names or MEASURES:
            measure = cast("Measure", importlib.import_module(f"benchmarks.{name}"))
            began = time.monotonic()
            with ExitStack() as opened:
                workshop = Workshop(folder=folder, quick=options.quick, opened=opened)
                cases = measure.prepare(workshop)
                results = run(measure.contenders(), cases, measure.ROUNDS or rounds, _progress)
                results.clock = "cpu" if options.cpu else "seconds"
            _progress("")
            took = time.monotonic() - began
            _say(f"\n{measure.TITLE} ({name}, {took:.0f} s)\n")
            _say(lay_out(measure.contenders(), cases, results, measure.note))
            kept[name] = {" / ".join(key): each for key, each in results.outcomes.items()}
            failed = failed or FAILED in results.absent.values()
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
