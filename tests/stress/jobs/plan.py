"""The plan of one run: everything that its seed decides before the first job begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from batches_core import RetryPolicy, SettlingPolicy
from batches_core.emulator import FaultRule
from batches_core.jobs import JobOptions, job_tag, wire_id
from tests.stress.simulation.network import HazardPlan, Network

from .rows import PASSING, Rows, is_good
from .service import JobService
from .sim import SimJob, Trouble
from .world import JobWorld

_ROUTES = ("create", "get", "list", "cancel", "results")
_DATE_SKEWS = (-3.0, -1.0, 1.0, 3.0)
_STAMP_SKEWS = (-4.0, -2.0, -0.1, 0.1, 2.0, 4.0)
_DAY = 86400.0


def plan_jobs(world: JobWorld) -> list[SimJob]:
    """Choose the settings of a run, and let its jobs begin."""
    rng = world.rng
    world.settle_time = rng.choice((60.0, 60.0, 60.0, 120.0, 600.0))
    chunk_rows = rng.choice((1, 2, 5, 5, 10, 10, 20, 40))
    #: The seconds from the create of a whole chunk to the end of its batch, about.
    duration = rng.choice((1.0, 30.0, 30.0, 600.0, 600.0, 4000.0, 150_000.0))
    service = _plan_service(world, chunk_rows, duration)
    world.use(service)
    service.add_rules(*_plan_faults(world))
    jobs = [
        _plan_job(world, f"J{number}", chunk_rows, duration)
        for number in range(rng.choice((1, 1, 1, 1, 1, 1, 2, 3)))
    ]
    for job in jobs:
        service.rows[job.rows.ids[0].partition("-")[0] if job.rows.ids else job.name] = job.rows
        world.call_later(rng.choice((0.0, 0.0, 3.0, 100.0)), job.start)
        for after, act in _plan_acts(rng, job):
            world.call_later(after, act)
    if rng.random() < 0.3:
        _plan_colleague(world, chunk_rows)
    return jobs


def _plan_service(world: JobWorld, chunk_rows: int, duration: float) -> JobService:
    rng = world.rng
    parallel = rng.choice((1, 5, 50))
    # Otherwise most of the run would be creates that are refused.
    is_short = duration < 1000.0
    date_skew = rng.choice(_DATE_SKEWS) if rng.random() < 0.1 else 0.0
    if date_skew:
        world.count_hazard("the clock of the Date header is wrong")
    elsewhere = f"{world.credential}-elsewhere"
    service = JobService(
        credential=world.credential,
        more_credentials=(f"{world.credential}-2", elsewhere),
        workspaces={elsewhere: "wrkspc_elsewhere"},
        date_skew=date_skew,
        ties=rng.choice(("newest", "oldest", "id")),
        parallel=parallel,
        seconds=duration / -(-chunk_rows // parallel),
        page_limit=rng.choice((None, None, None, 3)),
        queue_limit=rng.choice((None, None, chunk_rows, 2 * chunk_rows)) if is_short else None,
        requests_per_minute=30 if rng.random() < 0.05 else None,
    )
    for _ in range(rng.choice((0, 0, 1, 2))):
        service.create("O", rng.randint(1, 3), -rng.choice((5.0, 50.0)))
    return service


def _plan_faults(world: JobWorld) -> Iterator[FaultRule]:
    rng = world.rng
    missing = rng.choice((0.5, 5.0, 30.0)) if rng.random() < 0.1 else 0.0
    if rng.random() < 0.2:
        world.list_lag = rng.choice((1.0, 4.0, 20.0))
        world.count_hazard("list lags")
    expired = rng.choice((0.3, 1.0)) if rng.random() < 0.1 else 0.0
    archived = rng.random() < 0.03
    if expired:
        world.count_hazard("requests expire")
    if archived:
        world.count_hazard("results archived at once")
    # These faults pass: a batch that is created later has none of them.
    times = rng.randint(1, 6)
    for index in range(times):
        skew = rng.choice(_STAMP_SKEWS) if rng.random() < 0.1 else 0.0
        if skew:
            world.count_hazard("created_at of a batch is wrong")
        if world.list_lag or missing or expired or archived or skew:
            yield FaultRule(
                route="create",
                after=index,
                unlisted_for=world.list_lag,
                missing_for=missing,
                expired=expired,
                archived=archived,
                created_at_skew=skew,
            )


def _plan_job(world: JobWorld, name: str, chunk_rows: int, duration: float) -> SimJob:
    rng = world.rng
    most = chunk_rows * rng.choice((1, 1, 2, 2, 4, 8))
    count = rng.choice((0, 1, rng.randint(1, 5), *[rng.randint(1, most)] * 9))
    options = JobOptions(
        chunk_rows=chunk_rows,
        max_waiting=rng.choice((1, chunk_rows, 2 * chunk_rows, 1000)),
        rounds=rng.choice((0, 1, 1, 2, 3)),
        ids=rng.choice(("keep", "map")),
        poll_interval=max(rng.choice((30.0, 300.0)), duration / rng.choice((1.0, 4.0))),
        settle_time=world.settle_time,
        parallel=rng.choice((1, 2, 4)),
    )
    count = min(count, 60)
    tag = job_tag(f"{name}-{world.seed}")
    ids = [wire_id(tag, row) if options.ids == "map" else f"{name}-{row}" for row in range(count)]
    return SimJob(
        world=world,
        name=name,
        rows=Rows(
            ids,
            [*_plan_fates(rng, count)],
            max_bytes=rng.choice((10**6, 10**6, 400)),
        ),
        options=options,
        network=Network(world, _plan_hazards(rng), frozenset()),
        policy=RetryPolicy(
            attempts=rng.choice((1, 2, 3, 3, 5)),
            initial_delay=rng.choice((0.0, 0.5, 2.0)),
            multiplier=rng.choice((1.0, 2.0, 3.0)),
            max_delay=rng.choice((1.0, 30.0)),
            max_retry_after=rng.choice((0.0, 10.0, 300.0)),
        ),
        settling=SettlingPolicy(longest_look=max(15.0, world.settle_time / 4)),
        trouble=_plan_trouble(rng),
        accept=is_good if rng.random() < 0.5 else None,
        knows_key=rng.random() < 0.7,
        keys=_plan_keys(world),
    )


def _plan_keys(world: JobWorld) -> tuple[str, ...]:
    """Choose the keys that a person uses for the runs of a job, one of them at the first."""
    first, chance = world.credential, world.rng.random()
    if chance < 0.9:
        return (first,)
    # The second key is that of the same workspace, or of another one.
    return first, f"{first}-2" if chance < 0.96 else f"{first}-elsewhere"


def _plan_fates(rng: Random, count: int) -> Iterator[tuple[str, ...]]:
    """Choose what becomes of each row, each time it is sent."""
    quality = rng.choice(("good", "mixed", "mixed", "bad", "money"))
    same = rng.choice(("invalid", "policy_error", "ok"))
    for _ in range(count):
        chance = rng.random()
        if quality == "good" or (quality == "mixed" and chance < 0.6):
            yield ("ok",)
        elif quality == "money" and chance < 0.5:
            yield (*[rng.choice(("credit", "usage"))] * rng.randint(1, 2), "ok")
        elif quality == "bad" and chance < 0.6:
            yield (same,)
        else:
            kinds = (*PASSING, "bad", "expired", "invalid_request_error")
            yield (
                *(rng.choice(kinds) for _ in range(rng.randint(0, 3))),
                rng.choice(("ok", "ok", rng.choice(kinds))),
            )


def _plan_hazards(rng: Random) -> HazardPlan:
    routes: tuple[str, ...] = _ROUTES
    if rng.random() < 0.4:
        routes = (rng.choice(("create", "create", "get", "list", "results")),)
    outages: tuple[tuple[float, float], ...] = ()
    if rng.random() < 0.08:
        begin = rng.expovariate(1 / 600)
        outages = ((begin, begin + rng.choice((5.0, 100.0, 900.0))),)
    return HazardPlan(
        rate=rng.choice((0.0, 0.05, 0.1, 0.3, 0.6)),
        left=rng.choice((1, 2, 4, 8, 20)),
        routes=frozenset(routes),
        outages=outages,
    )


def _plan_trouble(rng: Random) -> Trouble:
    trouble = Trouble(buys_again=rng.random() < 0.5)
    if rng.random() < 0.6:
        trouble.crashes = rng.randint(1, 6)
        trouble.step_rate = rng.choice((0.0, 0.01, 0.05, 0.2))
        trouble.write_rate = rng.choice((0.0, 0.05, 0.2, 0.5))
    if rng.random() < 0.05:
        trouble.downtimes = (0.0, 60.0, _DAY, 30 * _DAY)
    return trouble


def _plan_acts(rng: Random, job: SimJob) -> Iterator[tuple[float, Callable[[], None]]]:
    for _ in range(rng.choice((0, 0, 1, 3))):
        yield rng.expovariate(1 / rng.choice((5.0, 60.0, 4000.0))), job.kill
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        yield rng.expovariate(1 / rng.choice((5.0, 60.0, 4000.0))), job.stop
    if rng.random() < 0.12:
        yield rng.expovariate(1 / rng.choice((5.0, 60.0, 4000.0))), job.cancel


def _plan_colleague(world: JobWorld, chunk_rows: int) -> None:
    """Let somebody else create batches in the same workspace, some of a chunk's size."""
    rng = world.rng
    for _ in range(rng.randint(1, 4)):
        size = rng.choice((chunk_rows, rng.randint(1, chunk_rows)))
        after = rng.expovariate(1 / rng.choice((5.0, 60.0, 600.0)))

        def create(size: int = size) -> None:
            world.count_hazard("a colleague creates")
            world.job_service.create("S", size, world.now)

        world.call_later(after, create)
