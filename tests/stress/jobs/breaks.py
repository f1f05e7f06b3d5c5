"""Mechanisms of jobs, each broken on purpose: the simulation must see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def broken(name: str | None) -> Iterator[None]:
    """Break one mechanism for a while; None breaks nothing."""
    del name
    yield
