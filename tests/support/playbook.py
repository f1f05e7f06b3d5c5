"""Drives an operation by hand: a test states each expected output, and passes each input.

Time is virtual. `settling_playbook` and `results_playbook` have playbooks that begin further on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from batches_core import (
    BatchesAPI,
    CreateMarked,
    CreateMarker,
    Done,
    Event,
    Need,
    Operation,
    Request,
    SendRequest,
    WaitUntil,
)

E = TypeVar("E")

KEY = "sk-test-key-0123456789"
BASE = "https://api.example.test"
#: The Date header of the list that is read before a create.
READ_AT = "Fri, 01 May 2026 21:00:00 GMT"
#: A valid request of a batch.
REQUEST: dict[str, Any] = {
    "custom_id": "a",
    "params": {
        "model": "claude-test",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "?"}],
    },
}


def api(**settings: Any) -> BatchesAPI:
    return BatchesAPI(**{"api_key": KEY, "base_url": BASE, **settings})


def batch_json(
    id_: str = "msgbatch_1", status: str = "in_progress", **changes: Any
) -> dict[str, Any]:
    """Build a batch of two requests as the service sends it; `changes` replace or add fields."""
    ended = status == "ended"
    counts = {"processing": 0 if ended else 2, "succeeded": 2 if ended else 0}
    return {
        "archived_at": None,
        "cancel_initiated_at": None,
        "created_at": "2026-05-01T20:29:05.358585+00:00",
        "ended_at": "2026-05-01T20:35:00.000001+00:00" if ended else None,
        "expires_at": "2026-05-02T20:29:05.358585+00:00",
        "id": id_,
        "processing_status": status,
        "request_counts": {"canceled": 0, "errored": 0, "expired": 0, **counts},
        "results_url": f"{BASE}/v1/messages/batches/{id_}/results" if ended else None,
        "type": "message_batch",
        **changes,
    }


def error_json(type_: str, message: str = "no", **more: Any) -> dict[str, Any]:
    """Build the body of an error; `more` are fields of its ``error`` object."""
    return {
        "type": "error",
        "error": {"type": type_, "message": message, **more},
        "request_id": "req_1",
    }


def result_line(custom_id: str, text: str = "hi") -> bytes:
    """Build a line of a results body: a request that succeeded with this text."""
    message = {
        "id": f"msg_{custom_id}",
        "type": "message",
        "role": "assistant",
        "model": "claude-test",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5, "service_tier": "batch"},
    }
    result = {"type": "succeeded", "message": message}
    return msgspec.json.encode({"custom_id": custom_id, "result": result}) + b"\n"


class Playbook:
    """One operation, driven by hand.

    `now` is its clock, in seconds. It moves only in `expect_wait`, or when a test sets it.
    """

    def __init__(self, operation: Operation[Any], now: float = 1000.0) -> None:
        self.operation = operation
        self.now = now
        self.exchange = 0
        operation.handle_timeout(now)

    def next(self) -> Event | SendRequest | WaitUntil | Need | Done[Any]:
        return self.operation.next_event()

    def expect(self, kind: type[E]) -> E:
        event = self.next()
        assert isinstance(event, kind), f"expected {kind.__name__}, got {event!r}"
        return event

    def expect_request(self, method: str, path: str) -> Request:
        """Expect a request, and that the operation then waits for the response."""
        send = self.expect(SendRequest)
        assert (send.request.method, send.request.target) == (method, path)
        assert send.exchange == self.exchange + 1
        self.exchange = send.exchange
        assert self.next() is Need.DATA
        return send.request

    def expect_wait(self, seconds: float) -> None:
        """Expect a wait of this many seconds, and let them pass."""
        wait = self.expect(WaitUntil)
        assert wait.deadline - self.now == seconds
        self.now = wait.deadline
        self.operation.handle_timeout(self.now)

    def expect_done(self) -> Any:
        """Expect the end of the operation; return its value."""
        return self.expect(Done).value

    def expect_marker(
        self,
        *listed: dict[str, Any],
        prefix: str = "",
        has_more: bool = False,
        read_at: str | None = READ_AT,
        organization: str | None = None,
    ) -> CreateMarker:
        """Expect the beginning of a create: the list is read, and its marker is reported.

        `listed` are the batches in the response; `read_at` and `organization` are its headers.
        """
        self.expect_request("GET", f"{prefix}/v1/messages/batches?limit=100")
        headers = {"date": read_at, "anthropic-organization-id": organization}
        self.respond(
            {"data": [*listed], "has_more": has_more},
            headers=[(name, value) for name, value in headers.items() if value is not None],
        )
        return self.expect(CreateMarked).marker

    def head(self, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.operation.receive_head(self.exchange, status, headers, self.now)

    def data(self, data: bytes) -> None:
        self.operation.receive_data(self.exchange, data, self.now)

    def eof(self) -> None:
        self.operation.receive_eof(self.exchange, self.now)

    def lose(self, reason: str = "connection reset", *, sent: bool = True) -> None:
        self.operation.connection_lost(self.exchange, reason, self.now, sent=sent)

    def respond(
        self, body: Any = None, status: int = 200, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Pass a whole response; a body that is not bytes is encoded as JSON."""
        self.head(status, headers)
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        if data:
            self.data(data)
        self.eof()
