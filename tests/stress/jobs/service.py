"""The simulated service of jobs: that of `simulation`, and which chunk each of its batches is of.

The chunk is known from the request that made the batch, not from its rows: two chunks can have the
same rows, in two rounds.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from batches_core import Request
from batches_core.emulator import Response
from batches_core.http import BytesBody
from tests.stress.simulation.service import CreatedBatch, Service, params_of, respond

from .rows import Rows


class JobService(Service):
    """A service that knows the rows of several jobs by the first part of their ids."""

    def __init__(self, **options: Any) -> None:
        super().__init__(responder=self._respond, **options)
        self.rows: dict[str, Rows] = {}
        #: The batches of each chunk, by the chunk's label.
        self.batches_of: defaultdict[str, list[CreatedBatch]] = defaultdict(list)
        #: The requests of creates that left, which must stay alive to keep their identity.
        self._senders: dict[int, tuple[Request, str]] = {}

    def expect(self, request: Request, label: str) -> None:
        """Say which chunk a create that leaves now is of."""
        self._senders[id(request)] = request, label

    def handle(self, request: Request, now: float) -> Response:
        """Answer a request, and record whose batch it made."""
        count = len(self.created)
        response = super().handle(request, now)
        if len(self.created) > count:
            _, label = self._senders.get(id(request), (None, "stranger"))
            self.batches_of[label].append(self.created[-1])
        return response

    def create(self, label: str, count: int, now: float) -> str:
        """Create a batch without a network; return its id, or "" if the queue is full."""
        wanted = [
            {"custom_id": f"{label}-{index}", "params": params_of(0, "ok")}
            for index in range(count)
        ]
        made = len(self.created)
        body = BytesBody((msgspec.json.encode({"requests": wanted}),))
        self.handle(self._request("POST", "", body), now)
        return self.created[-1].id if len(self.created) > made else ""

    def _respond(self, custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
        rows = self.rows.get(custom_id.partition("-")[0])
        return respond(custom_id, params) if rows is None else rows.answer(custom_id)
