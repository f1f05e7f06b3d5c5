"""From seeds to figures: the settings of a run by its seed, and many runs on several processes.

Knows what varies from run to run, and what is counted over all of them.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import NamedTuple

from batches_core import BatchesAPI, RetryPolicy
from batches_core.emulator import FaultRule

from .network import Network, Weather
from .scripts import Client, WatchedLedger, job, look, stranger, two_jobs
from .world import FOREIGN, LONGEST_LINE, ORIGIN, Service, Task, World

#: By how many seconds the clock of the Date header, and the stamp of one batch, can be off.
_DATE_SKEWS = (-1800.0, -15.0, -3.0, 3.0, 15.0, 1800.0)
_STAMP_SKEWS = (-4.0, -2.0, -0.1, -1e-6, 1e-6, 0.1, 2.0, 4.0)
#: What is off by no more has to be settled all the same.
_TOLERATED_SKEW = 3.0
#: How many batches of a run have stamps that are off.
_SKEWED_BATCHES = 4
#: One of so many runs does what the documentation excludes.
_BEYOND = 50
_ROUTES = ("create", "get", "list", "cancel", "delete", "results")
_CHUNK = 500
#: More seeds of failing runs than this are not kept.
_KEPT = 50
#: A stranger's batches have another size than those of any job.
_STRANGERS_SIZE = 9
_LARGEST = 8


@dataclass(slots=True)
class Figures:
    """What came of some runs."""

    runs: int = 0
    exchanges: int = 0
    virtual: float = 0.0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)
    memory: int = 0

    def add(self, other: Figures) -> None:
        self.runs += other.runs
        self.exchanges += other.exchanges
        self.virtual += other.virtual
        self.seconds += other.seconds
        self.faults.update(other.faults)
        self.outcomes.update(other.outcomes)
        self.violations += other.violations[: max(0, _KEPT - len(self.violations))]
        self.memory = max(self.memory, other.memory)


def run(seed: int, *, traced: bool = False) -> World:
    """Run one seed to its end."""
    world = World(seed, traced=traced)
    for task, after in _tasks(world):
        world.spawn(task, after)
    world.run()
    _check_purchases(world)
    return world


def _check_purchases(world: World) -> None:
    bought = Counter(made.label for made in world.service.made)
    for label, times in bought.items():
        if times > 1 and label.startswith("J"):
            world.doubt(f"a batch bought {times} times: {label}")


def _tasks(world: World) -> Iterator[tuple[Task, float]]:
    rng = world.rng
    world.is_beyond = rng.randrange(_BEYOND) == 0
    world.settle_time = rng.choice((5.0, 60.0, 60.0, 120.0))
    client = _client(world)
    old = [
        # Long ago or just now, and often of a size that a job has as well.
        world.service.make(f"O{index}", rng.randint(1, 3), world.secret, -begin + index / 10)
        for begin in (rng.choice((50.0, 5.0, 0.5)),)
        for index in range(rng.choice((0, 0, 1, 1, 2, 3)))
    ]
    world.rules(*_rules(world, client))
    size = rng.randint(1, 3) if rng.random() < 0.5 else rng.randint(1, _LARGEST)
    chance = rng.random()
    dies = rng.random() < 0.15
    # Clients of one process share what it knows, and nothing else.
    second = replace(client, api=copy(client.api)) if rng.random() < 0.5 else client
    if chance < 0.55:
        yield job(client, "J1", size, dies=dies), 0.0
    elif chance < 0.75:
        yield two_jobs(client, size, dies=dies), 0.0
    elif chance < 0.9:
        # With as many requests they can be told apart only by what the client knows.
        other = size if rng.random() < 0.5 else size % _LARGEST + 1
        dies = dies and other != size
        yield job(client, "J1", size, dies=dies), 0.0
        yield job(second, "J2", other), rng.random() * rng.choice((2.0, 60.0))
    else:
        old += [
            world.service.make(f"P{index}", 1, world.secret, -20.0 + index)
            for index in range(rng.randint(1, 4))
        ]
        world.service.circles = rng.random() < 0.2
        yield look(client, "L"), 0.0
    if rng.random() < 0.15:
        yield stranger(world, old, _STRANGERS_SIZE), 0.0


def _client(world: World) -> Client:
    rng = world.rng
    pace = rng.choice((0.5, 5.0, 60.0, 900.0))
    date_skew = rng.choice(_DATE_SKEWS) if rng.random() < 0.15 else 0.0
    if date_skew:
        world.fault("the clock of the Date header is off")
    world.is_skewed = abs(date_skew) > _TOLERATED_SKEW
    world.service = Service(
        date_skew=date_skew,
        ties=rng.choice(("newest", "oldest", "id")),
        secret=world.secret,
        parallel=rng.choice((1, 3, 50)),
        seconds=pace,
        page_limit=rng.choice((None, None, 1, 2)),
    )
    policy = RetryPolicy(
        attempts=rng.choice((1, 2, 3, 3, 5, 8)),
        initial_delay=rng.choice((0.0, 0.5, 2.0)),
        multiplier=rng.choice((1.0, 2.0, 3.0)),
        max_delay=rng.choice((1.0, 30.0)),
        max_retry_after=rng.choice((0.0, 10.0, 300.0)),
    )
    trusted, allows_http = _trusted(rng)
    max_line = rng.choice((300, 1000)) if rng.random() < 0.05 else LONGEST_LINE
    is_key = rng.random() < 0.6
    api = BatchesAPI(
        api_key=world.secret if is_key else None,
        auth_token=None if is_key else world.secret,
        base_url=ORIGIN + ("/" if rng.random() < 0.1 else ""),
        retry=policy,
        jitter=rng.random,
        max_line=max_line,
        trusted_hosts=trusted,
        allow_http=allows_http,
        ledger=WatchedLedger(rng.getrandbits(32)),
    )
    trusts = frozenset(
        origin
        for origin in FOREIGN
        if origin.partition("//")[2] in trusted
        or (origin.partition("//")[2].partition(":")[0] in trusted)
    )
    if not allows_http:
        trusts = frozenset(origin for origin in trusts if origin.startswith("https"))
    return Client(
        world=world,
        network=Network(world, _weather(rng), trusts),
        api=api,
        policy=policy,
        skew=rng.choice((0.0, -5.0, 1e6)),
        max_line=max_line,
        pace=pace,
    )


def _trusted(rng: Random) -> tuple[list[str], bool]:
    names = ("files.sim.test", "api.sim.test:8443", "api.sim.test.evil.test", "api.sim.test")
    return [name for name in names if rng.random() < 0.4], rng.random() < 0.3


def _weather(rng: Random) -> Weather:
    routes: tuple[str, ...] = _ROUTES
    if rng.random() < 0.4:
        routes = (rng.choice(("create", "get", "list", "results", "results")),)
    outages: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.08:
        begin = rng.expovariate(1 / 60)
        outages = ((begin, begin + rng.choice((5.0, 100.0, 900.0))),)
    return Weather(
        rate=rng.choice((0.0, 0.1, 0.3, 0.6, 0.95)),
        left=rng.choice((1, 2, 4, 8, 20)),
        routes=frozenset(routes),
        outages=outages,
    )


def _rules(world: World, client: Client) -> Iterator[FaultRule]:
    """Choose what the service itself does oddly."""
    rng = world.rng
    if rng.random() < 0.25:
        world.lag = rng.choice((1.0, 4.0, 20.0, 50.0))
        world.lag = min(world.lag, world.settle_time * 0.8)
    if world.is_beyond and rng.random() < 0.7:
        world.lag = world.settle_time + 50.0
    missing = rng.choice((0.5, 5.0, 30.0)) if rng.random() < 0.1 else 0.0
    expired = rng.choice((0.3, 1.0)) if rng.random() < 0.1 else 0.0
    url = None
    if rng.random() < 0.12:
        origin = rng.choice(("", ORIGIN, *FOREIGN))
        is_api = origin in {"", ORIGIN}
        client.is_led_away = not is_api and origin not in client.network.trusted
        url = origin + ("/v1/messages/batches/{id}/results" if is_api else "/files/{id}")
        world.fault("results_url " + ("of the API" if is_api else "of another host"))
    client.archives = rng.random() < 0.02
    for kind, is_so in (
        ("list lags", world.lag),
        ("404 after the create", missing),
        ("requests expire", expired),
        ("results archived", client.archives),
    ):
        if is_so:
            world.fault(kind)
    yield from _batch_rules(world, _BatchFaults(world.lag, missing, expired, url, client.archives))
    # With more in them, lines could be over a limit.
    is_limited = client.max_line < LONGEST_LINE
    if rng.random() < 0.12:
        bad, twice, unknown = rng.choice(((1, 0, 0), (2, 1, 0), (0, 2, 0), (0, 1, 1), (9, 0, 0)))
        client.spoils, client.unknown = bad > 0, unknown > 0
        world.fault("lines spoiled, twice or unknown")
        grows = rng.random() < 0.3 and not is_limited
        yield _lines_rule(bad, twice, unknown, rng.choice((1, 2, None)), grows)
    if rng.random() < 0.05 and not is_limited:
        world.fault("unknown fields")
        yield _fields_rule()


class _BatchFaults(NamedTuple):
    lag: float
    missing: float
    expired: float
    url: str | None
    archives: bool


def _batch_rules(world: World, faults: _BatchFaults) -> Iterator[FaultRule]:
    rng = world.rng
    if rng.random() < 0.2:
        world.fault("stamps of batches are off")
        world.is_skewed = world.is_skewed or world.service.page_limit is not None
        for index in range(_SKEWED_BATCHES):
            yield _batch_rule(faults, skew=rng.choice(_STAMP_SKEWS), after=index, times=1)
    if any(faults):
        yield _batch_rule(faults)


@lru_cache(maxsize=1000)
def _batch_rule(
    faults: _BatchFaults, *, skew: float = 0.0, after: int = 0, times: int | None = None
) -> FaultRule:
    return FaultRule(
        route="create",
        after=after,
        times=times,
        created_at_skew=skew,
        unlisted_for=faults.lag,
        missing_for=faults.missing,
        expired=faults.expired,
        results_url=faults.url,
        archived=faults.archives,
    )


@lru_cache(maxsize=1000)
def _lines_rule(
    bad: int,
    twice: int,
    unknown: int,
    times: int | None,
    fields: bool,  # noqa: FBT001
) -> FaultRule:
    return FaultRule(
        route="results",
        times=times,
        bad_lines=bad,
        duplicate_lines=twice,
        unknown_variants=unknown,
        unknown_fields=fields,
    )


@lru_cache(maxsize=1)
def _fields_rule() -> FaultRule:
    return FaultRule(times=None, unknown_fields=True)


# --- many -----------------------------------------------------------------------------------


def run_some(seeds: range) -> Figures:
    """Run seeds one after the other."""
    figures = Figures()
    began = time.perf_counter()
    for seed in seeds:
        world = run(seed)
        figures.runs += 1
        figures.exchanges += world.exchanges
        figures.virtual += world.now
        figures.faults.update(world.faults)
        figures.outcomes.update(world.outcomes)
        figures.violations += [(seed, text) for text in world.violations]
    figures.seconds = time.perf_counter() - began
    figures.memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return figures


def run_many(seeds: range, jobs: int) -> Iterator[Figures]:
    """Run seeds on so many processes; the figures come piece by piece, in their order."""
    chunks = [seeds[start : start + _CHUNK] for start in range(0, len(seeds), _CHUNK)]
    if jobs == 1:
        yield from map(run_some, chunks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(run_some, chunks)
