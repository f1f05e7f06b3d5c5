"""What an import costs, beyond starting Python."""

from __future__ import annotations

from .measure import Case, Contender, Workshop, least_time

TITLE = "Import, in a process of its own, less the start of Python"
ROUNDS: int | None = None

_TIMES = 3
_CASE = "import"
_MADE = "import, and make a client"


def contenders() -> list[Contender]:
    """Name the contenders."""

    def of(name: str, statement: str, case: str, role: str = "ours") -> Contender:
        return Contender(
            name=name,
            function="benchmarks.contenders.imports:time_statement",
            parameters={"statement": statement},
            role="peer" if role == "peer" else "ours",
            cases=frozenset([case]),
        )

    make = "; {}.{}(api_key='a key')"
    return [
        of("anthropic", "import anthropic", _CASE, "peer"),
        of("transports.h11", "import transports.h11", _CASE),
        of("transports.httpx", "import transports.httpx", _CASE),
        of("transports.trio", "import transports.trio", _CASE),
        of("batches_core", "import batches_core", _CASE),
        of("anthropic", "import anthropic" + make.format("anthropic", "Anthropic"), _MADE, "peer"),
        *(
            of(name, f"import {name}" + make.format(name, "BatchesClient"), _MADE)
            for name in ("transports.h11", "transports.httpx")
        ),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Say how often."""
    goals = {
        name: (least_time(_CASE, name, "anthropic", 0.1),)
        for name in ("transports.h11", "transports.httpx")
    }
    parameters = {"times": 1 if workshop.quick else _TIMES}
    return [
        Case(name=_CASE, parameters=parameters, goals=goals, prove=False),
        Case(name=_MADE, parameters=parameters, prove=False),
    ]


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
