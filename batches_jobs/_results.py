"""Reads the results of a whole job: each settled row once, answered or failed.

`_row_lines` joins rows with their lines. `_merge` writes them to a file. `_verify` counts them
again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from batches_core import (
    MalformedResultError,
    Message,
    Result,
    ResultItem,
    SucceededResult,
)
from batches_core.jobs import Chunk, FailedRow, JobStatus, Record, job_status
from batches_core.lowlevel import MAX_LINE, RawDecoder, ResultDecoder, message_decoder, quote

from ._merge import MergedFile, Order, check_order, merge
from ._output_file import OutputFile
from ._result_lines import UNDECODABLE, ChunkIds, OpenFiles, ResultFiles
from ._row_lines import RowLines
from ._settled import RowCounts, SettledRows
from ._verify import Verification, verify

M = TypeVar("M")

#: The file in the folder of a job that lists the merged files.
REGISTER = "merged.json"


class AnsweredRow(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A row that was answered.

    `row` is its number in the input, from 0. `custom_id` is the caller's own. `message` is the
    answer: a `Message`, or of the caller's `message_type`. `chunk` is the number of the chunk that
    settled the row.
    """

    row: int
    custom_id: str | None
    message: M
    chunk: int


class UnansweredRow(msgspec.Struct, Generic[M], frozen=True, kw_only=True):
    """A row that failed for good.

    `failure` has the outcome, type and message. `result` is the last result of the row: for the
    outcome ``rejected`` a success, with the message that was paid for. It is None if the row has no
    line, and a `MalformedResultError` if the line is unreadable. The other fields are those of
    `AnsweredRow`.
    """

    row: int
    custom_id: str | None
    failure: FailedRow
    chunk: int
    result: Result[M] | MalformedResultError | None = None


RowResult: TypeAlias = AnsweredRow[M] | UnansweredRow[M]


class JobResults(Generic[M]):
    """The results of a job, according to the given records. All methods block.

    `folder` is the folder of the job, `records` are those of its journal, and `chunk_ids` is its
    input, resumed. `message_type` is the type of an answer's message, as for `read_results`. A line
    of more than `max_line` bytes is unreadable: 64 MiB by default.

    A settled row was answered or failed for good, which is final. The results of a running job can
    be read as well: rows that are not settled are left out.

    Methods that read results raise:
        ResultsFileError: a results file is missing, or is not what it was when it was counted.
        InputChangedError: the input is not what it was.
        OSError: a file cannot be read.
    """

    def __init__(
        self,
        folder: ResultFiles,
        records: Iterable[Record],
        chunk_ids: ChunkIds,
        message_type: type[M],
        *,
        max_line: int = MAX_LINE,
    ) -> None:
        self._settled = SettledRows(records)
        self._lines = RowLines(self._settled, folder, chunk_ids, max_line)
        self._folder = folder
        self._chunk_ids = chunk_ids
        self._max_line = max_line
        # `Message` needs no decoder of its own.
        decoder: Any = message_decoder() if message_type is Message else ResultDecoder(message_type)
        self._decoder: ResultDecoder[M] = decoder

    @property
    def status(self) -> JobStatus:
        """How far the job is."""
        return job_status(self._settled.state)

    def counts(self) -> RowCounts:
        """Count the rows by what became of them. No file is read."""
        return self._settled.counts()

    def rows(self, order: Order = "input") -> Iterator[RowResult[M]]:
        """Iterate over all settled rows, each once.

        `order` is ``input`` for ascending row numbers, which is the default, or ``any`` for the
        order of the files, which is faster. Memory is the ids of one chunk; in input order also the
        places of its lines, in other orders also a piece of a file.

        An answer that does not fit `message_type` is an `UnansweredRow` with the outcome
        ``unreadable``.
        """
        check_order(order)
        return self._by_row() if order == "input" else self._by_file()

    def __iter__(self) -> Iterator[RowResult[M]]:
        return self.rows()

    def failed_rows(self) -> Iterator[UnansweredRow[M]]:
        """Iterate over the settled rows that were not answered, chunk by chunk.

        The results files are not read, so each `result` is None.
        """
        for chunk in self._settled.state.chunks:
            if not (rows := self._settled.failed_rows(chunk)):
                continue
            own_ids = self._lines.own_ids(chunk.plan)
            for row in rows:
                failure = self._settled.failure(chunk, row)
                assert failure is not None, "these rows have failed"  # noqa: S101
                yield UnansweredRow(
                    row=row, custom_id=own_ids[row], failure=failure, chunk=chunk.number
                )

    def merge(
        self, path: str | os.PathLike[str], *, order: Order = "input", unanswered: bool = True
    ) -> MergedFile:
        """Write all settled rows to one file, in the form of a batch's results.

        Received lines are copied byte for byte. With ``ids="map"`` the custom_id is replaced by the
        caller's own, if the row has one, and ``row`` is added. If a row has no valid line, or its
        answer was rejected, a line is made: its result has the outcome as `type`, an ``error``, and
        the rejected ``message``. If `unanswered` is False, only answered rows are written.

        `order` is that of `rows`. The file appears when it is complete and durable. It replaces a
        file only if this method wrote that for the same job, and nobody has changed it since.

        Raises:
            InvalidInputError: there is another file at the path.
            StorageError: the file could not be written.
        """
        check_order(order)
        with OutputFile(Path(path), self._folder.path / REGISTER) as file:
            return merge(self._lines, self._settled, file, order=order, unanswered=unanswered)

    def verify(self) -> Verification:
        """Count all results again, and compare them with the records, row by row.

        All results files are read. `accept` is not called again.
        """
        return verify(self._settled, self._folder, self._chunk_ids, self._max_line)

    def _by_file(self) -> Iterator[RowResult[M]]:
        for chunk, row, own_id, line in self._lines.by_file(self._decoder):
            yield self._item(chunk, row, own_id, line)

    def _by_row(self) -> Iterator[RowResult[M]]:
        with self._lines.open_files() as files:
            for chunk, row, own_id, place in self._lines.by_row():
                line = None if place is None else self._read(files, chunk, place)
                yield self._item(chunk, row, own_id, line)

    def _read(
        self, files: OpenFiles, chunk: Chunk, place: tuple[int, int]
    ) -> ResultItem[M] | MalformedResultError:
        line = files.read_line(chunk.number, place)
        try:
            return self._decoder.decode_line(line)
        except UNDECODABLE as error:
            return MalformedResultError(
                line_number=files.line_number(chunk.number, place),
                raw=line,
                reason=str(error),
                custom_id=RawDecoder().decode_line(line).custom_id,
            )

    def _item(
        self,
        chunk: Chunk,
        row: int,
        own_id: str | None,
        line: ResultItem[M] | MalformedResultError | None,
    ) -> RowResult[M]:
        failure = self._settled.failure(chunk, row)
        result = line.result if isinstance(line, ResultItem) else line
        if failure is None:
            if isinstance(result, SucceededResult):
                return AnsweredRow(
                    row=row, custom_id=own_id, message=result.message, chunk=chunk.number
                )
            if not isinstance(result, MalformedResultError):
                raise self._lines.missing(chunk, row)
            failure = FailedRow(row=row, outcome="unreadable", message=quote(result.reason))
        return UnansweredRow(
            row=row, custom_id=own_id, failure=failure, chunk=chunk.number, result=result
        )
