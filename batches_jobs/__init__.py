"""Jobs made durable and visible: `run_job` runs one, and the same call resumes it.

`run_job` is for blocking clients, `run_job_async` for those on asyncio and trio. `read_status` says
how far a job is, also while another process runs it.
"""

from batches_core.jobs import JobOptions, JobStatus

from ._errors import (
    InputChangedError,
    JobFolderError,
    JobLockedError,
    JournalError,
    ResultsFileError,
    StorageError,
)
from ._runner._async.run import run_job_async
from ._runner._sync.run import run_job
from ._status import read_status

__all__ = [
    "InputChangedError",
    "JobFolderError",
    "JobLockedError",
    "JobOptions",
    "JobStatus",
    "JournalError",
    "ResultsFileError",
    "StorageError",
    "read_status",
    "run_job",
    "run_job_async",
]
