"""Send a file of requests as one batch, wait until it has ended, and download the results.

    python examples/httpx_sync.py examples/requests.jsonl
    python examples/httpx_sync.py --batch msgbatch_...      # continue after an interruption

With ANTHROPIC_API_KEY set, the requests go to the service and cost money. Without it, an emulator
in this process invents the answers; seven of the requests in requests.jsonl are meant to fail.
The results go to a new file, one per line. No file is ever overwritten. Exit status: 0 if all
results are in the file, 1 after an error, 2 for wrong arguments, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from batches_core import (
    BatchesError,
    BatchState,
    ErroredResult,
    Event,
    MalformedResultError,
    SucceededResult,
)
from batches_core.emulator import Emulator
from transports.emulator import running_emulator
from transports.files import RequestsFile, read_results
from transports.httpx import BatchesClient

say = partial(print, file=sys.stderr, flush=True)  # stdout is for the summary
has_key = any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))


def read_command_line() -> argparse.Namespace:
    """Parse the arguments, and refuse what would fail only after the batch is paid for."""
    parser = argparse.ArgumentParser(description="Run a file of requests as one batch.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("requests", nargs="?", type=Path, help="a file with one request per line")
    what.add_argument("--batch", metavar="ID", help="an existing batch to continue with")
    parser.add_argument("--results", type=Path, metavar="FILE", help="a new file for the results")
    options = parser.parse_args(namespace=argparse.Namespace(known_id=None))
    if options.batch and not has_key:
        parser.error("--batch needs the service: set ANTHROPIC_API_KEY")
    if (file := options.results) and not options.batch and file.exists():
        parser.error(f"--results {file} already exists: name a new file")
    if file and not os.access(file.parent, os.W_OK | os.X_OK):
        parser.error(f"--results {file} cannot be written: check its folder")
    return options


def report(event: Event) -> None:
    """Show each poll. The service counts nothing until the whole batch has ended."""
    if isinstance(event, BatchState):
        batch = event.batch
        age = abs((batch.ended_at or datetime.now(UTC)) - batch.created_at)
        say(f"  {batch.processing_status:<12} {str(age).partition('.')[0]} after its creation")


def run(options: argparse.Namespace) -> Path:
    """Create the batch, wait for it, and download its results to the file that is returned."""
    with contextlib.ExitStack() as stack:
        if not has_key:
            say("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
            url = stack.enter_context(running_emulator(Emulator(speed=5)))
            os.environ.update(ANTHROPIC_API_KEY="any", ANTHROPIC_BASE_URL=url)
        client = stack.enter_context(BatchesClient.from_env(on_event=report))
        if options.batch:
            batch = client.get(options.batch)
        else:
            # If the answer is lost, "settle" looks for the batch instead of buying another.
            batch = client.create(RequestsFile(options.requests), if_unknown="settle")
        options.known_id = batch.id
        ends = f"expires at {batch.expires_at:%Y-%m-%d %H:%M:%S %Z}"
        say(f"batch {batch.id} has {batch.request_counts.total} requests and {ends}")
        batch = client.wait_for(batch, poll_interval=30.0 if has_key else 1.0)
        # The time is in the name because every emulator counts its ids from the same first one.
        name = f"results-{batch.created_at:%Y%m%d-%H%M%S}-{batch.id}.jsonl"
        path: Path = options.results or Path(name)
        client.download(batch, path)  # continues with the lines that it finds in a .part
    return path


def summarize(path: Path) -> None:
    """Print how many results of each kind there are, and which ones failed."""
    counts: Counter[str] = Counter()
    tokens_in = tokens_out = 0
    failed: list[str] = []
    with read_results(path) as results:
        for item in results:
            if isinstance(item, MalformedResultError):
                counts["unreadable"] += 1
                failed.append(f"  {item.custom_id}: line {item.line_number}: {item.reason}")
                continue
            counts[item.result.type] += 1
            if isinstance(item.result, ErroredResult):
                error = item.result.error
                failed.append(f"  {item.custom_id}: {error.type}: {error.message}")
            elif isinstance(item.result, SucceededResult):
                used = item.result.message.usage
                tokens_in += used.input_tokens + (used.cache_creation_input_tokens or 0)
                tokens_in += used.cache_read_input_tokens or 0
                tokens_out += used.output_tokens
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    print(f"{counts.total():,} results in {path}: {outcomes}")
    print(f"tokens: {tokens_in:,} in, {tokens_out:,} out", *failed, sep="\n")


if __name__ == "__main__":
    logging.basicConfig(format="  %(message)s")  # shows the client's warnings, such as retries
    options = read_command_line()
    try:
        summarize(run(options))
    except (BatchesError, OSError, KeyboardInterrupt) as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        text = "interrupted" if interrupted else f"error: {error}"
        say(text, *getattr(error, "__notes__", ()), sep="\n  ")
        if options.known_id and has_key:
            say(f"the batch is not lost: continue with --batch {options.known_id}")
        sys.exit(130 if interrupted else 1)
