"""An operation that can be stopped while it waits: a settling create can wait for ten minutes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from batches_core import Done, Event, Need, Operation, RawHeaders, SendRequest, WaitUntil

T = TypeVar("T")

#: The longest time in seconds between two checks of a waiting operation.
_SLICE = 1.0


class StoppableOperation(Operation[T]):
    """An operation that calls `check` before each step, and cuts its waits into short ones.

    `check` raises an error to stop it. `now` is the clock of the driver.
    """

    def __init__(
        self, operation: Operation[T], check: Callable[[], object], now: Callable[[], float]
    ) -> None:
        self._operation = operation
        self._check = check
        self._clock = now

    def next_event(self) -> Event | SendRequest | WaitUntil | Need | Done[T]:
        """See `Operation`."""
        self._check()
        event = self._operation.next_event()
        if isinstance(event, WaitUntil):
            # `handle_timeout` may come too early: then the operation waits again.
            return WaitUntil(deadline=min(event.deadline, self._clock() + _SLICE))
        return event

    @property
    def deadline(self) -> float | None:
        """See `Operation`."""
        return self._operation.deadline

    def receive_head(self, exchange: int, status: int, headers: RawHeaders, now: float) -> None:
        """See `Operation`."""
        self._operation.receive_head(exchange, status, headers, now)

    def receive_data(self, exchange: int, data: bytes, now: float) -> None:
        """See `Operation`."""
        self._operation.receive_data(exchange, data, now)

    def receive_eof(self, exchange: int, now: float) -> None:
        """See `Operation`."""
        self._operation.receive_eof(exchange, now)

    def connection_lost(self, exchange: int, *arguments: Any, **options: Any) -> None:
        """See `Operation`."""
        self._operation.connection_lost(exchange, *arguments, **options)

    def handle_timeout(self, now: float) -> None:
        """See `Operation`."""
        self._operation.handle_timeout(now)
