"""The plan of one run: everything that its seed decides before the first task begins.

Each choice is drawn from the random numbers of the world. `runs` runs the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from random import Random
from typing import NamedTuple

from batches_core import BatchesAPI, RetryPolicy
from batches_core.emulator import FaultRule
from batches_core.jsonl import MAX_LINE

from .client import Client, RecordingLedger
from .network import HazardPlan, Network
from .scenarios import browse, one_batch, stranger, two_batches
from .service import FOREIGN, ORIGIN, Service
from .world import Task, World

#: By how many seconds the clock of the Date header, and `created_at` of a batch, can be wrong.
_DATE_SKEWS = (-1800.0, -15.0, -3.0, 3.0, 15.0, 1800.0)
_STAMP_SKEWS = (-4.0, -2.0, -0.1, -1e-6, 1e-6, 0.1, 2.0, 4.0)
#: An outcome must be settled in spite of a skew of the Date header up to this, in seconds.
_TOLERATED_SKEW = 3.0
#: How many batches of a run have a wrong `created_at`, if any.
_SKEWED_BATCHES = 4
#: One run of this many does what the documentation excludes.
_OUTSIDE_PROMISE = 50
_ROUTES = ("create", "get", "list", "cancel", "delete", "results")
#: The most requests of a client's batch. The batches of a stranger have a size of their own.
_MAX_SIZE = 8
_STRANGERS_SIZE = 9


def plan_tasks(world: World) -> Iterator[tuple[Task, float]]:
    """Choose the settings of a run, and yield its tasks with the seconds after which they begin."""
    rng = world.rng
    world.is_outside_promise = rng.randrange(_OUTSIDE_PROMISE) == 0
    world.settle_time = rng.choice((5.0, 60.0, 60.0, 120.0))
    client = _plan_client(world)
    old = [
        # Some are as large as a client's batch, and some were created just before the run.
        world.service.create(f"O{index}", rng.randint(1, 3), -begin + index / 10)
        for begin in (rng.choice((50.0, 5.0, 0.5)),)
        for index in range(rng.choice((0, 0, 1, 1, 2, 3)))
    ]
    world.service.add_rules(*_plan_faults(world, client))
    size = rng.randint(1, 3) if rng.random() < 0.5 else rng.randint(1, _MAX_SIZE)
    chance = rng.random()
    dies = rng.random() < 0.15
    # A second client of the same process shares the ledger and nothing else.
    second = replace(client, api=copy(client.api)) if rng.random() < 0.5 else client
    if chance < 0.55:
        yield one_batch(client, "B1", size, dies=dies), 0.0
    elif chance < 0.75:
        yield two_batches(client, size, dies=dies), 0.0
    elif chance < 0.9:
        # Only the ledger can distinguish batches of one size, and it does not survive a death.
        other = size if rng.random() < 0.5 else size % _MAX_SIZE + 1
        dies = dies and other != size
        yield one_batch(client, "B1", size, dies=dies), 0.0
        yield one_batch(second, "B2", other), rng.random() * rng.choice((2.0, 60.0))
    else:
        old += [
            world.service.create(f"P{index}", 1, -20.0 + index)
            for index in range(rng.randint(1, 4))
        ]
        world.service.repeats_first_page = rng.random() < 0.2
        yield browse(client, "L"), 0.0
    if rng.random() < 0.15:
        yield stranger(world, old, _STRANGERS_SIZE), 0.0


# --- the client and its network ----------------------------------------------------------


def _plan_client(world: World) -> Client:
    rng = world.rng
    seconds_per_request = rng.choice((0.5, 5.0, 60.0, 900.0))
    date_skew = rng.choice(_DATE_SKEWS) if rng.random() < 0.15 else 0.0
    if date_skew:
        world.count_hazard("the clock of the Date header is wrong")
    world.exceeds_clock_slack = abs(date_skew) > _TOLERATED_SKEW
    world.service = Service(
        date_skew=date_skew,
        ties=rng.choice(("newest", "oldest", "id")),
        credential=world.credential,
        parallel=rng.choice((1, 3, 50)),
        seconds=seconds_per_request,
        page_limit=rng.choice((None, None, 1, 2)),
    )
    policy = RetryPolicy(
        attempts=rng.choice((1, 2, 3, 3, 5, 8)),
        initial_delay=rng.choice((0.0, 0.5, 2.0)),
        multiplier=rng.choice((1.0, 2.0, 3.0)),
        max_delay=rng.choice((1.0, 30.0)),
        max_retry_after=rng.choice((0.0, 10.0, 300.0)),
    )
    trusted_hosts, allow_http = _plan_trust(rng)
    max_line = rng.choice((300, 1000)) if rng.random() < 0.05 else MAX_LINE
    is_api_key = rng.random() < 0.6
    api = BatchesAPI(
        api_key=world.credential if is_api_key else None,
        auth_token=None if is_api_key else world.credential,
        base_url=ORIGIN + ("/" if rng.random() < 0.1 else ""),
        retry=policy,
        jitter=rng.random,
        max_line=max_line,
        trusted_hosts=trusted_hosts,
        allow_http=allow_http,
        ledger=RecordingLedger(rng.getrandbits(32)),
    )
    trusted = _trusted_origins(trusted_hosts, allow_http=allow_http)
    return Client(
        world=world,
        network=Network(world, _plan_hazards(rng), trusted),
        api=api,
        policy=policy,
        skew=rng.choice((0.0, -5.0, 1e6)),
        max_line=max_line,
        seconds_per_request=seconds_per_request,
    )


def _plan_trust(rng: Random) -> tuple[list[str], bool]:
    hosts = ("files.sim.test", "api.sim.test:8443", "api.sim.test.evil.test", "api.sim.test")
    return [host for host in hosts if rng.random() < 0.4], rng.random() < 0.3


def _trusted_origins(trusted_hosts: list[str], *, allow_http: bool) -> frozenset[str]:
    """Return which of the foreign origins a client with these settings trusts."""
    origins = set()
    for origin in FOREIGN:
        scheme, _, authority = origin.partition("://")
        host = authority.partition(":")[0]
        is_trusted = authority in trusted_hosts or host in trusted_hosts
        if is_trusted and (allow_http or scheme == "https"):
            origins.add(origin)
    return frozenset(origins)


def _plan_hazards(rng: Random) -> HazardPlan:
    routes: tuple[str, ...] = _ROUTES
    if rng.random() < 0.4:
        routes = (rng.choice(("create", "get", "list", "results", "results")),)
    outages: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.08:
        begin = rng.expovariate(1 / 60)
        outages = ((begin, begin + rng.choice((5.0, 100.0, 900.0))),)
    return HazardPlan(
        rate=rng.choice((0.0, 0.1, 0.3, 0.6, 0.95)),
        left=rng.choice((1, 2, 4, 8, 20)),
        routes=frozenset(routes),
        outages=outages,
    )


# --- the faults of the service -----------------------------------------------------------


class _BatchFaults(NamedTuple):
    """The faults of every batch of a run; see `FaultRule`."""

    unlisted_for: float
    missing_for: float
    expired: float
    results_url: str | None
    archived: bool


def _plan_faults(world: World, client: Client) -> Iterator[FaultRule]:
    """Choose the faults of the emulated service, and tell the client which results to expect."""
    rng = world.rng
    if rng.random() < 0.25:
        world.list_lag = rng.choice((1.0, 4.0, 20.0, 50.0))
        world.list_lag = min(world.list_lag, world.settle_time * 0.8)
    if world.is_outside_promise and rng.random() < 0.7:
        world.list_lag = world.settle_time + 50.0
    missing = rng.choice((0.5, 5.0, 30.0)) if rng.random() < 0.1 else 0.0
    expired = rng.choice((0.3, 1.0)) if rng.random() < 0.1 else 0.0
    url = None
    if rng.random() < 0.12:
        origin = rng.choice(("", ORIGIN, *FOREIGN))
        is_api = origin in {"", ORIGIN}
        client.results_at_untrusted_host = not is_api and origin not in client.network.trusted
        url = origin + ("/v1/messages/batches/{id}/results" if is_api else "/files/{id}")
        world.count_hazard("results_url " + ("of the API" if is_api else "of another host"))
    client.archives_results = rng.random() < 0.02
    for kind, is_chosen in (
        ("list lags", world.list_lag),
        ("404 after the create", missing),
        ("requests expire", expired),
        ("results archived", client.archives_results),
    ):
        if is_chosen:
            world.count_hazard(kind)
    faults = _BatchFaults(world.list_lag, missing, expired, url, client.archives_results)
    yield from _plan_batch_rules(world, faults)
    # These rules make lines longer, which would be over a short limit.
    is_limited = client.max_line < MAX_LINE
    if rng.random() < 0.12:
        bad, twice, unknown = rng.choice(((1, 0, 0), (2, 1, 0), (0, 2, 0), (0, 1, 1), (9, 0, 0)))
        client.corrupts_lines, client.sends_unknown_types = bad > 0, unknown > 0
        world.count_hazard("lines corrupted, repeated or of unknown type")
        has_unknown_fields = rng.random() < 0.3 and not is_limited
        times = rng.choice((1, 2, None))
        yield FaultRule(
            route="results",
            times=times,
            bad_lines=bad,
            duplicate_lines=twice,
            unknown_variants=unknown,
            unknown_fields=has_unknown_fields,
        )
    if rng.random() < 0.05 and not is_limited:
        world.count_hazard("unknown fields")
        yield FaultRule(times=None, unknown_fields=True)


def _plan_batch_rules(world: World, faults: _BatchFaults) -> Iterator[FaultRule]:
    rng = world.rng
    if rng.random() < 0.2:
        world.count_hazard("created_at of batches is wrong")
        has_small_pages = world.service.page_limit is not None
        world.exceeds_clock_slack = world.exceeds_clock_slack or has_small_pages
        for index in range(_SKEWED_BATCHES):
            yield _batch_rule(faults, skew=rng.choice(_STAMP_SKEWS), after=index, times=1)
    if any(faults):
        yield _batch_rule(faults)


def _batch_rule(
    faults: _BatchFaults, *, skew: float = 0.0, after: int = 0, times: int | None = None
) -> FaultRule:
    return FaultRule(
        route="create", after=after, times=times, created_at_skew=skew, **faults._asdict()
    )
