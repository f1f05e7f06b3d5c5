"""Run several files of requests at once, each as a batch of its own, on asyncio.

    python examples/httpx_async.py monday.jsonl tuesday.jsonl wednesday.jsonl
    python examples/httpx_async.py msgbatch_... tuesday.jsonl     # continue with an existing batch

All batches are waited for at the same time, but only --at-once of them are uploaded or downloaded
at a time. If one fails, the others continue. Ctrl-C stops all of them, and the program says how to
continue. The results of each go to a new file, one per line. No file is ever overwritten.

With ANTHROPIC_API_KEY set, the requests go to the service and cost money. Without it, an emulator
in this process invents the answers. Exit status: 0 if every batch has its results in a file, 1 if
any failed, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from functools import partial
from pathlib import Path

from batches_core import BatchesError, MessageBatch
from batches_core.emulator import Emulator
from transports.emulator import running_emulator
from transports.files import RequestsFile
from transports.httpx import AsyncBatchesClient

say = partial(print, file=sys.stderr, flush=True)  # stdout is for the summary
has_key = any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))


def read_command_line() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description="Run files of requests as batches, all at once.")
    parser.add_argument("sources", nargs="+", metavar="FILE or ID", help="requests, or a batch")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="transfers at a time")
    options = parser.parse_args()
    if options.at_once < 1:
        parser.error("--at-once must be at least 1")
    if not has_key and any(map(is_batch_id, options.sources)):
        parser.error("to continue with a batch needs the service: set ANTHROPIC_API_KEY")
    return options


def is_batch_id(source: str) -> bool:
    """Return whether a source names a batch, not a file."""
    return source.startswith("msgbatch_")


async def run_batch(client: AsyncBatchesClient, transfers: asyncio.Semaphore, source: str) -> bool:
    """Run one batch to its results; report an error, but leave the other batches alone."""
    batch: MessageBatch | None = None
    try:
        if is_batch_id(source):
            batch = await client.get(source)
        else:
            async with transfers:
                # If the answer is lost, "settle" looks for the batch instead of buying another.
                batch = await client.create(RequestsFile(source), if_unknown="settle")
            say(f"{source}: {batch.request_counts.total} requests in {batch.id}")
        # A wait costs one short poll every 30 seconds, so there is no bound on waits.
        batch = await client.wait_for(batch, poll_interval=30.0 if has_key else 1.0)
        # The time is in the name because every emulator counts its ids from the same first one.
        path = Path(f"results-{batch.created_at:%Y%m%d-%H%M%S}-{batch.id}.jsonl")
        async with transfers:
            count = await client.download(batch, path)
    except BaseException as error:
        failed = isinstance(error, BatchesError | OSError)
        # If a create was interrupted, its notes say what is known of the batch.
        notes = list(getattr(error, "__notes__", ()))
        if batch is not None and has_key:
            notes.append(f"the batch is not lost: continue with {batch.id}")
        say(f"{source}: {f'error: {error}' if failed else 'interrupted'}", *notes, sep="\n  ")
        if failed:
            return False
        raise  # a cancellation must reach the task group
    counts = batch.request_counts
    outcomes = f"{counts.succeeded} succeeded, {counts.errored} errored"
    print(f"{source}: {count} results in {path}: {outcomes}")
    return True


async def main(options: argparse.Namespace) -> int:
    """Run all batches; Ctrl-C cancels every one of them before it ends the program."""
    transfers = asyncio.Semaphore(options.at_once)
    async with AsyncBatchesClient.from_env() as client, asyncio.TaskGroup() as group:
        runs = (run_batch(client, transfers, source) for source in options.sources)
        tasks = [group.create_task(each) for each in runs]
    return 0 if all(task.result() for task in tasks) else 1


if __name__ == "__main__":
    options = read_command_line()
    logging.basicConfig(format="  %(message)s")
    logging.getLogger("transports.client").setLevel(logging.DEBUG)  # logs polls and retries
    with contextlib.ExitStack() as stack:
        if not has_key:
            say("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
            url = stack.enter_context(running_emulator(Emulator(speed=5)))
            os.environ.update(ANTHROPIC_API_KEY="any", ANTHROPIC_BASE_URL=url)
        try:
            sys.exit(asyncio.run(main(options)))
        except KeyboardInterrupt:
            sys.exit(130)
        except BatchesError as error:
            sys.exit(f"error: {error}")
