"""Encode one request of a batch as JSON, from each form in which it can be passed.

`request_checker` checks its fields. `requests` builds the body of the create from many requests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch.

    `custom_id` names the result of the request: 1 to 64 letters, digits, ``_`` or ``-``, unique in
    its batch. `params` are the parameters of a Messages call. They are sent unchanged, including
    parameters that this version does not know.
    """

    custom_id: str
    params: Mapping[str, Any]


#: A request in any accepted form: a mapping, a `BatchRequest`, or its JSON text, such as a line of
#: a requests file. JSON text is sent byte for byte.
RequestLike: TypeAlias = BatchRequest | Mapping[str, Any] | bytes | str

#: Types whose values never contain a float. `Raw` counts as one: it is JSON already, and JSON text
#: has no NaN or infinity.
_FLOATLESS_TYPES = frozenset({int, bool, type(None), msgspec.Raw})


class NotEncodableError(Exception):
    """A request cannot be encoded as JSON.

    `message` says why. `field` is the field of the value that cannot be encoded, if it is known.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        self.message = message
        self.field = field
        super().__init__(message)


class _NoJSONFormError(NotImplementedError):
    """A value has no form in JSON. msgspec asks hooks to raise a `NotImplementedError` then."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(_explain_no_json(value))


def _explain_no_json(value: object) -> str:
    """Name the type of a value that has no form in JSON, and how to convert it."""
    kind = type(value)
    name = kind.__qualname__
    if kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    conversions = ["x.item()"] if hasattr(kind, "item") else []
    # NumPy and similar libraries are recognised by their methods, without importing them.
    if hasattr(kind, "tolist") and getattr(value, "ndim", False):
        conversions = ["x.tolist()"]
    elif isinstance(value, str):
        conversions.append("str(x)")
    elif hasattr(kind, "__index__"):
        conversions.append("int(x)")
    elif hasattr(kind, "__float__"):
        conversions.append("float(x)")
    remedy = f"pass {' or '.join(conversions)}" if conversions else "leave it out or convert it"
    return f"a value of type {name} cannot be written as JSON: {remedy}"


def _path_to(value: object, request: object) -> str | None:
    """Find the field that holds a value, as a path such as ``params.tools.0.name``."""
    pending: list[tuple[str, object]] = [("", request)]
    seen: set[int] = set()
    while pending:
        path, holder = pending.pop()
        if holder is value:
            return path.removeprefix(".")
        if id(holder) in seen:
            continue  # the request refers to itself
        seen.add(id(holder))
        inner: Iterable[tuple[object, object]] = ()
        if isinstance(holder, BatchRequest):
            inner = (("custom_id", holder.custom_id), ("params", holder.params))
        elif isinstance(holder, Mapping):
            inner = holder.items()
        elif isinstance(holder, (list, tuple)):
            inner = enumerate(holder)
        pending.extend((f"{path}.{name}", held) for name, held in inner)
    return None


def _as_dict(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise _NoJSONFormError(value)


_encoder = msgspec.json.Encoder(enc_hook=_as_dict)


def as_sent(line: bytes, index: int) -> bytes:
    """Return a line as it is sent: without surrounding white space.

    `index` is the position of the line in its file, from 0. A byte order mark is removed from the
    first line.
    """
    return line.strip() if index else line.removeprefix(b"\xef\xbb\xbf").strip()


def encode_request(request: RequestLike, index: int) -> bytes:
    """Return a request as JSON; empty if it is a blank line.

    JSON text is not parsed, so the returned JSON may still be invalid. `index` is the position of
    the request in its batch, from 0. Text may begin with a byte order mark if `index` is 0.

    Raises:
        NotEncodableError: the request is of an unsupported type, contains a value without a form
            in JSON, or is text that is not valid Unicode.
    """
    match request:
        case bytes():
            encoded = as_sent(request, index)
            if not encoded.isascii():
                # The checks skip some parts of a line unread. Invalid UTF-8 in one of them would
                # make the body of the whole batch invalid.
                try:
                    encoded.decode()
                except UnicodeDecodeError as error:
                    raise NotEncodableError(f"is not JSON: {error}") from None
        case str():
            try:
                text = request if index else request.removeprefix("\ufeff")
                encoded = text.strip().encode()
            except UnicodeEncodeError as error:
                raise NotEncodableError(f"cannot be encoded as UTF-8: {error}") from None
        case dict() | BatchRequest() | Mapping():  # dict first: it is the fastest check
            try:
                encoded = _encoder.encode(request)
                is_finite = _is_finite(request, encoded)
            except _NoJSONFormError as error:
                raise NotEncodableError(str(error), _path_to(error.value, request)) from None
            except (TypeError, ValueError, RecursionError) as error:
                raise NotEncodableError(f"cannot be written as JSON: {error}") from None
            if not is_finite:
                raise NotEncodableError(
                    "cannot be written as JSON: it contains a NaN or an infinity"
                )
        case _:
            raise NotEncodableError(
                "must be a dict, a BatchRequest, or one request as JSON (bytes or str), not "
                f"{type(request).__name__}"
            )
    return encoded


def _is_finite(request: object, encoded: bytes) -> bool:
    """Check that a request contains no NaN or infinity, which msgspec encodes as null."""
    pending: list[Iterable[Any]] = [(request,)]
    while pending:
        for value in pending.pop():
            kind = type(value)
            if kind is str:
                continue
            if kind is dict:
                pending.append(value.values())
            elif kind is list or kind is tuple:
                pending.append(value)
            elif kind is float:
                if not math.isfinite(value):
                    return False
            elif kind not in _FLOATLESS_TYPES:
                # Converting a value of another type is slow. It is not needed without a null.
                if b"null" not in encoded:
                    return True
                pending.append((msgspec.to_builtins(value, enc_hook=_as_dict),))
    return True
