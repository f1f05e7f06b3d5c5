"""Makes any record of a job, with hypothesis, from the types of its fields."""

from __future__ import annotations

import types
from datetime import UTC, datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from hypothesis import strategies as st

from batches_core.jobs import JobOptions, Record

#: All kinds of records.
KINDS: tuple[type[Record], ...] = get_args(Record)
#: The whole numbers that JSON carries everywhere.
_INTEGERS = st.integers(min_value=-(2**53), max_value=2**53)
_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: _INTEGERS,
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=20),
    type(None): st.none(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    # Its values have limits.
    JobOptions: st.builds(
        JobOptions,
        chunk_rows=st.integers(1, 100_000),
        max_waiting=st.integers(1, 2**53),
        rounds=st.integers(0, 100),
        ids=st.sampled_from(["keep", "map"]),
        poll_interval=st.floats(0.001, 1e9),
        settle_time=st.floats(0.001, 1e9),
        parallel=st.integers(1, 100),
        canary_rows=st.integers(0, 100_000),
    ),
}


def values(type_: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that records use."""
    if type_ in _SIMPLE:
        return _SIMPLE[type_]
    if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
        return records(type_)
    arguments = get_args(type_)
    if get_origin(type_) is Literal:
        return st.sampled_from(arguments)
    if get_origin(type_) in {Union, types.UnionType}:
        return st.one_of(*map(values, arguments))
    assert get_origin(type_) is tuple
    assert arguments[1:] == (...,)
    return st.lists(values(arguments[0]), max_size=3).map(tuple)


def records(type_: type[msgspec.Struct], **fixed: Any) -> st.SearchStrategy[Any]:
    """Any record of this type, with some of its fields fixed."""
    hints = get_type_hints(type_)
    fields = {
        field.name: values(hints[field.name])
        for field in msgspec.structs.fields(type_)
        if field.name not in fixed
    }
    return st.builds(type_, **fields, **{name: st.just(value) for name, value in fixed.items()})
