"""Says how a job stands: in words, as an exit code, and with the next command to type."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .codes import ExitCode
from .console import CommandError, Console, command
from .outputs import Output, results_command

if TYPE_CHECKING:
    from batches_jobs import JobStatus

INVENTED = "the answers are invented by an emulator, and nothing is paid"
_OTHER_REMEDY = "correct the cause, then resume"
#: What a person does about each reason for which a job pauses.
_REMEDIES = {
    "spend_limit": "raise the spend limit in the Console of the service, then resume",
    "credit": "buy credit in the Console of the service, then resume",
    "credential": "set a valid ANTHROPIC_API_KEY, then resume",
    "permission": "use a key that may create batches, then resume",
    "base_url": "set ANTHROPIC_BASE_URL to the address of the job, then resume",
    "input": "correct the input; a changed input needs another job",
    "failures": "look at the failed rows; resume to send the rest anyway",
    "budget": "raise --max-cost, then resume",
    "refused": "correct what the service refused, then resume",
}


def exit_code(status: JobStatus) -> ExitCode:
    """Return the exit code for a job that is not running."""
    if any(each.needs_person for each in status.doubts):
        return ExitCode.PERSON
    if status.paused is not None and not status.is_finished:
        return ExitCode.PERSON
    if not status.is_finished:
        return ExitCode.AGAIN
    return ExitCode.OK if status.answered == status.rows else ExitCode.FAILED_ROWS


def next_command(job: Path, status: JobStatus, output: Output | None) -> str | None:
    """Return the next command to type."""
    is_paused = status.paused is not None and not status.is_finished
    reason = status.paused.reason if status.paused is not None else None
    words: tuple[str | Path, ...]
    if any(each.needs_person for each in status.doubts) or status.lost:
        words = ("settle", job)
    elif is_paused and reason == "budget":
        words = ("resume", job, "--max-cost", "USD")
    elif is_paused and reason == "failures":
        words = ("failed", job)
    elif not status.is_finished:
        words = ("resume", job)
    elif output is not None and output.is_missing_in(job):
        return results_command(job, output)
    elif status.failed and not status.is_canceled:
        words = ("failed", job, "-o", "failed.jsonl")
    elif output is None:
        words = ("results", job, "-o", "results.jsonl")
    else:
        words = ("report", job)
    return command(*words)


def status_words(status: JobStatus) -> str:
    """Return the state of a job in a few words."""
    if status.is_finished:
        return "canceled" if status.is_canceled else "finished"
    if any(each.needs_person for each in status.doubts):
        return "in doubt"
    if status.paused is not None:
        return f"paused ({status.paused.reason})"
    return "canceling" if status.is_canceled else "not finished"


def status_lines(status: JobStatus) -> list[str]:
    """Return the numbers of a job as lines of text."""
    rows = "not read to the end yet" if status.rows is None else f"{status.rows:,}"
    numbers: list[tuple[str, str]] = [("rows", rows)]
    if status.rows is None:
        numbers.append(("read so far", f"{status.planned:,}"))
    numbers.append(("answered", f"{status.answered:,}{_share(status.answered, status.rows)}"))
    in_doubt = sum(each.requests for each in status.doubts)
    for words, count in (
        ("in flight", status.in_flight - in_doubt),
        ("ended, to collect", status.ended),
        ("to send again", status.to_retry),
        ("failed", status.failed),
        ("lost", status.lost),
        ("in doubt", in_doubt),
    ):
        if count:
            numbers.append((words, f"{count:,}"))
    width = max(len(words) for words, _ in numbers)
    lines = [f"  {words:<{width}}  {number}" for words, number in numbers]
    lines += [f"    {reason}: {count:,}" for reason, count in status.failures.items()]
    if status.expires_at is not None:
        lines.append(f"  the next batch expires at {status.expires_at:%Y-%m-%d %H:%M} UTC")
    if status.collect_by is not None:
        lines.append(f"  results can be downloaded until {status.collect_by:%Y-%m-%d}")
    if status.paused is not None and not status.is_finished:
        lines.append(f"  paused: {status.paused.message}")
        lines.append(f"  to do: {_REMEDIES.get(status.paused.reason, _OTHER_REMEDY)}")
    return lines


def _share(part: int, whole: int | None) -> str:
    return f" ({100 * part / whole:.1f} %)" if whole else ""


def cost_words(status: JobStatus) -> str | None:
    """Return what the answers cost; None if nothing was answered."""
    cost = cost_value(status)
    if not status.usage:
        return None
    if cost is None:
        return "cost: unknown (batches cost JOB says why)"
    return f"cost: {dollars(cost)}"


def cost_value(status: JobStatus) -> Decimal | None:
    """Return what the answers cost in US dollars; None if it is not known."""
    from batches_jobs import cost_of

    try:
        return cost_of(status.usage).total
    except ModuleNotFoundError:
        return None


def dollars(amount: Decimal | None) -> str:
    """Return an amount with two digits after the point, or more if it is small."""
    if amount is None:
        return "unknown"
    return f"${amount:,.2f}" if amount >= Decimal("0.1") or not amount else f"${amount:.5f}"


def job_json(
    job: Path, status: JobStatus, *, next_: str | None, output: Output | None = None
) -> dict[str, Any]:
    """Return a job as a value for JSON."""
    cost = cost_value(status)
    return {
        "job": os.fspath(job),
        "state": status_words(status),
        "exit_code": int(exit_code(status)),
        "next": next_,
        "output": None if output is None else output.text,
        "cost": None if cost is None else str(cost),
        **msgspec.to_builtins(status),
    }


def show_end(
    console: Console,
    job: Path,
    status: JobStatus,
    *,
    output: Output | None,
    is_invented: bool = False,
    failure: CommandError | None = None,
) -> None:
    """Show how a run ended. If its results could not be written, `failure` is shown afterwards."""
    next_ = next_command(job, status, output) if failure is None else failure.next_command
    if console.is_json:
        value = job_json(job, status, next_=next_, output=output)
        if failure is not None:
            value["exit_code"] = int(failure.code)
        console.out_json(value)
        return
    console.say(f"{job}: {status_words(status)}")
    for line in status_lines(status):
        console.say(line)
    if not console.is_quiet and (words := cost_words(status)) is not None:
        console.say(f"  {words}")
    if is_invented:
        console.say(f"  {INVENTED}")
    if output is not None and status.is_finished:
        console.say(f"  results: {output.shown}")
    if failure is None:
        console.next(next_)
