"""Playbooks of reading results: an ended batch, and an operation that waits for its results."""

from __future__ import annotations

from typing import Any

import msgspec

from batches_core import MessageBatch
from tests.support.playbook import Playbook, api, batch_json

RESULTS = "/v1/messages/batches/msgbatch_1/results"


def ended_batch_json(total: int = 2, **changes: Any) -> dict[str, Any]:
    """Build an ended batch of `total` requests that all succeeded, as the service sends it."""
    counts = {"processing": 0, "succeeded": total, "errored": 0, "canceled": 0, "expired": 0}
    return batch_json(status="ended", request_counts=counts, **changes)


def ended_batch(total: int = 2, **changes: Any) -> MessageBatch:
    return msgspec.convert(ended_batch_json(total, **changes), MessageBatch, strict=False)


def start_reading(
    total: int = 2, settings: dict[str, Any] | None = None, **options: Any
) -> Playbook:
    """Start reading results; the operation waits for the response to its request for them."""
    operation = api(**settings or {}).results_stream(ended_batch(total), **options)
    book = Playbook(operation)
    book.expect_request("GET", RESULTS)
    return book
