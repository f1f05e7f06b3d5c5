"""The peer: the official SDK, used as its documentation shows."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
from anthropic._decoders.jsonl import JSONLDecoder
from anthropic.types.messages import MessageBatchIndividualResponse

from benchmarks.meter import Meter, Outcome, Task

from .work import WARM_UP, Tally, checked, file_chunks, long_line_chunks, read_dicts


def _client(task: Task) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="a key", base_url=task.text("base_url"), max_retries=0)


def decode(task: Task) -> Outcome:
    """Decode a file's chunks with what the SDK's own results are decoded with."""
    return _decode(task, file_chunks(task))


def long_line(task: Task) -> Outcome:
    """Decode one long line's chunks."""
    _decode(task, long_line_chunks(task, WARM_UP))
    return _decode(task, long_line_chunks(task))


def _decode(task: Task, chunks: list[bytes]) -> Outcome:
    tally = Tally(task)
    line_type: Any = MessageBatchIndividualResponse
    with Meter() as meter:
        decoder: JSONLDecoder[Any] = JSONLDecoder(
            raw_iterator=iter(chunks), line_type=line_type, http_response=httpx2.Response(200)
        )
        tally.take(decoder)
    return meter.outcome(sum(map(len, chunks)), tally.work())


def results(task: Task) -> Outcome:
    """Read a batch's results from the server, item by item."""
    tally = Tally(task)
    with _client(task) as client, Meter() as meter:
        tally.take(client.messages.batches.results(task.text("batch")))
    return meter.outcome(task.number("size"), tally.work())


def create(task: Task) -> Outcome:
    """Create a batch of dicts."""
    requests = read_dicts(task)
    with _client(task) as client, Meter() as meter:
        client.messages.batches.create(requests=requests)
    return meter.outcome(task.number("size"), checked(task))
