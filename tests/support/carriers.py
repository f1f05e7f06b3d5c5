"""Every transport behind one async interface, so that one test can run on all of them.

A test writes an async scenario and runs it with a `Carrier`. The methods of blocking clients are
wrapped in coroutines that never suspend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import httpx
import httpx2
import trio

import transports.asyncio
import transports.h11
import transports.trio
from batches_core import SettlingPolicy
from transports.httpx import AsyncBatchesClient, BatchesClient

#: What a test does with a client: an async function without arguments.
Scenario = Callable[[], Coroutine[Any, Any, Any]]


class _AwaitableClient:
    """A blocking client with async methods."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return call

    def unfinished_creates(self) -> Any:
        return self._client.unfinished_creates()

    def list_all(self, **options: Any) -> AsyncIterator[Any]:
        return _each(self._client.list_all(**options))

    def results_stream(self, *args: Any, **options: Any) -> Any:
        return _AwaitableStream(self._client.results_stream(*args, **options))


class _AwaitableStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aenter__(self) -> Self:
        self._stream.__enter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stream.__exit__(*error)

    def __aiter__(self) -> _AwaitableStream:
        return self

    async def __anext__(self) -> Any:
        for item in self._stream:
            return item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._stream.close()


async def _each(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


#: Settling in a fraction of a second, for an emulator whose list shows a batch at once.
QUICK_SETTLING = SettlingPolicy(alone=0.02, first_look=0.01, longest_look=0.02)


@dataclass(frozen=True)
class Carrier:
    """One transport: how to make and close its client, and how to run a scenario."""

    #: ``h11-sync``, ``trio``, ``asyncio``, or an httpx library and what runs it: ``httpx2-trio``.
    name: str
    run: Callable[[Scenario], Any]
    make: Callable[..., Any]
    close: Callable[[Any], Awaitable[None]]

    @asynccontextmanager
    async def client(self, base_url: str, **settings: Any) -> AsyncIterator[Any]:
        """Make a client, and close its connections at the end."""
        defaults = {"api_key": "sk-carried", "settling": QUICK_SETTLING}
        client = self.make(base_url=base_url, **{**defaults, **settings})
        try:
            yield client
        finally:
            await self.close(client)


def _run_blocking(scenario: Scenario) -> Any:
    coroutine = scenario()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a blocking client suspended its coroutine")


def _blocking(library: Any) -> Carrier:
    opened: dict[int, Any] = {}

    def make(ssl_context: Any = None, options: Any = None, **settings: Any) -> _AwaitableClient:
        inner = library.Client(
            **{
                "verify": ssl_context or True,
                "proxy": settings.pop("proxy", None),
                **(options or {}),
            }
        )
        client = _AwaitableClient(BatchesClient(client=inner, **settings))
        opened[id(client)] = inner
        return client

    async def close(client: Any) -> None:
        opened.pop(id(client)).close()

    return Carrier(f"{library.__name__}-sync", _run_blocking, make, close)


def _async(library: Any, loop: str) -> Carrier:
    opened: dict[int, Any] = {}

    def make(ssl_context: Any = None, options: Any = None, **settings: Any) -> AsyncBatchesClient:
        inner = library.AsyncClient(
            **{
                "verify": ssl_context or True,
                "proxy": settings.pop("proxy", None),
                **(options or {}),
            }
        )
        client = AsyncBatchesClient(client=inner, **settings)
        opened[id(client)] = inner
        return client

    async def close(client: Any) -> None:
        await opened.pop(id(client)).aclose()

    def run(scenario: Scenario) -> Any:
        return asyncio.run(scenario()) if loop == "asyncio" else trio.run(scenario)

    return Carrier(f"{library.__name__}-{loop}", run, make, close)


def _raw_trio() -> Carrier:
    async def close(client: Any) -> None:
        await client.aclose()

    return Carrier("trio", trio.run, transports.trio.BatchesClient, close)


def _raw_asyncio() -> Carrier:
    async def close(client: Any) -> None:
        await client.aclose()

    def run(scenario: Scenario) -> Any:
        return asyncio.run(scenario())

    return Carrier("asyncio", run, transports.asyncio.BatchesClient, close)


def _raw_h11() -> Carrier:
    def make(**settings: Any) -> _AwaitableClient:
        return _AwaitableClient(transports.h11.BatchesClient(**settings))

    async def close(client: Any) -> None:
        await client.close()

    return Carrier("h11-sync", _run_blocking, make, close)


CARRIERS = [
    _raw_h11(),
    _raw_trio(),
    _raw_asyncio(),
    *(_blocking(library) for library in (httpx, httpx2)),
    *(_async(library, loop) for library in (httpx, httpx2) for loop in ("asyncio", "trio")),
]
RAW = [carrier for carrier in CARRIERS if carrier.name in {"h11-sync", "trio", "asyncio"}]
OVER_HTTPX = [carrier for carrier in CARRIERS if carrier not in RAW]
ASYNC_CARRIERS = [carrier for carrier in CARRIERS if not carrier.name.endswith("sync")]
