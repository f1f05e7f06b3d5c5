"""Opens the folder of a job only to read it: its results, its table, and its failed requests.

`_open` opens a job to run it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, overload

import msgspec

from batches_core import Message
from batches_core.jobs import JobOpened, JobState, JobStatus, Record, job_status

from ._errors import JournalError
from ._folder import JobFolder
from ._inputs.reopening import reopen_input
from ._inputs.table import reopen_table, table_description, table_path
from ._journal import Journal
from ._merge import Order
from ._output_file import OutputFile
from ._report.answers import measure_answers
from ._report.facts import gather_facts
from ._report.page import report_page
from ._results import REGISTER, JobResults
from ._settled import SettledRows
from ._table.output import WrittenTable, write_table_file, write_table_stream
from ._table.own_columns import OwnColumns
from ._table.results_table import Include, ResultsTable

M = TypeVar("M")


class JobReader:
    """A job, as its journal says when this is made. Another process may run it at the same time.

    `path` is the folder. `input_path` is where the job's input file is, if it was moved. Nothing in
    the folder is changed, except the register of written files. Nothing stays open.

    Raises:
        JournalError: the folder has no job, or its journal cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        input_path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.folder = JobFolder(path)
        self._input_path = None if input_path is None else Path(input_path)
        with Journal.open_read_only(self.folder.journal_path) as journal:
            # The journal can grow in between, so the times are read last and may be more.
            self.records: list[Record] = journal.load()
            #: When each record was appended, by the clock of the machine that ran the job.
            self.times: list[datetime] = journal.times()[: len(self.records)]
        self.state = JobState()
        self.state.apply_all(self.records)
        if self.state.opened is None:
            raise JournalError(f"{self.folder.journal_path} does not begin with its job")
        self._opened: JobOpened = self.state.opened
        self._input = reopen_input(self._opened, self.folder, path=self._input_path)

    @property
    def status(self) -> JobStatus:
        """How far the job is."""
        return job_status(self.state)

    @overload
    def results(self) -> JobResults[Message]: ...

    @overload
    def results(self, message_type: type[M]) -> JobResults[M]: ...

    def results(self, message_type: type[Any] = Message) -> JobResults[Any]:
        """Return the results, whose answers have messages of this type."""
        return JobResults(self.folder, self.records, self._input, message_type)

    def table(
        self,
        *,
        order: Order = "input",
        include: Include = "all",
        select: Sequence[str] | None = None,
        own_columns: bool = True,
    ) -> ResultsTable:
        """Return the results as a table; see `ResultsTable`.

        If the requests were made from a table, its columns are joined. That needs its file, which
        must not have changed. With ``own_columns=False`` it is not read.

        Raises:
            InvalidInputError: an option is invalid, or the input's file cannot be read.
            InputChangedError: the input's file was changed.
            ModuleNotFoundError: the input is Parquet, and pyarrow is not installed.
        """
        return ResultsTable(
            self.results(msgspec.Raw),
            self.state.chunks,
            self._own_columns if own_columns else None,
            order=order,
            include=include,
            select=select,
        )

    def write_table(
        self, table: ResultsTable, target: str | os.PathLike[str] | BinaryIO, format_: str | None
    ) -> WrittenTable:
        """Write a table as ``jsonl``, ``csv`` or ``parquet`` to a path or an open binary file.

        For a path, the format is by default that of its suffix, and the file appears when it is
        complete and durable. It replaces a file only if this job wrote that, and nobody has changed
        it since. For an open file the default is ``jsonl``.

        Raises:
            InvalidInputError: the format is not known, or another file is at the path.
            StorageError: the file could not be written.
            OSError: the open file could not be written.
            ModuleNotFoundError: pyarrow is not installed, and the format is ``parquet``.
        """
        if isinstance(target, (str, os.PathLike)):
            return write_table_file(table, target, self._register, format_)
        return write_table_stream(table, target, format_ or "jsonl")

    def failed_requests(self) -> Iterator[bytes]:
        """Iterate over the requests of the rows that failed for good or were lost, in input order.

        Each is one line of JSON without its line feed, byte for byte as in the input, with the
        caller's own custom_id. Memory grows with the number of failed rows.

        Raises:
            InputChangedError: the input was changed.
            InvalidInputError: the input cannot be read.
        """
        settled = SettledRows(self.records)
        chunks = self.state.chunks
        rows = [row for chunk in chunks for row in settled.failed_rows(chunk)]
        for _, line in self._input.lines_of(rows, [chunk.plan for chunk in chunks]):
            yield line

    def write_failed_requests(self, target: str | os.PathLike[str] | BinaryIO) -> WrittenTable:
        """Write `failed_requests` to a path or an open binary file; see `write_table`."""
        if not isinstance(target, (str, os.PathLike)):
            rows = size = 0
            for line in self.failed_requests():
                target.write(line + b"\n")
                rows, size = rows + 1, size + len(line) + 1
            return WrittenTable(rows=rows, size=size)
        path = Path(target)
        with OutputFile(path, self._register) as file:
            rows = 0
            for line in self.failed_requests():
                file.write(line + b"\n")
                rows += 1
            return WrittenTable(rows=rows, size=file.finish(), path=path)

    def report(self, *, read_answers: bool = True, now: datetime | None = None) -> str:
        """Return a report of the job: one HTML page without scripts, about 100 KB.

        With ``read_answers=False`` no results are read, and the part on output tokens is left out.
        `now` is the time of the report, by default the clock's. It has costs if the extra ``cost``
        is installed.

        Raises:
            ResultsFileError: a results file is missing or was changed.
            InputChangedError: the input was changed.
            InvalidInputError: the input cannot be read.
        """
        lengths = None
        if read_answers:
            lengths = measure_answers(
                self.results(msgspec.Raw), self.state.chunks, self._input.lines
            )
        facts = gather_facts(self.records, self.times)
        name = self.folder.path.resolve().name
        return report_page(name, facts, lengths, now or datetime.now(UTC))

    def write_report(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        *,
        read_answers: bool = True,
        now: datetime | None = None,
    ) -> WrittenTable:
        """Write `report` to a path or an open binary file; see `write_table`."""
        page = self.report(read_answers=read_answers, now=now).encode()
        if not isinstance(target, (str, os.PathLike)):
            target.write(page)
            return WrittenTable(rows=0, size=len(page))
        with OutputFile(Path(target), self._register) as file:
            file.write(page)
            return WrittenTable(rows=0, size=file.finish(), path=Path(target))

    @cached_property
    def _own_columns(self) -> OwnColumns | None:
        described = table_description(self._opened.source)
        if described is None:
            return None
        table = reopen_table(described, table_path(described, self.folder, self._input_path))
        return OwnColumns(table, described, [chunk.plan for chunk in self.state.chunks])

    @property
    def _register(self) -> Path:
        return self.folder.path / REGISTER
