"""Reads a job's requests from a table and a `Template`, and the rows of the table again later.

`csv_rows`, `jsonl_rows` and `parquet_rows` read the files. `rows` chooses the format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from batches_core import InvalidInputError, RequestLike, RequestProblem
from batches_core.lowlevel import quote
from batches_jobs._errors import InputChangedError
from batches_jobs._folder import JobFolder
from batches_jobs._template import Template

from .csv_rows import CSVRows
from .files import Description
from .jsonl_rows import JSONLRows
from .parquet_rows import ParquetRows
from .sources import Source

#: The formats of tables. ``tsv`` is CSV with tabs. ``jsonl`` has one object on each line.
RowFormat: TypeAlias = Literal["csv", "tsv", "jsonl", "parquet"]
#: A row: each column's name and value.
Row: TypeAlias = Mapping[str, Any]

#: The end of `Source.kind` for tables.
_KIND = " rows"


class TableSource(Source):
    """A table whose rows are made into requests by a template.

    The columns are checked at once, those of JSONL row by row.

    Raises:
        InvalidInputError: the file cannot be read, or has not all columns of the template.
        ModuleNotFoundError: pyarrow is not installed, and the format is ``parquet``.
    """

    def __init__(self, path: Path, format_: RowFormat, template: Template) -> None:
        self.path = path
        self.format = format_
        self.template = template
        self.kind = format_ + _KIND
        self._read: Callable[[], Iterator[tuple[int | None, Row]]]
        self._schema: Any = None
        match format_:
            case "jsonl":
                jsonl = JSONLRows(path)
                self.name, self._read = jsonl.name, jsonl.rows
                self.columns: tuple[str, ...] | None = None
            case "parquet":
                parquet = ParquetRows(path)
                self.name, self._read = parquet.name, lambda: ((None, r) for r in parquet.rows())
                self._schema = parquet.schema()
                self.columns = tuple(self._schema.names)
            case _:
                table = CSVRows(path, delimiter="\t" if format_ == "tsv" else ",")
                self.name, self._read = table.name, table.rows
                self.columns = tuple(table.columns())
        if self.columns is not None:
            if doubled := sorted({each for each in self.columns if self.columns.count(each) > 1}):
                raise InvalidInputError(
                    f"{self.name} has several columns {doubled[0]!r}: give each its own name"
                )
            template.check_columns(self.name, self.columns)

    @property
    def arrow_schema(self) -> Any:
        """The ``pyarrow.Schema`` of a Parquet file; None for other formats."""
        return self._schema

    def describe(self) -> Description:
        """See `Source`."""
        described = Description.of_file(self.kind, self.path)
        return msgspec.structs.replace(described, template=self.template.encode())

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        make = self.template.maker()
        for number, (line, row) in enumerate(self._read()):
            try:
                yield line, make(row, number)
            except InvalidInputError as error:
                raise _placed(error, line, number) from None

    def rows(self) -> Iterator[Row]:
        """Read each row again. The number of a row is that of its request in the job.

        Raises:
            InvalidInputError: the file cannot be read.
        """
        for _, row in self._read():
            yield row

    def check_resumed(self, source: str) -> None:
        """See `Source`."""
        described = table_description(source)
        if described is not None and described.template != self.template.encode():
            place = _difference(Template.decode(described.template), self.template)
            raise InputChangedError("the template", place, chunk=None)


class JournalTable(Source):
    """The table of a job that is continued without its requests, from its description.

    Its file is only opened to read more requests.
    """

    kind = "table"

    def __init__(self, described: Description, path: Path) -> None:
        self.kind = described.kind
        self.name = quote(str(path))
        self._described = described
        self._path = path

    def describe(self) -> Description:
        """See `Source`."""
        return self._described

    def read(self) -> Iterator[tuple[int | None, RequestLike]]:
        """See `Source`."""
        yield from reopen_table(self._described, self._path).read()


def table_description(source: str) -> Description | None:
    """Return the description of a table from `JobOpened.source`; None if that is no table."""
    try:
        described = msgspec.json.decode(source, type=Description)
    except msgspec.MsgspecError:
        return None
    return described if described.kind.endswith(_KIND) else None


def table_path(described: Description, folder: JobFolder, path: Path | None = None) -> Path:
    """Return where the file of a job's table is: at `path` if that is passed, or where it was.

    The copy of an open file, such as stdin, is found if the folder of the job was moved.
    """
    kept, copy = Path(described.path), folder.rows(described.kind.removesuffix(_KIND))
    is_moved = kept.name == copy.name and copy.exists() and not kept.exists()
    return path or (copy if is_moved else kept)


def reopen_table(described: Description, path: Path) -> TableSource:
    """Return the table of a job, from its description. `path` is where its file is.

    Raises:
        InvalidInputError: the file cannot be read, or is not the table.
    """
    format_: Any = described.kind.removesuffix(_KIND)
    return TableSource(path, format_, Template.decode(described.template))


def _placed(error: InvalidInputError, line: int | None, number: int) -> InvalidInputError:
    """Add the place of a row to the problem that a template found."""
    message = "; ".join(str(each) for each in error.args)
    place = RequestProblem(message=message, line=line)
    return InvalidInputError(
        place if line is not None else dataclasses.replace(place, index=number)
    )


def _difference(was: Template, now: Template) -> str:
    names = [
        name for name in Template.__struct_fields__ if getattr(was, name) != getattr(now, name)
    ]
    shown = ", ".join(f"{name}={getattr(was, name)!r}" for name in names)
    return f"the job was begun with {shown}" if shown else "it is written differently"
