"""Tries the first rows of a job, shows what came of them, and asks whether to send the others."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from .console import CommandError, Console, command
from .endings import cost_value, dollars, show_end
from .prompts import consent
from .running import JobCommand

if TYPE_CHECKING:
    from batches_core.jobs import JobOptions
    from batches_jobs import JobStatus

#: How many answers are shown, and how much of each.
_SHOWN, _LENGTH = 3, 200


def waits_for_consent(job: Path) -> bool:
    """Whether a job has sent no more than its canary, so that nobody has agreed to the rest."""
    from batches_jobs import read_status

    if not (job / "journal.db").exists():
        return True
    chunks = read_status(job).chunks
    return sum(number for state, number in chunks.items() if state != "planned") <= 1


def try_first_rows(
    console: Console,
    runner: JobCommand,
    requests: object,
    job: Path,
    *,
    rows: int | None,
    options: JobOptions | None,
    max_cost: str | None,
    yes: bool,
) -> None:
    """Run the first rows of a job, show what came of them, and ask whether to send the others.

    `rows` is the number of all rows, None if it is not known.

    Raises:
        CommandError: nobody agreed to go on.
        SystemExit: the rows could not be run.
    """
    from batches_core.jobs import JobState
    from batches_jobs import JobReader

    status = runner.run(requests, options=options, until="tried")
    if status.paused is not None or status.doubts or status.is_canceled:
        runner.leave(status)
    if status.is_finished:
        return
    state: JobState = JobReader(job).state
    rows = state.rows if rows is None else rows
    expected = _show(console, job, status, state.chunks[0].count, rows)
    limit = None if max_cost is None else Decimal(max_cost)
    if yes or (limit is not None and expected is not None and expected <= limit):
        return
    try:
        consent(
            "Send the other requests?" if rows is None else f"Send all {rows:,} requests?",
            remedy="pass --yes to agree, or a --max-cost above what is expected",
            refused="only the canary was sent",
        )
    except CommandError as error:
        show_end(console, job, status, output=None)
        raise CommandError(error.code, str(error), command("resume", job)) from error


def _show(
    console: Console, job: Path, status: JobStatus, tried: int, rows: int | None
) -> Decimal | None:
    """Show what came of the first rows. Return what all rows cost at this rate."""
    from batches_jobs import JobReader

    console.note(f"canary: the first {tried:,} requests")
    table = JobReader(job).table(select=["custom_id", "type", "text", "stop_reason"])
    stops: Counter[str] = Counter()
    shown = 0
    for custom_id, type_, text, stop in table.rows():
        if type_ == "succeeded":
            stops[stop] += 1
            if shown < _SHOWN:
                shown += 1
                console.note(f"  {custom_id}: {_short(text)}")
    console.note(f"  {status.answered:,} of {tried:,} were answered")
    if stops["max_tokens"]:
        console.warn(f"{stops['max_tokens']:,} answers were cut at max_tokens")
    for reason, number in status.failures.items():
        console.warn(f"{number:,} failed: {reason}")
    cost = cost_value(status)
    if cost is None:
        console.note("  cost: unknown")
        return None
    if rows is None:
        console.note(f"  cost: {dollars(cost)}")
        return None
    expected = cost / tried * rows
    console.note(f"  cost: {dollars(cost)}, so all {rows:,} cost about {dollars(expected)}")
    return expected


def _short(text: str) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= _LENGTH else line[:_LENGTH] + "…"
