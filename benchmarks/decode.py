"""Results from chunks to typed items, without a network."""

from __future__ import annotations

from .data import Results, write
from .measure import Case, Contender, Workshop, faster

TITLE = "Decode results, in chunks of 64 KiB, fully typed"
ROUNDS: int | None = None

_LINES = 50_000
_CHUNK = 64 * 1024
_WHOLE, _DECLARED = "whole messages", "what message_type= declares"
_UNKNOWN = "a block of an unknown type in every message"


def contenders() -> list[Contender]:
    """Name the contenders."""

    def ours(name: str, function: str, *cases: str) -> Contender:
        function = f"benchmarks.contenders.core:{function}"
        return Contender(name=name, function=function, cases=frozenset(cases))

    whole = frozenset({_WHOLE})
    sdk, bare = "benchmarks.contenders.sdk:decode", "benchmarks.contenders.bare:decode"
    return [
        Contender(name="anthropic", function=sdk, role="peer", cases=whole),
        Contender(name="msgspec", function=bare, role="limit", cases=whole),
        ours("batches_core", "decode", _WHOLE, _DECLARED, _UNKNOWN),
        ours("usage alone", "decode_usage", _DECLARED),
        ours("msgspec.Raw", "decode_raw", _DECLARED),
        ours("unknown blocks", "decode_unknown", _UNKNOWN),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Make the file."""
    lines = workshop.scaled(_LINES)
    path = write(workshop.folder / f"results-{lines}.jsonl", Results(lines).lines())
    goals = (
        faster(_WHOLE, "batches_core", "anthropic", 25),
        faster(_WHOLE, "batches_core", "msgspec", 0.9),
    )
    parameters = {"results": str(path), "chunk": _CHUNK, "lines": lines}
    return [
        Case(name=_WHOLE, parameters=parameters, goals={"batches_core": goals}),
        # These make different things of the same lines, so there is nothing to hold together.
        Case(name=_DECLARED, parameters=parameters, prove=False),
        Case(
            name=_UNKNOWN,
            parameters=parameters,
            prove=False,
            goals={
                "unknown blocks": (faster(_UNKNOWN, "unknown blocks", "batches_core", 0.33),),
            },
        ),
    ]


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
