"""Provide the base classes of all models: structs, tagged variants, and unknown variants.

The other modules of `models` declare the objects of the API.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

#: The type of the message in a `SucceededResult`. Its default would be `Message`, but Python 3.11
#: has no defaults of type variables.
M = TypeVar("M")


class Wire(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base class of all models: immutable structs.

    The garbage collector does not track them: JSON has no reference cycles, and the fields of an
    immutable object cannot be set to form one.
    """


class Tagged(Wire, tag_field="type", frozen=True, kw_only=True):
    """The base class of variants: objects that the JSON distinguishes by their `type`."""


class Unknown(dict[str, Any]):
    """The base class of variants that this version does not know.

    It is a dict of all fields of the object, so it is encoded as it was received.
    """

    @property
    def type(self) -> str:
        """The `type` of the JSON object; empty if it has none."""
        type_ = self.get("type")
        return type_ if isinstance(type_, str) else ""
