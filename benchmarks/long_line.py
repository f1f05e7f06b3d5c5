"""One result that is very long, in pieces down to very small ones."""

from __future__ import annotations

from .measure import MB, Case, Contender, Goal, Results, Verdict, Workshop

TITLE = "Decode one long line"
ROUNDS: int | None = None

_SIZES = (4 * MB, 16 * MB, 64 * MB)
_CHUNKS = (64, 4 * 1024, 64 * 1024)
#: How many times the cost of a byte may differ.
_MOST = 2.0
_OURS = "batches_core"


def _name(size: int, chunk: int) -> str:
    return f"{size / MB:g} MB in chunks of {chunk:,} bytes"


def contenders() -> list[Contender]:
    """Name the contenders; for the peer the shortest line is long enough."""
    smallest = (_SIZES[0], _SIZES[0] // 10)
    return [
        Contender(
            name="anthropic",
            function="benchmarks.contenders.sdk:long_line",
            role="peer",
            cases=frozenset(_name(size, chunk) for size in smallest for chunk in _CHUNKS),
        ),
        Contender(
            name="join, msgspec", function="benchmarks.contenders.bare:long_line", role="limit"
        ),
        Contender(name=_OURS, function="benchmarks.contenders.core:long_line"),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Name the cases; each contender makes its line itself."""
    sizes = [workshop.scaled(size) for size in _SIZES]
    cases = []
    for chunk in _CHUNKS:
        for size in sizes:
            goals = {_OURS: (_is_linear(sizes, chunk),)} if size == sizes[-1] else {}
            parameters = {"size": size, "chunk": chunk, "lines": 1}
            prove = size == sizes[0]
            cases.append(
                Case(name=_name(size, chunk), parameters=parameters, goals=goals, prove=prove)
            )
    return cases


def _is_linear(sizes: list[int], chunk: int) -> Goal:
    def judge(results: Results) -> Verdict:
        costs = []
        for size in sizes:
            seconds = results.median(_name(size, chunk), _OURS, results.clock)
            if seconds is None:
                return None
            costs.append(seconds / size)
        apart = max(costs) / min(costs)
        words = ", ".join(f"{cost * 1e9:.2f}" for cost in costs)
        return f"{words} ns a byte, {apart:.2f} x", apart <= _MOST

    return Goal(text=f"the cost of a byte within {_MOST:g} x", judge=judge)


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
