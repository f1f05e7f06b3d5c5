"""One simulated run: its virtual clock, the tasks on it, its random numbers, and its counts.

`plan` chooses the settings of a run, and `service` answers requests.
"""

from __future__ import annotations

import heapq
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from random import Random
from typing import TypeAlias

from .service import Service

#: A task: a generator that yields the times at which it wants to continue.
Task: TypeAlias = Generator[float, None, None]

#: By default, a run that takes longer than this, in virtual seconds or in steps of its tasks, is
#: endless.
MAX_TIME = 10 * 24 * 3600.0
MAX_STEPS = 50_000


class World:
    """The state that all tasks of one run share. All times are virtual seconds since its start."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = 0.0
        self.credential = f"sk-sim-{seed:08d}-secret"
        #: How often each kind of trouble was met, such as a reset, a slow list, or a dead client.
        self.hazards: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.violations: list[str] = []
        self.trace: list[str] | None = [] if traced else None
        self.exchanges = 0
        #: How many creates the network still holds back, by the label of their batch.
        self.held_creates: Counter[str] = Counter()
        #: Whether this run does what the documentation excludes: see `report_if_promised`.
        self.is_outside_promise = False
        self.settle_time = 60.0
        #: For how long the list does not show a new batch.
        self.list_lag = 0.0
        #: Whether the service's clocks disagree by more than clients have to tolerate.
        self.exceeds_clock_slack = False
        self.max_time, self.max_steps = MAX_TIME, MAX_STEPS
        self.service: Service
        self._heap: list[tuple[float, int, Iterator[float]]] = []
        self._tasks = 0

    def note(self, text: str) -> None:
        """Add a line to the trace of a traced run."""
        if self.trace is not None:
            self.trace.append(f"{self.now:14.6f}  {text}")

    def count_hazard(self, kind: str) -> None:
        self.hazards[kind] += 1
        if self.trace is not None:
            self.note(f"    hazard: {kind}")

    def report_violation(self, text: str) -> None:
        """Report a broken promise."""
        self.violations.append(text)
        self.note(f"VIOLATION: {text}")

    def report_if_promised(self, text: str) -> None:
        """Report a violation; in a run outside the promise, only count it as an outcome."""
        if self.is_outside_promise:
            self.outcomes[f"outside the promise: {text.partition(':')[0]}"] += 1
        else:
            self.report_violation(text)

    def spawn(self, task: Task, after: float = 0.0) -> None:
        """Start a task `after` seconds from now."""
        self._tasks += 1
        heapq.heappush(self._heap, (self.now + after, self._tasks, task))

    def call_later(self, after: float, function: Callable[[], None]) -> None:
        """Call a function `after` seconds from now."""

        def task() -> Task:
            function()
            yield from ()

        self.spawn(task(), after)

    def run(self) -> None:
        """Run all tasks to their ends, each step at its time."""
        for _ in range(self.max_steps):
            if not self._heap:
                return
            time, number, task = heapq.heappop(self._heap)
            self.now = max(self.now, time)
            try:
                wanted = next(task, None)
            except Exception as error:  # noqa: BLE001 - reported as a violation, with its seed
                self.report_violation(f"the simulation itself failed: {error!r}")
                self.note(traceback.format_exc())
                return
            if wanted is not None:
                heapq.heappush(self._heap, (wanted, number, task))
            if self.now > self.max_time:
                self.report_violation(f"endless: the run did not end within {self.max_time:g} s")
                return
        self.report_violation(f"endless: the run did not end within {self.max_steps:,} steps")
