"""What a person decides about a job: to cancel it, to settle a doubt, to buy lost rows again.

`_runner` carries it out when the job runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from batches_core import InvalidInputError, LocalProtocolError, MessageBatch
from batches_core.jobs import Job, JobStatus, job_status

from ._errors import JobFolderError, StorageError
from ._folder import JobFolder, sync_folder
from ._journal import Journal
from ._status import read_status


def cancel_job(path: str | os.PathLike[str]) -> None:
    """Ask for the job in a folder to be canceled.

    If it runs, also in another process, it sees that within some seconds. Otherwise the next run
    does. It then submits nothing more, cancels the batches in flight, and collects what they have
    answered, because that was paid for. A job cannot be un-canceled. Nothing happens to a job that
    has finished.

    Raises:
        JobFolderError: the folder has no job.
        JournalError: its journal cannot be read.
        StorageError: the file that asks for it could not be written.
    """
    folder = _folder_of_job(path)
    if read_status(path).is_finished:
        return
    try:
        folder.cancel_path.touch()
        sync_folder(folder.path)
    except OSError as error:
        raise StorageError(folder.cancel_path, error.strerror or str(error)) from error


def decide(path: str | os.PathLike[str], chunk: int, batch: MessageBatch | None) -> JobStatus:
    """Settle a doubt of a job: the create of a chunk made this batch, or none.

    `batch` is the one that `get` of a client returned. If it is None, the next run sends the chunk
    again. If the create did make a batch, the chunk is then paid for twice.

    A job that was paused is continued by its next run.

    Raises:
        InvalidInputError: the chunk is not in doubt, or the batch is that of another chunk or of
            another size.
        JobLockedError: another process runs the job.
        JobFolderError, JournalError: there is no job in the folder, or it cannot be read.
    """

    def act(job: Job) -> None:
        if batch is not None and 0 <= chunk < len(job.state.chunks):
            count, total = job.state.chunks[chunk].count, batch.request_counts.total
            if count != total:
                raise InvalidInputError(
                    f"batch {batch.id} has {total:,} requests and chunk {chunk} has {count:,}: it "
                    "is not the batch of this chunk"
                )
        job.decide(chunk, batch, 0.0)

    return _change(path, act)


def buy_again(path: str | os.PathLike[str], chunk: int) -> JobStatus:
    """Let the next run send a lost chunk again. It is paid for twice if its batch had answers.

    Raises:
        InvalidInputError: the chunk is not lost, or the job was canceled.
        JobLockedError: another process runs the job.
        JobFolderError, JournalError: there is no job in the folder, or it cannot be read.
    """
    if JobFolder(path).cancel_path.exists():
        raise InvalidInputError(f"the job was canceled: chunk {chunk} cannot be bought again")
    return _change(path, lambda job: job.buy_again(chunk, 0.0))


def _change(path: str | os.PathLike[str], act: Callable[[Job], None]) -> JobStatus:
    folder = _folder_of_job(path)
    with folder.lock(), Journal.open(folder.journal_path) as journal:
        job = Job(journal.load(), 0.0)
        try:
            act(job)
        except LocalProtocolError as error:
            raise InvalidInputError(str(error)) from error
        while (persist := job.unpersisted) is not None:
            journal.append(persist.records)
            job.persisted(persist.number, 0.0)
        return job_status(job.state)


def _folder_of_job(path: str | os.PathLike[str]) -> JobFolder:
    folder = JobFolder(path)
    if not folder.has_job:
        raise JobFolderError(f"there is no job in {folder.path}: pass the folder of a job")
    return folder
