"""The files of one job in shared storage, and their copies on this machine.

A job called ``reviews``::

    reviews/
    ├── input-<digest>.jsonl           all requests, as they were passed
    ├── requests/000003-<digest>.jsonl the requests of chunk 3
    ├── raw/000003-<batch id>.jsonl    the results of chunk 3, as they were received
    └── output-<digest>.jsonl          the results of all rows

Each name says which content it has: by a digest, or by the batch whose results it holds.
"""

from __future__ import annotations

from batches_core.jobs import ChunkPlanned
from batches_core.lowlevel import path_segment


def input_name(job: str, digest: str) -> str:
    """Return the name of the input."""
    return f"{job}/input-{digest}.jsonl"


def requests_name(job: str, plan: ChunkPlanned) -> str:
    """Return the name of a chunk's requests."""
    return f"{job}/requests/{plan.chunk:06}-{plan.digest}.jsonl"


def raw_name(job: str, chunk: int, batch_id: str) -> str:
    """Return the name of a chunk's results."""
    return f"{job}/raw/{chunk:06}-{path_segment('batch', batch_id)}.jsonl"


def output_name(job: str, digest: str) -> str:
    """Return the name of the results of all rows."""
    return f"{job}/output-{digest}.jsonl"
