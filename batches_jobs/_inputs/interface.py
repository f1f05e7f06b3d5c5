"""The interface between the runner of a job and its input. All methods block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from batches_core import RequestsSource
from batches_core.jobs import ChunkPlanned, Plan, PlannedInput, PlanRetry


class Input(Protocol):
    """The requests of a job, cut into chunks.

    A row is the number of a request in the whole input, from 0. Blank lines are not counted.

    All methods can be called from any thread. Several can run at the same time, except that only
    one `plan` or `plan_retry` can run at a time. At most the ids of one chunk and two pieces of its
    body are in memory.

    A failure to write raises `StorageError`. All other failures raise `InvalidInputError`.
    """

    def describe(self) -> str:
        """Return the kind of the input, its file and the file's version as JSON.

        It is kept as `JobOpened.source`.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        ...

    def resume(self, source: str, chunks: Sequence[ChunkPlanned], *, ended: bool) -> None:
        """Continue a job that an earlier run began. Call it once, before `plan`.

        `source` is the value of `describe` when the job was opened. `chunks` are all chunks of the
        job, in their order. `ended` is True if the input was read to its end.

        Files of other chunks are removed from the folder of the job: a crash can leave them.

        Raises:
            InputChangedError: the bytes of a planned chunk have changed, or an ended input has
                grown. An input that can only be read forward is compared by `plan` instead.
            InvalidInputError: the input is of another kind, or cannot be read.
        """
        ...

    def plan(self, spec: Plan) -> PlannedInput:
        """Cut the next chunk off the input, and check its requests.

        Raises:
            InvalidInputError: requests have problems, which name their place in the whole input;
                or the input has no requests.
            InputChangedError: an earlier chunk of the input has changed.
            StorageError: the requests could not be spooled.
        """
        ...

    def plan_retry(self, spec: PlanRetry, chunks: Sequence[ChunkPlanned]) -> ChunkPlanned:
        """Gather failed rows into a chunk. `chunks` are all chunks of the job.

        A row is left out if another row of the new chunk has its custom_id, or if the chunk would
        become too large. Gather it into a later chunk. At least one row is always gathered.

        Raises:
            InputChangedError: a chunk that contains some of the rows has changed.
            StorageError: the requests could not be written.
        """
        ...

    def requests(self, plan: ChunkPlanned) -> RequestsSource:
        """Return the requests of a chunk, for ``create``.

        If the chunk has changed, the body raises `InputChangedError` instead of its last piece.
        Without that piece the service cannot accept the request.
        """
        ...

    def lines(self, plan: ChunkPlanned) -> Iterator[tuple[int, bytes]]:
        """Read each row of a chunk and its request, byte for byte as in the input.

        Raises:
            InputChangedError: the chunk has changed. It is raised after the last request.
        """
        ...

    def ids(self, plan: ChunkPlanned) -> Mapping[str, int]:
        """Return the row of each custom_id in a chunk, as the ids are sent.

        Raises:
            InputChangedError: the chunk has changed.
        """
        ...

    def custom_ids(self, plan: ChunkPlanned) -> Mapping[int, str | None]:
        """Return the caller's own custom_id of each row in a chunk; None if it has none.

        With ``ids="map"`` it can be any JSON value. A value that is not a str is returned as JSON.

        Raises:
            InputChangedError: the chunk has changed.
        """
        ...
