"""Writes a table to a file, which appears when it is complete, or to a stream."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

import msgspec

from batches_core import InvalidInputError
from batches_core.lowlevel import quote
from batches_jobs._output_file import OutputFile

from .parquet_format import ParquetWriter
from .results_table import ResultsTable
from .text_formats import CSVWriter, JSONLWriter, TableWriter

#: The formats in which a table can be written.
TableFormat: TypeAlias = Literal["jsonl", "csv", "parquet"]
_WRITERS: dict[str, Callable[..., TableWriter]] = {
    "jsonl": JSONLWriter,
    "csv": CSVWriter,
    "parquet": ParquetWriter,
}
_SUFFIXES: dict[str, TableFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


class WrittenTable(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: the number of rows and of bytes, and the path; None for a stream."""

    rows: int
    size: int
    path: Path | None = None


def table_format(path: str | os.PathLike[str], format_: str | None = None) -> TableFormat:
    """Return the format to write in: `format_`, or that of the path's suffix.

    Raises:
        InvalidInputError: it is not known.
    """
    names = ", ".join(_WRITERS)
    if format_ is not None:
        if format_ not in _WRITERS:
            raise InvalidInputError(f"format is {format_!r}: pass one of {names}")
        known: Any = format_
        return known  # type: ignore[no-any-return] # just compared
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise InvalidInputError(
            f"{quote(str(path))} has the suffix {suffix!r}, which is not that of a table: pass "
            f"format, one of {names}"
        )
    return _SUFFIXES[suffix]


def write_table_file(
    table: ResultsTable,
    path: str | os.PathLike[str],
    register: Path,
    format_: str | None = None,
) -> WrittenTable:
    """Write a table to a file. It appears when it is complete and durable.

    `register` is the file that lists what was written before, as for `OutputFile`.

    Raises:
        InvalidInputError: the format is not known, or another file is at the path.
        StorageError: the file could not be written.
        ModuleNotFoundError: pyarrow is not installed, and the format is ``parquet``.
    """
    make = _WRITERS[table_format(path, format_)]
    with OutputFile(Path(path), register) as file:
        rows = _write_rows(table, make(table.columns, file.write))
        return WrittenTable(rows=rows, size=file.finish(), path=Path(path))


def write_table_stream(table: ResultsTable, file: BinaryIO, format_: str) -> WrittenTable:
    """Write a table to a binary stream, such as stdout. The stream is neither flushed nor closed.

    Raises:
        InvalidInputError: the format is not known.
        OSError: the stream cannot be written, for example because the reader has gone.
        ModuleNotFoundError: pyarrow is not installed, and the format is ``parquet``.
    """
    size = 0

    def write(data: bytes) -> None:
        nonlocal size
        file.write(data)
        size += len(data)

    make = _WRITERS[table_format("", format_)]
    rows = _write_rows(table, make(table.columns, write))
    return WrittenTable(rows=rows, size=size)


def _write_rows(table: ResultsTable, writer: TableWriter) -> int:
    count = 0
    for row in table.rows():
        writer.add(row)
        count += 1
    writer.finish()
    return count
