"""Store the results of a batch in a database while they arrive, as an asyncio service would.

    python examples/asyncio_batches.py examples/requests.jsonl --database results.sqlite

One task puts the results into a queue, and another stores them. The queue is bounded: if the
database is slow, the download waits, and memory stays small. A result that arrives again replaces
the stored one, so --batch continues after an interruption by Ctrl-C or SIGTERM.

With ANTHROPIC_API_KEY set, the requests go to the service and cost money. Without it, an emulator
in this process invents the answers. Exit status: 0 if all results are stored, 1 after an error,
2 for wrong arguments, 130 after an interruption. Needs no package but h11. Does not run
on Windows, whose event loops handle no signals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from batches_core import BatchesError, MalformedResultError, ResultItem
from batches_core.emulator import Emulator
from transports.asyncio import BatchesClient
from transports.emulator import running_emulator
from transports.files import RequestsFile

Item: TypeAlias = ResultItem[dict[str, Any]] | MalformedResultError
Queue: TypeAlias = asyncio.Queue[Item | None]  # None is the end of the results

say = partial(print, file=sys.stderr, flush=True)  # stdout is for the summary
has_key = any(os.environ.get(f"ANTHROPIC_{name}") for name in ("API_KEY", "AUTH_TOKEN"))

TABLE = """CREATE TABLE IF NOT EXISTS results
    (batch_id, custom_id, type, result, PRIMARY KEY (batch_id, custom_id))"""


def execute(database: Path, sql: str, rows: list[Any]) -> None:
    """Execute a statement for each row, in one transaction. This blocks."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(sql, rows)


def as_row(batch_id: str, item: Item) -> tuple[str, str, str, bytes]:
    """Convert a result, or a line that could not be read, to a row of the table."""
    if isinstance(item, MalformedResultError):
        return batch_id, item.custom_id or f"line {item.line_number}", "unreadable", item.raw
    return batch_id, item.custom_id, item.result.type, msgspec.json.encode(item)


async def produce(client: BatchesClient, batch_id: str, queue: Queue) -> None:
    """Put the results into the queue as they arrive."""
    async with client.results_stream(batch_id, message_type=dict) as stream:
        async for item in stream:
            await queue.put(item)  # waits while the queue is full
    await queue.put(None)


async def consume(queue: Queue, batch_id: str, database: Path) -> Counter[str]:
    """Store what is in the queue, many results at a time, and count them by type."""
    counts: Counter[str] = Counter()
    while True:
        items = [await queue.get()]
        items += [queue.get_nowait() for _ in range(queue.qsize())]
        rows = [as_row(batch_id, item) for item in items if item is not None]
        replace = "REPLACE INTO results VALUES (?, ?, ?, ?)"
        await asyncio.to_thread(execute, database, replace, rows)
        counts.update(row[2] for row in rows)
        if items[-1] is None:
            return counts


async def main(options: argparse.Namespace) -> None:
    """Create the batch, or read an existing one, and store its results."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    execute(options.database, TABLE, [()])  # an error comes before the batch is paid for
    async with BatchesClient.from_env() as client:
        if options.batch:
            batch = await client.get(options.batch)
        else:
            # If the answer is lost, "settle" looks for the batch instead of buying another.
            batch = await client.create(RequestsFile(options.requests), if_unknown="settle")
        options.known_id = batch.id
        await client.wait_for(batch, poll_interval=30.0 if has_key else 1.0)
        queue: Queue = asyncio.Queue(maxsize=1000)
        async with asyncio.TaskGroup() as group:
            group.create_task(produce(client, batch.id, queue))
            consumer = group.create_task(consume(queue, batch.id, options.database))
    counts = ", ".join(f"{count} {kind}" for kind, count in consumer.result().most_common())
    print(f"{consumer.result().total()} results in {options.database}: {counts}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Store the results of a batch in a database.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("requests", nargs="?", type=Path, help="a file with one request per line")
    what.add_argument("--batch", metavar="ID", help="an existing batch to continue with")
    parser.add_argument("--database", type=Path, default=Path("results.sqlite"), metavar="FILE")
    options = parser.parse_args(namespace=argparse.Namespace(known_id=None, status=0))
    if options.batch and not has_key:
        parser.error("--batch needs the service: set ANTHROPIC_API_KEY")
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("transports.client").setLevel(logging.DEBUG)  # logs polls and retries
    try:
        with contextlib.ExitStack() as stack:
            if not has_key:
                say("ANTHROPIC_API_KEY is not set: an emulator invents the answers, at no cost")
                url = stack.enter_context(running_emulator(Emulator(speed=5)))
                os.environ.update(ANTHROPIC_API_KEY="any", ANTHROPIC_BASE_URL=url)
            asyncio.run(main(options))
    except* (BatchesError, OSError, sqlite3.Error, asyncio.CancelledError) as group:
        for error in group.exceptions:
            interrupted = isinstance(error, asyncio.CancelledError)
            options.status = 130 if interrupted else 1
            text = "interrupted" if interrupted else f"error: {error}"
            say(text, *getattr(error, "__notes__", ()), sep="\n  ")
    if options.status and options.known_id and has_key:
        say(f"the batch is not lost: continue with --batch {options.known_id}")
    sys.exit(options.status)
