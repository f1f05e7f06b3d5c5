"""Opens the folder of a job, and does the blocking part of its operations.

The lock is held while the job is open, so there is one writer. Requests are read by `_inputs`,
records are kept by `_journal`, results are counted by `_collect`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from batches_core import BatchesAPI, InvalidInputError, RequestsSource
from batches_core.jobs import (
    ChunkPlanned,
    Collect,
    CollectResult,
    Failure,
    JobOpened,
    JobOptions,
    JobState,
    Persist,
    Plan,
    PlannedInput,
    PlanRetry,
    Record,
)
from batches_core.lowlevel import path_segment

from ._budget import Budget
from ._collect import collect
from ._errors import JobFolderError
from ._folder import JobFolder
from ._inputs.interface import Input
from ._inputs.opening import open_input
from ._inputs.reopening import reopen_input
from ._journal import Journal, hash_key, new_salt


class OpenJob:
    """A job whose folder is locked and whose journal is open.

    Raises:
        JobLockedError: another process runs the job.
        JobFolderError: the folder cannot hold a job.
        JournalError: the journal cannot be read.
        InputChangedError: the input is not the one of the job.
        InvalidInputError: the input cannot be read, or the options are not those of the job.
    """

    def __init__(
        self,
        api: BatchesAPI,
        requests: object,
        path: str | os.PathLike[str],
        *,
        options: JobOptions | None,
        accept: Callable[[Any], bool] | None,
        message_type: type[Any],
        budget: Budget | None,
    ) -> None:
        self._accept = accept
        self._message_type = message_type
        self._budget = budget
        self.folder = JobFolder(path)
        if requests is None and not self.folder.has_job:
            raise JobFolderError(
                f"there is no job in {self.folder.path}: pass the requests to begin one"
            )
        self.folder.create()
        with contextlib.ExitStack() as opened:
            opened.enter_context(self.folder.lock())
            is_new = not self.folder.has_job
            if is_new:
                self.journal = self._create(api, requests, options or JobOptions())
            else:
                self.journal = Journal.open(self.folder.journal_path)
            opened.callback(self.journal.close)
            self.records: list[Record] = self.journal.load()
            state = JobState()
            state.apply_all(self.records)
            if options is not None:
                _check_options(options, state.options)
            self._input = self._open_input(requests, state)
            #: Whether the client's key is the one that the job was opened with.
            self.same_key = state.opened is not None and state.opened.key == _hash(
                api, self.journal.salt
            )
            #: Every chunk that was planned, for the rows to send again.
            self._chunks = [chunk.plan for chunk in state.chunks]
            if not is_new and state.opened is not None:
                ended = state.rows is not None
                self._input.resume(state.opened.source, self._chunks, ended=ended)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Close the journal and release the lock."""
        self._opened.close()

    # --- what the runner's operations need ---------------------------------------------------

    def persist(self, persist: Persist) -> None:
        """Make records durable."""
        self.journal.append(persist.records)
        self._chunks += [each for each in persist.records if isinstance(each, ChunkPlanned)]

    def plan(self, spec: Plan) -> PlannedInput:
        """Cut the next chunk off the input."""
        return self._input.plan(spec)

    def plan_retry(self, spec: PlanRetry) -> ChunkPlanned:
        """Gather failed rows into a chunk."""
        return self._input.plan_retry(spec, self._chunks)

    def requests(self, plan: ChunkPlanned) -> RequestsSource:
        """Return the requests of a chunk."""
        return self._input.requests(plan)

    def results_path(self, plan: ChunkPlanned) -> Path:
        """Return the file that a chunk's results are kept in."""
        return self.folder.raw(plan.chunk)

    def collect(self, spec: Collect) -> CollectResult:
        """Count a chunk's results, which are in their file."""
        path = self.results_path(spec.plan)
        ids = self._input.ids(spec.plan)
        if self._accept is None:
            result = collect(path, ids, spec.counts)
        else:
            result = collect(
                path, ids, spec.counts, accept=self._accept, message_type=self._message_type
            )
        if result.is_foreign:
            # The chunk's own results may be downloaded later, to the same path.
            name = f"{path.stem}.{path_segment('batch', spec.batch_id)}.foreign"
            path.rename(path.with_name(name))
        return result

    def unmeasured(self, state: JobState, plan: ChunkPlanned) -> Sequence[ChunkPlanned]:
        """Return the chunks that `measure` must read before `over_budget` is asked."""
        return () if self._budget is None else self._budget.unmeasured(state, plan)

    def measure(self, plan: ChunkPlanned) -> None:
        """Read the requests of a chunk, to know what it can cost."""
        if self._budget is not None:
            self._budget.measure(plan, self._requests_of(plan))

    def over_budget(self, state: JobState, plan: ChunkPlanned) -> Failure | None:
        """Return why a chunk must not be sent: it could cost more than the caller allows."""
        if self._budget is None:
            return None
        return self._budget.check(state, plan, self._requests_of)

    def _requests_of(self, plan: ChunkPlanned) -> Iterator[bytes]:
        return (line for _, line in self._input.lines(plan))

    def is_cancel_asked(self) -> bool:
        """Whether a person has asked for the job to be canceled; see `cancel_job`."""
        return self.folder.cancel_path.exists()

    def _open_input(self, requests: object, state: JobState) -> Input:
        if requests is None and (opened := state.opened) is not None:
            return reopen_input(opened, self.folder)
        return open_input(requests, self.folder, job_id=state.job_id, ids=state.options.ids)

    def _create(self, api: BatchesAPI, requests: object, options: JobOptions) -> Journal:
        job_id, salt = secrets.token_hex(8), new_salt()
        source = open_input(requests, self.folder, job_id=job_id, ids=options.ids).describe()
        opened = JobOpened(job_id=job_id, options=options, source=source, key=_hash(api, salt))
        return Journal.create(self.folder.journal_path, opened, salt=salt)


def _hash(api: BatchesAPI, salt: bytes) -> str:
    return hash_key(salt, base_url=api.base_url, credential=api.scope, workspace="")


def _check_options(given: JobOptions, kept: JobOptions) -> None:
    names = [
        name for name in JobOptions.__struct_fields__ if getattr(given, name) != getattr(kept, name)
    ]
    if names:
        was = ", ".join(f"{name}={getattr(kept, name)!r}" for name in names)
        raise InvalidInputError(
            f"the job was opened with {was}: pass the same options, or none, to continue it"
        )
