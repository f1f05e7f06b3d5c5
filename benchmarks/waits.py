"""Many waits at once on one thread, on the emulator in another process.

They begin one after the other over one interval, as batches are created one after the other, and
each polls on until the end. A poll is late by how long after its time the answer was there, so
what the network and the emulator took is part of it.
"""

from __future__ import annotations

from .measure import Case, Contender, Goal, Results, Verdict, Workshop
from .runner import start_server

TITLE = "Many waits at once on one thread"
#: One takes minutes, and has tens of thousands of polls in it.
ROUNDS: int | None = 1

_WAITS = 10_000
#: Seconds between two polls of one wait. At 60, the waits together poll 185 times a second; twice
#: as many are more than httpx on asyncio can send from one thread here, and then it never catches
#: up, because each poll goes through all that are queued.
_INTERVAL, _QUICK_INTERVAL = 60.0, 6.0
#: How many intervals it takes from the first wait's beginning to the last polls.
_INTERVALS = 1.5
#: How late a poll may be, in seconds.
_LATEST = 1.0
_HTTPX = "transports.httpx:AsyncBatchesClient"


def contenders() -> list[Contender]:
    """Name the contenders."""
    function = "benchmarks.contenders.waits:wait"
    return [
        Contender(
            name="trio",
            function=function,
            parameters={"client": "transports.trio:BatchesClient", "loop": "trio"},
        ),
        Contender(
            name="asyncio, httpx",
            function=function,
            parameters={"client": _HTTPX, "library": "httpx", "loop": "asyncio"},
        ),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Start the emulator, with all the batches in it."""
    waits = workshop.scaled(_WAITS)
    interval = _QUICK_INTERVAL if workshop.quick else _INTERVAL
    base_url = start_server(workshop, "benchmarks.emulator", str(waits))
    case = f"{waits:,} waits, a poll every {interval:g} s or up to a fifth sooner"
    parameters = {
        "base_url": base_url,
        "waits": waits,
        "interval": interval,
        "duration": _INTERVALS * interval,
    }
    goals = {contender.name: (_in_time(case, contender.name),) for contender in contenders()}
    return [Case(name=case, parameters=parameters, goals=goals, prove=False)]


def _in_time(case: str, name: str) -> Goal:
    def judge(results: Results) -> Verdict:
        latest = results.figures(case, name, "latest")
        return (f"{max(latest):.3f} s", max(latest) <= _LATEST) if latest else None

    return Goal(text=f"every poll within {_LATEST:g} s of its time", judge=judge)


def note(figures: dict[str, float]) -> str:
    """Say how many polls there were, how late, and at what cost."""
    return (
        f"{figures['polls']:,.0f} polls, {figures['cpu_per_poll'] * 1e6:.0f} µs of CPU each; late "
        f"by {figures['median_late'] * 1e3:.1f} ms (median), {figures['late_99'] * 1e3:.0f} ms "
        f"(99 %); {figures['failures']:.0f} failed"
    )
