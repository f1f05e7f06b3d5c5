"""What clients do, step by step, and each step held against the service's truth.

Knows the operations as their documentation has them. A script is a task on the virtual clock, so
that several can run at once.
"""

from __future__ import annotations

import enum
import pickle
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import msgspec

from batches_core import (
    APIStatusError,
    BatchCreated,
    BatchesAPI,
    BatchesError,
    BatchRequest,
    BatchState,
    CreateLedger,
    CreateMarked,
    CreateMarker,
    CreateOperation,
    IncompleteResultsError,
    InvalidInputError,
    Message,
    MessageBatch,
    Operation,
    OutcomeUnknownError,
    PageReceived,
    RemoteProtocolError,
    ResultsUnavailableError,
    RetryPolicy,
    UntrustedHostError,
    WaitTimeoutError,
)
from batches_core.call import MAX_ERROR_TIME
from batches_core.operations.ledger import PendingCreate
from batches_core.operations.wait import LAST_POLL

from .calls import EPSILON, Call
from .driver import GIVEN_UP, Driver, Watched
from .network import LONGEST_WAY, READ_TIMEOUT, Network
from .truth import Reading, check_results
from .world import EPOCH, LONGEST_LINE, Made, Task, World, params_of

#: Polls and looks at a list are this far apart at least, in seconds.
_LEAST_LOOK = 1.0
#: What a success's message becomes; a decoder for all that is known takes long to make.
_MESSAGE_TYPES: Any = (Message, *[Watched] * 10, *[msgspec.Raw] * 30)
#: For how long a batch has to be the only one that fits before it is adopted.
_ALONE = 10.0
#: How often the caller of a create stops it.
_INTERRUPTED = 0.12
#: How often a job that was not created is begun again.
_ROUNDS = 3


@dataclass(slots=True)
class Client:
    """One client, or one that was started again: its settings, and the batches it knows."""

    world: World
    network: Network
    api: BatchesAPI
    policy: RetryPolicy
    skew: float
    max_line: int
    spoils: bool = False
    unknown: bool = False
    archives: bool = False
    #: Whether the service says of each batch that its results are at a host that is not trusted.
    is_led_away: bool = False
    pace: float = 1.0

    def call(
        self,
        name: str,
        label: str,
        operation: Operation[Any],
        *,
        call: Call | None = None,
        calm: bool = False,
        dies_after: int | None = None,
        max_outage: float = float("inf"),
        interrupts_after: int | None = None,
    ) -> Generator[float, None, Call]:
        if call is None:
            call = Call(self.world, name, label, self.policy)
        call.calm = calm
        call.dies_after = dies_after
        call.interrupts_after = interrupts_after
        call.max_outage = max_outage
        yield from Driver(self.world, self.network, operation, call, self.skew).run()
        return call

    def create(
        self, label: str, operation: CreateOperation, **how: Any
    ) -> Generator[float, None, Call]:
        """Run a create as a client does, whose process may die, or whose caller may stop it."""
        # A task of a client that died meanwhile goes on with what it knew.
        ledger = self.ledger
        call = yield from self.call("create", label, operation, **how)
        call.is_contested = operation._pending.serial in ledger.contested
        call.unfinished = ledger.unfinished()
        if not call.ended and call.interruption is None:
            # Another process goes on, which knows nothing of this one.
            self.start_again()
        return call

    @property
    def ledger(self) -> WatchedLedger:
        ledger = self.api.ledger
        assert isinstance(ledger, WatchedLedger)
        return ledger

    def start_again(self) -> None:
        self.api.ledger = WatchedLedger(self.world.rng.getrandbits(32))


class WatchedLedger(CreateLedger):
    """A ledger that tells whose creates were in doubt together with others of their size."""

    def __init__(self, first_serial: int) -> None:
        super().__init__(first_serial)
        self.contested: set[int] = set()

    def rivals(self, marker: CreateMarker) -> list[PendingCreate]:
        rivals = super().rivals(marker)
        if any(rival.requests == marker.requests for rival in rivals):
            self.contested.add(marker.serial)
        return rivals


def job(client: Client, label: str, count: int, *, dies: bool = False) -> Task:
    """The main job: create, wait, read the results; at times cancel and delete."""
    created = yield from _bought(client, label, count, dies=dies)
    if created is not None:
        yield from _finish(client, label, created)


def two_jobs(client: Client, count: int, *, dies: bool = False) -> Task:
    """Two jobs of one size: the second is begun after the first, or once that is created."""
    first = yield from _bought(client, "J1", count, dies=dies)
    is_in_turn = client.world.rng.random() < 0.4
    if first is not None and is_in_turn:
        yield from _finish(client, "J1", first)
    yield from job(client, "J2", count)
    if first is not None and not is_in_turn:
        yield from _finish(client, "J1", first)


def _finish(client: Client, label: str, created: MessageBatch) -> Task:
    rng = client.world.rng
    if rng.random() < 0.1:
        yield client.world.now + rng.random() * client.pace * 2
        yield from _cancel(client, label, created.id)
    ended = yield from _wait(client, label, created)
    if ended is None:
        return
    yield from _read(client, label, ended)
    if rng.random() < 0.1:
        yield from _delete(client, label, created.id)


# --- creating -----------------------------------------------------------------------------


def _bought(
    client: Client, label: str, count: int, *, dies: bool
) -> Generator[float, None, MessageBatch | None]:
    """Create a batch, whatever it takes; None where nobody can say, or the service refuses."""
    world = client.world
    created = yield from _created(client, label, count, dies=dies)
    if created is None:
        # What may still come of it is not to be taken for the next job's.
        yield world.now + READ_TIMEOUT + world.lag + world.settle_time * 2
    return created


def _created(
    client: Client, label: str, count: int, *, dies: bool
) -> Generator[float, None, MessageBatch | None]:
    world, rng = client.world, client.world.rng
    requests = _requests(client, label, count)
    for _ in range(_ROUNDS):
        settles = rng.random() < 0.6
        dies_after = rng.randint(1, 8) if dies else None
        interrupts_after = rng.randint(1, 12) if rng.random() < _INTERRUPTED else None
        dies = False
        is_marked = rng.random() < 0.9
        operation = client.api.create(
            requests,
            if_unknown="settle" if settles else "raise",
            if_unmarked="raise" if is_marked else "send",
            settle_time=world.settle_time,
        )
        call = yield from client.create(
            label, operation, dies_after=dies_after, interrupts_after=interrupts_after
        )
        _check_create(client, call, settles=settles, is_marked=is_marked)
        ending = yield from _ending(client, call)
        if ending is _Ending.NOT_CREATED:
            continue
        if ending is _Ending.UNKNOWN:
            return None
        if isinstance(ending, MessageBatch):
            return ending
        is_known, found = yield from _settled(client, label, ending)
        if found is not None or not is_known:
            return found
    return None


class _Ending(enum.Enum):
    """What is left of a create that gave neither a batch nor an outcome that can be settled."""

    NOT_CREATED = "it can be tried again"
    UNKNOWN = "nobody can say what became of it"


def _ending(
    client: Client, call: Call
) -> Generator[float, None, MessageBatch | OutcomeUnknownError | CreateMarker | _Ending]:
    """Tell what a client has in hand after a create."""
    world = client.world
    if call.interruption is not None:
        carried = _carried(client, call, call.interruption)
        if world.settle_time - world.lag < LONGEST_WAY:
            # The settle time has to last for the way of what was sent and the lag of the list.
            yield world.now + LONGEST_WAY
        return carried
    if isinstance(call.error, OutcomeUnknownError):
        return _handed_over(client, call.error)
    if call.ended:
        return _Ending.NOT_CREATED if call.value is None else call.value
    # The next process goes on with what this one kept, no sooner than this one would have given its
    # request up.
    yield world.now + READ_TIMEOUT + LONGEST_WAY
    marker = _kept_marker(call)
    if marker is not None:
        return marker
    if call.exchanges > 1:
        # It may have been sent without a marker, where the list could not be read.
        return _Ending.UNKNOWN
    if world.service.made_for(call.label):
        call.violate("a batch was bought before its marker was told")
    return _Ending.NOT_CREATED


def _carried(
    client: Client, call: Call, error: BaseException
) -> MessageBatch | OutcomeUnknownError | _Ending:
    """Give what an error that stopped a create carries: the batch, or its outcome."""
    made = {each.job.id for each in client.world.service.made_for(call.label)}
    batch: MessageBatch | None = getattr(error, "created_batch", None)
    outcome: OutcomeUnknownError | None = getattr(error, "create_outcome", None)
    unfinished = call.unfinished
    if batch is not None:
        if batch.id not in made or batch not in unfinished:
            call.doubt("an interrupted create carries a batch that is not its own")
        return batch
    if outcome is not None:
        call.check_text(outcome)
        if str(outcome) not in map(str, unfinished):
            call.violate("an interrupted create's outcome is not among the unfinished")
        return _Ending.UNKNOWN if outcome.marker is None else outcome
    if made or client.world.held[call.label]:
        call.doubt("an interruption lost a batch")
    return _Ending.NOT_CREATED


def _requests(client: Client, label: str, count: int) -> list[Any]:
    rng = client.world.rng
    requests: list[Any] = []
    for index in range(count):
        kind = rng.choice(("ok", "ok", "ok", "fail", "bad"))
        size = rng.randint(0, 1500) if rng.random() < 0.1 else rng.randint(0, 40)
        params = params_of(size, kind)
        form = rng.random()
        if form < 0.6:
            requests.append({"custom_id": f"{label}-{index}", "params": params})
        elif form < 0.8:
            requests.append(BatchRequest(custom_id=f"{label}-{index}", params=params))
        else:
            encoded = msgspec.json.encode({"custom_id": f"{label}-{index}", "params": params})
            requests.append(encoded + b"\n")
    return requests


def _check_create(client: Client, call: Call, *, settles: bool, is_marked: bool) -> None:
    world = client.world
    made = world.service.made_for(call.label)
    attempts = client.policy.attempts
    looks = call.ambiguous * (world.settle_time / _LEAST_LOOK + 2) * (len(world.service.made) + 1)
    settling = world.settle_time + _ALONE if settles else 0
    # The list before the create can be one of many small pages.
    pages = len(world.service.made) + 1
    call.check_effort(needed=int(1 + pages + looks), more_waiting=call.ambiguous * settling)
    call.check_unknown()
    if isinstance(call.value, MessageBatch):
        if call.value.id not in {each.job.id for each in made}:
            call.doubt("a batch that is not the one that was sent")
        if not any(isinstance(event, BatchCreated) for event in call.events):
            call.violate("a create without the event of its name")
    if call.error is None:
        return
    is_told_at_once = isinstance(call.error, OutcomeUnknownError) and not (
        settles and call.error.marker
    )
    is_lost = isinstance(call.error, OutcomeUnknownError) and (
        call.is_contested or _is_undecidable(world, call.error.marker)
    )
    if call.failures < attempts and not call.final and not is_told_at_once and not is_lost:
        call.doubt("gave up too early")
    if isinstance(call.error, OutcomeUnknownError):
        if is_marked and call.error.marker is None:
            call.violate("an outcome without its marker")
    elif made or world.held[call.label]:
        call.doubt("an error that says nothing was created, and there is a batch")


def _is_undecidable(world: World, marker: CreateMarker | None) -> bool:
    """Whether even a perfect client could not tell what became of a create.

    Nothing of its marker's page is left, or the clocks differ by more than they should.
    """
    if marker is None:
        return False
    jobs = world.service.emulator._endpoints.batches
    is_gone = bool(marker.listed_ids) and not any(id_ in jobs for id_ in marker.listed_ids)
    return is_gone or world.is_skewed


def _kept_marker(call: Call) -> CreateMarker | None:
    for event in call.events:
        if isinstance(event, CreateMarked):
            encoded = msgspec.json.encode(event.marker)
            return msgspec.json.decode(encoded, type=CreateMarker)
    return None


def _handed_over(
    client: Client, error: OutcomeUnknownError
) -> OutcomeUnknownError | CreateMarker | _Ending:
    """Give what is settled: the error, a copy of it from another process, or its marker."""
    if error.marker is None:
        try:
            client.api.settle(error)
        except InvalidInputError:
            return _Ending.UNKNOWN
        client.world.violate("an outcome without a marker is settled")
    chance = client.world.rng.random()
    if chance < 0.3:
        copied: OutcomeUnknownError = pickle.loads(pickle.dumps(error))  # noqa: S301 - made just now
        return copied
    return error.marker if chance < 0.6 and error.marker is not None else error


def _settled(
    client: Client, label: str, outcome: OutcomeUnknownError | CreateMarker
) -> Generator[float, None, tuple[bool, MessageBatch | None]]:
    """Settle an outcome; where the storm keeps that from being done, after it."""
    world = client.world
    marker = outcome.marker if isinstance(outcome, OutcomeUnknownError) else outcome
    for calm in (False, True):
        operation = client.api.settle(outcome, settle_time=world.settle_time)
        call = yield from client.call("settle", label, operation, calm=calm)
        call.is_contested = marker is not None and marker.serial in client.ledger.contested
        made = world.service.made_for(label)
        looks = (world.settle_time / _LEAST_LOOK + 2) * (len(world.service.made) + 1)
        call.check_effort(needed=int(looks), more_waiting=world.settle_time + _ALONE)
        call.check_unknown()
        is_lost = call.is_contested or _is_undecidable(world, marker)
        if call.error is None:
            found: MessageBatch | None = call.value
            if found is not None:
                if found.id not in {each.job.id for each in made}:
                    call.doubt("a batch that is not the one that was sent")
            elif made or world.held[label]:
                call.doubt("called not created, and there is a batch")
            return True, found
        if call.failures < client.policy.attempts and not call.final and not is_lost:
            call.doubt("gave up too early")
        if not isinstance(call.error, OutcomeUnknownError):
            call.violate("settling ended in an error of another kind")
    return False, None


# --- waiting ------------------------------------------------------------------------------


def _wait(
    client: Client, label: str, batch: MessageBatch
) -> Generator[float, None, MessageBatch | None]:
    """Wait for the end; where the storm or the deadline was faster, once more after it."""
    world, rng = client.world, client.world.rng
    made = world.service.find(batch.id)
    if made is None:
        return None
    left = max(0.0, made.job._ends_at - made.job.created_at)
    poll = max(0.05, left * rng.choice((0.2, 0.5, 1.0, 3.0)))
    timeout = left * rng.choice((0.0, 0.5, 0.9, 1.5)) if rng.random() < 0.5 else None
    outage = rng.choice((0.0, 20.0, 600.0))
    for calm in (False, True):
        limits = _Limits(poll, None if calm else timeout, 600.0 if calm else outage)
        operation = client.api.wait_for(
            batch.id, poll_interval=poll, timeout=limits.timeout, max_outage=limits.outage
        )
        call = yield from client.call("wait", label, operation, calm=calm, max_outage=limits.outage)
        _check_wait(client, call, made, limits)
        if isinstance(call.value, MessageBatch):
            return call.value
        if not call.ended:
            return None
    return None


@dataclass(frozen=True, slots=True)
class _Limits:
    poll: float
    timeout: float | None
    outage: float


def _check_wait(client: Client, call: Call, made: Made, limits: _Limits) -> None:
    world = client.world
    slack = call.late + EPSILON
    last_poll = deadline = float("inf")
    if limits.timeout is not None:
        deadline = call.started + limits.timeout
        last_poll = deadline - min(limits.poll, LAST_POLL, limits.timeout / 4)
    if call.exchanges > 1 and call.sent_at > last_poll + slack:
        call.violate("slept past the time of the last poll")
    if not call.exchanges:
        call.violate("a wait without a poll")
    if not call.ended:
        return
    # The poll before the last may have been under way for long as the batch ended.
    longest = max(limits.poll, call.longest_wait) + 2 * call.longest_exchange + slack
    ready = max(made.job._ends_at - EPOCH, call.started, call.last_failure or 0.0)
    if world.now > max(ready + longest, call.started + call.last_exchange + slack):
        call.violate("ended too late")
    began = max(call.sent_at, call.started)
    end = deadline if began < deadline - EPSILON else began + LAST_POLL
    if call.keeps_deadlines and world.now > end + EPSILON:
        call.violate("went on past the deadline")
    is_cut = call.is_failing and call.kinds[-1] == GIVEN_UP
    is_cut = is_cut and call.last_exchange < MAX_ERROR_TIME - EPSILON
    # By the two clocks' rounding, a poll that began as the deadline came may have either end.
    end = deadline if abs(began - deadline) <= EPSILON else end
    if is_cut and isinstance(call.error, WaitTimeoutError) and world.now < end - EPSILON:
        call.violate("gave its last poll up before the deadline")
    if call.error is not None:
        _check_wait_error(call, call.error, last_poll, limits)
    elif not call.value.ended or not world.service.ended(made.job, world.now):
        call.violate("a wait is over before its batch is")


def _check_wait_error(call: Call, error: BatchesError, last_poll: float, limits: _Limits) -> None:
    now = call.world.now
    polls = [event for event in call.events if isinstance(event, BatchState)]
    match error:
        case WaitTimeoutError(batch=seen):
            if now < last_poll - EPSILON:
                call.violate("timed out before its time")
            if seen != (polls[-1].batch if polls else None):
                call.violate("timed out with a batch that is not the last seen")
        case APIStatusError(status=404) if now - call.started >= 60.0:
            pass
        case _:
            began = call.failing_since
            is_long = began is not None and now - began >= limits.outage - EPSILON
            if not call.final and not is_long:
                call.violate("gave up in an outage that it was to wait out")


# --- results ------------------------------------------------------------------------------


def _read(client: Client, label: str, batch: MessageBatch) -> Task:
    """Read the results; where the storm kept them back, once more after it."""
    made = client.world.service.find(batch.id)
    if made is None:
        return
    for calm in (False, True):
        call = yield from _read_once(client, label, batch, made, calm=calm)
        if call.error is None or isinstance(
            call.error, (ResultsUnavailableError, UntrustedHostError)
        ):
            return
        if isinstance(call.error, IncompleteResultsError) and not call.failures:
            return


def _read_once(
    client: Client, label: str, batch: MessageBatch, made: Made, *, calm: bool
) -> Generator[float, None, Call]:
    rng = client.world.rng
    reading = Reading(
        resume=calm or rng.random() < 0.85,
        max_line=client.max_line,
        expected=_expected(client, made) if rng.random() < 0.4 else None,
        spoils=client.spoils,
        unknown=client.unknown,
    )
    by_id = rng.random() < 0.3
    operation = client.api.results_stream(
        batch.id if by_id else batch,
        message_type=rng.choice(_MESSAGE_TYPES),
        resume=reading.resume,
        expected=reading.expected,
    )
    call = yield from client.call("results", label, operation, calm=calm)
    check_results(call, made, reading)
    _check_reading(client, call, reading)
    return call


def _expected(client: Client, made: Made) -> tuple[str, ...]:
    rng = client.world.rng
    ids = list(made.ids)
    rng.shuffle(ids)
    chance = rng.random()
    if chance < 0.15:
        ids.append("of-another-batch")
    elif chance < 0.3:
        ids.pop()
    return tuple(ids)


def _check_reading(client: Client, call: Call, reading: Reading) -> None:
    # A file in which no line can be read may be read again: it could be somebody else's page.
    is_spoiled = reading.spoils or reading.max_line < LONGEST_LINE
    again = client.policy.attempts if is_spoiled else 0
    call.check_effort(needed=2 + again, more_waiting=again * call.longest_wait)
    error = call.error
    is_odd = reading.expected is not None and isinstance(error, IncompleteResultsError)
    match error:
        case None:
            if client.archives:
                call.violate("results of an archived batch")
            return
        case UntrustedHostError():
            if not call.untrusted and not client.is_led_away:
                call.violate("a host is called untrusted that nobody pointed to")
            return
        case ResultsUnavailableError():
            if not client.archives:
                call.violate("results are called unavailable, and are there")
            return
        case IncompleteResultsError(missing=missing, unexpected=unexpected) if (
            is_odd and (missing or unexpected) and error.received >= error.expected
        ):
            return
    if not reading.resume and call.failures:
        return
    if is_spoiled or (isinstance(error, RemoteProtocolError) and call.redirects > 5):
        return
    call.check_patience()


# --- the rest -----------------------------------------------------------------------------


def _cancel(client: Client, label: str, id_: str) -> Task:
    call = yield from client.call("cancel", label, client.api.cancel(id_))
    call.check_retried(needed=1)
    made = client.world.service.find(id_)
    if call.error is None and made is not None and made.job.canceled_at is None:
        call.violate("called canceled, and is not")


def _delete(client: Client, label: str, id_: str) -> Task:
    call = yield from client.call("delete", label, client.api.delete(id_))
    call.check_retried(needed=1)
    if call.error is None and id_ in client.world.service.emulator._endpoints.batches:
        call.violate("called deleted, and is there")


def look(client: Client, label: str) -> Task:
    """List all batches, from either end, and read the newest."""
    world, rng = client.world, client.world.rng
    before = world.service.lists(world.now)
    limit = rng.choice((None, 1, 2, 3, 1000))
    is_backwards = bool(before) and rng.random() < 0.4
    start = before[-1] if is_backwards else None
    operation = client.api.list_all(limit=limit, before_id=start)
    call = yield from client.call("list_all", label, operation)
    pages = [event.page for event in call.events if isinstance(event, PageReceived)]
    call.check_effort(needed=len(pages) + 1)
    listed = [batch.id for page in pages for batch in page.data]
    if world.service.circles and isinstance(call.error, RemoteProtocolError):
        return
    call.check_patience()
    if call.error is not None:
        return
    if not world.service.circles and len(set(listed)) < len(listed):
        call.violate("listed twice")
    after = world.service.lists(world.now)
    due = [id_ for id_ in before if id_ in after and id_ != start]
    if not set(due) <= set(listed):
        call.violate("not listed")
    # A service that lists in circles can show some again, and none of it is the client's doing.
    if not is_backwards and [id_ for id_ in dict.fromkeys(listed) if id_ in due] != due:
        call.violate("listed in another order")
    if before:
        yield from _get(client, label, before[0])


def _get(client: Client, label: str, id_: str) -> Task:
    call = yield from client.call("get", label, client.api.get(id_))
    call.check_retried(needed=1)
    if call.error is None and call.value.id != id_:
        call.violate("another batch")


def stranger(world: World, old: list[str], count: int) -> Task:
    """Somebody else in the same workspace: makes batches of another size, and deletes old ones."""
    rng = world.rng
    for turn in range(rng.randint(1, 4)):
        yield world.now + rng.expovariate(1 / 20)
        if old and rng.random() < 0.5:
            world.fault("a batch was deleted by a stranger")
            world.service.delete(old.pop(), world.secret, world.now)
        else:
            world.fault("a batch was made by a stranger")
            world.service.make(f"S{turn}", count, world.secret, world.now)
