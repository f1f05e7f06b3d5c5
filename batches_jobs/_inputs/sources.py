"""Read requests from sources that can only be read forward. `spooled` copies the requests."""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from batches_core import InvalidInputError, RequestLike, RequestProblem
from batches_core.lowlevel import check_callback, quote

from .csv_rows import CSVRows
from .files import Description, LineFile, LongLine, read_lines

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
    #: Whether it can have been used up by an earlier run in this process.
    is_read_once = False

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

    def check_resumed(self, source: str) -> None:
        """Check that a job whose `JobOpened.source` is this can go on with this source.

        Raises:
            InputChangedError: it cannot, because the source makes other requests now.
        """
        del source  # planning compares the requests themselves

    def may_have_changed(self, source: str) -> bool:
        """Whether its requests can be others than those of the job whose source was this."""
        described = self.describe()
        return described.version is None or described.encode() != source


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

    def may_have_changed(self, source: str) -> bool:
        """See `Source`. There is nothing to compare."""
        del source
        return False

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
        self.is_read_once = isinstance(requests, Iterator)

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
    is_read_once = True

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
        self._table = CSVRows(self._path, encoding=encoding, delimiter=delimiter)
        self.name = self._table.name

    def describe(self) -> Description:
        """See `Source`."""
        return Description.of_file(self.kind, self._path)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        for line, row in self._table.rows():
            yield line, make_request(self._function, row, RequestProblem(message="", line=line))


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
