"""Tries the first rows of an input in a job of their own, and shows what they cost.

The rows are paid for again in the whole job: a job's chunks are cut before the first is sent.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .codes import ExitCode
from .console import CommandError, Console
from .endings import cost_value, dollars, exit_code, show_end
from .prompts import consent
from .running import JobCommand
from .settings import Settings

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions
    from batches_jobs import JobStatus

#: How many answers are shown, and how much of each.
_SHOWN, _LENGTH = 3, 200


def try_first_rows(
    console: Console,
    requests: Any,
    job: Path,
    settings: Settings,
    *,
    count: int,
    rows: int,
    options: JobOptions,
    every: float,
    yes: bool,
) -> None:
    """Run the first `count` of all `rows`, show what came of them, and ask whether to go on.

    Raises:
        CommandError: nobody agreed to go on.
        SystemExit: the rows could not all be run.
    """
    folder = job.with_name("canary" if job.name == "job" else f"{job.stem}.canary.job")
    folder.parent.mkdir(parents=True, exist_ok=True)
    own = msgspec.structs.replace(settings, output=None, output_format=None)
    console.note(f"canary: the first {count:,} of {rows:,} requests, in {folder}")
    again = shlex.join(["batches", *sys.argv[1:]])
    runner = JobCommand(
        console, folder, own, every=every, max_cost=settings.max_cost, next_command=again
    )
    status = runner.run([*islice(_requests(requests), count)], options=options)
    if exit_code(status) not in {ExitCode.OK, ExitCode.FAILED_ROWS}:
        show_end(console, folder, status, output=None)
        raise SystemExit(exit_code(status))
    expected = _show(console, folder, status, rows)
    limit = None if settings.max_cost is None else Decimal(settings.max_cost)
    if yes or (limit is not None and expected is not None and expected <= limit):
        return
    try:
        consent(
            f"Send all {rows:,} requests?",
            remedy="pass --yes to agree, or a --max-cost above what is expected",
            refused="only the canary was sent",
        )
    except CommandError as error:
        raise CommandError(error.code, str(error), again) from error


def _requests(requests: Any) -> Iterator[Any]:
    if isinstance(requests, str):
        with Path(requests).open("rb") as file:
            yield from (line.removesuffix(b"\n") for line in file if line.strip())
    else:
        yield from (request for _, request in requests.read())


def _show(console: Console, folder: Path, status: JobStatus, rows: int) -> Decimal | None:
    """Show what came of the rows. Return what all rows cost at this rate."""
    from batches_jobs import JobReader

    table = JobReader(folder).table(select=["custom_id", "type", "text", "stop_reason"])
    stops: Counter[str] = Counter()
    shown = 0
    for custom_id, type_, text, stop in table.rows():
        if type_ == "succeeded":
            stops[stop] += 1
            if shown < _SHOWN:
                shown += 1
                console.note(f"  {custom_id}: {_short(text)}")
    tried = status.rows or 1
    console.note(f"  {status.answered:,} of {tried:,} were answered")
    if stops["max_tokens"]:
        console.warn(f"{stops['max_tokens']:,} answers were cut at max_tokens")
    for reason, number in status.failures.items():
        console.warn(f"{number:,} failed: {reason}")
    cost = cost_value(status)
    if cost is None:
        console.note("  cost: unknown")
        return None
    expected = cost / tried * rows
    console.note(
        f"  cost: {dollars(cost)}, so all {rows:,} cost about {dollars(expected)} "
        "(and the canary's rows are paid for again)"
    )
    return expected


def _short(text: str) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _LENGTH else line[:_LENGTH] + "…"
