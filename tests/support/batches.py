"""Batches, results and retry policies that several suites of the transports use."""

from __future__ import annotations

from typing import Any

import msgspec

from batches_core import BatchesError, MessageBatch, RetryPolicy
from tests.support.playbook import batch_json

ONE_ATTEMPT = RetryPolicy(attempts=1)
QUICK_RETRIES = RetryPolicy(initial_delay=0.001)
#: The JSON of a batch that is in progress.
BATCH: bytes = msgspec.json.encode(batch_json())
#: The head of a response whose body is chunked.
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def ended_batch(base_url: str, total: int = 3, id_: str = "msgbatch_1") -> MessageBatch:
    """Return an ended batch with this many results, at ``/results`` of a server."""
    data = batch_json(
        id_, "ended", request_counts={"succeeded": total}, results_url=f"{base_url}/results"
    )
    return msgspec.convert(data, MessageBatch, strict=False)


def chunk(data: bytes) -> bytes:
    """Frame bytes as one chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def collect(stream: Any) -> list[Any]:
    """Read a stream to its end, close it, and return its items."""
    async with stream:
        return [item async for item in stream]


async def read_until_error(stream: Any) -> tuple[list[str], BatchesError | None]:
    """Read a stream until it ends or fails; return the custom_ids and the error, if any."""
    custom_ids: list[str] = []
    try:
        async for item in stream:
            custom_ids.append(item.custom_id)  # noqa: PERF401 - kept if the stream fails
    except BatchesError as error:
        return custom_ids, error
    return custom_ids, None


async def list_ids(client: Any) -> list[str]:
    """Return the ids of all batches in the list, newest first."""
    return [batch.id async for batch in client.list_all()]
