"""Measures downloads of two lengths, to check that memory does not grow with the length.

A download keeps the set of ids, because it delivers each result once. That set grows with the file,
so it is measured by itself and subtracted.
"""

from __future__ import annotations

from .measure import MB, Case, Contender, Goal, Measure, Results, Setup, Verdict
from .runner import start_server

_LINES = (100_000, 1_000_000)
_IDS = "set of ids"
#: The most bytes by which the peaks for the two lengths may differ.
_MAX_DIFFERENCE = 10 * MB
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
    "asyncio": {"client": "transports.asyncio:BatchesClient", "loop": "asyncio"},
}


def _contenders() -> list[Contender]:
    function = "benchmarks.contenders.clients:download"
    return [
        Contender(name=_IDS, function="benchmarks.contenders.limits:hold_ids", role="reference"),
        *(
            Contender(name=name, function=function, parameters=parameters)
            for name, parameters in _CLIENTS.items()
        ),
        # The same with `results_stream` and a loop of the user's own.
        Contender(
            name="h11, by hand",
            function="benchmarks.contenders.clients:write_items",
            parameters=_CLIENTS["h11"],
        ),
    ]


def _prepare(setup: Setup) -> list[Case]:
    base_url = start_server(setup, "benchmarks.server")
    lengths = {f"{lines:,} lines": lines for lines in map(setup.scaled, _LINES)}
    *_, last = names = [*lengths]
    # The goal compares all lengths, so it is checked with the last one.
    goals = {last: {client: (_same_peak(client, names),) for client in _CLIENTS}}
    return [
        Case(
            name=name,
            parameters={
                "base_url": base_url,
                "batch": f"msgbatch_generated_{lines}",
                "lines": lines,
            },
            goals=goals.get(name, {}),
            verify=False,
        )
        for name, lines in lengths.items()
    ]


def _same_peak(client: str, cases: list[str]) -> Goal:
    def check(results: Results) -> Verdict:
        beyond_ids = []
        for case in cases:
            peak, ids = (results.median(case, name, "peak") for name in (client, _IDS))
            if peak is None or ids is None:
                return None
            beyond_ids.append(peak - ids)
        difference = beyond_ids[-1] - beyond_ids[0]
        text = " and ".join(f"{peak / MB:.1f} MB" for peak in beyond_ids)
        return f"{text}, {difference / MB:+.1f} MB", abs(difference) <= _MAX_DIFFERENCE

    text = f"the peaks beyond the set of ids differ by ≤ {_MAX_DIFFERENCE / MB:.0f} MB"
    return Goal(text=text, check=check)


MEASURE = Measure(title="Download results to a file", contenders=_contenders, prepare=_prepare)
