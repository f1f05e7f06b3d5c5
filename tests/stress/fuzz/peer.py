"""What a peer may answer, and every kind of operation that can be asked of it.

Knows the shapes that answers have, good and bad; not which of them comes when: that is chosen by
a state machine or by a fuzzer's bytes.
"""

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
    Request,
    ResultItem,
    ResultsReceived,
    RetryPolicy,
    SucceededResult,
)
from batches_core.jsonl import MAX_LINE
from batches_core.retry import no_jitter
from tests.support.playbook import BASE, KEY, REQUEST, api, batch_json, error_json, result_line

#: The seconds after which the waits here have a deadline.
TIMEOUT = 90.0

_ENDED = msgspec.convert(batch_json(status="ended"), MessageBatch)
_BEFORE = batch_json("old", created_at="2026-05-01T20:00:00Z")
_MARKER = CreateMarker(
    requests=2,
    base_url=BASE,
    scope=api().scope,
    listed_ids=("old",),
    newest_created_at=msgspec.convert(_BEFORE, MessageBatch).created_at,
    read_at=datetime(2026, 5, 1, 20, 29, tzinfo=UTC),
)
_TWO = [REQUEST, {**REQUEST, "custom_id": "b"}]


def _page(*batches: dict[str, Any], has_more: bool = False) -> dict[str, Any]:
    first, last = (batches[0]["id"], batches[-1]["id"]) if batches else (None, None)
    return {"data": batches, "has_more": has_more, "first_id": first, "last_id": last}


def _json(*values: Any) -> tuple[bytes, ...]:
    return tuple(map(msgspec.json.encode, values))


_BATCHES = _json(
    batch_json(),
    batch_json(status="ended"),
    batch_json(status="canceling"),
    batch_json(status="paused"),
    batch_json(status="ended", results_url=None),
    batch_json(status="ended", results_url=None, archived_at="2026-06-01T00:00:00Z"),
    batch_json(status="ended", results_url="https://elsewhere.test/file"),
    batch_json(status="ended", results_url="http://[::"),
    batch_json("new", created_at="2026-05-01T20:29:05"),
)
_PAGES = _json(
    _page(),
    _page(_BEFORE),
    _page(batch_json("new"), _BEFORE),
    _page(batch_json("new"), batch_json("newer"), _BEFORE),
    _page(batch_json("new"), has_more=True),
    _page(batch_json("next"), has_more=True),
    _page(batch_json("last")),
    _page(_BEFORE, has_more=True),
    {**_page(_BEFORE, has_more=True), "last_id": None, "first_id": None},
)
_DELETIONS = _json({"id": "msgbatch_1", "type": "message_batch_deleted"})
_A, _B, _C = result_line("a"), result_line("b", "zwei\u2028Zeilen"), result_line("c")
_BAD = b'{"custom_id":"b","result":{"type":"succeeded"}}\n'
_UNKNOWN = b'{"custom_id":"b","result":{"type":"postponed","until":null}}\n'
_FILES = (
    _A + _B,
    _A,
    _A + _B + _A + _B,
    _B + _A[:-1],
    _A + _B[:60],
    _A + _BAD,
    _A + _BAD + _BAD,
    _A + _UNKNOWN,
    _A + b"<html>\n",
    _A + b"<html>\n\r\n<html>\n" + _B.replace(b"\n", b"\r\n"),
    _A[:-1] + _B,
    b"\xef\xbb\xbf" + _A + b"\n \n" + _C,
)
_ODDITIES = (
    b"",
    b"null",
    b"{}",
    b"<html><h1>502 Bad Gateway</h1></html>",
    b"\xff\xfe",
    f"no such key: {KEY}".encode(),
    *_json(
        error_json("overloaded_error"),
        error_json("not_found_error", f"not for {KEY}"),
        error_json("invalid_request_error"),
        error_json("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}),
        error_json("of_tomorrow"),
    ),
)

STATUSES = (
    *(200, 200, 200, 201, 204, 301, 302, 304, 307, 308, 400, 401, 402, 403, 404, 408, 409, 413),
    *(418, 425, 429, 500, 502, 503, 504, 529, 599, 600, 999),
)
HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (),
    (("x-should-retry", "true"),),
    (("x-should-retry", "false"),),
    (("Retry-After", "7"),),
    (("retry-after", "9" * 15),),
    (("retry-after-ms", "20.5"), ("retry-after", "x")),
    (
        ("retry-after", "Fri, 01 May 2026 20:29:35 GMT"),
        ("Date", "Fri, 01 May 2026 20:29:05 GMT"),
    ),
    (("request-id", "req_2"), ("request-id", "req_3")),
    (("location", f"{BASE}/v1/messages/batches/msgbatch_1/results?again"),),
    (("location", "/elsewhere"),),
    (("location", "https://elsewhere.test/file?signature=secret"),),
    (("location", "http://[::"),),
    (("content-type", "text/html"),),
)


def bodies_for(request: Request) -> tuple[bytes, ...]:
    """The bodies that can be an answer's, those first that fit the request."""
    path, query, _ = request.target.partition("?")
    kinds = [_BATCHES, _PAGES, _DELETIONS, _FILES]
    if request.method == "DELETE":
        fitting = _DELETIONS
    elif not path.startswith("/v1/") or path.endswith("/results"):
        fitting = _FILES
    elif request.method == "GET" and (query or path.endswith("/batches")):
        fitting = _PAGES
    else:
        fitting = _BATCHES
    rest = [body for kind in kinds if kind is not fitting for body in kind]
    return (*fitting, *_ODDITIES, *rest)


# --- operations --------------------------------------------------------------------------


def _ended(batch: MessageBatch) -> bool:
    return batch.request_counts.succeeded > 0


def _contested(on: BatchesAPI) -> Operation[Any]:
    """A create whose process has another one of its size in doubt."""
    on.ledger.resume(msgspec.structs.replace(_MARKER, serial=-1))
    return on.create(_TWO, if_unknown="settle")


#: Each kind of operation, on an API, and the type of the value that it ends with.
KINDS: dict[str, tuple[Callable[[Any], Operation[Any]], type]] = {
    "create": (lambda a: a.create(_TWO), MessageBatch),
    "create, settling": (lambda a: a.create(_TWO, if_unknown="settle"), MessageBatch),
    "create, contested": (_contested, MessageBatch),
    "create, unmarked": (lambda a: a.create(_TWO, if_unmarked="send"), MessageBatch),
    "settle": (lambda a: a.settle(_MARKER, settle_time=20, known_ids=["x"]), object),
    "get": (lambda a: a.get("msgbatch_1"), MessageBatch),
    "cancel": (lambda a: a.cancel("msgbatch_1"), MessageBatch),
    "delete": (lambda a: a.delete("msgbatch_1"), DeletedMessageBatch),
    "list": (lambda a: a.list(limit=2), Page),
    "list_all": (lambda a: a.list_all(), type(None)),
    "list_all, backwards": (lambda a: a.list_all(before_id="old"), type(None)),
    "wait_for": (lambda a: a.wait_for("msgbatch_1"), MessageBatch),
    "wait_for, at most": (lambda a: a.wait_for("msgbatch_1", timeout=TIMEOUT), MessageBatch),
    "wait_for, until": (
        lambda a: a.wait_for("msgbatch_1", poll_interval=1, max_outage=5, until=_ended),
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
    "raw results, going on": (lambda a: a.raw_results("msgbatch_1", delivered=["a"]), type(None)),
}


def operation(
    kind: str,
    *,
    attempts: int = 3,
    jitter: Callable[[], float] = no_jitter,
    max_line: int = MAX_LINE,
) -> Operation[Any]:
    made = api(
        retry=RetryPolicy(attempts=attempts),
        jitter=jitter,
        max_line=max_line,
        trusted_hosts=["elsewhere.test"],
    )
    return KINDS[kind][0](made)


def shown(outcome: object) -> str:
    """All of an event, a value or an error, as it compares; and no credential in it."""
    match outcome:
        case ResultsReceived(items=items):
            return " ".join(map(shown, items))
        case MalformedResultError(raw=raw):
            # What a line holds is the peer's, and is shown to nobody but who asks for it.
            return f"{outcome!r} {shown(raw.replace(KEY.encode(), b''))}"
        case RawResult(raw=raw):
            text = f"{outcome.custom_id} {bytes(raw)!r}"
        case ResultItem(result=SucceededResult(message=msgspec.Raw() as message)):
            text = f"{outcome.custom_id} {bytes(message)!r}"
        case BaseException():
            text = f"{outcome!r} {outcome} {vars(outcome)}"
        case _:
            text = repr(outcome)
    assert KEY not in text, "a credential is shown"
    return text
