"""Read requests from the rows of a Parquet file. Only this module imports pyarrow, when used."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batches_core import InvalidInputError, RequestLike, RequestProblem
from batches_core.lowlevel import check_callback, quote

from .files import Description, open_file
from .sources import RowFunction, Source, make_request

#: How many rows are decoded at once.
_ROWS = 1000


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
        self._columns = None if columns is None else list(columns)
        self._parquet = _import_parquet()
        self.name = quote(str(self._path))

    def describe(self) -> Description:
        """See `Source`."""
        return Description.of_file(self.kind, self._path)

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        index = 0
        with open_file(self._path) as file:
            for row in self._rows(file):
                place = RequestProblem(message="", index=index)
                yield None, make_request(self._function, row, place)
                index += 1

    def _rows(self, file: Any) -> Iterator[dict[str, Any]]:
        try:
            # With pre_buffer, pyarrow would load whole row groups.
            table = self._parquet.ParquetFile(file, pre_buffer=False)
            for batch in table.iter_batches(batch_size=_ROWS, columns=self._columns):
                yield from batch.to_pylist()
        except (ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
            raise InvalidInputError(
                f"{self.name} cannot be read as Parquet ({quote(str(error))}): pass another file "
                "or correct the names of its columns"
            ) from error


def _import_parquet() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ModuleNotFoundError(
            "pyarrow is not installed: pip install 'batches-core[parquet]'", name="pyarrow"
        ) from error
