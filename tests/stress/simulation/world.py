"""The ground of one run: a virtual clock, the tasks on it, the service, and what is counted.

Knows the service's truth: which batch was made by whom, and what its results are. Knows nothing
of operations.
"""

from __future__ import annotations

import heapq
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import lru_cache
from random import Random
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Response
from batches_core.emulator.batch import EmulatedBatch
from batches_core.emulator.pages import Ties
from batches_core.http import BytesBody

#: A task: it yields the moments at which it wants to go on.
Task: TypeAlias = Generator[float, None, None]

ORIGIN = "https://api.sim.test"
#: Hosts that are no part of the API; some are chosen to look like it.
FOREIGN = (
    "https://files.sim.test",
    "https://api.sim.test:8443",
    "https://api.sim.test.evil.test",
    "http://api.sim.test",
)
BATCHES = "/v1/messages/batches"
#: The service's clock when a run begins.
EPOCH = 1_777_667_345.0
#: The limit of a line of results where there is none.
LONGEST_LINE = 64 * 1024 * 1024
#: No run may take longer than this, in virtual seconds, or in steps of its tasks.
MAX_TIME = 10 * 24 * 3600.0
MAX_STEPS = 50_000


@dataclass(frozen=True, slots=True)
class Made:
    """A batch that the service made: for which job of which client, and of which requests."""

    job: EmulatedBatch
    label: str
    ids: tuple[str, ...]


def params_of(size: int, kind: str) -> dict[str, Any]:
    """Params of a request: `kind` says what becomes of it, `size` how long its answer is."""
    messages = [{"role": "user", "content": f"{kind} {size}"}]
    # The service tells an invalid request only as its result.
    return {"model": "gpt" if kind == "bad" else "claude", "max_tokens": 9, "messages": messages}


def respond(custom_id: str, params: dict[str, Any]) -> dict[str, Any]:
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
    """The emulator without headers that nobody asks for, which take a third of its time."""

    def _headers(self, now: float) -> tuple[tuple[str, str], ...]:
        return _headers_at(int(now + self._date_skew))


@lru_cache(maxsize=100)
def _headers_at(second: int) -> tuple[tuple[str, str], ...]:
    return ("date", formatdate(second, usegmt=True)), ("request-id", "req_1")


class Service:
    """The emulator, and a book of what it made; `page_limit` makes its pages smaller than asked."""

    def __init__(
        self,
        *,
        secret: str,
        parallel: int,
        seconds: float,
        page_limit: int | None,
        date_skew: float,
        ties: Ties,
    ) -> None:
        self.emulator = _Emulator(
            date_skew=date_skew,
            ties=ties,
            parallel=parallel,
            seconds_per_request=seconds,
            responder=respond,
            api_keys=[secret],
            faults=FaultPlan(),
        )
        self.made: list[Made] = []
        self.page_limit = page_limit
        #: Whether each page of a list is the first again.
        self.circles = False

    def handle(self, request: Request, now: float) -> Response:
        if request.method == "GET" and (self.page_limit or self.circles):
            request = self._with_other_page(request)
        batches = self.emulator._endpoints.batches
        before = len(batches)
        response = self.emulator.handle(request, EPOCH + now)
        if len(batches) > before:
            job = next(reversed(batches.values()))
            ids = tuple(custom_id for custom_id, _ in job._requests)
            self.made.append(Made(job, ids[0].partition("-")[0], ids))
        return response

    def _with_other_page(self, request: Request) -> Request:
        url = urlsplit(request.url)
        if not url.path.endswith(BATCHES):
            return request
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if self.circles:
            query = {name: query[name] for name in query if name == "limit"}
        if self.page_limit:
            query["limit"] = str(min(int(query.get("limit", "20")), self.page_limit))
        return replace(request, url=f"{ORIGIN}{url.path}?{urlencode(query)}")

    def made_for(self, label: str) -> list[Made]:
        return [made for made in self.made if made.label == label]

    def find(self, id_: str) -> Made | None:
        return next((made for made in self.made if made.job.id == id_), None)

    def ended(self, job: EmulatedBatch, now: float) -> bool:
        return job.ended(EPOCH + now)

    def lists(self, now: float) -> list[str]:
        """Give the ids that the list shows, newest first."""
        owner = self.made[0].job.owner if self.made else ("", "")
        return [job.id for job in self.emulator._endpoints.newest_first(owner, EPOCH + now)]

    def make(self, label: str, count: int, secret: str, now: float) -> str:
        """Make a batch for somebody whose network does not matter here."""
        wanted = [
            {"custom_id": f"{label}-{index}", "params": params_of(0, "ok")}
            for index in range(count)
        ]
        body = BytesBody((msgspec.json.encode({"requests": wanted}),))
        self.handle(self._request("POST", "", secret, body), now)
        return self.made[-1].job.id

    def delete(self, id_: str, secret: str, now: float) -> None:
        self.handle(self._request("DELETE", f"/{id_}", secret, None), now)

    def _request(self, method: str, path: str, secret: str, body: BytesBody | None) -> Request:
        headers = (("x-api-key", secret), ("anthropic-version", "2023-06-01"))
        return Request(method=method, url=ORIGIN + BATCHES + path, headers=headers, body=body)


class World:
    """One run's clock, chance, service and tallies; what its settings are is `runs`'s choice."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = 0.0
        self.secret = f"sk-sim-{seed:08d}-secret"
        self.faults: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if traced else None
        self.exchanges = 0
        #: Effects that the network still holds, by the job whose they are.
        self.held: Counter[str] = Counter()
        #: Whether this run does what the documentation excludes.
        self.is_beyond = False
        self.settle_time = 60.0
        self.lag = 0.0
        #: Whether the service's clocks differ by more than they should.
        self.is_skewed = False
        self.service: Service
        self._heap: list[tuple[float, int, Iterator[float]]] = []
        self._tasks = 0

    def rules(self, *rules: FaultRule) -> None:
        self.service.emulator.faults.add(*rules)

    def note(self, text: str) -> None:
        if self.trace is not None:
            self.trace.append(f"{self.now:14.6f}  {text}")

    def fault(self, kind: str) -> None:
        self.faults[kind] += 1
        if self.trace is not None:
            self.note(f"    fault: {kind}")

    def violate(self, text: str) -> None:
        self.violations.append(text)
        self.note(f"VIOLATION: {text}")

    def doubt(self, text: str) -> None:
        """Tell what is a violation, but for a run that does what the documentation excludes."""
        if self.is_beyond:
            self.outcomes[f"outside the promise: {text.partition(':')[0]}"] += 1
        else:
            self.violate(text)

    def spawn(self, task: Task, after: float = 0.0) -> None:
        self._tasks += 1
        heapq.heappush(self._heap, (self.now + after, self._tasks, task))

    def later(self, after: float, do: Callable[[], None]) -> None:
        def task() -> Task:
            do()
            yield from ()

        self.spawn(task(), after)

    def run(self) -> None:
        """Run all tasks to their ends, each step in its time."""
        for _ in range(MAX_STEPS):
            if not self._heap:
                return
            moment, number, task = heapq.heappop(self._heap)
            self.now = max(self.now, moment)
            try:
                wanted = next(task, None)
            except Exception as error:  # noqa: BLE001 - so that the seed is told
                self.violate(f"the simulation itself failed: {error!r}")
                self.note(traceback.format_exc())
                return
            if wanted is not None:
                heapq.heappush(self._heap, (wanted, number, task))
            if self.now > MAX_TIME:
                self.violate("endless: the run did not end in its time")
                return
        self.violate("endless: the run did not end in its steps")
