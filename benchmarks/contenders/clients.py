"""This package's clients, on every transport: results, creates, and files.

The case names the transport as ``module:class``; what an async one does is run on asyncio, or on
trio where the case or the transport says so.
"""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.meter import Meter, NotThere, Outcome, Task

from .work import Tally, checked, read_dicts


def _make(task: Task) -> Any:
    """Make a client; its own library, where it has one, is imported with it."""
    module, _, name = task.text("client").partition(":")
    arguments: dict[str, Any] = {"api_key": "a key", "base_url": task.text("base_url")}
    if library := task.parameters.get("library"):
        kind = "AsyncClient" if name.startswith("Async") else "Client"
        arguments["client"] = getattr(importlib.import_module(library), kind)()
    return getattr(importlib.import_module(module), name)(**arguments)


def _measure(task: Task, meter: Meter, blocking: Callable[[Any], None], awaited: _Awaited) -> None:
    """Run the work with a client of the task's kind; time begins once there is a client."""
    loop = task.parameters.get("loop")
    if loop is None:
        with _make(task) as client, meter:
            blocking(client)
        return

    async def main() -> None:
        async with _make(task) as client:
            with meter:
                await awaited(client)

    if loop == "trio":
        importlib.import_module("trio").run(main)
    else:
        asyncio.run(main())


_Awaited = Callable[[Any], Awaitable[None]]


def results(task: Task) -> Outcome:
    """Read a batch's results from the server, item by item."""
    tally, meter, batch = Tally(task), Meter(), task.text("batch")

    def blocking(client: Any) -> None:
        with client.results_stream(batch) as stream:
            tally.take(stream)

    async def awaited(client: Any) -> None:
        count = 0
        async with client.results_stream(batch) as stream:
            if task.proof:
                async for item in stream:
                    tally.take_one(item)
            else:
                async for _ in stream:
                    count += 1
        tally.take(range(count))

    _measure(task, meter, blocking, awaited)
    return meter.outcome(task.number("size"), tally.work())


def create(task: Task) -> Outcome:
    """Create a batch of dicts."""
    requests = read_dicts(task)
    return _create(task, lambda: requests)


def create_from_lines(task: Task) -> Outcome:
    """Create a batch from the lines of an open file."""
    with Path(task.text("requests")).open("rb") as lines:
        return _create(task, lambda: lines)


def create_from_file(task: Task) -> Outcome:
    """Create a batch from a requests file that never is in memory as a whole."""
    try:
        requests_file = importlib.import_module("transports.files").RequestsFile
    except (ImportError, AttributeError):
        raise NotThere("not there yet") from None
    return _create(task, lambda: requests_file(Path(task.text("requests"))))


def _create(task: Task, requests: Callable[[], Any]) -> Outcome:
    meter = Meter()

    async def awaited(client: Any) -> None:
        await client.create(requests())

    _measure(task, meter, lambda client: client.create(requests()), awaited)
    return meter.outcome(task.number("size"), checked(task))


def download(task: Task) -> Outcome:
    """Download a batch's results to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        meter = Meter()

        def blocking(client: Any) -> None:
            if not hasattr(client, "download"):
                raise NotThere("not there yet")
            client.download(task.text("batch"), path)

        async def awaited(client: Any) -> None:
            if not hasattr(client, "download"):
                raise NotThere("not there yet")
            await client.download(task.text("batch"), path)

        _measure(task, meter, blocking, awaited)
        return _of_file(meter, path)


def write_items(task: Task) -> Outcome:
    """Read a batch's results and write each to a file, as JSON: what can be done by hand."""
    encode = msgspec.json.Encoder().encode
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        with _make(task) as client, path.open("wb") as file, Meter() as meter:
            for item in client.results_stream(task.text("batch"), message_type=msgspec.Raw):
                file.write(encode(item) + b"\n")
        return _of_file(meter, path)


def _of_file(meter: Meter, path: Path) -> Outcome:
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    return meter.outcome(path.stat().st_size, {"lines": lines})
