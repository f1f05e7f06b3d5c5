from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A failing example is printed with its seed; a run of another seed is `--hypothesis-seed=N`.
settings.register_profile(
    "tests", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")


#: A made-up key as the tests have them, a credential's scheme, or the query of a URL.
_LEAK = re.compile(r"sk-[\w-]{3,}|Bearer \S|\?[\w.%-]+=")


def leaks(text: str) -> list[str]:
    """Find what must never be logged."""
    return _LEAK.findall(text)


class _Watch(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.leaked: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if leaks(text := self.format(record)):
            self.leaked.append(text)


@pytest.fixture(autouse=True)
def no_secret_is_logged() -> Iterator[None]:
    """Fail where any record of the clients holds a key or a query, whatever the test is about."""
    logger, watch = logging.getLogger("transports"), _Watch()
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(watch)
    yield
    logger.removeHandler(watch)
    logger.setLevel(level)
    assert not watch.leaked


def _sockets() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(fd)  # noqa: PTH115 - a socket's link is no path
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture
def nothing_left_behind() -> Iterator[None]:
    """Fail where a test leaves a socket or a thread, be it only to the garbage collector."""
    sockets, threads = _sockets(), set(threading.enumerate())
    yield
    assert _sockets() <= sockets, "a socket was left open"
    for thread in set(threading.enumerate()) - threads:
        if thread.name.startswith("AnyIO"):
            thread.join(5)  # its loop has told it to end
    # trio keeps the threads in which it looks up names for a few seconds, to use them again.
    left = {thread for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}
    assert left <= threads, "a thread was left running"
