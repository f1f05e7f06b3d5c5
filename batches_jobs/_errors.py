"""The errors of jobs that the core does not have.

The modules that raise an error decide when. The tree, below the core's `BatchesError`::

    BatchesError
    ├── JobLockedError         another process runs the job
    ├── JobFolderError         the folder cannot hold a job
    ├── JournalError           the journal cannot be read or continued
    ├── StorageError           a file of the job could not be written
    │   └── ObjectStoreError   an object store refused, or did not answer
    ├── ResultsFileError       a chunk's results file is missing or wrong
    └── InvalidInputError
        └── InputChangedError  the input is not the one that was planned

Each message ends with what to do next. Every error can be pickled.
"""

from __future__ import annotations

import os
from pathlib import Path

from batches_core import BatchesError, InvalidInputError


class JobLockedError(BatchesError):
    """Another process, or another call in this process, runs the job: wait for it, or end it.

    `pid` is the id of that process; None if it could not be read.
    """

    pid: int | None

    def __init__(self, folder: Path, pid: int | None) -> None:
        self.pid = pid
        if pid == os.getpid():
            where = f"this process ({pid})"
            remedy = "wait until that call has returned, and what it left under way has ended"
        else:
            where = "another process" if pid is None else f"process {pid}"
            remedy = "wait until it has ended, or end it, then run the job again"
        super().__init__(f"the job in {folder} is already running in {where}: {remedy}")


class JobFolderError(BatchesError):
    """The folder cannot hold a job: choose another, or correct what the message names."""


class JournalError(BatchesError):
    """The journal cannot be read or continued: do what the message says.

    The journal is missing, damaged, of a newer format, locked by another program, or not the
    journal of a job.
    """


class StorageError(BatchesError):
    """A file of the job could not be written, for example because the disk is full.

    Everything recorded before is kept. Correct the cause, then run the job again.

    `reason` says why, in a few words.
    """

    reason: str

    def __init__(self, path: Path, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{path} could not be written ({reason}): everything recorded before is kept; free "
            "some space or repair the disk, then run the job again"
        )


class ObjectStoreError(StorageError):
    """An object store refused a request, or did not answer.

    `passes` is True if the same can succeed later without a change, for example after an error of
    the network. It is False if a person must change something, such as the credentials.
    """

    passes: bool

    def __init__(self, name: str, reason: str, *, passes: bool) -> None:
        self.reason = reason
        self.passes = passes
        remedy = "try again later" if passes else "correct that, then try again"
        BatchesError.__init__(
            self,
            f"{name} could not be read or written in the object store ({reason}): everything "
            f"recorded before is kept; {remedy}",
        )


class ResultsFileError(BatchesError):
    """A chunk's results file is missing, not complete, or not that of the chunk's batch.

    The results can be downloaded again: the service keeps them for 29 days after the batch was
    created. A run of the job does that if the file has not been counted yet.

    `path` is the file.
    """

    path: Path

    def __init__(self, path: Path, reason: str | None, *, batch_id: str | None = None) -> None:
        """Name the file, and what is wrong with it: None if it is missing.

        `batch_id` is that of the chunk, if the file was counted before.
        """
        self.path = path
        what = "is missing" if reason is None else reason
        moved = "" if reason is None else "move it away and "
        how = (
            "run the job again, which downloads the results again"
            if batch_id is None
            else f"download the results of batch {batch_id} to this path again"
        )
        super().__init__(f"{path} {what}: {moved}{how}; the service keeps them for 29 days")


class InputChangedError(InvalidInputError):
    """The input is not the one that was planned. Nothing of the change is sent.

    `what` names the input, and `place` says which part of it changed. `chunk` is the number of the
    changed chunk, from 0; None if the change is after all planned chunks.
    """

    chunk: int | None

    def __init__(self, what: str, place: str, *, chunk: int | None) -> None:
        self.chunk = chunk
        super().__init__(
            f"{what} was changed after the job read it: {place}; nothing of the change is sent: "
            "run the job again with the input as it was, or start another job in another folder"
        )
