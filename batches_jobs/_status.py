"""How far a job is, by its journal."""

from __future__ import annotations

import os

from batches_core.jobs import JobState, JobStatus, job_status

from ._folder import JobFolder
from ._journal import Journal


def read_status(path: str | os.PathLike[str]) -> JobStatus:
    """Return how far the job in a folder is. Another process may run it at the same time.

    Raises:
        JournalError: the folder has no job, or its journal cannot be read.
    """
    with Journal.open_read_only(JobFolder(path).journal_path) as journal:
        state = JobState()
        state.apply_all(journal.load())
    return job_status(state)
