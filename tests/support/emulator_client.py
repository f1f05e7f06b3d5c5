"""A client of the emulator on a manual clock, and a driver of operations for it.

`Client` sends single requests, `run` drives an operation. Both call `Emulator.handle` directly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from batches_core import Done, Event, Need, Operation, Request, SendRequest, WaitUntil
from batches_core.emulator import Emulator
from batches_core.lowlevel import BytesBody

T = TypeVar("T")
Headers = tuple[tuple[str, str], ...]

ORIGIN = "https://emulator.test"
BATCHES = "/v1/messages/batches"
CREATED_AT = datetime(2026, 5, 1, 20, 29, 5, 358585, UTC)
HOUR = 3600.0
DAY = 24 * HOUR
KEY: Headers = (("x-api-key", "sk-test"),)
VERSION: Headers = (("anthropic-version", "2023-06-01"),)
#: The value that leaves a field out of `params`.
ABSENT: Any = ...


def params(**changes: Any) -> dict[str, Any]:
    """Return valid params with these changes."""
    fields = {
        "model": "claude-test",
        "max_tokens": 2000,
        "messages": [{"role": "user", "content": "Which way?"}],
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ABSENT}


def request(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params(**changes)}


def requests(count: int) -> list[dict[str, Any]]:
    return [request(f"r{index}") for index in range(count)]


@dataclass(frozen=True, kw_only=True)
class ClientResponse:
    """A response whose body was received."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """The status of an error, its type and its message."""
        assert self.json["type"] == "error"
        return self.status, self.json["error"]["type"], self.json["error"]["message"]


class Client:
    """A client of one emulator; `now` is the time of both, in seconds since the epoch.

    The default emulator processes one request at a time, each for 5 to 10 s.
    """

    def __init__(self, emulator: Emulator | None = None) -> None:
        self.emulator = emulator or Emulator(parallel=1, seconds_per_request=10)
        self.now = CREATED_AT.timestamp()

    def call(
        self, method: str, path: str = "", body: Any = None, headers: Headers = KEY + VERSION
    ) -> ClientResponse:
        """Send a request and return its response.

        `path` is appended to `BATCHES` unless it starts with ``/v1``. `body` is encoded as JSON
        unless it is bytes.
        """
        encoded = body if body is None or isinstance(body, bytes) else msgspec.json.encode(body)
        sent = Request(
            method=method,
            url=ORIGIN + (path if path.startswith("/v1") else BATCHES + path),
            headers=headers,
            body=None if encoded is None else BytesBody((encoded[:7], encoded[7:])),
        )
        response = self.emulator.handle(sent, self.now)
        names = [name for name, _ in response.headers]
        assert len(set(names)) == len(names)
        chunks = list(response.chunks)
        return ClientResponse(status=response.status, headers=dict(response.headers), chunks=chunks)

    def ok(self, method: str, path: str = "", body: Any = None) -> Any:
        """Send a request and return the JSON of its response, which must be a success."""
        response = self.call(method, path, body)
        assert response.status == 200, response.body
        return response.json

    def create(self, wanted: Iterable[dict[str, Any]], version: str = "2023-06-01") -> str:
        headers = (*KEY, ("anthropic-version", version))
        response = self.call("POST", "", {"requests": list(wanted)}, headers)
        assert response.status == 200, response.body
        return str(response.json["id"])

    def get(self, id_: str) -> Any:
        return self.ok("GET", f"/{id_}")

    def results(self, id_: str) -> dict[str, Any]:
        """Return the results by custom_id, in the order of the file."""
        response = self.call("GET", f"/{id_}/results")
        assert response.status == 200, response.body
        assert response.headers["content-type"] == "application/x-jsonl"
        lines = [msgspec.json.decode(line) for line in response.body.splitlines()]
        assert all(set(line) == {"custom_id", "result"} for line in lines)
        results = {line["custom_id"]: line["result"] for line in lines}
        assert len(results) == len(lines)
        return results

    def result(self, version: str = "2023-06-01", **changes: Any) -> Any:
        """Return the result of one request with these changes to its params."""
        id_ = self.create([request("a", **changes)], version)
        self.now += DAY
        return self.results(id_)["a"]


def run(operation: Operation[T], client: Client) -> tuple[T, list[Event]]:
    """Drive an operation with a client's emulator and return its value and events.

    A wait moves the client's clock to its end at once.
    """
    operation.handle_timeout(client.now)
    events: list[Event] = []
    chunks: Iterator[bytes] = iter(())
    exchange = 0
    while True:
        match operation.next_event():
            case SendRequest() as send:
                exchange = send.exchange
                response = client.emulator.handle(send.request, client.now)
                operation.receive_head(exchange, response.status, response.headers, client.now)
                chunks = iter(response.chunks)
            case Need.DATA:
                chunk = next(chunks, None)
                if chunk is None:
                    operation.receive_eof(exchange, client.now)
                else:
                    operation.receive_data(exchange, chunk, client.now)
            case WaitUntil(deadline=deadline):
                client.now = max(client.now, deadline)
                operation.handle_timeout(client.now)
            case Done(value=value):
                return value, events
            case event:
                events.append(event)
