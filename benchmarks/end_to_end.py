"""Measures reading results from a server on this machine, up to iterating over the items.

Every contender makes two requests: one for the batch, by its id, and one for the results.
"""

from __future__ import annotations

from .data import GeneratedResults, write_once
from .measure import Case, Contender, Goal, Measure, Setup, min_speed
from .runner import start_server

_LINES = 50_000
#: The least speed of each client, as a multiple of the peer's.
_MIN_SPEED = {"h11": 18, "httpx": 15, "httpx2": 15, "trio": 12, "asyncio": 12}


def _contenders() -> list[Contender]:
    def project(name: str, client: str, **parameters: str) -> Contender:
        return Contender(
            name=name,
            function="benchmarks.contenders.clients:results",
            parameters={"client": client, **parameters},
        )

    httpx, httpx_async = "transports.httpx:BatchesClient", "transports.httpx:AsyncBatchesClient"
    return [
        Contender(name="anthropic", function="benchmarks.contenders.sdk:results", role="peer"),
        Contender(name="recv", function="benchmarks.contenders.limits:receive", role="limit"),
        *(
            Contender(
                name=f"msgspec over {library}",
                function="benchmarks.contenders.limits:decode_over_httpx",
                role="reference",
                parameters={"library": library},
            )
            for library in ("httpx", "httpx2")
        ),
        project("h11", "transports.h11:BatchesClient"),
        project("httpx", httpx, library="httpx"),
        project("httpx2", httpx, library="httpx2"),
        project("trio", "transports.trio:BatchesClient", loop="trio"),
        project("asyncio", "transports.asyncio:BatchesClient", loop="asyncio"),
        project("httpx on asyncio", httpx_async, library="httpx", loop="asyncio"),
        project("httpx on trio", httpx_async, library="httpx", loop="trio"),
    ]


def _prepare(setup: Setup) -> list[Case]:
    lines = setup.scaled(_LINES)
    path = write_once(setup.folder / f"results-{lines}.jsonl", GeneratedResults(lines).lines())
    base_url = start_server(setup, "benchmarks.server", "--results", str(path))
    common = {"base_url": base_url, "size": path.stat().st_size}
    # The service sends chunks if it does not know the length of a file in advance.
    framings = {"chunked": "in chunks of 64 KiB", "length": "with a content-length"}
    return [
        Case(
            name=name,
            parameters={**common, "batch": f"msgbatch_{framing}"},
            goals=_goals(name) if framing == "chunked" else {},
        )
        for framing, name in framings.items()
        if framing == "chunked" or not setup.quick
    ]


def _goals(case: str) -> dict[str, tuple[Goal, ...]]:
    return {name: (min_speed(case, name, "anthropic", x),) for name, x in _MIN_SPEED.items()}


MEASURE = Measure(
    title="Results end to end over loopback, items iterated",
    contenders=_contenders,
    prepare=_prepare,
)
