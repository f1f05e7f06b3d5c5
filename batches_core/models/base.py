"""What all models share: immutable structs, variants with a tag, and variants of unknown types."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

# A type variable cannot have a default in Python 3.11, or it would be `Message`.
M = TypeVar("M")


class Wire(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all: immutable, so never part of a cycle, so nothing to collect."""


class Tagged(Wire, tag_field="type", frozen=True, kw_only=True):
    """The base of the variants that the wire tells apart by their `type`."""


class Unknown(dict[str, Any]):
    """A variant that this version does not know: the whole object, and its `type`.

    A dict, so that it is written back just as it came.
    """

    @property
    def type(self) -> str:
        """The wire's own word for what this is; empty if it has none."""
        type_ = self.get("type")
        return type_ if isinstance(type_, str) else ""
