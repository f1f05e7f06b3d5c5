"""The responses of a fuzzed peer: statuses, headers and bodies, good and bad.

A state machine or a fuzzer's bytes choose which of them is sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from batches_core import Request
from tests.support.playbook import BASE, KEY, batch_json, error_json, result_line

#: A batch that is older than every create here.
OLD_BATCH = batch_json("old", created_at="2026-05-01T20:00:00Z")


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
    _page(OLD_BATCH),
    _page(batch_json("new"), OLD_BATCH),
    _page(batch_json("new"), batch_json("newer"), OLD_BATCH),
    _page(batch_json("new"), has_more=True),
    _page(batch_json("next"), has_more=True),
    _page(batch_json("last")),
    _page(OLD_BATCH, has_more=True),
    {**_page(OLD_BATCH, has_more=True), "last_id": None, "first_id": None},
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
#: Bodies that fit no request: errors, a proxy's page, and one that repeats the credential.
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
    """Return all bodies; those that fit the request come first."""
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
