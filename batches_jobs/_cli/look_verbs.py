"""The verbs that look at a job without the network: ``status``, ``watch`` and ``verify``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .codes import ExitCode
from .console import Console, command
from .endings import (
    INVENTED,
    cost_words,
    exit_code,
    job_json,
    next_command,
    status_lines,
    status_words,
)
from .options import common, job_argument, pass_console, progress_option
from .places import find_job
from .progress import follow
from .settings import EMULATOR, output_of, read_settings

if TYPE_CHECKING:
    from batches_jobs import JobStatus


@click.command(
    epilog="""\b
Examples:
  batches status
  batches status reviews/ --json
  batches status reviews/ --exit-code && echo all answered
"""
)
@job_argument(required=False)
@click.option("--exit-code", "with_code", is_flag=True, help="Exit as 'batches run' would.")
@common
@pass_console
def status(console: Console, *, job: str | None, with_code: bool) -> None:
    """Show how far a job is. Reads its journal, and calls nothing.

    JOB is the folder of a job, or its output. By default it is the only job in this folder.
    """
    from batches_jobs import read_status

    path = find_job(job)
    found = read_status(path)
    runner = running_process(path)
    settings = read_settings(path)
    output = output_of(settings)
    next_ = command("watch", path) if runner else next_command(path, found, output)
    if console.is_json:
        value = job_json(path, found, next_=next_, output=output)
        console.out_json({**value, "process": runner})
    else:
        words = f"running in process {runner}" if runner else status_words(found)
        console.out(f"{path}: {words}")
        for line in status_lines(found):
            console.out(line)
        if (cost := cost_words(found)) is not None:
            console.out(f"  {cost}")
        if settings is not None and settings.destination == EMULATOR:
            console.out(f"  {INVENTED}")
        console.next(next_)
    raise SystemExit(exit_code(found) if with_code else ExitCode.OK)


@click.command(
    epilog="""\b
Example:
  batches watch reviews/
"""
)
@job_argument(required=False)
@progress_option
@common
@pass_console
def watch(console: Console, *, job: str | None, progress_every: float) -> None:
    """Follow a job that another process runs. Reads its journal, and calls nothing.

    Ends when the job is done or no process runs it, with the exit code of 'batches run'. Ctrl-C
    ends only the watching.
    """
    path = find_job(job)

    def is_over(now: JobStatus) -> bool:
        return now.is_finished or running_process(path) is None

    found = follow(console, path, progress_every, is_over)
    output = output_of(read_settings(path))
    next_ = next_command(path, found, output)
    if console.is_json:
        console.out_json(job_json(path, found, next_=next_, output=output))
    else:
        words = "" if found.is_finished else ", and no process runs it"
        console.out(f"{path}: {status_words(found)}{words}")
        for line in status_lines(found):
            console.out(line)
        console.next(next_)
    raise SystemExit(exit_code(found))


@click.command(
    epilog="""\b
Example:
  batches verify reviews/ && echo complete
"""
)
@job_argument(required=False)
@common
@pass_console
def verify(console: Console, *, job: str | None) -> None:
    """Count all results again, and compare them with the journal, row by row.

    Exits with 0 if every row is answered and all files agree with the journal, with 3 if rows
    failed, with 4 if there is a difference, and with 5 if the job is not done.
    """
    import msgspec

    from batches_jobs import JobReader

    path = find_job(job)
    verified = JobReader(path).results().verify()
    counts = verified.counts
    if console.is_json:
        value = msgspec.to_builtins(verified)
        console.out_json({"job": os.fspath(path), "is_complete": verified.is_complete, **value})
    else:
        rows = "?" if counts.rows is None else f"{counts.rows:,}"
        console.out(
            f"{path}: {verified.files:,} files; {rows} rows: {counts.answered:,} answered, "
            f"{counts.failed:,} failed, {counts.lost:,} lost, {counts.open:,} open"
        )
        for problem in verified.problems:
            console.out(f"  {problem}")
        if not verified.problems:
            console.out("  all files agree with the journal")
    if verified.problems:
        raise SystemExit(ExitCode.PERSON)
    if not verified.is_complete:
        console.next(command("resume", path))
        raise SystemExit(ExitCode.AGAIN)
    raise SystemExit(ExitCode.OK if counts.answered == counts.rows else ExitCode.FAILED_ROWS)


def running_process(job: Path) -> int | None:
    """Return the id of the process that runs a job, as far as its lock file says; or None.

    The lock itself is not tried: another process that begins just now would find it held.
    """
    try:
        digits = (job / "lock").read_bytes().strip()
        if not digits.isdigit():
            return None
        os.kill(int(digits), 0)
    except PermissionError:
        return int(digits)  # the process of another user
    except OSError:
        return None
    return int(digits)
