"""Wait for a batch within a time limit, cancel what is left of it, and download the results.

    python examples/trio_batches.py examples/requests.jsonl --within 3600

On trio. If the batch has not ended within that many seconds, it is canceled: the service finishes
the requests that it works on, and charges nothing for the others. The results go to a new file,
one per line. No file is ever overwritten. Ctrl-C ends the program, but does not cancel the batch.

With ANTHROPIC_API_KEY set, the requests go to the service and cost money. Without it, an emulator
in this process invents the answers. Exit status: 0 if the file has a result for every
request ("canceled" is one), 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from functools import partial
from pathlib import Path

import trio

from batches_core import BadRequestError, BatchesError, ConflictError, MessageBatch
from batches_core.emulator import Emulator
from transports.emulator import running_emulator
from transports.files import RequestsFile
from transports.trio import BatchesClient

say = partial(print, file=sys.stderr, flush=True)  # stdout is for the summary
has_key = any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))
poll_interval = 30.0 if has_key else 1.0


async def count_down(deadline: float) -> None:
    """Show the time that is left, until this task is canceled."""
    while True:
        say(f"  {deadline - trio.current_time():,.0f} s left")
        await trio.sleep(poll_interval)


async def finish(client: BatchesClient, batch: MessageBatch, seconds: float) -> MessageBatch:
    """Wait for the end of a batch; after that many seconds, cancel it and wait again."""
    with trio.move_on_after(seconds) as limit:
        # Leaving the nursery waits for the tasks in it, so no task outlives the limit.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_down, limit.deadline)
            batch = await client.wait_for(batch, poll_interval=poll_interval)
            nursery.cancel_scope.cancel()
    if limit.cancelled_caught:
        say("the time is up: canceling the batch")
        with contextlib.suppress(BadRequestError, ConflictError):  # it ended meanwhile
            await client.cancel(batch)
        batch = await client.wait_for(batch, poll_interval=poll_interval)
    return batch


async def main(options: argparse.Namespace) -> None:
    """Create the batch, or read an existing one, and download its results."""
    async with BatchesClient.from_env() as client:
        if options.batch:
            batch = await client.get(options.batch)
        else:
            # If the answer is lost, "settle" looks for the batch instead of buying another.
            batch = await client.create(RequestsFile(options.requests), if_unknown="settle")
        options.known_id = batch.id
        batch = await finish(client, batch, options.within)
        # The time is in the name because every emulator counts its ids from the same first one.
        path = Path(f"results-{batch.created_at:%Y%m%d-%H%M%S}-{batch.id}.jsonl")
        count, counts = await client.download(batch, path), batch.request_counts
    outcomes = f"{counts.succeeded} succeeded, {counts.errored} errored"
    print(f"{count} results in {path}: {outcomes}, {counts.canceled} canceled")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run a batch with a time limit.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("requests", nargs="?", type=Path, help="a file with one request per line")
    what.add_argument("--batch", metavar="ID", help="an existing batch to continue with")
    parser.add_argument("--within", type=float, default=3600.0, metavar="SECONDS")
    options = parser.parse_args(namespace=argparse.Namespace(known_id=None, status=0))
    if options.batch and not has_key:
        parser.error("--batch needs the service: set ANTHROPIC_API_KEY")
    if not options.within >= 0:
        parser.error("--within must be 0 or more")
    logging.basicConfig(format="  %(message)s")
    logging.getLogger("transports.client").setLevel(logging.DEBUG)  # logs polls and retries
    try:
        with contextlib.ExitStack() as stack:
            if not has_key:
                say("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
                url = stack.enter_context(running_emulator(Emulator(speed=5)))
                os.environ.update(ANTHROPIC_API_KEY="any", ANTHROPIC_BASE_URL=url)
            trio.run(main, options)
    except* (BatchesError, OSError, KeyboardInterrupt) as group:  # a nursery raises groups
        for error in group.exceptions:
            interrupted = isinstance(error, KeyboardInterrupt)
            options.status = 130 if interrupted else 1
            text = "interrupted" if interrupted else f"error: {error}"
            say(text, *getattr(error, "__notes__", ()), sep="\n  ")
    if options.status and options.known_id and has_key:
        say(f"the batch is not lost: continue with --batch {options.known_id}")
    sys.exit(options.status)
