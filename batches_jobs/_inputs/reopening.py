"""Opens the input of a job again by its journal: to read its chunks, or to continue it.

`opening` opens the input that a caller passes.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from batches_core.jobs import JobOpened
from batches_core.lowlevel import quote
from batches_jobs._folder import JobFolder

from .files import Description
from .jsonl import JSONLInput
from .sources import MissingSource
from .spooled import SpooledInput
from .stored import StoredInput
from .table import JournalTable, table_description, table_path


def reopen_input(opened: JobOpened, folder: JobFolder, *, path: Path | None = None) -> StoredInput:
    """Return the input of a job.

    A file of requests is read in place, and a table with the template of the job. `path` is the
    file's path if it was moved since. Of any other input only the planned chunks are there: if it
    was not read to its end, `plan` raises `InvalidInputError`.
    """
    try:
        described = msgspec.json.decode(opened.source, type=Description)
    except msgspec.MsgspecError:
        described = Description(kind="")
    job_id, ids = opened.job_id, opened.options.ids
    if described.kind == JSONLInput.kind:
        where = Path(described.path) if path is None else path
        return JSONLInput(where, folder, job_id=job_id, ids=ids)
    if (table := table_description(opened.source)) is not None:
        rows = JournalTable(table, table_path(table, folder, path))
        return SpooledInput(rows, folder, job_id=job_id, ids=ids)
    name = quote(described.path) if described.path else f"the {described.kind} input"
    return SpooledInput(MissingSource(described.kind, name), folder, job_id=job_id, ids=ids)
