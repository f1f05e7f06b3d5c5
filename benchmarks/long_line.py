"""Measures decoding one very long result, in chunks down to very small ones.

The cost of a byte should neither grow with the length of the line nor with the number of chunks.
"""

from __future__ import annotations

from .measure import MB, Case, Contender, Goal, Measure, Results, Setup, Verdict

_SIZES = (4 * MB, 16 * MB, 64 * MB)
_CHUNKS = (64, 4 * 1024, 64 * 1024)
#: The most by which the cost of a byte may differ between the sizes.
_MAX_RATIO = 2.0
_PROJECT = "batches_core"


def _name(size: int, chunk: int) -> str:
    return f"{size / MB:g} MB in chunks of {chunk:,} bytes"


def _contenders() -> list[Contender]:
    # The peer's time grows with the square of the size: 80 s for 16 MB in chunks of 64 bytes. So it
    # only decodes the shortest line. The second size is the shortest one with `--quick`.
    shortest = (_SIZES[0], _SIZES[0] // 10)
    return [
        Contender(
            name="anthropic",
            function="benchmarks.contenders.sdk:long_line",
            role="peer",
            cases=frozenset(_name(size, chunk) for size in shortest for chunk in _CHUNKS),
        ),
        Contender(
            name="join, msgspec", function="benchmarks.contenders.limits:long_line", role="limit"
        ),
        Contender(name=_PROJECT, function="benchmarks.contenders.core:long_line"),
    ]


def _prepare(setup: Setup) -> list[Case]:
    sizes = [setup.scaled(size) for size in _SIZES]
    return [
        Case(
            name=_name(size, chunk),
            parameters={"size": size, "chunk": chunk, "lines": 1},
            # The goal compares all sizes, so it is checked with the last one.
            goals={_PROJECT: (_is_linear(sizes, chunk),)} if size == sizes[-1] else {},
            verify=size == sizes[0],
        )
        for chunk in _CHUNKS
        for size in sizes
    ]


def _is_linear(sizes: list[int], chunk: int) -> Goal:
    def check(results: Results) -> Verdict:
        costs = []
        for size in sizes:
            seconds = results.median(_name(size, chunk), _PROJECT, results.clock)
            if seconds is None:
                return None
            costs.append(seconds / size)
        ratio = max(costs) / min(costs)
        text = ", ".join(f"{cost * 1e9:.2f}" for cost in costs)
        return f"{text} ns a byte, {ratio:.2f} x", ratio <= _MAX_RATIO

    return Goal(text=f"the cost of a byte differs by ≤ {_MAX_RATIO:g} x", check=check)


MEASURE = Measure(title="Decode one long line", contenders=_contenders, prepare=_prepare)
