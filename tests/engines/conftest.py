"""Fixtures for the tests of engines: a real server, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import Iterator

import pytest
from temporalio.client import Client

from tests.support.leaks import open_sockets

from .running import TemporalServer, free_port


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """One server for all tests; each has jobs and a task queue of its own."""
    with TemporalServer(tmp_path_factory.mktemp("temporal") / "server.db") as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def runtime() -> None:
    """Start what Temporal's client keeps for the whole process, with a socket of its own."""

    async def connect() -> None:
        with contextlib.suppress(RuntimeError):
            await Client.connect(f"127.0.0.1:{free_port()}")

    asyncio.run(connect())


@pytest.fixture(autouse=True)
def no_socket_is_left() -> Iterator[None]:
    """Fail a test that leaves a socket. Temporal's client closes its own a while after its end."""
    before = set(open_sockets())
    yield
    end = time.monotonic() + 10
    while not set(open_sockets()) <= before:
        gc.collect()
        assert time.monotonic() < end, "a socket was left open"
        time.sleep(0.02)
