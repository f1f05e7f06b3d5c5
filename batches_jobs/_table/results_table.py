"""Makes the rows of a table from the results of a job and the columns of its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from batches_core import InvalidInputError
from batches_core.jobs import Chunk
from batches_jobs._merge import Order, check_order
from batches_jobs._results import AnsweredRow, JobResults

from .answers import ResultRow
from .columns import Column, joined_columns, select_columns
from .own_columns import OwnColumns, own_cell

#: Which rows are in a table. ``failed`` rows have no answer, or a rejected one.
Include: TypeAlias = Literal["all", "answered", "failed"]
_INCLUDES = ("all", "answered", "failed")


class ResultsTable:
    """The settled rows of a job as a table. Memory does not grow with the rows.

    - `order`: as for `JobResults.rows`. If columns of the input are selected, the rows are in input
      order whatever it is, because the input can only be read forward;
    - `include`: ``all`` rows, only ``answered`` ones, or only ``failed`` ones;
    - `select`: the names of the columns, in their order; by default all of `columns`.

    Raises:
        InvalidInputError: an option is invalid.
    """

    def __init__(
        self,
        results: JobResults[msgspec.Raw],
        chunks: Sequence[Chunk],
        own: OwnColumns | None = None,
        *,
        order: Order = "input",
        include: Include = "all",
        select: Sequence[str] | None = None,
    ) -> None:
        check_order(order)
        if include not in _INCLUDES:
            raise InvalidInputError(f"include is {include!r}: pass one of {', '.join(_INCLUDES)}")
        self._results = results
        self._chunks = chunks
        self._include = include
        joined = joined_columns(() if own is None else own.columns)
        #: The selected columns.
        self.columns = select_columns(joined, select)
        has_own = any(column.own_name is not None for column in self.columns)
        self._own = own if has_own else None
        self._order: Order = "input" if has_own else order

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows: the cells of `columns`. JSON is a `msgspec.Raw`.

        Raises:
            ResultsFileError: a results file is missing or was changed.
            InputChangedError: the input was changed.
            InvalidInputError: the input cannot be read.
        """
        getters = [_getter(column) for column in self.columns]
        for row in self._result_rows():
            own = {} if self._own is None else self._own_row(row.row)
            yield tuple([get(row, own) for get in getters])
        if self._own is not None:
            self._own.check_read()

    def _result_rows(self) -> Iterator[ResultRow]:
        self._own_rows = iter(()) if self._own is None else self._own.rows()
        for result in self._results.rows(self._order):
            is_answered = isinstance(result, AnsweredRow)
            if self._include == "all" or is_answered == (self._include == "answered"):
                yield ResultRow(result, self._chunks[result.chunk])

    def _own_row(self, row: int) -> Any:
        for number, own in self._own_rows:
            if number == row:
                return own
        assert self._own is not None, "only then are its rows needed"  # noqa: S101
        raise self._own.missing(row)


def _getter(column: Column) -> Callable[[ResultRow, Any], Any]:
    if column.own_name is not None:
        return lambda _, own: own_cell(column, own)
    name = column.name
    return lambda row, _: getattr(row, name)
