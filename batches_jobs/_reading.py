"""Reads a job by its journal: how far it is, and its results. Another process may run it."""

from __future__ import annotations

import os
from typing import Any, TypeVar, overload

from batches_core import Message
from batches_core.jobs import JobState, JobStatus, job_status

from ._errors import JournalError
from ._folder import JobFolder
from ._inputs.opening import open_input, reopen_input
from ._journal import Journal
from ._results import JobResults

M = TypeVar("M")


def read_status(path: str | os.PathLike[str]) -> JobStatus:
    """Return how far the job in a folder is. Another process may run it at the same time.

    Raises:
        JournalError: the folder has no job, or its journal cannot be read.
    """
    with Journal.open_read_only(JobFolder(path).journal_path) as journal:
        state = JobState()
        state.apply_all(journal.load())
    return job_status(state)


@overload
def open_results(path: str | os.PathLike[str], requests: object = None) -> JobResults[Message]: ...


@overload
def open_results(
    path: str | os.PathLike[str], requests: object = None, *, message_type: type[M]
) -> JobResults[M]: ...


def open_results(
    path: str | os.PathLike[str], requests: object = None, *, message_type: type[Any] = Message
) -> JobResults[Any]:
    """Return the results of the job in a folder, as far as it is now.

    - `requests`: those of the job. They are only needed if they are a file that was moved.
    - `message_type`: the type of an answer's message, as for `read_results`.

    Raises:
        JournalError: the folder has no job, or its journal cannot be read.
        InvalidInputError: `requests` are of no known kind.
    """
    folder = JobFolder(path)
    with Journal.open_read_only(folder.journal_path) as journal:
        records = journal.load()
    state = JobState()
    state.apply_all(records)
    if (opened := state.opened) is None:
        raise JournalError(f"the journal of {folder.path} does not begin with an opened job")
    if requests is None:
        chunk_ids = reopen_input(
            opened.source, folder, job_id=opened.job_id, ids=opened.options.ids
        )
    else:
        chunk_ids = open_input(requests, folder, job_id=opened.job_id, ids=opened.options.ids)
    return JobResults(folder, records, chunk_ids, message_type)
