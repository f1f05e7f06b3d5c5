"""Writes tables as JSONL and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from batches_jobs._cells import cell_text, json_value

from .columns import Column

#: How many characters of CSV are gathered before they are written.
_GATHERED = 64 * 1024
#: The types whose values JSON has.
_JSON_TYPES = frozenset({"int", "float", "bool", "str", "json"})
_encoder = msgspec.json.Encoder()


class TableWriter(Protocol):
    """Writes the rows of a table, one by one."""

    def add(self, row: Sequence[Any]) -> None:
        """Add a row."""
        ...

    def finish(self) -> None:
        """Write what is left."""
        ...


class JSONLWriter:
    """Writes one JSON object on each line, with every column. JSON text is embedded as JSON.

    If a single column is selected, each line is only its value.
    """

    def __init__(self, columns: Sequence[Column], write: Callable[[bytes], object]) -> None:
        self._names = [column.name for column in columns]
        self._to_convert = [
            index for index, column in enumerate(columns) if column.type not in _JSON_TYPES
        ]
        self._write = write

    def add(self, row: Sequence[Any]) -> None:
        """See `TableWriter`."""
        if self._to_convert:
            cells = [*row]
            for index in self._to_convert:
                cells[index] = json_value(cells[index])
            row = cells
        value = row[0] if len(self._names) == 1 else dict(zip(self._names, row, strict=True))
        self._write(_encoder.encode(value) + b"\n")

    def finish(self) -> None:
        """See `TableWriter`."""


class CSVWriter:
    """Writes CSV in UTF-8 as RFC 4180 describes it, with the names of the columns in the first row.

    A missing value is an empty field. JSON is written as text.
    """

    def __init__(self, columns: Sequence[Column], write: Callable[[bytes], object]) -> None:
        self._columns = columns
        self._write = write
        self._text = io.StringIO(newline="")
        # With this line end, a field with a lone carriage return is quoted.
        self._rows = csv.writer(self._text, lineterminator="\r\n")
        self._rows.writerow([column.name for column in columns])

    def add(self, row: Sequence[Any]) -> None:
        """See `TableWriter`."""
        self._rows.writerow(
            [_field(column, cell) for column, cell in zip(self._columns, row, strict=True)]
        )
        if self._text.tell() >= _GATHERED:
            self.finish()

    def finish(self) -> None:
        """See `TableWriter`."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        self._write(text.encode())


def _field(column: Column, cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, msgspec.Raw):
        return bytes(cell).decode(errors="replace")
    return cell_text(column.name, cell)
