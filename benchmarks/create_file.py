"""A create from a file of requests, up to the limit of 100,000 requests and 256 MB."""

from __future__ import annotations

from .data import request_lines, write
from .measure import Case, Contender, Workshop, peak_within
from .runner import start_server

TITLE = "Create a batch from a requests file"
ROUNDS: int | None = None

_REQUESTS = (25_000, 100_000)
_MOST = 64
_OPEN_FILE = "h11, open file"
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
}


def contenders() -> list[Contender]:
    """Name the contenders; the lines of an open file are kept, for comparison."""
    found = [
        Contender(
            name=name,
            function="benchmarks.contenders.clients:create_from_file",
            parameters=parameters,
        )
        for name, parameters in _CLIENTS.items()
    ]
    kept = Contender(
        name=_OPEN_FILE,
        function="benchmarks.contenders.clients:create_from_lines",
        parameters=_CLIENTS["h11"],
    )
    return [*found, kept]


def prepare(workshop: Workshop) -> list[Case]:
    """Make the files, start the server."""
    base_url = start_server(workshop, "benchmarks.server")
    cases = []
    for count in map(workshop.scaled, _REQUESTS):
        path = write(workshop.folder / f"full-{count}.jsonl", request_lines(count, full=True))
        case = f"{count:,} requests, {path.stat().st_size:,} bytes"
        parameters = {"base_url": base_url, "requests": str(path), "size": path.stat().st_size}
        goals = {name: (peak_within(case, name, _MOST),) for name in _CLIENTS}
        cases.append(Case(name=case, parameters=parameters, goals=goals))
    return cases


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
