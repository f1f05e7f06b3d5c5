"""The verbs for what a person decides about a job: ``cancel`` and ``settle``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .client import open_client
from .codes import ExitCode
from .console import CommandError, Console, command
from .endings import exit_code, job_json, next_command, show_end
from .options import common, job_argument, pass_console, progress_option, yes_option
from .places import find_job
from .prompts import consent
from .running import JobCommand
from .settings import read_settings

if TYPE_CHECKING:
    from batches_jobs import JobStatus


@click.command(
    epilog="""\b
Example:
  batches cancel reviews/ --yes
"""
)
@job_argument(required=False)
@yes_option
@progress_option
@common
@pass_console
def cancel(console: Console, *, job: str | None, yes: bool, progress_every: float) -> None:
    """Cancel a job: send nothing more, cancel its batches, and collect what was answered.

    What was answered is paid for, and is kept. A canceled job cannot be continued. Exits with 0
    when the job is canceled and everything is collected.
    """
    from batches_jobs import (
        JobLockedError,
        cancel_job,
        read_status,
    )

    path = find_job(job)
    if read_status(path).is_finished:
        console.say(f"{path} is finished already: there is nothing to cancel")
        console.next(command("results", path))
        return
    if not yes:
        consent(
            f"Cancel the job in {path}? This cannot be undone.",
            remedy="pass --yes to agree",
            refused="the job was not canceled",
        )
    cancel_job(path)
    settings = read_settings(path)
    runner = JobCommand(console, path, settings, every=progress_every)
    try:
        status = runner.run(None)
    except JobLockedError as error:
        where = "another process" if error.pid is None else f"process {error.pid}"
        console.say(f"{path} runs in {where}, which cancels it within seconds")
        console.next(command("watch", path))
        return
    if status.is_finished:
        runner.write(status)
    show_end(console, path, status, output=None)
    raise SystemExit(ExitCode.OK if status.is_finished else exit_code(status))


@click.command(
    epilog="""\b
Examples:
  batches settle reviews/                                     # show what there is to decide
  batches settle reviews/ --chunk 3 --batch msgbatch_01AbC    # chunk 3 is this batch
  batches settle reviews/ --chunk 3 --none                    # no batch: send it again
  batches settle reviews/ --buy-again 5                       # send a lost chunk again
"""
)
@job_argument(required=False)
@click.option("--chunk", type=click.IntRange(min=0), metavar="N", help="The chunk in doubt.")
@click.option("--batch", metavar="ID", help="The batch that its create made.")
@click.option(
    "--none", "no_batch", is_flag=True, help="Its create made no batch: it is sent again."
)
@click.option(
    "--buy-again",
    type=click.IntRange(min=0),
    metavar="N",
    help="Send the lost chunk N again. It is paid for twice if its batch had answers.",
)
@common
@pass_console
def settle(
    console: Console,
    *,
    job: str | None,
    chunk: int | None,
    batch: str | None,
    no_batch: bool,
    buy_again: int | None,
) -> None:
    """Show what needs a person, and decide it.

    A chunk is in doubt if its create was lost and the service shows several batches that fit, or
    none can be told apart. A chunk is lost if its results are gone.
    """
    path = find_job(job)
    if buy_again is not None:
        from batches_jobs import buy_again as send_again

        if buy_again not in _lost(path):
            raise CommandError(
                ExitCode.INPUT,
                f"chunk {buy_again} is not lost: 'batches settle' lists the lost ones",
                command("settle", path),
            )
        _show_decided(console, path, send_again(path, buy_again))
    elif chunk is None:
        if batch is not None or no_batch:
            raise click.UsageError("--batch and --none need --chunk: pass the number of the chunk")
        _show(console, path)
    elif (batch is None) == (not no_batch):
        raise click.UsageError("--chunk needs a decision: pass --batch ID or --none")
    else:
        _show_decided(console, path, _decide(console, path, chunk, batch))


def _decide(console: Console, path: Path, chunk: int, batch: str | None) -> JobStatus:
    from batches_jobs import decide

    if batch is None:
        return decide(path, chunk, None)
    with open_client(console) as client:
        return decide(path, chunk, client.get(batch))


def _lost(path: Path) -> list[int]:
    from batches_jobs import JobReader

    return [each.number for each in JobReader(path).state.chunks if each.state.value == "lost"]


def _show(console: Console, path: Path) -> None:
    from batches_jobs import JobReader

    reader = JobReader(path)
    status = reader.status
    lost = [chunk for chunk in reader.state.chunks if chunk.state.value == "lost"]
    if console.is_json:
        import msgspec

        console.out_json(
            {
                "job": os.fspath(path),
                "doubts": msgspec.to_builtins(status.doubts),
                "lost": [
                    {"chunk": each.number, "requests": each.count, "batch_id": each.batch_id}
                    for each in lost
                ],
            }
        )
        return
    for doubt in status.doubts:
        console.out(f"chunk {doubt.chunk} is in doubt, {doubt.requests:,} requests: {doubt.reason}")
        for candidate in doubt.candidates:
            console.out(f"  batch {candidate} may be it: batches remote results {candidate}")
        if not doubt.needs_person:
            console.out("  it is looked for again when the job is resumed")
        elif not doubt.candidates:
            size = f"{doubt.requests:,} requests"
            console.out(f"  look for another batch of {size} first: batches remote list")
    for each in lost:
        console.out(f"chunk {each.number} is lost, {each.count:,} requests: {each.reason}")
    _show_commands(console, path, status, [each.number for each in lost])


def _show_commands(console: Console, path: Path, status: JobStatus, lost: list[int]) -> None:
    doubts = [each for each in status.doubts if each.needs_person]
    if not doubts and not lost:
        console.say("there is nothing to decide")
        console.next(next_command(path, status, None))
    for doubt in doubts:
        chunk = str(doubt.chunk)
        for candidate in doubt.candidates:
            console.next(command("settle", path, "--chunk", chunk, "--batch", candidate))
        console.next(command("settle", path, "--chunk", chunk, "--none"))
    for number in lost:
        console.next(command("settle", path, "--buy-again", str(number)))


def _show_decided(console: Console, path: Path, status: JobStatus) -> None:
    next_ = next_command(path, status, None)
    if console.is_json:
        console.out_json(job_json(path, status, next_=next_))
        return
    console.say(f"{path}: decided; the next run goes on with it")
    console.next(next_)
