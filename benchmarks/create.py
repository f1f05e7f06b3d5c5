"""A create from requests that are dicts, as who makes them in Python has them.

The dicts are there before time and memory are measured: what is measured is what a create adds.
"""

from __future__ import annotations

from .data import request_lines, write
from .measure import Case, Contender, Workshop, faster, least_peak
from .runner import start_server

TITLE = "Create a batch from 50,000 dicts"
ROUNDS: int | None = None

_REQUESTS = 50_000
_CASE = "create"
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
}


def contenders() -> list[Contender]:
    """Name the contenders."""
    return [
        Contender(name="anthropic", function="benchmarks.contenders.sdk:create", role="peer"),
        Contender(name="encode, send", function="benchmarks.contenders.bare:create", role="limit"),
        *(
            Contender(
                name=name, function="benchmarks.contenders.clients:create", parameters=parameters
            )
            for name, parameters in _CLIENTS.items()
        ),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Make the requests, start the server."""
    count = workshop.scaled(_REQUESTS)
    path = write(workshop.folder / f"requests-{count}.jsonl", request_lines(count))
    base_url = start_server(workshop, "benchmarks.server")
    parameters = {"base_url": base_url, "requests": str(path), "size": path.stat().st_size}
    goals = {
        name: (faster(_CASE, name, "anthropic", 6), least_peak(_CASE, name, "anthropic", 0.3))
        for name in _CLIENTS
    }
    return [Case(name=_CASE, parameters=parameters, goals=goals)]


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
