"""The simulated service: the emulator, and a record of every batch that it created.

Checks compare what clients received with this record. `world` has the clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Responder, Response
from batches_core.emulator.batch import EmulatedBatch
from batches_core.emulator.pages import Ties
from batches_core.http import BytesBody

ORIGIN = "https://api.sim.test"
#: Hosts that do not belong to the API. Some have names that look like its own.
FOREIGN = (
    "https://files.sim.test",
    "https://api.sim.test:8443",
    "https://api.sim.test.evil.test",
    "http://api.sim.test",
)
BATCHES = "/v1/messages/batches"
#: The service's clock when a run begins, in seconds since 1970.
EPOCH = 1_777_667_345.0


@dataclass(frozen=True, slots=True)
class CreatedBatch:
    """A batch that the service created: for whom, and the custom ids of its requests.

    The `label` says for whom: clients create `B1` and `B2`, and a stranger creates `S…`. Those with
    `O…` and `P…` exist before the run begins.
    """

    batch: EmulatedBatch
    label: str
    custom_ids: tuple[str, ...]

    @property
    def id(self) -> str:
        return self.batch.id

    @property
    def duration(self) -> float:
        """The seconds from the create to the end of processing."""
        return max(0.0, self.batch._ends_at - self.batch.created_at)

    @property
    def ends_at(self) -> float:
        """When processing ends, by the clock of the world."""
        return self.batch._ends_at - EPOCH


def params_of(size: int, kind: str) -> dict[str, Any]:
    """Build the params of a request: `kind` decides its result, `size` the length of the answer."""
    messages = [{"role": "user", "content": f"{kind} {size}"}]
    # The service accepts a create with an invalid request; only that request's result is an error.
    return {"model": "gpt" if kind == "bad" else "claude", "max_tokens": 9, "messages": messages}


def respond(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
    """Build the result of one request, as the emulator's responder."""
    kind, size = params["messages"][0]["content"].split()
    if kind == "fail":
        error = {"type": "error", "error": {"type": "overloaded_error", "message": custom_id}}
        return {"type": "errored", "error": {**error, "request_id": None}}
    message = {
        "id": f"msg_{custom_id}",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [{"type": "text", "text": f"{custom_id}é\n" + "x" * int(size)}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 5, "service_tier": "batch"},
    }
    return {"type": "succeeded", "message": message}


class _Emulator(Emulator):
    """The emulator with only the headers that clients read: the others take a third of its time."""

    def _headers(self, now: float) -> tuple[tuple[str, str], ...]:
        return _headers_at(int(now + self._date_skew))


@lru_cache(maxsize=100)
def _headers_at(second: int) -> tuple[tuple[str, str], ...]:
    return ("date", formatdate(second, usegmt=True)), ("request-id", "req_1")


class Service:
    """The emulator and the record of its batches; `now` is the time of the world.

    `page_limit` makes pages of the list smaller than a client asked for. The limits and
    workspaces are those of the emulator.
    """

    def __init__(
        self,
        *,
        credential: str,
        parallel: int,
        seconds: float,
        page_limit: int | None,
        date_skew: float,
        ties: Ties,
        responder: Responder = respond,
        queue_limit: int | None = None,
        requests_per_minute: int | None = None,
        workspaces: Mapping[str, str | None] | None = None,
        more_credentials: Collection[str] = (),
    ) -> None:
        self._emulator = _Emulator(
            date_skew=date_skew,
            ties=ties,
            parallel=parallel,
            seconds_per_request=seconds,
            responder=responder,
            queue_limit=queue_limit,
            requests_per_minute=requests_per_minute,
            api_keys=[credential, *more_credentials],
            workspaces=workspaces,
            faults=FaultPlan(),
        )
        self._credential = credential
        self.created: list[CreatedBatch] = []
        self.page_limit = page_limit
        #: Whether every page of the list is the first page again.
        self.repeats_first_page = False

    def add_rules(self, *rules: FaultRule) -> None:
        """Add rules for faults of the service itself."""
        self._emulator.faults.add(*rules)

    def handle(self, request: Request, now: float) -> Response:
        """Answer a request; record the batch that it created, if any."""
        if request.method == "GET" and (self.page_limit or self.repeats_first_page):
            request = self._with_other_page(request)
        batches = self._emulator._endpoints.batches
        count = len(batches)
        response = self._emulator.handle(request, EPOCH + now)
        if len(batches) > count:
            batch = next(reversed(batches.values()))
            custom_ids = tuple(custom_id for custom_id, _ in batch._requests)
            label = custom_ids[0].partition("-")[0]
            self.created.append(CreatedBatch(batch, label, custom_ids))
        return response

    def _with_other_page(self, request: Request) -> Request:
        url = urlsplit(request.url)
        if not url.path.endswith(BATCHES):
            return request
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if self.repeats_first_page:
            query = {name: query[name] for name in query if name == "limit"}
        if self.page_limit:
            query["limit"] = str(min(int(query.get("limit", "20")), self.page_limit))
        return replace(request, url=f"{ORIGIN}{url.path}?{urlencode(query)}")

    def created_for(self, label: str) -> list[CreatedBatch]:
        return [created for created in self.created if created.label == label]

    def find(self, id_: str) -> CreatedBatch | None:
        """Return the record of a batch, also of a deleted one."""
        return next((created for created in self.created if created.id == id_), None)

    def exists(self, id_: str) -> bool:
        """Whether the batch was created and not deleted."""
        return id_ in self._emulator._endpoints.batches

    def has_ended(self, created: CreatedBatch, now: float) -> bool:
        return created.batch.ended(EPOCH + now)

    def list_ids(self, now: float) -> list[str]:
        """Return the ids that the list shows, newest first."""
        owner = self.created[0].batch.owner if self.created else ("", "")
        return [batch.id for batch in self._emulator._endpoints.newest_first(owner, EPOCH + now)]

    def create(self, label: str, count: int, now: float) -> str:
        """Create a batch of `count` requests without a network; return its id."""
        wanted = [
            {"custom_id": f"{label}-{index}", "params": params_of(0, "ok")}
            for index in range(count)
        ]
        body = BytesBody((msgspec.json.encode({"requests": wanted}),))
        self.handle(self._request("POST", "", body), now)
        return self.created[-1].id

    def delete(self, id_: str, now: float) -> None:
        """Delete a batch without a network."""
        self.handle(self._request("DELETE", f"/{id_}", None), now)

    def _request(self, method: str, path: str, body: BytesBody | None) -> Request:
        headers = (("x-api-key", self._credential), ("anthropic-version", "2023-06-01"))
        return Request(method=method, url=ORIGIN + BATCHES + path, headers=headers, body=body)
