"""Plan the requests of any source: each chunk is copied to the folder of the job.

`sources` and `parquet` read the sources.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256

from batches_core import MAX_BYTES, InvalidInputError
from batches_core.jobs import ChunkPlanned, Ids, Plan, PlannedInput
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import JobFolder

from .chunk_file import ChunkFile
from .request_ids import RequestIds
from .source_cut import SourceCut
from .source_items import SourceItems
from .sources import Source
from .spool_file import SpoolFile
from .stored import StoredInput


class SpooledInput(StoredInput):
    """The requests of any source. Each chunk is copied to ``spool/`` before it is sent.

    The file of a chunk is complete and durable before `plan` returns. If a job is resumed before
    its source was read to the end, the source is read again from the beginning. The requests of
    planned chunks must then have the digests of the plans. If it was read to the end, it is
    compared at once, unless it is a file that has not changed since.

    A source is read once in a run. After any failure, `plan` raises an error until the job is run
    again with the same requests from their beginning.
    """

    def __init__(
        self,
        source: Source,
        folder: JobFolder,
        *,
        job_id: str,
        ids: Ids = "keep",
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(folder, job_id=job_id, ids=ids, max_bytes=max_bytes)
        self.kind = source.kind
        self._source = source
        self._items = SourceItems(source)
        #: The row of the next request.
        self._row = 0
        #: The planned chunks that the source has not been compared with yet.
        self._to_compare: deque[ChunkPlanned] = deque()
        #: The error that every further `plan` raises.
        self._failure: InvalidInputError | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._source.name!r})"

    def describe(self) -> str:
        """See `interface.Input`."""
        return self._source.describe().encode()

    def plan(self, spec: Plan) -> PlannedInput:
        """See `interface.Input`."""
        if self._failure is not None:
            raise self._failure
        self._failure = self._cannot_go_on("an interruption")
        try:
            while self._to_compare:
                self._compare(self._to_compare.popleft())
            if self._row != spec.first_row:
                raise self._cannot_go_on("an interruption")
            with SpoolFile(self._folder.spool(spec.chunk)) as file:
                planned = self._cut(spec, file)
        except InvalidInputError as error:
            self._failure = error
            raise
        except StorageError:
            self._failure = self._cannot_go_on("a failure to write")
            raise
        self._failure = None
        self._row += 0 if planned.plan is None else planned.plan.count
        return planned

    def _cut(self, spec: Plan, file: SpoolFile) -> PlannedInput:
        cut = _CopyCut(
            self._items, spec, self._ids, source=self._source, max_bytes=self._max_bytes, file=file
        )
        return cut.planned()

    def _resume(self, source: str, chunks: list[ChunkPlanned], *, ended: bool) -> None:
        # A file with another name or time can have the same requests.
        self._source.check_resumed(source)
        if not ended:
            self._to_compare.extend(chunks)
        elif chunks and self._source.may_have_changed(source):
            self._compare_all(chunks)

    def _compare_all(self, chunks: list[ChunkPlanned]) -> None:
        """Read the whole source again, and compare it with the chunks.

        Raises:
            InputChangedError: it has other requests, or more.
            InvalidInputError: it cannot be read.
        """
        if (first := self._items.take()) is not None:
            self._items.push_back(first)
        elif self._source.is_read_once:
            return  # an earlier run has used it up
        for plan in chunks:
            self._compare(plan)
        while (item := self._items.take()) is not None:
            if item.encoded != b"":
                reason = f"it has more than the {self._row:,} rows of the job"
                raise InputChangedError(self._source.name, reason, chunk=None)

    def _input_file(self, plan: ChunkPlanned) -> ChunkFile:
        path = self._folder.spool(plan.chunk)
        return ChunkFile(plan, path, 0, plan.end - plan.start, lambda: _rows_of(plan))

    def _compare(self, plan: ChunkPlanned) -> None:
        """Read the requests of a planned chunk again, and compare them with its digest.

        Raises:
            InputChangedError: they have changed.
        """
        digest = sha256()
        count = 0
        while count < plan.count and (item := self._items.take()) is not None:
            if item.encoded != b"":
                digest.update((item.encoded or b"") + b"\n")
                count += 1
        self._row += count
        if count != plan.count or digest.hexdigest() != plan.digest:
            reason = (
                f"chunk {plan.chunk} ({_rows_of(plan)}) is not what was planned"
                if count == plan.count
                else f"it ends in chunk {plan.chunk} ({_rows_of(plan)}), after {self._row:,} rows"
            )
            raise InputChangedError(self._source.name, reason, chunk=plan.chunk)

    def _cannot_go_on(self, after: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self._source.name} cannot be continued after {after}: run the job again with the "
            "same requests from their beginning"
        )


class _CopyCut(SourceCut):
    """A chunk that is copied to a file."""

    def __init__(
        self,
        items: SourceItems,
        spec: Plan,
        ids: RequestIds,
        *,
        source: Source,
        max_bytes: int,
        file: SpoolFile,
    ) -> None:
        super().__init__(items, spec, ids, source=source, max_bytes=max_bytes)
        self._file = file

    def keep(self, encoded: bytes) -> None:
        """See `SourceCut`."""
        self._file.write(encoded)

    def finish(self) -> tuple[int, str]:
        """See `Cut`."""
        self._file.finish()
        return self.spec.start + self._file.size, self._file.digest


def _rows_of(plan: ChunkPlanned) -> str:
    return f"rows {plan.first_row:,} to {plan.first_row + plan.count - 1:,}"
