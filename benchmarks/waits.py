"""Measures many waits at once on one thread, against the emulator in another process.

The waits begin one after the other within one interval, as if their batches had been created one by
one, and poll until the measure ends. The lateness of a poll is the time from its due time until its
response has been received. So it includes the time that the network and the emulator take.
"""

from __future__ import annotations

from collections.abc import Mapping

from .measure import Case, Contender, Goal, Measure, Results, Setup, Verdict
from .runner import start_server

_WAITS = 10_000
#: Seconds between two polls of one wait. With 60 s, all waits together poll 185 times a second.
#: On the machine where this was tuned, httpx on asyncio cannot send twice as many from one thread.
#: It then never catches up, because it goes through all queued requests for each poll.
_INTERVAL, _QUICK_INTERVAL = 60.0, 6.0
#: The length of the measure, from the beginning of the first wait to the last polls, in intervals.
_INTERVALS = 1.5
#: How late a poll may be, in seconds.
_MAX_LATENESS = 1.0


def _contenders() -> list[Contender]:
    def project(name: str, client: str, **parameters: str) -> Contender:
        return Contender(
            name=name,
            function="benchmarks.contenders.waits:wait",
            parameters={"client": client, **parameters},
        )

    httpx = "transports.httpx:AsyncBatchesClient"
    return [
        project("trio", "transports.trio:BatchesClient", loop="trio"),
        project("asyncio", "transports.asyncio:BatchesClient", loop="asyncio"),
        project("httpx on asyncio", httpx, library="httpx", loop="asyncio"),
    ]


def _prepare(setup: Setup) -> list[Case]:
    waits = setup.scaled(_WAITS)
    interval = _QUICK_INTERVAL if setup.quick else _INTERVAL
    base_url = start_server(setup, "benchmarks.emulator", str(waits))
    case = f"{waits:,} waits, a poll every {interval:g} s or up to a fifth sooner"
    parameters = {
        "base_url": base_url,
        "waits": waits,
        "interval": interval,
        "duration": _INTERVALS * interval,
    }
    goals = {contender.name: (_in_time(case, contender.name),) for contender in _contenders()}
    return [Case(name=case, parameters=parameters, goals=goals, verify=False)]


def _in_time(case: str, contender: str) -> Goal:
    def check(results: Results) -> Verdict:
        latest = results.metric(case, contender, "latest")
        return (f"{max(latest):.3f} s", max(latest) <= _MAX_LATENESS) if latest else None

    return Goal(text=f"every poll at most {_MAX_LATENESS:g} s late", check=check)


def _note(metrics: Mapping[str, float]) -> str:
    """Describe the number of polls, their lateness and their cost."""
    return (
        f"{metrics['polls']:,.0f} polls, {metrics['cpu_per_poll'] * 1e6:.0f} µs of CPU each; late "
        f"by {metrics['median_late'] * 1e3:.1f} ms (median), {metrics['late_99'] * 1e3:.0f} ms "
        f"(99 %); {metrics['failures']:.0f} failed"
    )


MEASURE = Measure(
    title="Many waits at once on one thread",
    contenders=_contenders,
    prepare=_prepare,
    # One round takes minutes and has tens of thousands of polls.
    rounds=1,
    note=_note,
)
