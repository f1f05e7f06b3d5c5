"""Read requests from the rows of a Parquet file. `parquet_rows` reads the rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from batches_core import RequestLike, RequestProblem
from batches_core.lowlevel import check_callback

from .files import Description
from .parquet_rows import ParquetRows
from .sources import RowFunction, Source, make_request


class ParquetSource(Source):
    """A Parquet file. `function` makes a request from each row.

    The function is called with a mapping of each column's name to its value, as pyarrow converts
    it to Python. `columns` are the names of the columns to read, by default all.

    Raises:
        InvalidInputError: `function` cannot be called.
        ModuleNotFoundError: pyarrow is not installed; it is the extra ``parquet``.
    """

    kind = "parquet"

    def __init__(
        self,
        path: str | os.PathLike[str],
        function: RowFunction,
        *,
        columns: Sequence[str] | None = None,
    ) -> None:
        check_callback("function", function, "a function that makes a request from a row")
        self._path = Path(path)
        self._function = function
        self._table = ParquetRows(self._path, columns)
        self.name = self._table.name

    def describe(self) -> Description:
        """See `Source`."""
        return Description.of_file(self.kind, self._path)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        for index, row in enumerate(self._table.rows()):
            place = RequestProblem(message="", index=index)
            yield None, make_request(self._function, row, place)
