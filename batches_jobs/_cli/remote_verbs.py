"""The verbs of ``remote``: one batch, without a job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .client import open_client
from .console import Console, command, stdout_bytes
from .options import common, pass_console, yes_option
from .planning import refuse_problems
from .prompts import consent

if TYPE_CHECKING:
    from batches_core import MessageBatch

batch_argument = click.argument("batch", metavar="BATCH")


@click.group(
    epilog="""\b
Example:
  batches remote create requests.jsonl
  batches remote wait msgbatch_01AbC
  batches remote results msgbatch_01AbC -o results.jsonl
"""
)
def remote() -> None:
    """Handle single batches, without a job.

    A batch has at most 100,000 requests and 256 MB. For more, and to be resumed, use 'batches run'.
    """


@remote.command(
    epilog="""\b
Example:
  batches remote create requests.jsonl --yes
"""
)
@click.argument("file", type=click.Path())
@yes_option
@common
@pass_console
def create(console: Console, *, file: str, yes: bool) -> None:
    """Create a batch of the requests in FILE, a JSONL file, and print its id.

    Asks before it creates the batch; without a terminal it needs --yes. If the outcome is unknown,
    nothing is sent again: look at 'batches remote list'.
    """
    from batches_core import InvalidInputError
    from batches_core.lowlevel import prepare
    from transports.files import RequestsFile

    try:
        prepared = prepare(RequestsFile(file))
    except InvalidInputError as error:
        if not Path(file).is_file():
            raise
        raise refuse_problems(console, file, error) from error
    if not yes:
        consent(
            f"Create a batch of {prepared.count:,} requests?",
            remedy="pass --yes to agree",
            refused="nothing was sent",
        )
    with open_client(console) as client:
        made = client.create(prepared)
    _print(console, made, made.id)
    console.next(command("remote", "wait", made.id))


@remote.command(
    name="list",
    epilog="""\b
Examples:
  batches remote list
  batches remote list --all --json
""",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1, max=1000),
    default=20,
    help="How many batches to show. [default: 20]",
)
@click.option("--all", "show_all", is_flag=True, help="Show all batches.")
@common
@pass_console
def list_(console: Console, *, limit: int, show_all: bool) -> None:
    """List the batches of the workspace, the newest first."""
    with open_client(console) as client:
        found = client.list_all(limit=1000) if show_all else client.list(limit=limit).data
        batches = [*found]
    if console.is_json:
        console.out_json([msgspec.to_builtins(each) for each in batches])
        return
    for each in batches:
        console.out(_line(each))
    if not batches:
        console.note("there are no batches")


@remote.command(
    epilog="""\b
Example:
  batches remote get msgbatch_01AbC --json
"""
)
@batch_argument
@common
@pass_console
def get(console: Console, *, batch: str) -> None:
    """Show a batch."""
    with open_client(console) as client:
        found = client.get(batch)
    _print(console, found, _line(found))


@remote.command(
    epilog="""\b
Example:
  batches remote wait msgbatch_01AbC --timeout 3600
"""
)
@batch_argument
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Give up after this long, with exit code 5.",
)
@click.option(
    "--poll-interval",
    type=click.FloatRange(min=0.01),
    metavar="SECONDS",
    default=30.0,
    help="The time between two polls. [default: 30]",
)
@common
@pass_console
def wait(console: Console, *, batch: str, timeout: float | None, poll_interval: float) -> None:
    """Wait until a batch has ended, and show it."""
    with open_client(console) as client:
        found = client.wait_for(batch, timeout=timeout, poll_interval=poll_interval)
    _print(console, found, _line(found))
    console.next(command("remote", "results", found.id, "-o", "results.jsonl"))


@remote.command(
    epilog="""\b
Examples:
  batches remote results msgbatch_01AbC -o results.jsonl
  batches remote results msgbatch_01AbC | jq .custom_id
"""
)
@batch_argument
@click.option(
    "-o",
    "--output",
    "out",
    metavar="FILE",
    default="-",
    help="Where to write. A download that was cut is continued. [default: -, which is stdout]",
)
@common
@pass_console
def results(console: Console, *, batch: str, out: str) -> None:
    """Write the results of a batch as the service sends them: JSONL, in any order."""
    from batches_core import ResultsReceived

    stream = stdout_bytes() if out == "-" else None
    with open_client(console) as client:
        if stream is None:
            count = client.download(batch, out)
            if console.is_json:
                console.out_json({"output": out, "results": count})
            else:
                console.note(f"{out}: {count:,} results")
            return

        def write(event: object) -> None:
            if isinstance(event, ResultsReceived):
                for item in event.items:
                    stream.write(item.raw + b"\n")

        client.run(client.api.raw_results(batch), write)
    sys.stdout.flush()


@remote.command(
    epilog="""\b
Example:
  batches remote cancel msgbatch_01AbC
"""
)
@batch_argument
@common
@pass_console
def cancel(console: Console, *, batch: str) -> None:
    """Cancel a batch. What was answered before is paid for, and can be read."""
    with open_client(console) as client:
        found = client.cancel(batch)
    _print(console, found, _line(found))
    console.next(command("remote", "wait", found.id))


@remote.command(
    epilog="""\b
Example:
  batches remote delete msgbatch_01AbC --yes
"""
)
@batch_argument
@yes_option
@common
@pass_console
def delete(console: Console, *, batch: str, yes: bool) -> None:
    """Delete a batch that has ended, with its results."""
    if not yes:
        consent(
            f"Delete batch {batch} and its results? This cannot be undone.",
            remedy="pass --yes to agree",
            refused="nothing was deleted",
        )
    with open_client(console) as client:
        deleted = client.delete(batch)
    _print(console, deleted, f"{deleted.id} was deleted")


def _line(batch: MessageBatch) -> str:
    counts = batch.request_counts
    done = (
        f"{counts.succeeded:,} succeeded, {counts.errored:,} errored, "
        f"{counts.canceled:,} canceled, {counts.expired:,} expired"
        if batch.ended
        else f"{counts.processing:,} requests"
    )
    created = f"{batch.created_at:%Y-%m-%d %H:%M:%S}"
    return f"{batch.id}  {created}  {batch.processing_status:<11}  {done}"


def _print(console: Console, value: Any, text: str) -> None:
    if console.is_json:
        console.out_json(msgspec.to_builtins(value))
    else:
        console.out(text)
