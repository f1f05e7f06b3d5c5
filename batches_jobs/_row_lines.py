"""Joins each settled row of a job with its line in the results files and its own custom_id.

`_settled` knows which chunk settled a row. `_results` decodes the lines, and `_merge` copies them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from batches_core import MalformedResultError, RawResult, ResultItem
from batches_core.jobs import Chunk, ChunkPlanned, ChunkState
from batches_core.lowlevel import JSONLines

from ._errors import ResultsFileError
from ._result_lines import ChunkIds, LineIndex, OpenFiles, ResultFiles, read_blocks
from ._settled import SettledRows, rows_of

L = TypeVar("L", ResultItem[Any], RawResult, bytes)
D = TypeVar("D", ResultItem[Any], RawResult)

#: How many indexes of results files are kept. Rows that are sent again are gathered in ascending
#: order, so the next chunk of the input mostly needs the same indexes.
_INDEXES = 4
#: The place of a row that has no line.
_NOWHERE = -1


class LineDecoder(Protocol[D]):
    """Decodes the lines of a results file, for `JSONLines`."""

    @property
    def decode_lines(self) -> Callable[[memoryview], list[D]]:
        """Decode many lines in one call."""
        ...

    def decode_line(self, line: bytes, /) -> D:
        """Decode one line."""
        ...


class RowLine(NamedTuple, Generic[L]):
    """A settled row: the chunk that settled it, its own custom_id, and its line if it has one."""

    chunk: Chunk
    row: int
    own_id: str | None
    line: L | MalformedResultError | None


class RowPlace(NamedTuple):
    """A settled row as in `RowLine`, with the place of its line: first byte and length."""

    chunk: Chunk
    row: int
    own_id: str | None
    place: tuple[int, int] | None


class RowLines:
    """The lines of all settled rows of a job, each row once."""

    def __init__(
        self, settled: SettledRows, folder: ResultFiles, chunk_ids: ChunkIds, max_line: int
    ) -> None:
        self._settled = settled
        self._folder = folder
        self._chunk_ids = chunk_ids
        self._max_line = max_line

    def open_files(self) -> OpenFiles:
        """Return a reader of lines by their places. Close it."""
        return OpenFiles(self._folder)

    def missing(self, chunk: Chunk, row: int) -> ResultsFileError:
        """Return the error for an answered row whose answer is missing."""
        return ResultsFileError(
            self._path(chunk),
            f"has no answer of row {row:,}, which was answered",
            batch_id=chunk.batch_id,
        )

    def own_ids(self, plan: ChunkPlanned) -> Mapping[int, str | None]:
        """Return the caller's custom_id of each row of a chunk."""
        return self._own_ids(plan, self._chunk_ids.ids(plan))

    def _own_ids(self, plan: ChunkPlanned, ids: Mapping[str, int]) -> Mapping[int, str | None]:
        if self._settled.state.options.ids == "keep":
            return {row: custom_id for custom_id, row in ids.items()}
        return self._chunk_ids.custom_ids(plan)

    # --- in any order ------------------------------------------------------------------------

    def by_file(self, decoder: LineDecoder[D]) -> Iterator[RowLine[D]]:
        """Iterate over the rows, file by file."""
        for chunk in self._settled.state.chunks:
            if not self._settled.is_settled(chunk):
                continue
            ids = self._chunk_ids.ids(chunk.plan)
            own_ids = self._own_ids(chunk.plan, ids)
            if chunk.state is ChunkState.COLLECTED:
                yield from self._lines_of(chunk, decoder, ids, own_ids)
            else:
                for row in rows_of(chunk.plan):
                    yield RowLine(chunk, row, own_ids[row], None)

    def _lines_of(
        self,
        chunk: Chunk,
        decoder: LineDecoder[D],
        ids: Mapping[str, int],
        own_ids: Mapping[int, str | None],
    ) -> Iterator[RowLine[D]]:
        retried = self._settled.outcomes[chunk.number].retried
        left = dict(ids)
        lines = JSONLines(decoder, self._max_line)
        for block in read_blocks(self._path(chunk), lines, chunk.batch_id):
            for line in block:
                row = None if line.custom_id is None else left.pop(line.custom_id, None)
                if row is not None and row not in retried:
                    yield RowLine(chunk, row, own_ids[row], line)
        for row in left.values():
            if row not in retried:
                yield RowLine(chunk, row, own_ids[row], None)

    # --- in input order ----------------------------------------------------------------------

    def by_row(self) -> Iterator[RowPlace]:
        """Iterate over the rows in ascending order."""
        chunks = self._settled.state.chunks
        retries = [(chunk.number, rows_of(chunk.plan)) for chunk in chunks if chunk.plan.rows]
        indexes: dict[int, LineIndex] = {}
        for chunk in chunks:
            if chunk.plan.rows:
                continue
            senders = _senders(chunk, retries)
            settlers = {
                number for number in set(senders) if self._settled.is_settled(chunks[number])
            }
            if not settlers:
                continue
            ids = self._chunk_ids.ids(chunk.plan)
            own_ids = self._own_ids(chunk.plan, ids)
            places = _Places(chunk.plan.first_row, senders)
            for number in sorted(settlers):
                if chunks[number].state is ChunkState.COLLECTED:
                    index = (
                        self._index(chunk, ids)
                        if number == chunk.number
                        else self._kept_index(indexes, chunks[number])
                    )
                    places.find(index, number)
            for row, sender in enumerate(senders, chunk.plan.first_row):
                if sender in settlers and not self._settled.is_retried(chunks[sender], row):
                    yield RowPlace(chunks[sender], row, own_ids[row], places.of(row))

    def read_lines(self) -> Iterator[RowLine[bytes]]:
        """Iterate over the rows in ascending order, with their lines."""
        with self.open_files() as files:
            for chunk, row, own_id, place in self.by_row():
                line = None if place is None else files.read_line(chunk.number, place)
                yield RowLine(chunk, row, own_id, line)

    def _kept_index(self, indexes: dict[int, LineIndex], chunk: Chunk) -> LineIndex:
        """Return the index of a chunk of retries. The last few ones are kept."""
        index = indexes.pop(chunk.number, None)
        if index is None:
            if len(indexes) >= _INDEXES:
                del indexes[next(iter(indexes))]
            index = self._index(chunk, self._chunk_ids.ids(chunk.plan))
        indexes[chunk.number] = index
        return index

    def _index(self, chunk: Chunk, ids: Mapping[str, int]) -> LineIndex:
        return LineIndex(
            self._path(chunk),
            rows_of(chunk.plan),
            ids,
            max_line=self._max_line,
            batch_id=chunk.batch_id,
        )

    def _path(self, chunk: Chunk) -> Path:
        return self._folder.raw(chunk.number)


def _senders(chunk: Chunk, retries: list[tuple[int, Sequence[int]]]) -> array[int]:
    """Return, for each row of a chunk of the input, the number of the last chunk that has it."""
    first = chunk.plan.first_row
    senders = array("q", [chunk.number]) * chunk.count
    for number, rows in retries:
        for row in rows[bisect_left(rows, first) : bisect_left(rows, first + chunk.count)]:
            senders[row - first] = number
    return senders


class _Places:
    """The places of the lines of a chunk's rows. The rows can have several senders."""

    def __init__(self, first: int, senders: array[int]) -> None:
        self._first = first
        self._senders = senders
        self._starts = array("q", [_NOWHERE]) * len(senders)
        self._lengths = array("q", [0]) * len(senders)

    def find(self, index: LineIndex, number: int) -> None:
        """Record the places of the rows of one sender."""
        for at, sender in enumerate(self._senders):
            if sender == number and (place := index.place(self._first + at)) is not None:
                self._starts[at], self._lengths[at] = place

    def of(self, row: int) -> tuple[int, int] | None:
        """Return the place of a row; None if it has no line."""
        at = row - self._first
        return None if self._starts[at] == _NOWHERE else (self._starts[at], self._lengths[at])
