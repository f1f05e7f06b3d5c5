"""Writes tables as Parquet. Only this module imports pyarrow to write, when used."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from batches_core import InvalidInputError
from batches_core.lowlevel import quote
from batches_jobs._inputs.parquet_rows import import_parquet

from .columns import Column

#: The limits of a row group: rows, and bytes of text. A group is in memory until it is written, as
#: Python's values and as those of Arrow.
_ROWS, _BYTES = 100_000, 16 * 1024 * 1024


class ParquetWriter:
    """Writes Parquet, compressed with Zstandard. The schema is fixed before the first row.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; it is the extra ``parquet``.
    """

    def __init__(self, columns: Sequence[Column], write: Callable[[bytes], object]) -> None:
        parquet = import_parquet()
        pa = importlib.import_module("pyarrow")
        self._arrow = pa
        types = {
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "str": pa.string(),
            "json": pa.string(),
        }
        self._schema = pa.schema(
            [
                pa.field(
                    column.name,
                    column.arrow_type if column.type == "value" else types[column.type],
                    nullable=column.name not in {"row", "type", "round"} or bool(column.own_name),
                )
                for column in columns
            ]
        )
        self._names = [column.name for column in columns]
        self._cells: list[list[Any]] = [[] for _ in columns]
        self._bytes = 0
        self._file = parquet.ParquetWriter(_Sink(write), self._schema, compression="zstd")

    def add(self, row: Sequence[Any]) -> None:
        """See `TableWriter`."""
        for cells, cell in zip(self._cells, row, strict=True):
            if isinstance(cell, msgspec.Raw):
                text = bytes(cell).decode(errors="replace")
                self._bytes += len(text)
                cells.append(text)
            else:
                self._bytes += len(cell) if isinstance(cell, (str, bytes)) else 8
                cells.append(cell)
        if len(self._cells[0]) >= _ROWS or self._bytes >= _BYTES:
            self._flush()

    def finish(self) -> None:
        """See `TableWriter`."""
        if self._cells[0]:
            self._flush()
        self._file.close()

    def _flush(self) -> None:
        arrays = []
        for field, cells in zip(self._schema, self._cells, strict=True):
            try:
                arrays.append(self._arrow.array(cells, type=field.type))
            except (ValueError, TypeError, NotImplementedError) as error:
                raise InvalidInputError(
                    f"the column {field.name!r} cannot be written as {field.type} "
                    f"({quote(str(error))}): select other columns"
                ) from error
            cells.clear()
        self._bytes = 0
        self._file.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))


class _Sink(io.RawIOBase):
    """A file for pyarrow that passes on what is written."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self._pass_on = write
        self._size = 0

    def writable(self) -> bool:
        """Return whether it can be written."""
        return True

    def tell(self) -> int:
        """Return the number of written bytes."""
        return self._size

    def write(self, data: Any) -> int:
        """Pass on bytes. They are copied if pyarrow can use their memory again."""
        copied = bytes(data)
        self._pass_on(copied)
        self._size += len(copied)
        return len(copied)
