"""Fixtures for all tests: no secret is logged, and no socket or thread is left behind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.leaks import open_sockets, secrets_in

# A failing example is printed with its seed. `--hypothesis-seed=N` runs another one.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


class _SecretFinder(logging.Handler):
    """Collects log messages that contain a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if secrets_in(text := self.format(record)):
            self.found.append(text)


@pytest.fixture(autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Fail a test in which a client logs a key or a query, whatever the test is about."""
    logger, finder = logging.getLogger("transports"), _SecretFinder()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(finder)
    yield
    logger.removeHandler(finder)
    logger.setLevel(level)
    assert not finder.found


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a socket or a thread, even if garbage collection would close it."""
    sockets, threads = set(open_sockets()), set(threading.enumerate())
    yield
    assert set(open_sockets()) <= sockets, "a socket was left open"
    for thread in set(threading.enumerate()) - threads:
        if thread.name.startswith("AnyIO"):
            thread.join(5)  # its event loop has told it to end
    # trio caches the threads in which it resolves names for a few seconds.
    left = {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}
    assert left <= threads, "a thread was left running"
