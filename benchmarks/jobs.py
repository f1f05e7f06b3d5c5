"""Measures whole jobs of two lengths, beside their creates and downloads alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from .data import request_lines, write_once
from .measure import MB, Case, Contender, Goal, Measure, Results, Setup, Verdict, max_time
from .runner import start_server

_ROWS = (100_000, 1_000_000)
#: As many as the chunks of a job have by default.
_CHUNK_ROWS = 10_000
_JOB, _BARE = "run_job", "creates and downloads"
_MOST_TIME = 1.25
#: The largest share of the time that the journal may take.
_MOST_JOURNAL = 0.02
#: The most bytes by which the peaks for the two lengths may differ.
_MAX_DIFFERENCE = 10 * MB
#: The longest time in seconds in which a finished job is opened and read again.
_MOST_RESUMED = 1.0


def _contenders() -> list[Contender]:
    module = "benchmarks.contenders.jobs"
    return [
        Contender(name=_JOB, function=f"{module}:job"),
        Contender(name=_BARE, function=f"{module}:bare", role="reference"),
    ]


def _prepare(setup: Setup) -> list[Case]:
    base_url = start_server(setup, "benchmarks.job_server")
    lengths = {f"{rows:,} rows": rows for rows in map(setup.scaled, _ROWS)}
    *_, last = names = [*lengths]
    cases = []
    for name, rows in lengths.items():
        path = write_once(setup.folder / f"job-{rows}.jsonl", request_lines(rows))
        goals: tuple[Goal, ...] = (max_time(name, _JOB, _BARE, _MOST_TIME), _little_journal(name))
        if name == last:
            goals += (_quick_resume(name), _same_peak(names))
        parameters = {
            "base_url": base_url,
            "requests": str(path),
            "parts": str(_split(path)),
            "folder": str(setup.folder),
            "size": path.stat().st_size,
        }
        cases.append(Case(name=name, parameters=parameters, goals={_JOB: goals}, verify=False))
    return cases


def _split(path: Path) -> Path:
    """Write the chunks of a file to a folder of their own, and return it."""
    folder = path.with_suffix(".parts")
    folder.mkdir(exist_ok=True)
    with path.open("rb") as file:
        for number, lines in enumerate(_chunks(file)):
            write_once(folder / f"{number:06}.jsonl", lines)
    return folder


def _chunks(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while chunk := list(islice(lines, _CHUNK_ROWS)):
        yield chunk


def _little_journal(case: str) -> Goal:
    def check(results: Results) -> Verdict:
        journal, cpu = (results.median(case, _JOB, name) for name in ("journal", "cpu"))
        if journal is None or cpu is None:
            return None
        share = journal / cpu
        return f"{share:.2%}", share <= _MOST_JOURNAL

    return Goal(text=f"the journal takes ≤ {_MOST_JOURNAL:.0%} of the CPU time", check=check)


def _quick_resume(case: str) -> Goal:
    def check(results: Results) -> Verdict:
        resumed = results.median(case, _JOB, "resumed")
        return None if resumed is None else (f"{resumed:.2f} s", resumed <= _MOST_RESUMED)

    return Goal(text=f"a finished job is resumed in ≤ {_MOST_RESUMED:g} s", check=check)


def _same_peak(cases: list[str]) -> Goal:
    def check(results: Results) -> Verdict:
        peaks = [results.median(case, _JOB, "peak") for case in cases]
        first, last = peaks[0], peaks[-1]
        if first is None or last is None:
            return None
        text = f"{first / MB:.1f} MB and {last / MB:.1f} MB"
        return text, abs(last - first) <= _MAX_DIFFERENCE

    text = f"the peaks for both lengths differ by ≤ {_MAX_DIFFERENCE / MB:.0f} MB"
    return Goal(text=text, check=check)


def _note(metrics: Mapping[str, float]) -> str:
    if "journal" not in metrics:
        return ""
    return f"journal {metrics['journal']:.3f} s, resumed in {metrics['resumed']:.3f} s"


MEASURE = Measure(
    title="Run a whole job", contenders=_contenders, prepare=_prepare, rounds=2, note=_note
)
