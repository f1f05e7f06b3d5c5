"""Reads the rows of a Parquet file. Only this module imports pyarrow to read, when used."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from batches_core import InvalidInputError
from batches_core.lowlevel import quote

from .files import open_file

#: How many rows are decoded at once.
_ROWS = 1000


class ParquetRows:
    """The rows of a Parquet file, each a dict of values as pyarrow converts them to Python.

    `columns` are the names of the columns to read, by default all.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; it is the extra ``parquet``.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None = None) -> None:
        self._path = path
        self._columns = None if columns is None else list(columns)
        self._parquet = import_parquet()
        self.name = quote(str(path))

    def schema(self) -> Any:
        """Read the schema, as a ``pyarrow.Schema``.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        with self._open() as table:
            return table.schema_arrow

    def rows(self) -> Iterator[dict[str, Any]]:
        """Read each row.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        with self._open() as table:
            for batch in table.iter_batches(batch_size=_ROWS, columns=self._columns):
                yield from batch.to_pylist()

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        try:
            with open_file(self._path) as file:
                # With pre_buffer, pyarrow would load whole row groups.
                yield self._parquet.ParquetFile(file, pre_buffer=False)
        except InvalidInputError:
            raise
        except (ValueError, KeyError) as error:  # pyarrow's errors are subclasses of these
            raise InvalidInputError(
                f"{self.name} cannot be read as Parquet ({quote(str(error))}): pass another file "
                "or correct the names of its columns"
            ) from error


def import_parquet() -> Any:
    """Return the module ``pyarrow.parquet``.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    try:
        return importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ModuleNotFoundError(
            "pyarrow is not installed: pip install 'batches-core[parquet]'", name="pyarrow"
        ) from error
