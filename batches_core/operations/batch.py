"""The operations on one batch that need one request: read it, cancel it, delete it.

The retry policy decides which failures are retried. `wait` polls a batch until it has ended.
"""

from __future__ import annotations

from batches_core.call import (
    FAILURES,
    is_not_found,
    may_have_had_effect,
    request_json,
    request_json_with_retries,
    with_retries,
)
from batches_core.context import Flow, OperationContext
from batches_core.http import Request
from batches_core.models import DeletedMessageBatch, MessageBatch


def cancel(context: OperationContext, request: Request) -> Flow[MessageBatch]:
    """Cancel a batch. It is retried like a read, because a second cancel is harmless."""
    return (yield from request_json_with_retries(context, request, MessageBatch, "a batch"))


def get(context: OperationContext, request: Request) -> Flow[MessageBatch]:
    """Read a batch."""
    return (yield from request_json_with_retries(context, request, MessageBatch, "a batch"))


def delete(context: OperationContext, request: Request, batch_id: str) -> Flow[DeletedMessageBatch]:
    """Delete a batch.

    A 404 means success if the outcome of an earlier attempt is unknown: that attempt deleted the
    batch.
    """
    is_outcome_unknown = False

    def attempt() -> Flow[DeletedMessageBatch]:
        nonlocal is_outcome_unknown
        try:
            return (yield from request_json(context, request, DeletedMessageBatch, "a deletion"))
        except FAILURES as error:
            if is_outcome_unknown and is_not_found(error):
                return DeletedMessageBatch(id=batch_id)
            is_outcome_unknown = is_outcome_unknown or may_have_had_effect(error)
            raise

    return (yield from with_retries(context, attempt))
