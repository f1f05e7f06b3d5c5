"""One cycle of a client, run many times on one transport, and the emulator that it talks to."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator

import anyio

from batches_core import BatchesError, RetryPolicy
from tests.support.carriers import Carrier

from .resources import Resources, count_resources

_ONCE = RetryPolicy(attempts=1)
_PARAMS = {
    "model": "claude-test",
    "max_tokens": 20,
    "messages": [{"role": "user", "content": "?"}],
}
_REQUESTS = [{"custom_id": f"r{n}", "params": _PARAMS} for n in range(20)]


async def _run_cycle(carrier: Carrier, base_url: str, context: ssl.SSLContext) -> None:
    """Open a client, have a read broken off, leave one early, cancel one, and close the client."""
    async with carrier.client(base_url, retry=_ONCE, ssl_context=context) as client:
        batch = await client.create(_REQUESTS)
        batch = await client.wait_for(batch.id, poll_interval=0.01)
        with contextlib.suppress(BatchesError):
            await client.results(batch, resume=False)
        async with client.results_stream(batch, resume=False) as stream:
            with contextlib.suppress(BatchesError):
                async for _ in stream:
                    break
        if not carrier.name.endswith("sync"):
            # Whether the timeout or the broken connection comes first varies by microseconds.
            with anyio.move_on_after(0.001), contextlib.suppress(BatchesError):
                await client.results(batch)
        await client.delete(batch.id)


def run_cycles(carrier: Carrier, base_url: str, cycles: int) -> tuple[Resources, Resources]:
    """Run cycles one after the other.

    Returns:
        The resources after the first tenth of the cycles, and at the end.
    """
    # All clients share it: httpx needs ten times as long to make one as for the rest of a cycle.
    context = ssl.create_default_context()

    async def scenario() -> tuple[Resources, Resources]:
        for _ in range(max(1, cycles // 10)):
            await _run_cycle(carrier, base_url, context)
        before = count_resources()
        for _ in range(cycles - cycles // 10):
            await _run_cycle(carrier, base_url, context)
        return before, count_resources()

    counted: tuple[Resources, Resources] = carrier.run(scenario)
    return counted


@contextlib.contextmanager
def resetting_emulator() -> Iterator[str]:
    """Serve an emulator in another process, and yield its base URL.

    It resets the connection after 3,000 bytes of a results body, which is less than a third of it.
    """
    faults = ["--fault", "results:cut=3000,end=reset,times=always"]
    program = [sys.executable, "-m", "transports.emulator", "--speed", "1000000", *faults]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603 - our own program
        assert process.stdout is not None
        try:
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()
