"""Creating a batch, and never twice: what surely had no effect, and what may have had one.

Knows what an unknown outcome is; credentials and paths are `api`'s.
"""

from __future__ import annotations

from .calls import FAILURES, answer, may_have_had_effect, retried, surely_had_no_effect
from .errors import APIStatusError, BatchesError, OutcomeUnknown, TransportError
from .http import Request
from .models import MessageBatch
from .operation import Channel, Script
from .retry import RetryPolicy


def create(
    channel: Channel, policy: RetryPolicy, request: Request, count: int
) -> Script[MessageBatch]:
    """Create a batch, and never twice.

    A create is sent again only where the try before surely had no effect: nothing of it left, or
    the service said that it did not take it. Where neither is sure, the outcome is unknown.
    """

    def attempt() -> Script[MessageBatch]:
        try:
            return (yield from answer(channel, request, MessageBatch, "a batch"))
        except FAILURES as error:
            if may_have_had_effect(error):
                raise OutcomeUnknown(_summary(error), requests=count) from error
            raise

    return (yield from retried(channel, policy, attempt, surely_had_no_effect))


def _summary(error: BatchesError) -> str:
    match error:
        case TransportError(reason=reason):
            return reason
        case APIStatusError(status=status, message=message):
            return f"the answer was {status}: {message}"
        case _:
            return str(error)
