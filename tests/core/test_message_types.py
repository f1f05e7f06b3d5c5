"""Tests of `message_types`: which types of a caller can hold messages."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, TypedDict

import msgspec
import pytest

from batches_core.decoding import ResultDecoder
from tests.support.ids import readable

# Each of these makes a class. The value of a field is its type, or a pair of its type and default.


def struct(name: str, fields: dict[str, Any]) -> Any:
    definitions = [(n, *t) if isinstance(t, tuple) else (n, t) for n, t in fields.items()]
    return msgspec.defstruct(name, definitions)


def dataclass(name: str, fields: dict[str, Any]) -> Any:
    definitions = [
        (n, t[0], dataclasses.field(default_factory=partial(copy, t[1])))
        if isinstance(t, tuple)
        else (n, t)
        for n, t in fields.items()
    ]
    return dataclasses.make_dataclass(name, definitions)


def typed_dict(name: str, fields: dict[str, Any]) -> Any:
    definitions = {n: t[0] if isinstance(t, tuple) else t for n, t in fields.items()}
    make: Any = TypedDict  # a checker accepts only definitions that it can read
    return make(name, definitions)


class Song(msgspec.Struct, tag="song"):
    melody: str
    txet: str = ""


class Words(msgspec.Struct, tag="text"):
    text: str


class Blocks(msgspec.Struct):
    txet: str = ""


class Named(TypedDict):
    nmae: str


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"stop_raeson": (str, "")}, "did you mean 'stop_reason'"),
        ({"stopReason": str}, "did you mean 'stop_reason'"),
        ({"usages": (dict, {})}, "did you mean 'usage'"),
        ({"text": (str, "")}, "declare `content`"),
        ({"output_tokens": (int, 0)}, "declare `usage`"),
        ({"usage": msgspec.defstruct("U", [("output_tokns", int, 0)])}, "'output_tokens'"),
        ({"usage": dataclass("U", {"input_token": int}) | None}, "'input_tokens'"),
        ({"content": list[Blocks]}, "'text'"),
        ({"content": tuple[Named | int, ...]}, "'name'"),
    ],
    ids=readable,
)
@pytest.mark.parametrize("make", [struct, dataclass, typed_dict], ids=readable)
def test_a_misspelt_field_is_a_type_error_that_names_the_intended_one(
    make: Callable[[str, dict[str, Any]], Any], fields: dict[str, Any], advice: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(advice)) as caught:
        ResultDecoder(make("Mine", {"id": str, **fields}))
    assert "Mine" in str(caught.value)


@pytest.mark.parametrize("name", ["txet", "brand_new", "outputTokens"])
def test_a_type_without_any_field_of_a_message_is_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"declares '{name}'"):
        ResultDecoder(struct("Mine", {name: (str, "")}))
    with pytest.raises(TypeError, match=r"'brand_new'.*declare a known one too"):
        ResultDecoder(struct("Mine", {"brand_new": (str, "")}))


@pytest.mark.parametrize(
    "type_",
    [
        struct("NewField", {"id": str, "brand_new": (str, "")}),
        struct("NewFieldLikeContainer", {"id": str, "container_id": (str, "")}),
        struct("NoField", {}),
        struct("FieldFilledFromContent", {"content": list[Words], "text": (str, "")}),
        struct("NewFieldOfUsage", {"usage": struct("Usage", {"brand_new": (int, 0)})}),
        struct("Dicts", {"usage": dict[str, int], "content": list[dict[str, Any]]}),
        struct("AnyAndRaw", {"usage": Any, "content": msgspec.Raw}),
        struct("NewBlock", {"content": list[Song | Words]}),
        struct("RenamedField", {"why": (str, msgspec.field(name="stop_reason", default=""))}),
        msgspec.defstruct("ArrayLike", [("txet", Any, None)], array_like=True),
        dict[str, Any],
    ],
    ids=readable,
)
def test_a_type_may_declare_fields_that_are_newer_than_this_version(type_: Any) -> None:
    ResultDecoder(type_)


@pytest.mark.parametrize(
    "type_", [5, "Message", list[int] | set[int], object(), complex, range], ids=readable
)
def test_a_type_that_msgspec_cannot_decode_is_a_type_error(type_: Any) -> None:
    with pytest.raises(TypeError, match="is not a type that msgspec can decode") as caught:
        ResultDecoder(type_)
    assert repr(type_) in str(caught.value)
