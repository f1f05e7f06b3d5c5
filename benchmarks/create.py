"""Measures a create from requests that are dicts, as Python code usually makes them.

The dicts exist before the measurement begins, so only the cost of the create itself is measured.
"""

from __future__ import annotations

from .data import request_lines, write_once
from .measure import Case, Contender, Measure, Setup, max_relative_peak, min_speed
from .runner import start_server

_REQUESTS = 50_000
_CASE = "create"
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
    "asyncio": {"client": "transports.asyncio:BatchesClient", "loop": "asyncio"},
}


def _contenders() -> list[Contender]:
    function = "benchmarks.contenders.clients:create"
    return [
        Contender(name="anthropic", function="benchmarks.contenders.sdk:create", role="peer"),
        Contender(
            name="encode, send", function="benchmarks.contenders.limits:create", role="limit"
        ),
        *(
            Contender(name=name, function=function, parameters=parameters)
            for name, parameters in _CLIENTS.items()
        ),
    ]


def _prepare(setup: Setup) -> list[Case]:
    count = setup.scaled(_REQUESTS)
    path = write_once(setup.folder / f"requests-{count}.jsonl", request_lines(count))
    base_url = start_server(setup, "benchmarks.server")
    parameters = {"base_url": base_url, "requests": str(path), "size": path.stat().st_size}
    goals = {
        name: (
            min_speed(_CASE, name, "anthropic", 6),
            max_relative_peak(_CASE, name, "anthropic", 0.3),
        )
        for name in _CLIENTS
    }
    return [Case(name=_CASE, parameters=parameters, goals=goals)]


MEASURE = Measure(
    title=f"Create a batch from {_REQUESTS:,} dicts", contenders=_contenders, prepare=_prepare
)
