"""Every kind of operation that is fuzzed, and its outputs as text that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from batches_core import (
    BatchesAPI,
    CreateMarker,
    DeletedMessageBatch,
    MalformedResultError,
    Message,
    MessageBatch,
    Operation,
    Page,
    RawResult,
    ResultItem,
    ResultsReceived,
    RetryPolicy,
    SucceededResult,
)
from batches_core.jsonl import MAX_LINE
from batches_core.retry import no_jitter
from tests.support.playbook import BASE, KEY, REQUEST, api, batch_json

from .responses import OLD_BATCH

#: The timeout of a wait that has one, in seconds.
TIMEOUT = 90.0

_ENDED = msgspec.convert(batch_json(status="ended"), MessageBatch)
_MARKER = CreateMarker(
    requests=2,
    base_url=BASE,
    scope=api().scope,
    listed_ids=("old",),
    newest_created_at=msgspec.convert(OLD_BATCH, MessageBatch).created_at,
    read_at=datetime(2026, 5, 1, 20, 29, tzinfo=UTC),
)
_TWO = [REQUEST, {**REQUEST, "custom_id": "b"}]


def _has_succeeded(batch: MessageBatch) -> bool:
    return batch.request_counts.succeeded > 0


def _contested_create(on: BatchesAPI) -> Operation[Any]:
    """Create while the outcome of another create of this size is unknown to the process."""
    on.ledger.resume(msgspec.structs.replace(_MARKER, serial=-1))
    return on.create(_TWO, if_unknown="settle")


#: Each kind of operation: a function that makes it, and the type of the value that it returns.
KINDS: dict[str, tuple[Callable[[Any], Operation[Any]], type]] = {
    "create": (lambda a: a.create(_TWO), MessageBatch),
    "create, settling": (lambda a: a.create(_TWO, if_unknown="settle"), MessageBatch),
    "create, contested": (_contested_create, MessageBatch),
    "create, unmarked": (lambda a: a.create(_TWO, if_unmarked="send"), MessageBatch),
    "settle": (lambda a: a.settle(_MARKER, settle_time=20, known_ids=["x"]), object),
    "get": (lambda a: a.get("msgbatch_1"), MessageBatch),
    "cancel": (lambda a: a.cancel("msgbatch_1"), MessageBatch),
    "delete": (lambda a: a.delete("msgbatch_1"), DeletedMessageBatch),
    "list": (lambda a: a.list(limit=2), Page),
    "list_all": (lambda a: a.list_all(), type(None)),
    "list_all, backwards": (lambda a: a.list_all(before_id="old"), type(None)),
    "wait_for": (lambda a: a.wait_for("msgbatch_1"), MessageBatch),
    "wait_for, with a timeout": (
        lambda a: a.wait_for("msgbatch_1", timeout=TIMEOUT),
        MessageBatch,
    ),
    "wait_for, until": (
        lambda a: a.wait_for("msgbatch_1", poll_interval=1, max_outage=5, until=_has_succeeded),
        MessageBatch,
    ),
    "results": (lambda a: a.results_stream("msgbatch_1"), type(None)),
    "results, of a batch": (lambda a: a.results_stream(_ENDED), type(None)),
    "results, expected": (
        lambda a: a.results_stream(_ENDED, expected=["a", "b", "z"]),
        type(None),
    ),
    "results, not resumed": (lambda a: a.results_stream(_ENDED, resume=False), type(None)),
    "results, raw": (
        lambda a: a.results_stream("msgbatch_1", message_type=msgspec.Raw),
        type(None),
    ),
    "results, typed": (lambda a: a.results_stream("msgbatch_1", message_type=Message), type(None)),
    "raw results": (lambda a: a.raw_results(_ENDED, expected=["b", "a"]), type(None)),
    "raw results, continued": (lambda a: a.raw_results("msgbatch_1", delivered=["a"]), type(None)),
}


def make_operation(
    kind: str,
    *,
    attempts: int = 3,
    jitter: Callable[[], float] = no_jitter,
    max_line: int = MAX_LINE,
) -> Operation[Any]:
    """Make an operation of a kind in `KINDS`."""
    on = api(
        retry=RetryPolicy(attempts=attempts),
        jitter=jitter,
        max_line=max_line,
        trusted_hosts=["elsewhere.test"],
    )
    return KINDS[kind][0](on)


def describe(output: object) -> str:
    """Return an event, a value or an error as text, all of its fields included.

    Raises:
        AssertionError: the text contains the credential.
    """
    match output:
        case ResultsReceived(items=items):
            return " ".join(map(describe, items))
        case MalformedResultError(raw=raw):
            # The peer may send the credential back in a line. No text of the error shows the line.
            return f"{output!r} {describe(raw.replace(KEY.encode(), b''))}"
        case RawResult(raw=raw):
            text = f"{output.custom_id} {bytes(raw)!r}"
        case ResultItem(result=SucceededResult(message=msgspec.Raw() as message)):
            text = f"{output.custom_id} {bytes(message)!r}"
        case BaseException():
            text = f"{output!r} {output} {vars(output)}"
        case _:
            text = repr(output)
    assert KEY not in text, "the credential is in a text"
    return text
