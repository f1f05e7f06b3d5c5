"""Drives a job against a service without a network, in any order and with any trouble.

`World` is the driver, the journal and the person. It crashes at every point where a process can
die, and checks at each step what must never happen. `job_service` knows the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from batches_core import (
    BatchCreated,
    BatchesError,
    CreateMarked,
    CreateMarker,
    Event,
    InvalidInputError,
    OutcomeUnknownError,
    ResultsUnavailableError,
)
from batches_core.jobs import (
    BoughtAgain,
    Cancel,
    ChunkPlanned,
    ChunkState,
    Collect,
    Collected,
    CollectResult,
    Create,
    CreateIntended,
    Directive,
    Done,
    Ending,
    Failure,
    Get,
    Job,
    JobOpened,
    JobOptions,
    JobState,
    Lost,
    News,
    Persist,
    Plan,
    PlannedInput,
    PlanRetry,
    Poll,
    PollResult,
    Progress,
    Record,
    Report,
    Run,
    Settle,
    Spec,
    StraySeen,
    Value,
    Wait,
    decode_record,
    encode_record,
    progress_of,
)
from batches_core.jobs.status import RESULTS_KEPT
from tests.support.job_playbook import not_found, outage, status_error
from tests.support.job_service import CREDIT, FRESH, LATEST, Batch, Service, rows_of

#: An operation as a script: it says how it can go on, the best way first, and is told how it does.
Script: TypeAlias = Generator[Sequence[str], str, None]

#: The most directives between two waits; more are a loop.
MOST_DIRECTIVES = 1000
#: The most steps without trouble until a job has ended.
MOST_STEPS = 1000
#: How long a job may take once nothing goes wrong any more, in seconds, and in how many runs.
LONGEST_CALM = 2 * 86_400.0
MOST_RUNS = 20

_ERRORS: dict[str, Callable[[], BatchesError]] = {
    "outage": outage,
    "400": lambda: status_error(400, "invalid_request_error"),
    "401": lambda: status_error(401, "authentication_error"),
    "404": not_found,
    "429": lambda: status_error(429, "rate_limit_error", retry_after=7.0),
    "500": lambda: status_error(500, "api_error"),
    "credit": lambda: status_error(400, "invalid_request_error", CREDIT),
    "input": lambda: InvalidInputError("the input has changed"),
}


@dataclass
class Operation:
    """A running operation: its script, how it can go on, and what it waits for."""

    id: int
    spec: Spec
    script: Script
    options: Sequence[str] = ()
    #: The `Persist` that must be durable before it may go on.
    hold: int = 0
    is_sending: bool = False


class World:
    """One job with its journal, its service and its person, and whatever can happen to them."""

    def __init__(self, rows: int, *, same_key: bool | None = None, **options: int) -> None:
        self.rows = rows
        self.same_key = same_key
        self.service = Service()
        opened = JobOpened(job_id="walk", options=JobOptions(**options))  # type: ignore[arg-type] # whole numbers
        self.journal: list[Record] = [opened]
        #: Whether the process dies "before" or "after" the next write, or something happens
        #: "meanwhile".
        self.death = ""
        #: How many writes, and how many steps without trouble, were made.
        self.writes = self.steps = 0
        #: At which write, and before which step, the process dies, and how.
        self.dies_at_write: tuple[int, str] = (0, "")
        self.dies_at_step: tuple[int, str] = (0, "")
        self.runs = 0
        #: All operations that were started, in all runs.
        self.ran: list[Spec] = []
        self.job = Job(self.journal, 0.0)
        self.start()

    # --- the process ---------------------------------------------------------------------

    def start(self) -> None:
        """A new process reads the journal. Its clock has a beginning of its own."""
        before = self.job
        self.runs += 1
        self.clock = -1e6 * self.runs
        self.job = Job(self.journal, self.now, same_key=self.same_key)
        if before.unpersisted is None and before.state.paused is None:
            assert vars(self.job.state) == vars(before.state), "the journal says it all"
        self.operations: dict[int, Operation] = {}
        self.durable = 0
        self.ending: Ending | None = None
        self.failed: dict[Spec, float] = {}
        self.strays: set[str] = set()
        self.progress = progress_of(self.job.state)

    @property
    def now(self) -> float:
        return self.service.now + self.clock

    def crash(self, fate: str = "made") -> None:
        """The process dies. A create that it was sending is made, is late, or never leaves."""
        for operation in self.operations.values():
            if operation.is_sending and isinstance(operation.spec, Create):
                self.send(operation.spec.plan, fate)
        self.start()

    def drive(self, most: int = MOST_DIRECTIVES) -> Directive:
        """Carry out directives until there is nothing to do but wait, or the run is over."""
        if self.ending is not None:
            self.start()
        for _ in range(MOST_DIRECTIVES):
            directive = self.job.next()
            match directive:
                case Persist():
                    self.persist(directive)
                case Run():
                    self.run(directive)
                case Report(news=news):
                    self.hear(news)
                case Wait():
                    self.check_progress()
                    return directive
                case Done():
                    assert not self.operations, "a run ends when its operations have ended"
                    self.ending = directive.ending
                    return directive
            most -= 1
            if not most:
                return directive
        raise AssertionError("the job does not come to rest")

    def hear(self, news: News) -> None:
        if isinstance(news, StraySeen):
            assert news.batch_id not in self.strays, "a stray is reported once"
            self.strays.add(news.batch_id)
        elif isinstance(news, Progress):
            assert news != self.progress, "only a change is news"
            self.progress = news

    def check_progress(self) -> None:
        """The reported progress is that of the records, counted the slow way."""
        state, progress = self.job.state, self.progress
        assert progress == progress_of(state), "each change is reported"
        chunks = {
            each: [chunk for chunk in state.chunks if chunk.state is each] for each in ChunkState
        }
        running = [*chunks[ChunkState.SUBMITTED], *chunks[ChunkState.CANCELING]]
        queued = [*running, *chunks[ChunkState.INTENT], *chunks[ChunkState.DOUBT]]
        expiries = [chunk.expires_at for chunk in running if chunk.expires_at is not None]
        assert progress.in_flight == sum(chunk.count for chunk in queued)
        assert progress.ended == sum(chunk.count for chunk in chunks[ChunkState.ENDED])
        assert progress.lost == sum(chunk.count for chunk in chunks[ChunkState.LOST])
        assert progress.expires_at == min(expiries, default=None)
        kept = [*running, *chunks[ChunkState.ENDED]]
        created = [chunk.created_at for chunk in kept if chunk.created_at is not None]
        assert progress.collect_by == (min(created) + RESULTS_KEPT if created else None)
        assert sum(state.failures.values()) == progress.failed

    def persist(self, persist: Persist) -> None:
        assert self.job.next() == persist, "nothing comes before the records are durable"
        self.writes += 1
        death, self.death = self.death, ""
        if self.writes == self.dies_at_write[0]:
            death = self.dies_at_write[1]
        if death == "before":
            self.crash()
            return
        self.journal += [decode_record(encode_record(record)) for record in persist.records]
        if death == "after":
            self.crash()
            return
        if death == "meanwhile" and self.ready():
            # Something happens while the records are written.
            self.advance(self.ready()[0], 0)
        self.job.persisted(persist.number, self.now)
        self.durable = persist.number

    # --- the operations ------------------------------------------------------------------

    def run(self, run: Run) -> None:
        spec = run.spec
        assert self.failed.get(spec) != self.now, "a failure is not repeated at once"
        running = [each.spec for each in self.operations.values()]
        assert spec not in running, "an operation runs once at a time"
        if isinstance(spec, Create):
            assert not any(isinstance(each, Create) for each in running), "one create at a time"
            by_state = self.job.state.by_state
            unclear = by_state[ChunkState.INTENT] | by_state[ChunkState.DOUBT]
            sizes = {chunk.count for chunk in unclear.values()}
            assert spec.plan.count not in sizes, "two creates cannot be told apart"
        if isinstance(spec, Collect):
            downloads = sum(isinstance(each, Collect) for each in running)
            assert downloads < self.job.state.options.parallel
        again = msgspec.json.decode(msgspec.json.encode(spec), type=Spec)
        operation = Operation(run.operation_id, spec, self.script(run.operation_id, again))
        self.operations[operation.id] = operation
        self.ran.append(spec)
        operation.options = next(operation.script)

    def ready(self) -> list[Operation]:
        """The operations that may go on."""
        return [each for each in self.operations.values() if each.hold <= self.durable]

    def advance(self, operation: Operation, option: int) -> None:
        """Let an operation go on in one of its ways, the best of which is 0."""
        way = operation.options[option % len(operation.options)]
        try:
            operation.options = operation.script.send(way)
        except StopIteration:
            assert operation.id not in self.operations

    def script(self, number: int, spec: Any) -> Script:
        scripts: dict[type[Spec], Callable[[int, Any], Script]] = {
            Plan: self.plan,
            PlanRetry: self.plan_retry,
            Create: self.create,
            Settle: self.settle,
            Poll: self.poll,
            Get: self.get,
            Cancel: self.cancel_batch,
            Collect: self.collect,
        }
        return scripts[type(spec)](number, spec)

    def event(self, number: int, event: Event) -> None:
        hold = self.job.event(number, event, self.now)
        self.operations[number].hold = 0 if hold is None else hold.number

    def succeed(self, number: int, value: Value) -> None:
        del self.operations[number]
        self.job.succeeded(number, value, self.now)

    def fail(self, number: int, error: BatchesError | str) -> None:
        spec = self.operations.pop(number).spec
        self.failed[spec] = self.now
        self.job.failed(number, _ERRORS[error]() if isinstance(error, str) else error, self.now)

    def plan(self, number: int, spec: Plan) -> Script:
        way = yield ["plans", "plans few", "outage", "input"]
        if way in _ERRORS:
            self.fail(number, way)
            return
        assert spec.start == spec.first_row * 100
        count = min(spec.rows if way == "plans" else spec.rows // 2 + 1, self.rows - spec.first_row)
        end = spec.first_row + count
        made = ChunkPlanned(
            chunk=spec.chunk,
            count=count,
            first_row=spec.first_row,
            start=spec.start,
            end=end * 100,
        )
        self.succeed(number, PlannedInput(plan=made if count else None, ended=end == self.rows))

    def plan_retry(self, number: int, spec: PlanRetry) -> Script:
        way = yield ["plans", "plans few", "outage"]
        if way in _ERRORS:
            self.fail(number, way)
            return
        rows = spec.rows if way == "plans" else spec.rows[: len(spec.rows) // 2 + 1]
        self.succeed(
            number,
            ChunkPlanned(chunk=spec.chunk, count=len(rows), rows=rows, round=spec.round),
        )

    def create(self, number: int, spec: Create) -> Script:
        way = yield ["marks", "outage", "401", "429", "waiting"]
        if way == "waiting":
            del self.operations[number]
            waiting = Failure(meaning="waiting", message="the budget does not allow it yet")
            self.job.failed(number, waiting, self.now)
            return
        if way in _ERRORS:
            self.fail(number, way)
            return
        marker = CreateMarker(
            requests=spec.plan.count,
            serial=number + 1000 * self.runs,
            listed_ids=tuple(batch.id for batch in self.service.batches),
            known_ids=spec.known_ids,
        )
        self.event(number, CreateMarked(marker=marker))
        operation = self.operations[number]
        yield ["sends"]
        self.check_create(spec.plan, marker)
        operation.is_sending = True
        way = yield ["made", "made in silence", "never", "late", "429", "401", "400", "credit"]
        operation.is_sending = False
        if way in _ERRORS:
            self.fail(number, way)
            return
        made = self.send(spec.plan, "made" if way == "made in silence" else way)
        if made is None or way == "made in silence":
            self.fail(
                number,
                OutcomeUnknownError("read timeout", requests=spec.plan.count, marker=marker),
            )
            return
        self.event(number, BatchCreated(batch=made.message()))
        yield ["returns"]
        self.succeed(number, made.message())

    def send(self, plan: ChunkPlanned, fate: str) -> Batch | None:
        if fate == "late":
            self.service.make_late(plan)
        return self.service.make(plan.count, plan) if fate == "made" else None

    def check_create(self, plan: ChunkPlanned, marker: CreateMarker) -> None:
        """No create is sent while an earlier one's batch exists, or may come to exist."""
        last = next(r for r in reversed(self.journal) if getattr(r, "chunk", None) == plan.chunk)
        assert last == CreateIntended(chunk=plan.chunk, marker=marker), "the intent is durable"
        bought_again = self.count(BoughtAgain)[plan.chunk]
        earlier = len(self.service.of_chunk(plan.chunk))
        assert earlier <= bought_again, f"chunk {plan.chunk} is bought twice"
        assert not self.service.is_on_its_way(plan.chunk), f"chunk {plan.chunk} is on its way"
        waiting = sum(
            batch.total for batch in self.service.running() if batch.id in self.job.state.batches
        )
        limit = self.job.state.options.max_waiting
        assert not waiting or waiting + plan.count <= limit, "the queue has room"

    def settle(self, number: int, spec: Settle) -> Script:
        way = yield ["waits", "hasty", "outage", "undecided", "401"]
        if way in _ERRORS:
            self.fail(number, way)
            return
        unknown = OutcomeUnknownError("?", requests=spec.marker.requests, marker=spec.marker)
        if way == "undecided":
            self.fail(number, unknown)
            return
        found = self.candidates(spec)
        if way == "waits" or not found:
            # No create arrives so late that the settle time is over.
            self.sleep(spec.settle_time)
            found = self.candidates(spec)
        messages = tuple(batch.message() for batch in found)
        if not found:
            self.succeed(number, None)
        elif len(found) > 1:
            unknown.candidates = messages
            self.fail(number, unknown)
        else:
            self.event(number, BatchCreated(batch=messages[0], adopted=True))
            yield ["returns"]
            self.succeed(number, messages[0])

    def candidates(self, spec: Settle) -> list[Batch]:
        excluded = {*spec.marker.listed_ids, *spec.marker.known_ids, *spec.known_ids}
        return [
            batch
            for batch in self.service.batches
            if batch.total == spec.marker.requests and batch.id not in excluded
        ]

    def poll(self, number: int, spec: Poll) -> Script:
        way = yield ["shows all", "omits the newest", "shows none", "outage", "429", "401", "500"]
        if way in _ERRORS:
            self.fail(number, way)
            return
        shown = [
            batch
            for batch in self.service.batches
            if batch.id in spec.batch_ids or batch.total in spec.sizes
        ]
        ends = {"shows all": len(shown), "omits the newest": -1, "shows none": 0}
        batches = tuple(batch.message() for batch in shown[: ends[way]])
        self.succeed(number, PollResult(batches=batches))

    def get(self, number: int, spec: Get) -> Script:
        way = yield ["reads", "404", "outage", "401"]
        batch = self.service.find(spec.batch_id)
        if way in _ERRORS and (way != "404" or self.service.now < batch.created + FRESH):
            self.fail(number, way)
        else:
            self.succeed(number, batch.message())

    def cancel_batch(self, number: int, spec: Cancel) -> Script:
        way = yield ["cancels", "outage", "429"]
        batch = self.service.find(spec.batch_id)
        if way in _ERRORS:
            self.fail(number, way)
        elif batch.ended is not None:
            self.fail(number, "400")
        else:
            batch.canceling = True
            self.succeed(number, batch.message())

    def collect(self, number: int, spec: Collect) -> Script:
        way = yield ["reads", "outage", "404", "stale", "401"]
        batch = self.service.find(spec.batch_id)
        assert batch.ended is not None, "only what has ended is collected"
        is_fresh = self.service.now < batch.ended + FRESH
        if batch.archived or (way == "stale" and is_fresh):
            self.fail(number, ResultsUnavailableError(batch.message()))
        elif way in _ERRORS and (way != "404" or is_fresh):
            self.fail(number, way)
        elif batch.chunk != spec.plan.chunk:
            self.succeed(number, CollectResult(answered=0, is_foreign=True))
        else:
            failed = tuple(batch.failed.values())
            self.succeed(number, CollectResult(answered=batch.total - len(failed), failed=failed))

    # --- the person ----------------------------------------------------------------------

    def decide(self) -> None:
        """A person who knows the truth settles the doubts that are ripe."""
        state = self.job.state
        for chunk in [*state.by_state[ChunkState.DOUBT].values()]:
            if self.service.is_on_its_way(chunk.number):
                continue
            lost = self.count(Lost)[chunk.number]
            own = self.service.of_chunk(chunk.number)[lost:]
            if not own:
                self.job.decide(chunk.number, None, self.now)
            elif own[-1].id not in state.batches:
                self.job.decide(chunk.number, own[-1].message(), self.now)

    def buy_again(self) -> None:
        for number in [*self.job.state.by_state[ChunkState.LOST]]:
            if not self.job.state.is_canceled:
                self.job.buy_again(number, self.now)
                self.ending = None

    def pause(self) -> None:
        self.job.pause("budget", "the budget is spent", self.now)

    def cancel(self) -> None:
        self.job.cancel(self.now)

    # --- the world -----------------------------------------------------------------------

    def advance_any(self, number: int, option: int) -> None:
        """One of the operations that may go on does so."""
        if ready := self.ready():
            self.advance(ready[number % len(ready)], option)

    def end_batch(self, number: int, quality: str) -> None:
        if running := self.service.running():
            self.service.end(running[number % len(running)], quality)

    def make_stranger(self, number: int) -> None:
        """A colleague makes a batch that has the size of one of the job's chunks."""
        if chunks := self.job.state.chunks:
            self.service.make(chunks[number % len(chunks)].count)

    def archive(self) -> None:
        """The results of the job's oldest batch that has ended are not kept any more.

        It may be one that was adopted, and is a colleague's.
        """
        for batch in self.service.batches:
            is_known = batch.id in self.job.state.batches
            if is_known and batch.ended is not None and not batch.archived:
                batch.archived = True
                return

    def sleep(self, seconds: float) -> None:
        self.service.sleep(seconds)
        self.job.handle_timeout(self.now)

    # --- the end -------------------------------------------------------------------------

    def calm_down(self, quality: str = "answered") -> Ending:
        """Nothing goes wrong any more: the job must come to its end."""
        began, last_run = self.service.now, self.runs + MOST_RUNS
        self.death = ""
        while True:
            self.steps += 1
            assert self.steps < MOST_STEPS, "the job does not come to an end"
            if self.steps == self.dies_at_step[0]:
                self.crash(self.dies_at_step[1])
            directive = self.drive()
            if isinstance(directive, Done):
                if directive.ending in {Ending.FINISHED, Ending.CANCELED}:
                    return directive.ending
                assert self.runs < last_run, "the job needs too many runs"
                self.sleep(LATEST)
                self.decide()
                if directive.ending is Ending.DOUBTS:
                    self.ending = None
                continue
            assert isinstance(directive, Wait)
            assert self.service.now - began < LONGEST_CALM, "the job takes too long"
            if ready := self.ready():
                self.advance(ready[0], 0)
                continue
            assert directive.deadline is not None, "the job waits for nothing"
            for batch in self.service.running():
                self.service.end(batch, quality)
            assert directive.deadline > self.now, "a wait is for a time to come"
            self.sleep(directive.deadline - self.now)

    def count(self, kind: type[BoughtAgain | Lost]) -> Counter[int]:
        return Counter(record.chunk for record in self.journal if isinstance(record, kind))

    def check_end(self, ending: Ending) -> None:
        """Each row has exactly one end, and nothing was bought that nobody knows of."""
        state = JobState()
        state.apply_all(self.journal)
        ends: Counter[int] = Counter()
        bought_again = self.count(BoughtAgain)
        for chunk in state.chunks:
            own = self.service.of_chunk(chunk.number)
            if chunk.state is ChunkState.PLANNED:
                assert state.is_canceled
                assert len(own) == bought_again[chunk.number]
                continue
            assert len(own) == 1 + bought_again[chunk.number], "one batch for each purchase"
            assert own[-1].id == chunk.batch_id, "each batch is known to be its chunk's"
            if chunk.state is ChunkState.LOST:
                ends.update(rows_of(chunk.plan))
        for record in self.journal:
            if isinstance(record, Collected):
                chunk = state.chunks[record.chunk]
                truth = self.service.find(chunk.batch_id).failed
                failed = (*record.retried, *record.failed)
                assert {row.row: row for row in failed} == truth, "each failed row is accounted for"
                ends.update(row for row in rows_of(chunk.plan) if row not in truth)
                ends.update(row.row for row in record.failed)
                is_free = state.is_canceled or all(row.message != CREDIT for row in record.failed)
                assert is_free, "no row fails for good because money is missing"
        assert not ends or max(ends.values()) == 1, "no row has two ends"
        if ending is Ending.FINISHED:
            assert set(ends) == set(range(self.rows)), "every row has an end"
        self.check_rounds(state)

    def check_rounds(self, state: JobState) -> None:
        """No row is sent more often than the rounds, the pauses and the purchases allow."""
        sent: Counter[int] = Counter()
        free: Counter[int] = Counter()
        for batch in self.service.batches:
            if batch.plan is not None:
                sent.update(rows_of(batch.plan))
                free.update(row for row, failed in batch.failed.items() if failed.message == CREDIT)
        for number, times in self.count(BoughtAgain).items():
            for row in rows_of(state.chunks[number].plan):
                free[row] += times
        for row, times in sent.items():
            assert times <= 1 + state.options.rounds + free[row], f"row {row} is sent too often"
