"""The core alone, without a transport: what its decoding of results costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from batches_core import (
    BatchesAPI,
    Done,
    Message,
    MessageBatch,
    Need,
    RequestCounts,
    ResultsReceived,
    SendRequest,
)
from benchmarks.meter import Meter, Outcome, Task

from .work import WARM_UP, Tally, file_chunks, long_line_chunks


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int


class _Spent(msgspec.Struct):
    """What is left of a message for who asks what a batch took."""

    usage: _Usage


def decode(task: Task) -> Outcome:
    """Decode a file's chunks."""
    return _decode(task, file_chunks(task))


def decode_unknown(task: Task) -> Outcome:
    """Decode a file's chunks in which every message has a block of an unknown type."""
    whole = b"".join(file_chunks(task))
    whole = whole.replace(b'"content":[', b'"content":[{"type":"song","notes":["c","e"]},')
    size = task.number("chunk")
    chunks = [whole[start : start + size] for start in range(0, len(whole), size)]
    return _decode(task, chunks)


def decode_usage(task: Task) -> Outcome:
    """Decode of a file's chunks what each message took."""
    return _decode(task, file_chunks(task), _Spent)


def decode_raw(task: Task) -> Outcome:
    """Decode a file's chunks, and leave each message as it is."""
    return _decode(task, file_chunks(task), msgspec.Raw)


def long_line(task: Task) -> Outcome:
    """Decode one long line's chunks."""
    _decode(task, long_line_chunks(task, WARM_UP))
    return _decode(task, long_line_chunks(task))


def _decode(task: Task, chunks: list[bytes], message_type: type[Any] = Message) -> Outcome:
    """Driver an operation through the chunks, as a transport does."""
    moment = datetime.now(UTC)
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    counts = RequestCounts(succeeded=task.number("lines"))
    batch = MessageBatch(
        id="msgbatch_1",
        processing_status="ended",
        request_counts=counts,
        created_at=moment,
        expires_at=moment,
        results_url=url,
    )
    tally = Tally(task)
    with Meter() as meter:
        operation = BatchesAPI(api_key="a key").results_stream(batch, message_type=message_type)
        left = iter(chunks)
        now = 0.0
        while not isinstance(event := operation.next_event(), Done):
            if event is Need.DATA:
                now += 1e-6
                if (chunk := next(left, None)) is None:
                    operation.receive_eof(1, now)
                else:
                    operation.receive_data(1, chunk, now)
            elif isinstance(event, ResultsReceived):
                tally.take(event.items)
            elif isinstance(event, SendRequest):
                operation.receive_head(event.exchange, 200, [], now)
    return meter.outcome(sum(map(len, chunks)), tally.work())
