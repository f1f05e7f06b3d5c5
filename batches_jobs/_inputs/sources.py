"""Read requests from sources that can only be read forward. `spooled` copies the requests."""

from __future__ import annotations

import csv
import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from batches_core import MAX_BYTES, InvalidInputError, RequestLike, RequestProblem
from batches_core.lowlevel import check_callback, quote

from .files import Description, LineFile, LongLine, open_file, read_lines, reading

#: A function of the caller that makes a request from a row, a mapping of columns to values.
RowFunction: TypeAlias = Callable[[Mapping[str, Any]], RequestLike]


class Source(ABC):
    """A source of requests that is read once in a run, from the first to the last.

    In every run the requests and their order must be the same. `name` is the name of the source in
    errors. With `lines`, each item is a line of text, and problems name its number.
    """

    kind: str
    name: str
    lines: ClassVar[bool] = False

    @abstractmethod
    def describe(self) -> Description:
        """Return the description of the source.

        Raises:
            InvalidInputError: its file cannot be read.
        """

    @abstractmethod
    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """Read each request, with the line in which it begins, from 1; None if it is not known.

        Raises:
            InvalidInputError: the source cannot be read.
        """


class MissingSource(Source):
    """The source of a job that is continued without its requests. They can be read no further.

    `kind` is that of the source that the job was begun with.
    """

    kind = "missing"

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name

    def describe(self) -> Description:
        """See `Source`."""
        return Description(kind=self.kind)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        raise InvalidInputError(
            f"not all requests of {self.name} have been read: pass the same requests again to "
            "continue the job"
        )


class IterableSource(Source):
    """Any iterable of requests, such as a list, a generator or the rows of a query."""

    kind = "iterable"
    name = "the iterable of requests"

    def __init__(self, requests: Iterable[RequestLike]) -> None:
        self._requests = requests

    def describe(self) -> Description:
        """See `Source`."""
        return Description(kind=self.kind)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        for request in self._requests:
            yield None, request


class LinesSource(Source):
    """An open binary file with one request as JSON on each line, such as stdin or a pipe.

    `name` is its name in errors, by default that of the file.
    """

    kind = "lines"
    lines = True

    def __init__(self, file: LineFile, name: str | None = None) -> None:
        self._file = file
        self.name = quote(name or str(getattr(file, "name", "the file")))

    def describe(self) -> Description:
        """See `Source`."""
        return Description(kind=self.kind)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        for number, line in enumerate(read_lines(self._file), 1):
            if isinstance(line, LongLine):
                raise InvalidInputError(RequestProblem(line=number, message=line.problem))
            yield number, line


class CSVSource(Source):
    """A CSV file whose first row names the columns. `function` makes a request from each row.

    The function is called with a mapping of each column's name to its value, a str. Blank lines
    are skipped. Every other row must have one field for each column. The default of `encoding` is
    UTF-8, with or without a byte order mark.

    The first reading raises `csv.field_size_limit` for the whole process to the limit of a batch.
    Its default, 131,072 characters, is less than a prompt can have.

    Raises:
        InvalidInputError: `function` cannot be called.
    """

    kind = "csv"

    def __init__(
        self,
        path: str | os.PathLike[str],
        function: RowFunction,
        *,
        encoding: str = "utf-8-sig",
        delimiter: str = ",",
    ) -> None:
        check_callback("function", function, "a function that makes a request from a row")
        self._path = Path(path)
        self._function = function
        self._encoding = encoding
        self._delimiter = delimiter
        self.name = quote(str(self._path))

    def describe(self) -> Description:
        """See `Source`."""
        return Description.of_file(self.kind, self._path)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
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
                begins = rows.line_num + 1
                for fields in rows:
                    if fields:
                        place = RequestProblem(message="", line=begins)
                        if len(fields) != len(names):
                            raise _uneven(place, len(fields), len(names))
                        row = dict(zip(names, fields, strict=True))
                        yield begins, make_request(self._function, row, place)
                    begins = rows.line_num + 1
            except UnicodeDecodeError as error:
                raise InvalidInputError(
                    f"{self.name} is not text in {self._encoding} ({error.reason}, after line "
                    f"{rows.line_num:,}): pass its encoding"
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


def make_request(
    function: RowFunction, row: Mapping[str, Any], place: RequestProblem
) -> RequestLike:
    """Call the caller's function. `place` has the line or the index of the row.

    Raises:
        InvalidInputError: the function raised an error.
    """
    try:
        return function(row)
    except Exception as error:
        reason = (
            f"the function that makes requests raised {type(error).__name__}: {quote(str(error))}"
        )
        raise InvalidInputError(dataclasses.replace(place, message=reason)) from error


def _uneven(place: RequestProblem, fields: int, columns: int) -> InvalidInputError:
    message = f"has {fields} fields, and there are {columns} columns: correct the row"
    return InvalidInputError(dataclasses.replace(place, message=message))
