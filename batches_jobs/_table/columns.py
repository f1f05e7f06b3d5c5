"""The columns of a table of results: their names, types and order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from batches_core import InvalidInputError

#: The type of a column. ``json`` is JSON text, as bytes in a `msgspec.Raw`. ``value`` is any value
#: of a Parquet file, of the type `Column.arrow_type`.
ColumnType: TypeAlias = Literal["int", "float", "bool", "str", "json", "value"]


class Column(msgspec.Struct, frozen=True):
    """A column: its name and type. `own_name` is its name in the input, if it is a column of that.

    `arrow_type` is its ``pyarrow.DataType`` if the type is ``value``.
    """

    name: str
    type: ColumnType = "str"
    own_name: str | None = None
    arrow_type: Any = None


#: The columns before those of the input.
FIRST = (Column("row", "int"), Column("custom_id"))
#: The columns after those of the input.
LAST = (
    Column("type"),
    Column("text"),
    Column("content", "json"),
    Column("stop_reason"),
    Column("model"),
    Column("input_tokens", "int"),
    Column("output_tokens", "int"),
    Column("cache_read_tokens", "int"),
    Column("cache_write_5m_tokens", "int"),
    Column("cache_write_1h_tokens", "int"),
    Column("error_type"),
    Column("error_message"),
    Column("batch_id"),
    Column("round", "int"),
)
#: What is put before the name of a column of the input that is also one of the above.
CLASH = "input_"


def joined_columns(own: Iterable[Column]) -> tuple[Column, ...]:
    """Return all columns, with those of the input in the middle.

    If a column of the input has the name of another column, ``input_`` is put before its name.
    Upper and lower case count as equal, because some programs do not distinguish them.
    """
    taken = {column.name.casefold() for column in (*FIRST, *LAST)}
    columns = []
    for column in own:
        name = column.name
        while name.casefold() in taken:
            name = CLASH + name
        taken.add(name.casefold())
        columns.append(msgspec.structs.replace(column, name=name, own_name=column.name))
    return (*FIRST, *columns, *LAST)


def select_columns(columns: Sequence[Column], names: Sequence[str] | None) -> tuple[Column, ...]:
    """Return the columns of these names, in this order; all for None.

    Raises:
        InvalidInputError: there is no column of a name, or a name is repeated.
    """
    if names is None:
        return tuple(columns)
    if isinstance(names, str):
        names = [names]
    by_name = {column.name: column for column in columns}
    for name in names:
        if name not in by_name:
            raise InvalidInputError(
                f"select has {name!r}, which is no column: the columns are {', '.join(by_name)}"
            )
        if [*names].count(name) > 1:
            raise InvalidInputError(f"select has {name!r} several times: name each column once")
    if not names:
        raise InvalidInputError("select is empty: name a column, or leave it out for all")
    return tuple(by_name[name] for name in names)
