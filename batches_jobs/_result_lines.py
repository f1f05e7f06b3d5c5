"""Reads the lines of a chunk's results file, in the order of the file or by their place.

`_collect` and `_row_lines` assign the lines to rows.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, TypeVar

import msgspec

from batches_core import MalformedResultError
from batches_core.jobs import ChunkPlanned
from batches_core.lowlevel import JSONLines, RawDecoder, as_sent

from ._errors import ResultsFileError

T = TypeVar("T")

#: The errors of a decoder for lines that are not JSON, or not of the expected shape.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
#: How much of a file is read at once, in bytes.
_READ = 256 * 1024
#: The place of a row that has no line.
_NOWHERE = -1
#: How many files are open at once.
_OPEN = 16
#: For how many files the positions of line feeds are kept.
_NUMBERED = 4

_raw_decoder = RawDecoder()


def read_blocks(
    path: Path, lines: JSONLines[T], batch_id: str | None = None
) -> Iterator[list[T | MalformedResultError]]:
    """Read a results file, and decode it block by block.

    `batch_id` is for the error message, if the file was counted before.

    Raises:
        ResultsFileError: the file is missing, or ends in the middle of a line.
        OSError: it cannot be read.
    """
    with _open(path, batch_id) as file:
        while data := file.read(_READ):
            yield lines.feed(data)
    last, is_torn = lines.finish()
    if is_torn:
        raise ResultsFileError(path, "ends in the middle of a line", batch_id=batch_id)
    yield last


class ResultFiles(Protocol):
    """The results files of a job: what is needed of its folder."""

    @property
    def path(self) -> Path:
        """The path of the folder."""
        ...

    def raw(self, chunk: int) -> Path:
        """Return the path of a chunk's results."""
        ...


class ChunkIds(Protocol):
    """The custom_ids of a job: what is needed of its input."""

    def ids(self, plan: ChunkPlanned) -> Mapping[str, int]:
        """Return the row of each custom_id that a chunk is sent with."""
        ...

    def custom_ids(self, plan: ChunkPlanned) -> Mapping[int, str | None]:
        """Return the caller's own custom_id of each row of a chunk; None if a row has none."""
        ...


def _open(path: Path, batch_id: str | None) -> FileIO:
    try:
        return FileIO(path)
    except FileNotFoundError:
        raise ResultsFileError(path, None, batch_id=batch_id) from None


class LineIndex:
    """Finds the line of each row in a results file.

    `rows` are the rows of the chunk, in ascending order. `ids` maps the custom_id of each line, as
    it was sent, to its row. Lines with other custom_ids are skipped. If two lines have the same
    custom_id, the first one counts. The index takes 16 bytes a row.

    `batch_id` is for the error message, if the file was counted before.

    Raises:
        ResultsFileError: the file is missing.
        OSError: it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        rows: Sequence[int],
        ids: Mapping[str, int],
        *,
        max_line: int,
        batch_id: str | None = None,
    ) -> None:
        # A range computes the position of a row, which is faster than a search.
        self._position = rows.index if isinstance(rows, range) else partial(bisect_left, rows)
        self._starts = array("q", [_NOWHERE]) * len(rows)
        self._lengths = array("q", [0]) * len(rows)
        with BufferedReader(_open(path, batch_id), _READ) as file:
            start = 0
            while line := file.readline(max_line):
                length = len(line)
                if length == max_line and not line.endswith(b"\n"):
                    length += _skip_rest(file)
                elif (row := _row_of(line, start, ids)) is not None:
                    at = self._position(row)
                    if self._starts[at] == _NOWHERE:
                        self._starts[at], self._lengths[at] = start, length
                start += length

    def place(self, row: int) -> tuple[int, int] | None:
        """Return the first byte and the length of a row's line; None if it has no line."""
        at = self._position(row)
        start = self._starts[at]
        return None if start == _NOWHERE else (start, self._lengths[at])


def _row_of(line: bytes, start: int, ids: Mapping[str, int]) -> int | None:
    try:
        return ids.get(_raw_decoder.decode_line(as_sent(line, start)).custom_id)
    except UNDECODABLE:
        return None


def _skip_rest(file: BinaryIO) -> int:
    """Read to the end of a line that is too long; return the number of bytes."""
    length = 0
    while piece := file.readline(_READ):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


class OpenFiles:
    """Reads lines of results files by their places. At most 16 files are open at once."""

    def __init__(self, folder: ResultFiles) -> None:
        self._folder = folder
        #: The files by their chunk, in the order of their last use.
        self._files: dict[int, FileIO] = {}
        #: The line feeds of the files whose line numbers were asked for last.
        self._breaks: dict[int, array[int]] = {}
        #: The chunk and the file that were read last.
        self._last: tuple[int, FileIO] | None = None

    def read_line(self, chunk: int, place: tuple[int, int]) -> bytes:
        """Return a line, without white space around it."""
        last = self._last
        file = last[1] if last is not None and last[0] == chunk else self._open(chunk)
        start, length = place
        file.seek(start)
        return as_sent(file.read(length) or b"", start)

    def line_number(self, chunk: int, place: tuple[int, int]) -> int:
        """Return the number of a line, from 1. A file is read once for many of its lines."""
        breaks = self._breaks.pop(chunk, None)
        if breaks is None:
            if len(self._breaks) >= _NUMBERED:
                del self._breaks[next(iter(self._breaks))]
            breaks = self._find_breaks(chunk)
        self._breaks[chunk] = breaks
        return bisect_left(breaks, place[0]) + 1

    def _find_breaks(self, chunk: int) -> array[int]:
        """Return the position of each line feed: 8 bytes a line."""
        breaks = array("q")
        file = self._open(chunk)
        file.seek(0)
        start = 0
        while data := file.read(_READ):
            at = data.find(b"\n")
            while at >= 0:
                breaks.append(start + at)
                at = data.find(b"\n", at + 1)
            start += len(data)
        return breaks

    def close(self) -> None:
        """Close all files."""
        self._last = None
        while self._files:
            self._files.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, chunk: int) -> FileIO:
        file = self._files.pop(chunk, None)
        if file is None:
            if len(self._files) >= _OPEN:
                self._files.pop(next(iter(self._files))).close()
            file = FileIO(self._folder.raw(chunk))
        self._files[chunk] = file
        self._last = chunk, file
        return file
