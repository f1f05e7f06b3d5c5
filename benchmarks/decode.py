"""Results from chunks to typed items, without a network."""

from __future__ import annotations

from .data import Results, write
from .measure import Case, Contender, Workshop, faster

TITLE = "Decode results, in chunks of 64 KiB, fully typed"
ROUNDS: int | None = None

_LINES = 50_000
_CHUNK = 64 * 1024
_CASE = "decode"


def contenders() -> list[Contender]:
    """Name the contenders."""
    return [
        Contender(name="anthropic", function="benchmarks.contenders.sdk:decode", role="peer"),
        Contender(name="msgspec", function="benchmarks.contenders.bare:decode", role="limit"),
        Contender(name="batches_core", function="benchmarks.contenders.core:decode"),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Make the file."""
    lines = workshop.scaled(_LINES)
    path = write(workshop.folder / f"results-{lines}.jsonl", Results(lines).lines())
    goals = (
        faster(_CASE, "batches_core", "anthropic", 25),
        faster(_CASE, "batches_core", "msgspec", 0.9),
    )
    parameters = {"results": str(path), "chunk": _CHUNK, "lines": lines}
    return [Case(name=_CASE, parameters=parameters, goals={"batches_core": goals})]


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
