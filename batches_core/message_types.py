"""Check a caller's `message_type` for types that msgspec cannot decode and for misspelt fields.

`decoding` decodes messages to that type. The known fields are those of `models`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import msgspec

from .models import KnownBlock, Message, Usage

#: The classes of content blocks, by type. Every other block becomes an `UnknownBlock`.
KNOWN_BLOCKS: dict[str, type[KnownBlock]] = {block.type: block for block in get_args(KnownBlock)}


def find_undecodable_type(info: Any, seen: set[int]) -> object:
    """Find a class that msgspec decodes only with a hook; return None if there is none.

    msgspec builds a decoder for such a class without an error, but the decoder refuses every
    message. `info` describes the type, from `msgspec.inspect`. `seen` holds the ids of the
    descriptions that were searched already, since a type can refer to itself.
    """
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if id(info) in seen or not isinstance(info, (msgspec.Struct, tuple)):
        return None
    seen.add(id(info))
    parts = info if isinstance(info, tuple) else msgspec.structs.astuple(info)
    found = (find_undecodable_type(part, seen) for part in parts)
    return next((each for each in found if each is not None), None)


_USAGE = frozenset(Usage.__struct_encode_fields__)
_BLOCK = frozenset(
    {"type"}.union(*(each.__struct_encode_fields__ for each in KNOWN_BLOCKS.values()))
)
#: Fields that a message has in its usage or in its blocks.
_NESTED = _USAGE | _BLOCK
_MESSAGE = frozenset(Message.__struct_encode_fields__)
#: The least similarity of a misspelt name to the right one, for `difflib`, from 0 to 1. That of
#: "modle" and "model" is 0.8.
_LEAST_SIMILARITY = 0.8


def _types_with_fields(info: Any) -> Iterator[Any]:
    """Yield the structs, dataclasses and typed dicts in a type that is one, a union or a list."""
    inspect = msgspec.inspect
    if isinstance(info, inspect.UnionType):
        for member in info.types:
            yield from _types_with_fields(member)
    elif isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        yield from _types_with_fields(info.item_type)
    elif isinstance(info, inspect.StructType):
        # A struct that is encoded as an array has no names in its JSON. A block of a type that is
        # not known here can have any fields.
        if not info.array_like and (info.tag_field != "type" or info.tag in KNOWN_BLOCKS):
            yield info
    elif isinstance(info, (inspect.DataclassType, inspect.TypedDictType)):
        yield info


def _intended_name(name: str, known: Iterable[str]) -> str | None:
    """Find the known name that a name probably misspells."""
    near = [each for each in sorted(known) if abs(len(each) - len(name)) <= 2]  # noqa: PLR2004 - two typos
    swapped = [each for each in near if sorted(each) == sorted(name)]
    return next(iter(swapped or difflib.get_close_matches(name, near, 1, _LEAST_SIMILARITY)), None)


def describe_misspelt_field(info: Any) -> str | None:
    """Describe a field of a message_type that is certainly a mistake, with the probable right one.

    Return None if there is no such field, else the rest of the sentence "message_type … declares".
    A name that resembles no known field is accepted: the field may be newer than this version.
    `info` describes the type, from `msgspec.inspect`.
    """
    for whole in _types_with_fields(info):
        types = {field.encode_name: field.type for field in whole.fields}
        if types and _MESSAGE.isdisjoint(types):
            name = next(iter(types))
            return _advice(name, _intended_name(name, _MESSAGE | _NESTED)) or (
                f"{name!r}, but no known field of a message; if {name!r} is newer than this "
                "version, declare a known one too, such as `id`"
            )
        for name in types.keys() - _MESSAGE:
            # If the type declares `usage` or `content` too, this field is no mistake: the caller
            # may fill it from there.
            is_nested = ("usage" not in types and name in _USAGE) or (
                "content" not in types and name in _BLOCK
            )
            intended = _intended_name(name, _MESSAGE) or (name if is_nested else None)
            if (advice := _advice(name, intended)) is not None:
                return advice
        for parent, known in (("usage", _USAGE), ("content", _BLOCK)):
            for part in _types_with_fields(types.get(parent)):
                for name in {field.encode_name for field in part.fields} - known:
                    if (intended := _intended_name(name, known)) is not None:
                        return (
                            f"{name!r} in `{parent}`, which has no such field; did you mean "
                            f"{intended!r}?"
                        )
    return None


def _advice(name: str, intended: str | None) -> str | None:
    if intended is None:
        return None
    if intended in _MESSAGE:
        return f"{name!r}, which no message has; did you mean {intended!r}?"
    parent = "usage" if intended in _USAGE else "content"
    return f"{name!r}, which no message has; declare `{parent}`, with a type that has {intended!r}"
