"""The operations on one batch that take one exchange: read it, cancel it, delete it.

Knows which of them may be repeated. Polling a batch until it ends is `wait`'s.
"""

from __future__ import annotations

from batches_core.call import (
    FAILURES,
    may_have_had_effect,
    not_found,
    request_json,
    request_json_with_retries,
    retried,
)
from batches_core.context import Flow, OperationContext
from batches_core.http import Request
from batches_core.models import DeletedMessageBatch, MessageBatch


def cancel(context: OperationContext, request: Request) -> Flow[MessageBatch]:
    """Ask for the end of a batch; asking twice is harmless."""
    return (yield from request_json_with_retries(context, request, MessageBatch, "a batch"))


def get(context: OperationContext, request: Request) -> Flow[MessageBatch]:
    """Read a batch."""
    return (yield from request_json_with_retries(context, request, MessageBatch, "a batch"))


def delete(context: OperationContext, request: Request, batch_id: str) -> Flow[DeletedMessageBatch]:
    """Delete a batch; gone after a try with an unknown outcome is deleted by that try."""
    unknown = False

    def attempt() -> Flow[DeletedMessageBatch]:
        nonlocal unknown
        try:
            return (yield from request_json(context, request, DeletedMessageBatch, "a deletion"))
        except FAILURES as error:
            if unknown and not_found(error):
                return DeletedMessageBatch(id=batch_id)
            unknown = unknown or may_have_had_effect(error)
            raise

    return (yield from retried(context, attempt))
