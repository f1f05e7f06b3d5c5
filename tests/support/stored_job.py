"""Runs a job in memory as `job_run` does, over a real input, and keeps it in a real folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from batches_core.jobs import (
    ChunkPlanned,
    CollectResult,
    Counts,
    JobOpened,
    JobOptions,
    Plan,
    PlanRetry,
    Spec,
    Value,
)
from batches_jobs._collect import collect
from batches_jobs._folder import JobFolder
from batches_jobs._inputs.interface import Input
from batches_jobs._inputs.opening import open_input
from batches_jobs._journal import Journal, new_salt
from tests.support.job_run import (
    JOB_ID,
    Folder,
    JobRun,
    Rows,
    is_good,
    line,
    result_line,
    success,
)

#: The number of a row and how often it was sent before. Returns a fate of `job_run`, or a result.
Answer = Callable[[int, int], str | dict[str, Any]]


def answered(_row: int, _attempt: int) -> dict[str, Any]:
    return success()


class _InputRows(Rows):
    def __init__(self, input_: Input) -> None:
        super().__init__([])
        self._input = input_
        self._sent: dict[int, str] = {}

    def sent_id(self, row: int) -> str:
        return self._sent[row]

    def ids(self, plan: ChunkPlanned) -> dict[str, int]:
        ids = dict(self._input.ids(plan))
        self._sent.update({row: custom_id for custom_id, row in ids.items()})
        return ids

    def custom_ids(self, plan: ChunkPlanned) -> dict[int, str | None]:
        return dict(self._input.custom_ids(plan))


class _StoredRun(JobRun):
    def __init__(self, folder: JobFolder, input_: Input, answer: Answer, **options: Any) -> None:
        super().__init__(Folder(folder.path), _InputRows(input_), lambda *_: "", **options)
        self._input = input_
        self._answer_of = answer
        self._chunks: list[ChunkPlanned] = []

    def _value(self, spec: Spec) -> Value:
        if isinstance(spec, Plan):
            planned = self._input.plan(spec)
            self._chunks += [] if planned.plan is None else [planned.plan]
            return planned
        if isinstance(spec, PlanRetry):
            self._chunks.append(self._input.plan_retry(spec, self._chunks))
            return self._chunks[-1]
        return super()._value(spec)

    def collect(self, plan: ChunkPlanned, counts: Counts) -> CollectResult:
        return collect(self.folder.raw(plan.chunk), self.rows.ids(plan), counts, accept=is_good)

    def _answer(self, plan: ChunkPlanned) -> None:
        fates: dict[int, str] = {}
        lines: list[bytes] = []
        for custom_id, row in self.rows.ids(plan).items():
            answer = self._answer_of(row, self._sent[row])
            self._sent[row] += 1
            if isinstance(answer, str):
                fates[row] = answer
                lines.append(result_line(custom_id, answer))
            else:
                fates[row] = answer["type"]
                lines.append(line(custom_id, answer))
        self.fates[plan.chunk] = fates
        # Not in the order of the requests.
        self.folder.raw(plan.chunk).write_bytes(b"".join(lines[::-1]))


def store_job(
    path: Path,
    requests: object,
    answer: Answer = answered,
    *,
    lost: frozenset[int] = frozenset(),
    cancel_at: int | None = None,
    **options: Any,
) -> Path:
    """Run a job to its end, and return its folder."""
    job_options = JobOptions(
        **{"chunk_rows": 4, "max_waiting": 40, "poll_interval": 1.0, **options}
    )
    folder = JobFolder(path, mounts=str)
    folder.create()
    input_ = open_input(requests, folder, job_id=JOB_ID, ids=job_options.ids)
    opened = JobOpened(job_id=JOB_ID, options=job_options, source=input_.describe())
    run = _StoredRun(folder, input_, answer, options=job_options, lost=lost, cancel_at=cancel_at)
    run.run()
    with Journal.create(folder.journal_path, opened, salt=new_salt()) as journal:
        journal.append(run.records[1:])
    return path
