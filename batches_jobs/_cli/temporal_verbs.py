"""The verbs of ``temporal``: workers, and jobs that they run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from .client import has_key
from .codes import ExitCode
from .console import CommandError, Console, command
from .endings import exit_code, status_lines, status_words
from .options import common, pass_console

if TYPE_CHECKING:
    from temporalio.client import Client

    from batches_core.jobs import JobStatus
    from batches_jobs.engines.temporal import JobHandle

F = TypeVar("F", bound=Callable[..., Any])

_QUEUE = "batches"
name_argument = click.argument("name")
storage_option = click.option(
    "--storage",
    required=True,
    metavar="PATH|URL",
    envvar="BATCHES_STORAGE",
    help="The files of all jobs: a folder that all workers share, or s3://, gs:// or az://.",
)
queue_option = click.option(
    "--task-queue", default=_QUEUE, metavar="NAME", help="The workers' queue. [default: batches]"
)


def server_options(function: F) -> F:
    """Add the options that say where Temporal is."""
    for name, variable, default, words in (
        ("--namespace", "TEMPORAL_NAMESPACE", "default", "Temporal's namespace."),
        ("--address", "TEMPORAL_ADDRESS", "localhost:7233", "Temporal's address."),
    ):
        function = click.option(
            name,
            envvar=variable,
            default=default,
            metavar="NAME" if name == "--namespace" else "HOST:PORT",
            help=f"{words} [default: {default}]",
        )(function)
    return function


@click.group(
    epilog="""\b
Example, with a worker in another terminal:
  batches temporal worker --storage s3://bucket/batches
  batches temporal run in.jsonl --name reviews --storage s3://bucket/batches
  batches temporal status reviews
"""
)
def temporal() -> None:
    """Run jobs as workflows of Temporal, on any number of machines.

    For jobs that outlive every machine. For all others, use 'batches run'.
    """


@temporal.command(
    epilog="""\b
Example:
  batches temporal worker --storage /mnt/batches --address temporal.internal:7233
"""
)
@storage_option
@queue_option
@server_options
@common
@pass_console
def worker(
    console: Console, *, storage: str, task_queue: str, address: str, namespace: str
) -> int | None:
    """Run a worker until Ctrl-C or SIGTERM. A create under way is given time to end."""
    if not has_key():
        raise CommandError(ExitCode.PERSON, "there is no API key: set ANTHROPIC_API_KEY")

    async def work(client: Client) -> None:
        from temporalio.worker import Worker

        from batches_jobs.engines import temporal as engine
        from batches_jobs.storage import open_storage
        from transports.h11 import BatchesClient

        options = engine.worker(BatchesClient.from_env, open_storage(storage))
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, stopped.set)
        async with Worker(client, task_queue=task_queue, **options):
            console.note(f"working on {task_queue} at {address}")
            await stopped.wait()

    _with_client(address, namespace, work)
    return None


@temporal.command(
    epilog="""\b
Examples:
  batches temporal run in.jsonl --name reviews --storage s3://bucket/batches -o results.jsonl
  batches temporal run in.jsonl --name reviews --storage s3://bucket/batches --detach
"""
)
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--name", required=True, metavar="NAME", help="The job's name, for 'status'.")
@storage_option
@queue_option
@click.option("-o", "--output", metavar="FILE", help="Copy the results of all rows to a file.")
@click.option("--detach", is_flag=True, help="Start the job, and do not wait for its end.")
@click.option(
    "--account-rows",
    type=click.IntRange(min=1),
    metavar="N",
    help="Share a queue of N rows with all jobs that have this option.",
)
@server_options
@common
@pass_console
def run(
    console: Console,
    *,
    file: str,
    name: str,
    storage: str,
    task_queue: str,
    output: str | None,
    detach: bool,
    account_rows: int | None,
    address: str,
    namespace: str,
) -> int:
    """Start a job of the requests in FILE, a JSONL file, and wait for its end.

    The same command again follows the job of that name, or shows how it ended. Ctrl-C ends the
    command and not the job.
    """

    async def start_and_follow(client: Client) -> int:
        from batches_jobs.engines import temporal as engine
        from batches_jobs.storage import open_storage

        files = open_storage(storage)
        account = None
        if account_rows is not None:
            account = await engine.open_account(
                client, task_queue, rows=account_rows, task_queue=task_queue
            )
        job = await engine.start_job(
            client, file, files, name=name, task_queue=task_queue, account=account
        )
        if detach:
            console.next(command("temporal", "status", name))
            return ExitCode.OK
        status, written = await job.result()
        if output is not None:
            await asyncio.to_thread(files.fetch, written.name, Path(output))
        _show(console, name, status, output=output or written.name)
        return exit_code(status)

    return _with_client(address, namespace, start_and_follow)


@temporal.command(
    epilog="""\b
Example:
  batches temporal status reviews --json
"""
)
@name_argument
@server_options
@common
@pass_console
def status(console: Console, *, name: str, address: str, namespace: str) -> int:
    """Show how far a job is. A worker must run to answer that."""

    async def ask(job: JobHandle) -> int:
        found = await job.status()
        _show(console, name, found)
        return ExitCode.OK

    return _with_job(name, address, namespace, ask)


@temporal.command(
    epilog="""\b
Example:
  batches temporal cancel reviews
"""
)
@name_argument
@server_options
@common
@pass_console
def cancel(console: Console, *, name: str, address: str, namespace: str) -> int:
    """Cancel a job. What was answered is collected, because it was paid for."""

    async def ask(job: JobHandle) -> int:
        await job.cancel()
        console.next(command("temporal", "status", name))
        return ExitCode.OK

    return _with_job(name, address, namespace, ask)


T = TypeVar("T")


def _with_client(
    address: str, namespace: str, act: Callable[[Client], Coroutine[Any, Any, T]]
) -> T:
    try:
        from temporalio.client import Client
    except ModuleNotFoundError as error:
        raise CommandError(
            ExitCode.INPUT, "this needs Temporal: install batches-core[temporal]"
        ) from error

    async def connect_and_act() -> T:
        try:
            client = await Client.connect(address, namespace=namespace)
        except RuntimeError as error:
            raise CommandError(
                ExitCode.AGAIN,
                f"Temporal cannot be reached at {address}: start it, or pass --address",
            ) from error
        return await act(client)

    return asyncio.run(connect_and_act())


def _with_job(
    name: str, address: str, namespace: str, act: Callable[[JobHandle], Coroutine[Any, Any, int]]
) -> int:
    async def find_and_act(client: Client) -> int:
        from temporalio.client import WorkflowQueryFailedError
        from temporalio.service import RPCError, RPCStatusCode

        from batches_jobs.engines.temporal import get_job

        try:
            return await act(get_job(client, name))
        except (RPCError, WorkflowQueryFailedError) as error:
            if getattr(error, "status", None) is RPCStatusCode.NOT_FOUND:
                raise CommandError(
                    ExitCode.INPUT, f"there is no running job {name!r} at {address}"
                ) from error
            raise CommandError(
                ExitCode.AGAIN, f"Temporal does not answer ({error}): is a worker running?"
            ) from error

    return _with_client(address, namespace, find_and_act)


def _show(console: Console, name: str, found: JobStatus, output: str | None = None) -> None:
    if console.is_json:
        value = {"job": name, "state": status_words(found), "output": output}
        console.out_json({**value, **msgspec.to_builtins(found)})
        return
    console.out(f"{name}: {status_words(found)}")
    for line in status_lines(found):
        console.out(line)
    if output is not None:
        console.out(f"  results: {output}")
