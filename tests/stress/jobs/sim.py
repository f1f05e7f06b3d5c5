"""One simulated job: its store, its processes one after the other, and the person who owns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from batches_core import BatchesAPI, CreateLedger, MessageBatch, RetryPolicy, SettlingPolicy
from batches_core.jobs import (
    ChunkState,
    Ending,
    Job,
    JobOpened,
    JobOptions,
    News,
    Persist,
    Record,
)
from tests.stress.simulation.network import Network
from tests.stress.simulation.service import EPOCH, ORIGIN

from .process import Process
from .rows import Rows
from .store import Store
from .wire import Wire
from .world import JobWorld

#: How often a person runs a job again before that counts as endless.
_MOST_RUNS = 80
#: The results of a batch are kept for 29 days.
_MONTH = 30 * 86400.0


@dataclass(slots=True)
class Trouble:
    """What happens to the processes of a job: how often they die, where, and for how long."""

    crashes: int = 0
    step_rate: float = 0.0
    write_rate: float = 0.0
    downtimes: tuple[float, ...] = (0.0, 1.0, 60.0, 4000.0)
    buys_again: bool = False


@dataclass(slots=True)
class SimJob:
    """One job in the world."""

    world: JobWorld
    name: str
    rows: Rows
    options: JobOptions
    network: Network
    policy: RetryPolicy
    settling: SettlingPolicy
    trouble: Trouble
    accept: Callable[[Any], bool] | None = None
    #: Whether a process can tell that its key is the one that opened the job.
    knows_key: bool = True
    #: The keys that a person uses; the first one opened the job.
    keys: tuple[str, ...] = ()
    store: Store = field(init=False)
    wire: Wire = field(init=False)
    process: Process | None = None
    ending: Ending | None = None
    #: The API object of a run that has ended in a process that lives on.
    kept_api: BatchesAPI | None = None
    key: str = ""
    runs: int = 0
    processes: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    #: The chunks that a person decided on.
    decided: int = 0

    def __post_init__(self) -> None:
        opened = JobOpened(job_id=f"{self.name}-{self.world.seed}", options=self.options)
        self.store = Store(opened)
        self.wire = Wire(self.world, self.name, self.store)

    def api(self) -> BatchesAPI:
        """Return the API object of the next run: that of the process, or that of a new process."""
        rng, state = self.world.rng, self.store.state
        first, *others = self.keys
        if others and others[0].endswith("-elsewhere") and not (self.knows_key and state.batches):
            # Before there is a batch, nothing can show that a key is another workspace's.
            others = []
        key = self.key if self.key in others else first
        if state.paused is not None and state.paused.reason == "credential" and others:
            key = others[0] if key == first else first
        elif rng.random() < 0.4:
            key = rng.choice((first, *others))
        if key != first:
            self.world.count_hazard("run with another key")
        if key == self.key and self.kept_api is not None and rng.random() < 0.5:
            self.world.count_hazard("run again in the same process")
            return self.kept_api
        self.key = key
        ledger = CreateLedger(rng.getrandbits(32))
        return BatchesAPI(
            api_key=key,
            base_url=ORIGIN,
            retry=self.policy,
            settling=self.settling,
            jitter=self.world.rng.random,
            ledger=ledger,
        )

    @property
    def same_key(self) -> bool | None:
        """Whether the key in use opened the job, as far as a process knows."""
        return self.key == self.keys[0] if self.knows_key else None

    # --- processes ---------------------------------------------------------------------------

    def start(self) -> None:
        """Run the job, in a new process."""
        self.processes += 1
        self.world.note(f"{self.name}: process {self.processes} begins")
        self.process = Process(self)
        self.process.pump()

    def dies_now(self, *, is_write: bool) -> bool:
        """Whether the process dies here."""
        trouble = self.trouble
        if not trouble.crashes:
            return False
        rate = trouble.write_rate if is_write else trouble.step_rate
        if self.world.rng.random() >= rate:
            return False
        trouble.crashes -= 1
        return True

    def crashed(self) -> None:
        """The process is dead; another one begins later."""
        world, rng = self.world, self.world.rng
        self.process = self.kept_api = None
        for name, data in self.store.files.items():
            if name.endswith(".part") and data and rng.random() < 0.3:
                # Not everything had reached the disk.
                self.store.files[name] = data[: rng.randrange(len(data))]
        downtime = rng.choice(self.trouble.downtimes)
        world.note(f"{self.name}: killed; runs again in {downtime:g} s")
        world.call_later(downtime, self.start)

    def kill(self) -> None:
        """Kill the process wherever it is."""
        if self.process is not None:
            self.world.count_hazard("killed at a random time")
            self.process.kill()

    def stop(self) -> None:
        """Press Ctrl-C."""
        if self.process is not None:
            self.world.count_hazard("stopped by Ctrl-C")
            self.process.stop()

    def stopped(self, process: Process) -> None:
        """A run has ended that was stopped; it goes on later, perhaps in the same process."""
        self.process, self.kept_api = None, process.api
        self.world.note(f"{self.name}: stopped")
        self.world.call_later(self.world.rng.choice((0.0, 1.0, 60.0)), self.start)

    def persist(self, records: tuple[Record, ...]) -> None:
        """Make records durable."""
        if self.world.trace is not None:
            for record in records:
                self.world.note(f"{self.name}: record {record!r:.300}")
        self.store.append(records)
        self.wire.recorded(records)

    def news(self, news: News) -> None:
        """Count what the job tells its user."""
        self.world.outcomes[f"news: {type(news).__name__}"] += 1

    # --- the person --------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask for the job to be canceled."""
        self.store.cancel_asked = True
        if self.process is not None:
            self.process.job.handle_timeout(self.process.clock)
            self.process.pump()

    def run_ended(self, process: Process, ending: Ending) -> None:
        """Decide what a person does after a run: nothing more, or to run the job again."""
        self.process, self.kept_api = None, process.api
        world, state = self.world, self.store.state
        world.note(f"{self.name}: run ended, {ending.value} {state.paused or ''}")
        world.outcomes[f"ending: {ending.value}"] += 1
        self.endings[ending.value] += 1
        self.runs += 1
        if process.job.unpersisted is not None:
            world.report_violation(f"{self.name} ended with records that are not durable")
        lost = [*state.by_state[ChunkState.LOST]]
        if ending in {Ending.FINISHED, Ending.CANCELED}:
            if lost and self.trouble.buys_again and not state.is_canceled:
                self.trouble.buys_again = False
                for chunk in lost:
                    self._act(partial(Job.buy_again, chunk=chunk, now=0.0))
                self.start()
                return
            self.ending = ending
            return
        if self.runs > _MOST_RUNS:
            world.report_violation(f"endless: {self.name} needs more than {_MOST_RUNS} runs")
            return
        world.call_later(world.rng.choice((60.0, 4000.0)), self._after_run)

    def _after_run(self) -> None:
        paused = self.store.state.paused
        if paused is not None and paused.reason == "input":
            # As the error of `ResultsFile` says: move the part away.
            self.world.outcomes["a person moves a part away"] += 1
            for name in [name for name in self.store.files if name.endswith(".part")]:
                del self.store.files[name]
        self._decide_doubts()
        self.start()

    def _decide_doubts(self) -> None:
        """Settle the doubts as somebody does who knows the truth and has waited for it."""
        service = self.world.job_service
        for number in [*self.store.state.by_state[ChunkState.DOUBT]]:
            label = self.wire.label(number)
            if self.world.held_creates[label]:
                continue
            batches = service.batches_of[label]
            own = batches[-1] if len(batches) > self.wire.lost[number] else None
            if own is None:
                self.wire.settled(number, by="a person")
                batch = None
            elif own.id in self.store.state.batches:
                continue
            else:
                batch = self._describe(own.id)
            self.decided += 1
            self.world.outcomes["a person decides"] += 1
            self._act(partial(Job.decide, chunk=number, batch=batch, now=0.0))

    def _describe(self, batch_id: str) -> MessageBatch:
        found = self.world.job_service.find(batch_id)
        assert found is not None
        described = found.batch.describe(EPOCH + self.world.now, ORIGIN)
        return msgspec.convert(described, MessageBatch)

    def _act(self, act: Callable[[Job], object]) -> None:
        """Change the records of a job that does not run, as `batches_jobs.decide` does."""
        job = Job(self.store.load(), 0.0)
        act(job)
        while isinstance(persist := job.unpersisted, Persist):
            self.persist(persist.records)
            job.persisted(persist.number, 0.0)
