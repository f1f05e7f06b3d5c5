"""Results to a file, of two lengths: what is held meanwhile.

To deliver each result once, its id has to be known again; so the set of the ids is measured by
itself, and is taken off.
"""

from __future__ import annotations

from .measure import MB, Case, Contender, Goal, Results, Verdict, Workshop
from .runner import start_server

TITLE = "Download results to a file"
ROUNDS: int | None = None

_LINES = (100_000, 1_000_000)
_IDS = "set of ids"
#: How far the peaks may be apart, in bytes.
_APART = 10 * MB
_CLIENTS = {
    "h11": {"client": "transports.h11:BatchesClient"},
    "httpx": {"client": "transports.httpx:BatchesClient", "library": "httpx"},
    "trio": {"client": "transports.trio:BatchesClient", "loop": "trio"},
}


def contenders() -> list[Contender]:
    """Name the contenders; `results_stream` is what was to be used before there was a download."""
    by_hand = "benchmarks.contenders.clients:write_items"
    return [
        Contender(name=_IDS, function="benchmarks.contenders.bare:ids"),
        *(
            Contender(
                name=name, function="benchmarks.contenders.clients:download", parameters=parameters
            )
            for name, parameters in _CLIENTS.items()
        ),
        Contender(name="h11, by hand", function=by_hand, parameters=_CLIENTS["h11"]),
    ]


def prepare(workshop: Workshop) -> list[Case]:
    """Start the server."""
    base_url = start_server(workshop, "benchmarks.server")
    names = [f"{lines:,} lines" for lines in map(workshop.scaled, _LINES)]
    cases = []
    for lines, name in zip(map(workshop.scaled, _LINES), names, strict=True):
        parameters = {"base_url": base_url, "batch": f"msgbatch_made_{lines}", "lines": lines}
        is_last = name == names[-1]
        goals = {client: (_same_peak(client, names),) for client in _CLIENTS} if is_last else {}
        cases.append(Case(name=name, parameters=parameters, goals=goals, prove=False))
    return cases


def _same_peak(client: str, cases: list[str]) -> Goal:
    def judge(results: Results) -> Verdict:
        beyond = []
        for case in cases:
            peak, ids = (results.median(case, name, "peak") for name in (client, _IDS))
            if peak is None or ids is None:
                return None
            beyond.append(peak - ids)
        apart = beyond[-1] - beyond[0]
        words = " and ".join(f"{each / MB:.1f} MB" for each in beyond)
        return f"{words}, {apart / MB:+.1f} MB", abs(apart) <= _APART

    text = f"the peaks beyond the ids no more than {_APART / MB:.0f} MB apart"
    return Goal(text=text, judge=judge)


def note(figures: dict[str, float]) -> str:
    """Say nothing: there is nothing else."""
    del figures
    return ""
