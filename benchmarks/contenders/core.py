"""The core alone, without a transport: the cost of decoding results."""

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
from benchmarks.meter import ResourceMeter
from benchmarks.task import Sample, Task

from .shared import WARM_UP, ResultsDigest, file_chunks, long_line_chunks


class _Usage(msgspec.Struct):
    input_tokens: int
    output_tokens: int


class _UsageOnly(msgspec.Struct):
    """The only field of a message that a user needs to sum up the tokens of a batch."""

    usage: _Usage


def decode(task: Task) -> Sample:
    """Decode the results in a file."""
    return _decode(task, file_chunks(task))


def decode_unknown(task: Task) -> Sample:
    """Decode the results in a file, with a block of an unknown type added to every message."""
    data = b"".join(file_chunks(task))
    data = data.replace(b'"content":[', b'"content":[{"type":"song","notes":["c","e"]},')
    size = task.number("chunk")
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    return _decode(task, chunks)


def decode_usage(task: Task) -> Sample:
    """Decode only the usage of every message."""
    return _decode(task, file_chunks(task), _UsageOnly)


def decode_raw(task: Task) -> Sample:
    """Decode the results but not their messages."""
    return _decode(task, file_chunks(task), msgspec.Raw)


def long_line(task: Task) -> Sample:
    """Decode one long line."""
    _decode(task, long_line_chunks(task, WARM_UP))
    return _decode(task, long_line_chunks(task))


def _decode(task: Task, chunks: list[bytes], message_type: type[Any] = Message) -> Sample:
    """Drive an operation with chunks of results, as a transport does."""
    moment = datetime.now(UTC)
    batch = MessageBatch(
        id="msgbatch_1",
        processing_status="ended",
        request_counts=RequestCounts(succeeded=task.number("lines")),
        created_at=moment,
        expires_at=moment,
        results_url="https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    )
    digest = ResultsDigest(task)
    with ResourceMeter() as meter:
        operation = BatchesAPI(api_key="a key").results_stream(batch, message_type=message_type)
        remaining = iter(chunks)
        now = 0.0
        while not isinstance(event := operation.next_event(), Done):
            if event is Need.DATA:
                now += 1e-6
                if (chunk := next(remaining, None)) is None:
                    operation.receive_eof(1, now)
                else:
                    operation.receive_data(1, chunk, now)
            elif isinstance(event, ResultsReceived):
                digest.update(event.items)
            elif isinstance(event, SendRequest):
                operation.receive_head(event.exchange, 200, [], now)
    return meter.sample(sum(map(len, chunks)), digest.digest())
