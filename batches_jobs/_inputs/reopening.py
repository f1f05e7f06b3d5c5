"""Opens the input of a job again from its journal, to read the requests of its chunks.

`opening` opens the input that a caller passes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from batches_core import RequestLike
from batches_core.jobs import JobOpened
from batches_jobs._folder import JobFolder

from .files import Description
from .jsonl import JSONLInput
from .sources import Source
from .spooled import SpooledInput
from .stored import StoredInput


class _PastSource(Source):
    """The source of a job that is not read again: its requests are in the folder of the job."""

    name = "the input of the job"

    def __init__(self, description: Description) -> None:
        self.kind = description.kind  # type: ignore[misc] # it stands for a source of any kind
        self._description = description

    def describe(self) -> Description:
        """See `Source`."""
        return self._description

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        return iter(())


def reopen_input(opened: JobOpened, folder: JobFolder, *, path: Path | None = None) -> StoredInput:
    """Return the input of a job, of which only planned chunks are read.

    `path` is the path of a JSONL file of requests that was moved since.
    """
    try:
        described = msgspec.json.decode(opened.source, type=Description)
    except msgspec.MsgspecError:
        described = Description(kind="")
    job_id, ids = opened.job_id, opened.options.ids
    if described.kind == JSONLInput.kind:
        where = Path(described.path) if path is None else path
        return JSONLInput(where, folder, job_id=job_id, ids=ids)
    return SpooledInput(_PastSource(described), folder, job_id=job_id, ids=ids)
