"""Measures a create from a requests file, up to the limits of 100,000 requests and 256 MB."""

from __future__ import annotations

from .data import request_lines, write_once
from .measure import Case, Contender, Measure, Setup, max_peak
from .runner import start_server

_REQUESTS = (25_000, 100_000)
#: The highest peak in MB, for every size of the file.
_MAX_PEAK = 64
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
    "asyncio": {"client": "transports.asyncio:BatchesClient", "loop": "asyncio"},
}


def _contenders() -> list[Contender]:
    function = "benchmarks.contenders.clients:create_from_file"
    return [
        *(
            Contender(name=name, function=function, parameters=parameters)
            for name, parameters in _CLIENTS.items()
        ),
        # For comparison: the client keeps the lines of an open file in memory.
        Contender(
            name="h11, open file",
            function="benchmarks.contenders.clients:create_from_lines",
            parameters=_CLIENTS["h11"],
        ),
    ]


def _prepare(setup: Setup) -> list[Case]:
    base_url = start_server(setup, "benchmarks.server")
    cases = []
    for count in map(setup.scaled, _REQUESTS):
        path = write_once(setup.folder / f"full-{count}.jsonl", request_lines(count, full=True))
        case = f"{count:,} requests, {path.stat().st_size:,} bytes"
        parameters = {"base_url": base_url, "requests": str(path), "size": path.stat().st_size}
        goals = {name: (max_peak(case, name, _MAX_PEAK),) for name in _CLIENTS}
        cases.append(Case(name=case, parameters=parameters, goals=goals))
    return cases


MEASURE = Measure(
    title="Create a batch from a requests file", contenders=_contenders, prepare=_prepare
)
