"""Reads the columns of a job's own input again, to join them to the results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from batches_core import InvalidInputError
from batches_core.jobs import ChunkPlanned
from batches_core.lowlevel import quote
from batches_jobs._errors import InputChangedError
from batches_jobs._inputs.files import Description
from batches_jobs._inputs.table import Row, TableSource

from .columns import Column, ColumnType

#: The whole numbers that a float can represent, and those of 64 bits.
_EXACT, _INT64 = 2**53, 2**63


class OwnColumns:
    """The columns of the table that the requests of a job were made from.

    If the file is another version than that of `described`, its requests are compared with those
    of the `plans` first. Columns that the template does not use are taken as they are now.

    Raises:
        InputChangedError: the rows are not those of the job.
        InvalidInputError: the file cannot be read.
    """

    def __init__(
        self, table: TableSource, described: Description, plans: Sequence[ChunkPlanned]
    ) -> None:
        self._table = table
        self._plans = [plan for plan in plans if not plan.rows]
        #: The version of the file whose rows are known to be those of the job.
        self._version = described.version
        self._check()
        self.columns = tuple(_columns_of(table))

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Read each row with its number. Call `check_read` after the last one.

        Raises:
            InputChangedError: the rows are not those of the job.
        """
        self._check()
        return enumerate(self._table.rows())

    def check_read(self) -> None:
        """Check that the file is still the one that `rows` began to read.

        Raises:
            InputChangedError: it is not, so the rows may be those of two versions.
        """
        if self._table.describe().version != self._version:
            reason = "it was changed while it was read"
            raise InputChangedError(self._table.name, reason, chunk=None)

    def _check(self) -> None:
        version = self._table.describe().version
        if version != self._version:
            self._compare(self._plans)
            self._version = version

    def missing(self, row: int) -> InputChangedError:
        """Return the error for a table that ends before a row."""
        return InputChangedError(self._table.name, f"it has no row {row:,} any more", chunk=None)

    def _compare(self, plans: Sequence[ChunkPlanned]) -> None:
        requests = self._table.read()
        for plan in plans:
            digest = sha256()
            for _ in range(plan.count):
                _, request = next(requests, (None, b""))
                assert isinstance(request, bytes), "templates make bytes"  # noqa: S101
                digest.update(request + b"\n")
            if digest.hexdigest() != plan.digest:
                last = plan.first_row + plan.count - 1
                place = f"chunk {plan.chunk} (rows {plan.first_row:,} to {last:,})"
                raise InputChangedError(
                    self._table.name, f"{place} is not what was sent", chunk=plan.chunk
                )


def _columns_of(table: TableSource) -> Iterator[Column]:
    if table.arrow_schema is not None:
        for field in table.arrow_schema:
            yield Column(field.name, "value", arrow_type=field.type)
    elif table.columns is not None:
        for name in table.columns:
            yield Column(name)
    else:
        yield from infer_columns(table.rows())


def infer_columns(rows: Iterator[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of JSON objects. All rows are read.

    A column is of whole numbers, numbers, booleans or text if all its values are, apart from null.
    Whole numbers of more than 64 bits, or that a float would change, and all else are JSON text.
    """
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            kinds.setdefault(name, set()).add(_kind(value))
    return [Column(name, _type(found)) for name, found in kinds.items()]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) <= _EXACT:
            return "int"
        return "long" if -_INT64 <= value < _INT64 else "json"
    # JSON has no infinity, but a number such as 1e999 becomes one.
    if isinstance(value, float) and not math.isfinite(value):
        return "json"
    return type(value).__name__


def _type(kinds: set[str]) -> ColumnType:
    found = kinds - {"null"}  # the names of types; dict and list among them
    if found <= {"str"}:
        return "str"
    if found == {"bool"}:
        return "bool"
    if found <= {"int", "long"}:
        return "int"
    return "float" if found <= {"int", "float"} else "json"


def own_cell(column: Column, row: Row) -> Any:
    """Return the cell of a column of the input in a row; None if the row lacks it."""
    value = row.get(column.own_name or column.name)
    if column.type == "json":
        return None if value is None else msgspec.Raw(msgspec.json.encode(value))
    if column.type == "float" and value is not None:
        return float(value)
    if column.type == "int" and not isinstance(value, int) and value is not None:
        raise InvalidInputError(
            f"the column {column.name!r} has {quote(repr(value))} now, which is no whole number: "
            "leave the file as it is while it is read"
        )
    return value
