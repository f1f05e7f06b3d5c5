"""Steps of tests that read results: what is delivered, and when the body is read again."""

from __future__ import annotations

from typing import Any

import msgspec

from batches_core import (
    BatchesError,
    Done,
    Need,
    RawResult,
    ResultsInterrupted,
    ResultsReceived,
    SendRequest,
)
from tests.support.playbook import Playbook, api
from tests.support.results_playbook import RESULTS, ended_batch


def received_ids(book: Playbook) -> list[str | None]:
    """Expect results; return their custom_ids, with None for a line without one."""
    return [item.custom_id for item in book.expect(ResultsReceived).items]


def expect_another_reading(book: Playbook, delivered: int, delay: float = 0.5) -> BatchesError:
    """Expect an interruption after `delivered` results, a delay, and another request for them.

    Returns:
        The error of the interruption.
    """
    event = book.expect(ResultsInterrupted)
    assert (event.delivered, event.delay) == (delivered, delay)
    book.expect_wait(delay)
    book.expect_request("GET", RESULTS)
    return event.error


def read_raw_results(body: bytes, total: int, size: int = 10_000, **options: Any) -> list[Any]:
    """Read the raw results of a batch of `total` requests, from pieces of `size` bytes."""
    operation = api().raw_results(ended_batch(total), **options)
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    items: list[Any] = []
    while not isinstance(event := operation.next_event(), Done):
        if isinstance(event, SendRequest):
            operation.receive_head(event.exchange, 200, [], 0)
        elif event is Need.DATA:
            if pieces:
                operation.receive_data(1, pieces.pop(0), 0)
            else:
                operation.receive_eof(1, 0)
        else:
            assert isinstance(event, ResultsReceived)
            items += event.items
    return items


def raw_result(line: bytes) -> RawResult:
    """Build the raw result of a line of JSON."""
    custom_id = msgspec.json.decode(line)["custom_id"]
    return RawResult(custom_id=custom_id, raw=line.rstrip(b"\r\n"))
