"""The clients of this package on every transport: results, creates and downloads.

The parameter ``client`` names a transport's class as ``module:class``, and ``library`` the module
of its HTTP client. Async clients have a parameter ``loop``, which is ``asyncio`` or ``trio``.
"""

from __future__ import annotations

import asyncio
import importlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.meter import ResourceMeter
from benchmarks.task import NotThereError, Sample, Task

from .shared import ResultsDigest, client_class, fetch_create_digest, read_dicts


def _make_client(task: Task) -> Any:
    make = client_class(task)
    arguments: dict[str, Any] = {}
    if library := task.parameters.get("library"):
        kind = "AsyncClient" if make.__name__.startswith("Async") else "Client"
        arguments["client"] = getattr(importlib.import_module(library), kind)()
    return make(api_key="a key", base_url=task.text("base_url"), **arguments)


def _measure(
    task: Task,
    meter: ResourceMeter,
    work: Callable[[Any], None],
    async_work: Callable[[Any], Awaitable[None]],
) -> None:
    """Run the work with a blocking client, or the async work with an async one, and measure it.

    Making the client and starting the event loop are not measured.
    """
    loop = task.parameters.get("loop")
    if loop is None:
        with _make_client(task) as client, meter:
            work(client)
        return

    async def main() -> None:
        async with _make_client(task) as client:
            with meter:
                await async_work(client)

    if loop == "trio":
        importlib.import_module("trio").run(main)
    else:
        asyncio.run(main())


def results(task: Task) -> Sample:
    """Read the results of a batch from the server, item by item."""
    digest, meter, batch = ResultsDigest(task), ResourceMeter(), task.text("batch")

    def work(client: Any) -> None:
        with client.results_stream(batch) as stream:
            digest.update(stream)

    async def async_work(client: Any) -> None:
        count = 0
        async with client.results_stream(batch) as stream:
            if task.verify:
                async for item in stream:
                    digest.add(item)
            else:
                # Iterate here, because a call for each item would add to what is measured.
                async for _ in stream:
                    count += 1
        digest.update(range(count))

    _measure(task, meter, work, async_work)
    return meter.sample(task.number("size"), digest.digest())


def create(task: Task) -> Sample:
    """Create a batch from dicts."""
    requests = read_dicts(task)
    return _create(task, lambda: requests)


def create_from_lines(task: Task) -> Sample:
    """Create a batch from the lines of an open file."""
    with Path(task.text("requests")).open("rb") as lines:
        return _create(task, lambda: lines)


def create_from_file(task: Task) -> Sample:
    """Create a batch from a `RequestsFile`, which is never in memory as a whole."""
    try:
        requests_file = importlib.import_module("transports.files").RequestsFile
    except (ImportError, AttributeError):
        raise NotThereError("no RequestsFile") from None
    return _create(task, lambda: requests_file(Path(task.text("requests"))))


def _create(task: Task, make_requests: Callable[[], Any]) -> Sample:
    meter = ResourceMeter()

    def work(client: Any) -> None:
        client.create(make_requests())

    async def async_work(client: Any) -> None:
        await client.create(make_requests())

    _measure(task, meter, work, async_work)
    return meter.sample(task.number("size"), fetch_create_digest(task))


def download(task: Task) -> Sample:
    """Download the results of a batch to a file."""
    if not hasattr(client_class(task), "download"):
        raise NotThereError("no download")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        meter = ResourceMeter()

        def work(client: Any) -> None:
            client.download(task.text("batch"), path)

        async def async_work(client: Any) -> None:
            await client.download(task.text("batch"), path)

        _measure(task, meter, work, async_work)
        return _sample_of_file(meter, path)


def write_items(task: Task) -> Sample:
    """Read the results of a batch and write each to a file as JSON, without `download`."""
    encode = msgspec.json.Encoder().encode
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        with _make_client(task) as client, path.open("wb") as file, ResourceMeter() as meter:
            for item in client.results_stream(task.text("batch"), message_type=msgspec.Raw):
                file.write(encode(item) + b"\n")
        return _sample_of_file(meter, path)


def _sample_of_file(meter: ResourceMeter, path: Path) -> Sample:
    with path.open("rb") as file:
        lines = sum(1 for _ in file)
    return meter.sample(path.stat().st_size, {"lines": lines})
