"""Submit a file of requests, wait, and stream the results to a file: async, over httpx.

python examples/httpx_async.py examples/requests.jsonl
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from report import (
    Job,
    Tally,
    errors_in_a_line,
    on_event,
    poll_interval,
    read_command_line,
    service,
)

from batches_core import MalformedResultError
from transports.httpx import AsyncBatchesClient


async def run(job: Job) -> None:
    """Do the job."""
    with service() as arguments:
        async with AsyncBatchesClient.from_env(on_event=on_event, **arguments) as client:
            if isinstance(job.source, Path):
                with job.source.open("rb") as lines:
                    batch = await client.create(lines)
                job.begin(batch, "created")
            else:
                batch = await client.get(job.source)
                job.begin(batch, "going on with")
            batch = await client.wait_for(batch.id, poll_interval=poll_interval(arguments))

            tally = Tally()
            path = job.results_path(batch)
            with path.open("ab") as file:
                async with client.results_stream(batch) as stream:
                    async for item in stream:
                        tally.add(item)
                        if isinstance(item, MalformedResultError):
                            line = item.raw
                        else:
                            line = msgspec.json.encode(item)
                        file.write(line + b"\n")
            tally.report(path)


if __name__ == "__main__":
    job = read_command_line(__doc__)
    with errors_in_a_line(job):
        asyncio.run(run(job))  # or trio.run(run, job): the client runs on both
