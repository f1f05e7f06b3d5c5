"""The input of a job whose requests are in shared storage.

Planning reads the input from the storage and stores the requests of each chunk under a name that
has their digest. Everything else reads these, from copies on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from batches_core import InvalidInputError
from batches_core.jobs import ChunkPlanned, Ids, Plan, PlannedInput, PlanRetry
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.chunk_file import ChunkFile
from batches_jobs._inputs.files import count_line_feeds
from batches_jobs._inputs.jsonl import RangeCut
from batches_jobs._inputs.stored import StoredInput

from .interface import Storage
from .job_files import requests_name

#: How much is copied at once, in bytes.
_PIECE = 1024 * 1024


class SharedInput(StoredInput):
    """The requests of a job in shared storage.

    - `job`: the name of the job in the storage;
    - `input_name`: the name of the input in the storage;
    - `scratch`: a folder of this machine for copies. It can be removed at any time when no
      operation runs.
    """

    kind = "shared"

    def __init__(
        self,
        storage: Storage,
        job: str,
        input_name: str,
        scratch: JobFolder,
        *,
        job_id: str,
        ids: Ids,
    ) -> None:
        super().__init__(scratch, job_id=job_id, ids=ids)
        self._storage = storage
        self._job = job
        self._input_name = input_name

    def describe(self) -> str:
        """See `interface.Input`."""
        return self._input_name

    def plan(self, spec: Plan) -> PlannedInput:
        """See `interface.Input`."""
        with self._storage.open(self._input_name) as file:
            try:
                planned = self._cut(file, spec, int(spec.start > 0))
            except InvalidInputError:
                if not spec.start:
                    raise
                planned = self._cut(file, spec, count_line_feeds(file, 0, spec.start))
            if planned.plan is not None:
                self._store_range(file, planned.plan)
        return planned

    def plan_and_store_retry(
        self, spec: PlanRetry, chunks: tuple[ChunkPlanned, ...]
    ) -> ChunkPlanned:
        """Gather failed rows into a chunk, and store their requests.

        `chunks` are those of the input that have the rows.
        """
        plan = self.plan_retry(spec, chunks)
        self._storage.put(requests_name(self._job, plan), self._folder.retry(plan.chunk))
        return plan

    def _resume(self, source: str, chunks: list[ChunkPlanned], *, ended: bool) -> None:
        del source, chunks, ended  # what is stored does not change

    def _cut(self, file: IO[bytes], spec: Plan, first: int) -> PlannedInput:
        cut = RangeCut(
            file,
            spec,
            self._ids,
            name=self._input_name,
            first=first,
            max_bytes=self._max_bytes,
        )
        return cut.planned()

    def _store_range(self, file: IO[bytes], plan: ChunkPlanned) -> None:
        path = self._folder.spool(plan.chunk)
        left = plan.end - plan.start
        file.seek(plan.start)
        with path.open("wb") as copy:
            while left > 0 and (data := file.read(min(_PIECE, left))):
                copy.write(data)
                left -= len(data)
        self._storage.put(requests_name(self._job, plan), path)

    def _input_file(self, plan: ChunkPlanned) -> ChunkFile:
        first, last = plan.first_row, plan.first_row + plan.count - 1
        size = plan.end - plan.start
        return ChunkFile(plan, self._fetched(plan), 0, size, lambda: f"rows {first:,} to {last:,}")

    def _file(self, plan: ChunkPlanned) -> ChunkFile:
        if plan.rows:
            self._fetched(plan)
        return super()._file(plan)

    def _fetched(self, plan: ChunkPlanned) -> Path:
        folder = self._folder
        path = folder.retry(plan.chunk) if plan.rows else folder.spool(plan.chunk)
        if not path.exists():
            self._storage.fetch(requests_name(self._job, plan), path)
        return path
