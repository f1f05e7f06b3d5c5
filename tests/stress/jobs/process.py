"""One process that runs a job: it carries out the directives of a real `Job` on virtual time.

It can die at any step, and before and after every write. Then nothing is left but the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING

from batches_core import BatchCreated, BatchesAPI, BatchesError, Event, LocalProtocolError
from batches_core.jobs import (
    Collect,
    Create,
    Done,
    Job,
    Persist,
    Report,
    Run,
    Settle,
    Spec,
    Wait,
)
from batches_core.jobs.state import ChunkState
from tests.stress.simulation.record import OperationRecord

from .exchanges import DeadError, Exchanges
from .operations import execute

if TYPE_CHECKING:
    from .sim import SimJob


#: Seconds that a run that is stopped waits for a create under way; see `batches_jobs`.
_CREATE_GRACE = 90.0
#: How often a download can fail in one run: the network disturbs fewer.
_MOST_FAILURES = 60


class Process:
    """One process. Its clock begins anywhere."""

    def __init__(self, sim: SimJob) -> None:
        self.sim = sim
        self._world = sim.world
        rng = sim.world.rng
        self._skew = rng.choice((0.0, 5.0, 1e6))
        self.is_over = False
        #: Whether the run is being stopped: only a create under way goes on.
        self.is_stopping = False
        self._creates = 0
        self.was_killed = False
        #: How often each chunk's results could not be collected.
        self._failures: Counter[int] = Counter()
        self.api: BatchesAPI = sim.api()
        self.exchanges = Exchanges(self)
        self._running = 0
        #: How many waits have begun: a timer of an earlier one does nothing.
        self._waits = 0
        self.job = Job(
            sim.store.load(),
            self.clock,
            scope=self.api.scope,
            same_key=sim.same_key,
            base_url=self.api.base_url,
        )

    @property
    def clock(self) -> float:
        return self._world.now + self._skew

    def time_of(self, clock: float) -> float:
        """Return the world's time at a time of this process's clock."""
        return clock - self._skew

    # --- death -------------------------------------------------------------------------------

    def check(self, *, must_end: bool = False) -> None:
        """Stop what runs in a process that is over, or being stopped unless it must end."""
        if self.is_over or (self.is_stopping and not must_end):
            raise DeadError

    def step(self, *, must_end: bool = False) -> None:
        """Go one step further; the process may die here."""
        self.check(must_end=must_end)
        if self.sim.dies_now(is_write=False):
            self.die("between two steps")

    def die(self, where: str) -> None:
        self._world.count_hazard(f"killed {where}")
        self.kill()
        raise DeadError

    def kill(self) -> None:
        """End this process at once."""
        if not self.is_over:
            self.is_over = self.was_killed = True
            self.sim.crashed()

    def stop(self) -> None:
        """Stop the run as Ctrl-C does: a create under way is given time to end."""
        if not self.is_over and not self.is_stopping:
            self.is_stopping = True
            if self._creates:
                self._world.call_later(_CREATE_GRACE, self._end)
            else:
                self._end()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self.sim.stopped(self)

    # --- the runner --------------------------------------------------------------------------

    def pump(self) -> None:
        """Carry out directives until there is nothing to do but wait."""
        try:
            while not self.is_over and not self.is_stopping and self._pump():
                pass
        except DeadError:
            pass

    def _pump(self) -> bool:
        self.step()
        job = self.job
        if self.sim.store.cancel_asked and not job.state.is_canceled:
            job.cancel(self.clock)
        match job.next():
            case Persist() as persist:
                self.persist(persist)
            case Run(operation_id=operation_id, spec=spec):
                self._running += 1
                self._world.spawn(self._operate(operation_id, spec))
            case Report(news=news):
                self.sim.news(news)
            case Wait(deadline=deadline):
                self._wait(deadline)
                return False
            case Done(ending=ending):
                self.is_over = True
                self.sim.run_ended(self, ending)
                return False
        return True

    def _wait(self, deadline: float | None) -> None:
        self._waits += 1
        if deadline is None:
            if not self._running:
                self._world.report_violation(f"{self.sim.name} waits for nothing")
            return
        if deadline <= self.clock:
            deadline = max(deadline, self.clock)
        after = max(0.0, self.time_of(deadline) - self._world.now)
        if self._world.rng.random() < 0.02:
            after += self._world.rng.choice((2.0, 40.0, 4000.0))
        self._world.call_later(after, partial(self._wake, self._waits, deadline))

    def _wake(self, wait: int, deadline: float) -> None:
        if not self.is_over and not self.is_stopping and wait == self._waits:
            self.job.handle_timeout(max(deadline, self.clock))
            self.pump()

    def persist(self, persist: Persist) -> None:
        """Make records durable; the process can die before and after that."""
        sim = self.sim
        if sim.dies_now(is_write=True):
            self.die("before a write")
        sim.persist(persist.records)
        if sim.dies_now(is_write=True):
            self.die("after a write")
        self.job.persisted(persist.number, self.clock)

    def observe(self, operation_id: int, event: Event) -> None:
        """Report an operation's event; what the job records of it is durable when this returns."""
        # The id of a batch is recorded even while the run is being stopped.
        self.step(must_end=isinstance(event, BatchCreated))
        self.job.event(operation_id, event, self.clock)
        while (persist := self.job.unpersisted) is not None:
            self.persist(persist)
        # The main loop learns of it at its next turn.
        self._world.call_later(0.0, self.pump)

    def write(self, name: str, data: bytes) -> None:
        """Add to a file; the process can die in the middle of it."""
        files, rng = self.sim.store.files, self._world.rng
        if self.sim.dies_now(is_write=True):
            files[name] += data[: rng.randint(0, len(data))]
            self.die("in a write to a file")
        files[name] += data

    def _operate(self, operation_id: int, spec: Spec) -> Generator[float, None, None]:
        is_create = isinstance(spec, Create)
        self._creates += is_create
        try:
            self.step(must_end=is_create)
            value = yield from execute(self, operation_id, spec)
            self.step(must_end=is_create)
            self.job.succeeded(operation_id, value, self.clock)
        except DeadError:
            return
        except LocalProtocolError as error:
            self._world.report_violation(f"{self.sim.name} was told what cannot be: {error}")
            return
        except BatchesError as error:
            if self.is_over or (self.is_stopping and not is_create):
                return
            self._world.note(f"  {type(spec).__name__} failed: {error!r:.200}")
            self._count_failure(spec)
            self.job.failed(operation_id, error, self.clock)
        finally:
            self._creates -= is_create
            if is_create and self.is_stopping:
                self._world.call_later(0.0, self._end)
        self._running -= 1
        if self._world.rng.random() < 0.3:
            # Something else comes first.
            yield self._world.now + self._world.rng.choice((0.0, 0.01, 1.0))
        self.pump()

    def _count_failure(self, spec: Spec) -> None:
        """Check that a download that nothing can help is not repeated for ever."""
        if isinstance(spec, Collect):
            self._failures[spec.plan.chunk] += 1
            if self._failures[spec.plan.chunk] == _MOST_FAILURES:
                chunk = spec.plan.chunk
                text = f"{self.sim.name} tries for ever to collect chunk {chunk} in one run"
                self._world.report_violation(text)

    # --- for the operations ------------------------------------------------------------------

    def record(self, name: str, chunk: int) -> OperationRecord:
        """Return what the network writes down about one operation."""
        record = OperationRecord(self._world, name, self.sim.wire.label(chunk), self.sim.policy)
        # The settle time of a new process can begin right after the create has left.
        record.interrupts_after = 0
        return record

    def is_open(self, spec: Settle) -> bool:
        """Whether the outcome that this looks for is still unknown to the job."""
        chunk = self.job.state.chunks[spec.chunk]
        return chunk.state in {ChunkState.INTENT, ChunkState.DOUBT} and chunk.marker == spec.marker
