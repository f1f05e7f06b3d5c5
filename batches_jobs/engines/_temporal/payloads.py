"""Turns values into arguments and results of activities, and back.

They are plain JSON, as Temporal's own converter writes it, so nobody has to configure a client.
Large ones are compressed: an argument or a result has at most 2 MB.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: JSON of more bytes than this is compressed.
_PLAIN = 16 * 1024
_KEY = "zlib"


def pack(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    data = msgspec.json.encode(value)
    if len(data) <= _PLAIN:
        return msgspec.to_builtins(value)
    return {_KEY: base64.b85encode(zlib.compress(data, 6)).decode()}


def unpack(packed: Any, kind: Any) -> Any:
    """Return the value, of this type, that was packed.

    Raises:
        msgspec.MsgspecError: it is not one of this type.
    """
    if isinstance(packed, dict) and packed.keys() == {_KEY}:
        return msgspec.json.decode(zlib.decompress(base64.b85decode(packed[_KEY])), type=kind)
    return msgspec.convert(packed, kind)


def size_of(packed: Any) -> int:
    """Return about how many bytes a packed value has."""
    return len(msgspec.json.encode(packed))
