"""Submit a file of requests, wait, and stream the results to a file: blocking, on bare sockets.

python examples/h11_batches.py examples/requests.jsonl
"""

from __future__ import annotations

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
from transports.h11 import BatchesClient


def run(job: Job) -> None:
    """Do the job."""
    with (
        service() as arguments,
        BatchesClient.from_env(on_event=on_event, **arguments) as client,
    ):
        if isinstance(job.source, Path):
            with job.source.open("rb") as lines:
                batch = client.create(lines)
            job.begin(batch, "created")
        else:
            batch = client.get(job.source)
            job.begin(batch, "going on with")
        batch = client.wait_for(batch.id, poll_interval=poll_interval(arguments))

        tally = Tally()
        path = job.results_path(batch)
        with path.open("ab") as file, client.results_stream(batch) as stream:
            for item in stream:
                tally.add(item)
                line = (
                    item.raw
                    if isinstance(item, MalformedResultError)
                    else msgspec.json.encode(item)
                )
                file.write(line + b"\n")
        tally.report(path)


if __name__ == "__main__":
    job = read_command_line(__doc__)
    with errors_in_a_line(job):
        run(job)
