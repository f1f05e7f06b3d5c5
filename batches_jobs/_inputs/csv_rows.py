"""Reads the rows of a CSV file. `sources` and `table` make requests from them."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Generator, Iterator
from pathlib import Path

from batches_core import MAX_BYTES, InvalidInputError, RequestProblem
from batches_core.lowlevel import quote

from .files import open_file, reading


class CSVRows:
    """The rows of a CSV file whose first row names the columns; see `CSVSource`."""

    def __init__(self, path: Path, *, encoding: str = "utf-8-sig", delimiter: str = ",") -> None:
        self._path = path
        self._encoding = encoding
        self._delimiter = delimiter
        self.name = quote(str(path))

    def columns(self) -> list[str]:
        """Read the names of the columns.

        Raises:
            InvalidInputError: the file cannot be read, or does not name its columns.
        """
        with contextlib.closing(self._parsed()) as parsed:
            return next(parsed)[1]

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Read each row, with the line in which it begins, from 1.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        with contextlib.closing(self._parsed()) as parsed:
            names = next(parsed)[1]
            for line, fields in parsed:
                yield line, dict(zip(names, fields, strict=True))

    def _parsed(self) -> Generator[tuple[int, list[str]], None, None]:
        """Read the names of the columns, and then the fields of each row."""
        csv.field_size_limit(max(csv.field_size_limit(), MAX_BYTES))
        with (
            open_file(self._path),
            reading(self._path),
            self._path.open(encoding=self._encoding, newline="") as file,
        ):
            # If it were not strict, a file that ends inside a quoted field would be accepted.
            rows = csv.reader(file, delimiter=self._delimiter, strict=True)
            try:
                names = self._check_names(next(rows, []))
                yield 1, names
                begins = rows.line_num + 1
                for fields in rows:
                    if fields:
                        if len(fields) != len(names):
                            raise _uneven(begins, len(fields), len(names))
                        yield begins, fields
                    begins = rows.line_num + 1
            except UnicodeDecodeError as error:
                raise InvalidInputError(
                    f"{self.name} is not text in {self._encoding} ({error.reason}, after line "
                    f"{rows.line_num:,}): save it as UTF-8, or pass its encoding to CSVSource"
                ) from error
            except csv.Error as error:
                raise InvalidInputError(
                    RequestProblem(line=rows.line_num, message=f"is not CSV: {error}")
                ) from error

    def _check_names(self, names: list[str]) -> list[str]:
        if not names:
            raise InvalidInputError(f"{self.name} has no first row that names the columns: add one")
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise InvalidInputError(
                f"{self.name} has several columns {doubled[0]!r}: give each its own name"
            )
        return names


def _uneven(line: int, fields: int, columns: int) -> InvalidInputError:
    message = f"has {fields} fields, and there are {columns} columns: correct the row"
    return InvalidInputError(RequestProblem(message=message, line=line))
