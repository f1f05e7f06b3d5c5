"""The state of an HTTP/1.1 connection, without I/O."""

from __future__ import annotations

from batches_core import Request
from batches_core.http import BytesBody
from transports._http11.connection import HTTP11Connection


def test_a_request_counts_as_sent_only_after_its_last_byte_is_accepted() -> None:
    body = BytesBody((b"x" * 300_000, b"y" * 10))
    request = Request(
        method="POST",
        url="https://api.test/new",
        headers=(("content-length", str(body.content_length)),),
        body=body,
    )
    http = HTTP11Connection("api.test:443")
    total = len(http.start_request(request)) + body.content_length
    assert not http.is_sent
    http.record_accepted(total - 1)
    assert not http.is_sent
    http.record_accepted(1)
    assert http.is_sent
