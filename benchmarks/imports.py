"""Measures imports in a fresh interpreter, less the time that Python itself takes to start."""

from __future__ import annotations

from .measure import Case, Contender, Measure, Role, Setup, max_time

_TIMES = 3
_IMPORT = "import"
_CLIENT = "import, and make a client"


def _contenders() -> list[Contender]:
    def importing(module: str, case: str, client: str = "", role: Role = "project") -> Contender:
        statement = f"import {module}"
        if client:
            statement += f"; {module}.{client}(api_key='a key')"
        return Contender(
            name=module,
            function="benchmarks.contenders.imports:time_statement",
            parameters={"module": module, "statement": statement},
            role=role,
            cases=frozenset([case]),
        )

    return [
        importing("anthropic", _IMPORT, role="peer"),
        importing("transports.h11", _IMPORT),
        importing("transports.httpx", _IMPORT),
        importing("transports.trio", _IMPORT),
        importing("transports.asyncio", _IMPORT),
        importing("batches_core", _IMPORT),
        importing("anthropic", _CLIENT, "Anthropic", role="peer"),
        importing("transports.h11", _CLIENT, "BatchesClient"),
        importing("transports.httpx", _CLIENT, "BatchesClient"),
        importing("transports.asyncio", _CLIENT, "BatchesClient"),
    ]


def _prepare(setup: Setup) -> list[Case]:
    goals = {
        name: (max_time(_IMPORT, name, "anthropic", 0.1),)
        for name in ("transports.h11", "transports.httpx", "transports.asyncio")
    }
    parameters = {"times": 1 if setup.quick else _TIMES}
    return [
        Case(name=_IMPORT, parameters=parameters, goals=goals, verify=False),
        Case(name=_CLIENT, parameters=parameters, verify=False),
    ]


MEASURE = Measure(
    title="Import, in a process of its own, less the start of Python",
    contenders=_contenders,
    prepare=_prepare,
)
