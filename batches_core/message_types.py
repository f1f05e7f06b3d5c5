"""Checks of a caller's `message_type`: what msgspec cannot decode, and misspelt fields.

Knows the fields of a message. How one is decoded is `decoding`'s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from .models import KnownBlock, Message, Usage

#: The content blocks that are decoded as their own class, by type.
KNOWN_BLOCKS: dict[str, type[KnownBlock]] = {block.type: block for block in get_args(KnownBlock)}


def custom_type(info: Any, seen: set[int]) -> object:
    """Find a class that msgspec would leave to a hook, in a type as `msgspec.inspect` tells it.

    A decoder for one is built without complaint and then refuses every message.
    """
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if id(info) in seen or not isinstance(info, (msgspec.Struct, tuple)):
        return None
    seen.add(id(info))
    parts = info if isinstance(info, tuple) else msgspec.structs.astuple(info)
    found = (custom_type(part, seen) for part in parts)
    return next((each for each in found if each is not None), None)


_USAGE = frozenset(Usage.__struct_encode_fields__)
_BLOCK = frozenset(
    {"type"}.union(*(each.__struct_encode_fields__ for each in KNOWN_BLOCKS.values()))
)
_WITHIN = _USAGE | _BLOCK
_MESSAGE = frozenset(Message.__struct_encode_fields__)
#: How alike a name is to another one that was meant; "modle" and "model" are by 0.8.
_ALIKE = 0.8


def _objects(info: Any) -> Iterator[Any]:
    """Find the types with named fields of which a value, or each of a list's, is one."""
    inspect = msgspec.inspect
    if isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _objects(member)
    elif isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        yield from _objects(info.item_type)
    elif isinstance(info, inspect.StructType):
        # The fields of an array have no names, and a block of a new type has fields of its own.
        if not info.array_like and (info.tag_field != "type" or info.tag in KNOWN_BLOCKS):
            yield info
    elif isinstance(info, (inspect.DataclassType, inspect.TypedDictType)):
        yield info


def _meant(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that a name is a misspelling of."""
    near = [each for each in sorted(known) if abs(len(each) - len(name)) <= 2]  # noqa: PLR2004 - two typos
    swapped = [each for each in near if sorted(each) == sorted(name)]
    return next(iter(swapped or difflib.get_close_matches(name, near, 1, _ALIKE)), None)


def misspelt_field(info: Any) -> str | None:
    """Find a field in a message_type that is certainly a mistake, and say what was meant.

    A name that is like no known one is that of a field newer than this version.
    """
    for whole in _objects(info):
        types = {field.encode_name: field.type for field in whole.fields}
        if types and _MESSAGE.isdisjoint(types):
            name = next(iter(types))
            return _advice(name, _meant(name, _MESSAGE | _WITHIN)) or (
                f"{name!r} and no field that a message is known to have; declare one of those too, "
                "such as `id`, if that one is newer than this version"
            )
        for name in types.keys() - _MESSAGE:
            # Who declares where it stands may fill a field of that name from there.
            is_within = ("usage" not in types and name in _USAGE) or (
                "content" not in types and name in _BLOCK
            )
            meant = _meant(name, _MESSAGE) or (name if is_within else None)
            if (advice := _advice(name, meant)) is not None:
                return advice
        for within, known in (("usage", _USAGE), ("content", _BLOCK)):
            for part in _objects(types.get(within)):
                for name in {field.encode_name for field in part.fields} - known:
                    if (meant := _meant(name, known)) is not None:
                        return f"{name!r} in `{within}`, which has none; did you mean {meant!r}?"
    return None


def _advice(name: str, meant: str | None) -> str | None:
    if meant is None:
        return None
    if meant in _MESSAGE:
        return f"{name!r}, which no message has; did you mean {meant!r}?"
    within = "usage" if meant in _USAGE else "content"
    return f"{name!r}, which no message has; declare `{within}`, with a type that has {meant!r}"
