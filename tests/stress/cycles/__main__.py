"""Run cycles on every transport, and print whether its process leaked anything.

Each transport runs in a process of its own, with an emulator in another.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Any

from tests.support.carriers import CARRIERS

from .cycle import resetting_emulator, run_cycles


def main() -> int:
    """Run the transports of the command line; return how many leaked or failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.cycles", description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)  # set in the process of a transport
    parser.add_argument("transports", nargs="*", help="names, by default all")
    arguments: Any = parser.parse_args()
    by_name = {carrier.name: carrier for carrier in CARRIERS}
    if unknown := [name for name in arguments.transports if name not in by_name]:
        parser.error(f"there is no transport {unknown[0]!r}: choose from {', '.join(by_name)}")
    carriers = [by_name[name] for name in arguments.transports] or CARRIERS
    if arguments.base_url:
        before, after = run_cycles(carriers[0], arguments.base_url, arguments.cycles)
        _write(f"{before} ->\n{after}")
        return before.leaked_until(after)
    return sum(_run_in_process(carrier.name, arguments.cycles) for carrier in carriers)


def _run_in_process(name: str, cycles: int) -> bool:
    """Run the cycles of one transport; return whether they leaked or failed."""
    with resetting_emulator() as base_url:
        began = time.monotonic()
        program = [sys.executable, "-m", "tests.stress.cycles", "--base-url", base_url]
        done = subprocess.run([*program, "--cycles", str(cycles), name], check=False)  # noqa: S603 - our own program
        seconds = time.monotonic() - began
    verdict = "leaked or failed" if done.returncode else "no leak"
    _write(f"{name}: {cycles} cycles in {seconds:.0f} s: {verdict}")
    return bool(done.returncode)


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
