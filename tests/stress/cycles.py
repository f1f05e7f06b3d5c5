"""Opens, breaks and cancels again and again, and counts what is left behind.

    python -m tests.stress.cycles --cycles 10000

runs that on every transport, each in a process of its own against an emulator in another, and
prints for each what was open and alive after a tenth of the cycles and at the end. The tests run
a few cycles of the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import sniffio
import trio

from batches_core import BatchesError, RetryPolicy
from tests.support.carriers import CARRIERS, Carrier

ONCE = RetryPolicy(attempts=1)
#: By how much the count of objects may differ at the end: caches of libraries fill slowly.
SPARE_OBJECTS = 500

_PARAMS = {
    "model": "claude-test",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "?"}],
}
_REQUESTS = [{"custom_id": f"r{n}", "params": _PARAMS} for n in range(20)]


@dataclass(frozen=True, kw_only=True)
class Count:
    """What is open and alive in this process."""

    sockets: int
    threads: int
    tasks: int
    objects: int

    def grew_to(self, later: Count) -> bool:
        """Whether anything was left behind since."""
        return (
            later.sockets > self.sockets
            or later.threads > self.threads
            or later.tasks > self.tasks
            or later.objects > self.objects + SPARE_OBJECTS
        )


def _count() -> Count:
    gc.collect()
    return Count(
        sockets=sum(1 for fd in Path("/proc/self/fd").iterdir() if _is_socket(fd)),
        threads=sum(not thread.name.startswith("Trio") for thread in threading.enumerate()),
        tasks=_tasks(),
        objects=len(gc.get_objects()),
    )


def _is_socket(fd: Path) -> bool:
    try:
        return os.readlink(fd).startswith("socket:")  # noqa: PTH115 - a socket's link is no path
    except OSError:
        return False


def _tasks() -> int:
    try:
        library = sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return 0
    if library == "trio":
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def _cycle(carrier: Carrier, base_url: str, context: ssl.SSLContext) -> None:
    """Open, be broken off, leave early, be cancelled; each on a client of its own."""
    async with carrier.client(base_url, retry=ONCE, ssl_context=context) as client:
        batch = await client.create(_REQUESTS)
        batch = await client.wait_for(batch.id, poll_interval=0.01)
        with contextlib.suppress(BatchesError):
            await client.results(batch, resume=False)
        async with client.results_stream(batch, resume=False) as stream:
            with contextlib.suppress(BatchesError):
                async for _ in stream:
                    break
        if not carrier.name.endswith("sync"):
            # Whether it is cancelled or broken off first is a matter of microseconds.
            with anyio.move_on_after(0.001), contextlib.suppress(BatchesError):
                await client.results(batch)
        await client.delete(batch.id)


def run(carrier: Carrier, base_url: str, cycles: int) -> tuple[Count, Count]:
    """Run so many cycles; count after the first tenth of them, and at the end."""

    # One for all: to make it anew takes httpx ten times as long as the rest of a cycle.
    context = ssl.create_default_context()

    async def job() -> tuple[Count, Count]:
        for _ in range(max(1, cycles // 10)):
            await _cycle(carrier, base_url, context)
        before = _count()
        for _ in range(cycles - cycles // 10):
            await _cycle(carrier, base_url, context)
        return before, _count()

    counted: tuple[Count, Count] = carrier.run(job)
    return counted


@contextlib.contextmanager
def breaking_emulator() -> Iterator[str]:
    """Serve, in another process, an emulator that breaks two thirds of the results off."""
    faults = ["--fault", "results:cut=3000,end=reset,times=always"]
    program = [sys.executable, "-m", "transports.emulator", "--speed", "1000000", *faults]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()


def main(arguments: list[str] | None = None) -> int:
    """Run the cycles on every transport, or on those that were named."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress.cycles")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--here", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="transports, by default every one")
    options: Any = parser.parse_args(arguments)
    carriers = [
        carrier for carrier in CARRIERS if not options.names or carrier.name in options.names
    ]
    if options.here:
        before, after = run(carriers[0], options.here, options.cycles)
        print(f"{before} ->\n{after}")  # noqa: T201 - a command
        return before.grew_to(after)
    failed = 0
    for carrier in carriers:
        with breaking_emulator() as base_url:
            started = time.monotonic()
            words = ["--cycles", str(options.cycles), "--here", base_url, carrier.name]
            done = subprocess.run(  # noqa: S603 - our own program
                [sys.executable, "-m", "tests.stress.cycles", *words], check=False
            )
            seconds = time.monotonic() - started
        word = "grew or failed" if done.returncode else "flat"
        print(f"{carrier.name}: {options.cycles} cycles in {seconds:.0f} s: {word}", flush=True)  # noqa: T201
        failed += bool(done.returncode)
    return failed


if __name__ == "__main__":
    sys.exit(main())
