"""Results from a server on this machine to items that a user iterates over.

The batch is asked for by its id, so every contender makes two requests.
"""

from __future__ import annotations

from .data import Results, write
from .measure import Case, Contender, Goal, Workshop, faster
from .runner import start_server

TITLE = "Results end to end over loopback, items iterated"
ROUNDS: int | None = None

_LINES = 50_000
_LEAST = {"h11": 18, "httpx": 15, "httpx2": 15, "trio": 12, "asyncio": 12}


def contenders() -> list[Contender]:
    """Name the contenders."""

    def ours(name: str, client: str, **parameters: str) -> Contender:
        return Contender(
            name=name,
            function="benchmarks.contenders.clients:results",
            parameters={"client": client, **parameters},
        )

    httpx, httpx_async = "transports.httpx:BatchesClient", "transports.httpx:AsyncBatchesClient"
    return [
        Contender(name="anthropic", function="benchmarks.contenders.sdk:results", role="peer"),
        Contender(name="recv", function="benchmarks.contenders.bare:receive", role="limit"),
        *(
            Contender(
                name=f"msgspec over {library}",
                function="benchmarks.contenders.bare:over_httpx",
                parameters={"library": library},
            )
            for library in ("httpx", "httpx2")
        ),
        ours("h11", "transports.h11:BatchesClient"),
        ours("httpx", httpx, library="httpx"),
        ours("httpx2", httpx, library="httpx2"),
        ours("trio", "transports.trio:BatchesClient", loop="trio"),
        ours("asyncio", "transports.asyncio:BatchesClient", loop="asyncio"),
        ours("httpx on asyncio", httpx_async, library="httpx", loop="asyncio"),
        ours("httpx on trio", httpx_async, library="httpx", loop="trio"),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Make the file, start the server."""
    lines = workshop.scaled(_LINES)
    path = write(workshop.folder / f"results-{lines}.jsonl", Results(lines).lines())
    base_url = start_server(workshop, "benchmarks.server", "--results", str(path))
    common = {"base_url": base_url, "size": path.stat().st_size}
    # Chunks are how the service sends a file that it has to put together.
    framings = {"chunked": "in chunks of 64 KiB", "length": "with a content-length"}
    return [
        Case(
            name=name,
            parameters={**common, "batch": f"msgbatch_{framing}"},
            goals=_goals(name) if framing == "chunked" else {},
        )
        for framing, name in framings.items()
        if framing == "chunked" or not workshop.quick
    ]


def _goals(case: str) -> dict[str, tuple[Goal, ...]]:
    return {name: (faster(case, name, "anthropic", least),) for name, least in _LEAST.items()}


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
