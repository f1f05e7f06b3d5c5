"""What a job needs of a client: every client of `transports` has it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from batches_core import BatchesAPI, Event, MessageBatch, Operation

T = TypeVar("T")


class AsyncJobClient(Protocol):
    """A client that several workers can use at once."""

    @property
    def api(self) -> BatchesAPI:
        """What builds the client's operations."""
        ...

    async def run(
        self, operation: Operation[T], on_event: Callable[[Event], None] | None = None
    ) -> T:
        """Run an operation, and call `on_event` with each event before it goes on."""
        ...

    def list_all(self, *, limit: int | None = None) -> AsyncIterator[MessageBatch]:
        """Iterate over all batches, newest first."""
        ...

    async def download(
        self,
        batch: MessageBatch | str,
        path: str | os.PathLike[str],
        *,
        on_event: Callable[[Event], None] | None = None,
    ) -> int:
        """Write the results of a batch to a file, and call `on_event` with each event."""
        ...
