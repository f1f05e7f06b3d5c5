"""The peer: the official SDK, used as its documentation shows."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
from anthropic._decoders.jsonl import JSONLDecoder
from anthropic.types.messages import MessageBatchIndividualResponse

from benchmarks.meter import ResourceMeter
from benchmarks.task import Sample, Task

from .shared import (
    WARM_UP,
    ResultsDigest,
    fetch_create_digest,
    file_chunks,
    long_line_chunks,
    read_dicts,
)


def _make_client(task: Task) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="a key", base_url=task.text("base_url"), max_retries=0)


def decode(task: Task) -> Sample:
    """Decode the results in a file with the decoder that the SDK itself uses for results."""
    return _decode(task, file_chunks(task))


def long_line(task: Task) -> Sample:
    """Decode one long line."""
    _decode(task, long_line_chunks(task, WARM_UP))
    return _decode(task, long_line_chunks(task))


def _decode(task: Task, chunks: list[bytes]) -> Sample:
    digest = ResultsDigest(task)
    line_type: Any = MessageBatchIndividualResponse
    with ResourceMeter() as meter:
        decoder: JSONLDecoder[Any] = JSONLDecoder(
            raw_iterator=iter(chunks), line_type=line_type, http_response=httpx2.Response(200)
        )
        digest.update(decoder)
    return meter.sample(sum(map(len, chunks)), digest.digest())


def results(task: Task) -> Sample:
    """Read the results of a batch from the server, item by item."""
    digest = ResultsDigest(task)
    with _make_client(task) as client, ResourceMeter() as meter:
        digest.update(client.messages.batches.results(task.text("batch")))
    return meter.sample(task.number("size"), digest.digest())


def create(task: Task) -> Sample:
    """Create a batch from dicts."""
    requests = read_dicts(task)
    with _make_client(task) as client, ResourceMeter() as meter:
        client.messages.batches.create(requests=requests)
    return meter.sample(task.number("size"), fetch_create_digest(task))
