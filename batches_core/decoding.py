"""From bytes to the models, strictly where that is fast and openly where it has to be.

Knows the models and msgspec, not how the bytes came. The strict decoder reads everything that
the models name in one pass. What it refuses is looked at again, slowly, field by field: a
variant that is merely unknown is kept as what it is; only what is really broken is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast, get_args

import msgspec

from .errors import RemoteProtocolError, quote
from .models import (
    ContentBlock,
    KnownBlock,
    KnownResult,
    M,
    Message,
    RawResult,
    ResultItem,
    SucceededResult,
    UnknownBlock,
    UnknownResult,
    _MessageFields,
    _Wire,
)

T = TypeVar("T")

#: What any bytes can make a msgspec decoder raise: a value that is no JSON or has another shape
#: (`MsgspecError`), a string that is no UTF-8, nesting deeper than the interpreter allows.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_body(body: bytes, type_: type[T], what: str, hide: Callable[[bytes], bytes]) -> T:
    """Decode a whole JSON body; `hide` strikes out what an error must not show.

    Raises:
        RemoteProtocolError: it is no JSON of that shape.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except UNDECODABLE as error:
        why = hide(str(error).encode()).decode()
        shown = quote(hide(body)[:200].decode(errors="replace"))
        raise RemoteProtocolError(
            f"the answer is not {what} ({why}): {shown!r}; "
            "check that base_url is the API's and that no proxy answers in its place"
        ) from None


def decode_error(body: bytes) -> tuple[str | None, str, str | None, str | None]:
    """Read an error body of any kind: its type, message, error_code and request_id.

    What is no API error has no type, and its text as the message.
    """
    try:
        decoded = msgspec.json.decode(body)
    except UNDECODABLE:
        decoded = None
    error = _get(decoded, "error")
    code = _get_str(_get(error, "details"), "error_code")
    text = quote(body.decode(errors="replace")) or "no explanation given"
    message = _get_str(error, "message") or text
    return _get_str(error, "type"), message, code, _get_str(decoded, "request_id")


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _get_str(value: Any, name: str) -> str | None:
    found = _get(value, name)
    return found if isinstance(found, str) else None


# --- results, openly ---------------------------------------------------------------------


class _Type(_Wire, frozen=True, kw_only=True):
    type: str


class _OpenItem(_Wire, frozen=True, kw_only=True):
    custom_id: str
    result: msgspec.Raw


class _OpenSucceeded(_Wire, frozen=True, kw_only=True):
    message: msgspec.Raw


class _OpenMessage(_MessageFields, frozen=True, kw_only=True):
    content: list[msgspec.Raw]


class _Named(_Wire, frozen=True, kw_only=True):
    custom_id: str


def _tags(union: Any) -> frozenset[str]:
    # A generic member of the union, SucceededResult[M], keeps its class in __origin__.
    return frozenset(getattr(member, "__origin__", member).type for member in get_args(union))


_KNOWN_BLOCKS = _tags(KnownBlock)
_KNOWN_RESULTS = _tags(KnownResult)
_block_decoder = msgspec.json.Decoder(KnownBlock)
_type_decoder = msgspec.json.Decoder(_Type)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
_item_decoder = msgspec.json.Decoder(_OpenItem)
_succeeded_decoder = msgspec.json.Decoder(_OpenSucceeded)
_named_decoder = msgspec.json.Decoder(_Named)
_message_decoder = msgspec.json.Decoder(_OpenMessage)


def _open_block(raw: msgspec.Raw) -> ContentBlock:
    type_ = _type_decoder.decode(raw).type
    if type_ in _KNOWN_BLOCKS:
        return cast("ContentBlock", _block_decoder.decode(raw))
    return UnknownBlock(_fields_decoder.decode(raw))


def _open_message(raw: msgspec.Raw) -> Message:
    opened = _message_decoder.decode(raw)
    fields = {name: getattr(opened, name) for name in _MessageFields.__struct_fields__}
    return Message(content=[_open_block(block) for block in opened.content], **fields)


def _custom_type(info: Any, seen: set[int]) -> object:
    """Find a class that msgspec would leave to a hook, in a type as `msgspec.inspect` tells it.

    A decoder for one is built without complaint and then refuses every message.
    """
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls
    if id(info) in seen or not isinstance(info, (msgspec.Struct, tuple)):
        return None
    seen.add(id(info))
    parts = info if isinstance(info, tuple) else msgspec.structs.astuple(info)
    found = (_custom_type(part, seen) for part in parts)
    return next((each for each in found if each is not None), None)


def custom_id_of(line: bytes) -> str | None:
    """Find the custom_id of a line that is no result but at least a JSON object with one."""
    try:
        return _named_decoder.decode(line).custom_id
    except UNDECODABLE:
        return None


class ResultDecoder(Generic[M]):
    """Decodes the lines of a results file; `message_type` is what a success's message becomes.

    `decode_lines` decodes many lines in one call and raises one of `UNDECODABLE` if any of them
    is not of a shape that the models name. `decode_line` decodes one, and keeps what is unknown.
    """

    def __init__(self, message_type: type[M]) -> None:
        self._opens_messages = message_type is Message
        unknown: object = None
        try:
            strict = msgspec.json.Decoder(ResultItem[message_type])  # type: ignore[valid-type]  # a runtime type by design
            if not self._opens_messages:  # to look through our own takes longer than all the rest
                unknown = _custom_type(msgspec.inspect.type_info(message_type), set())
        except TypeError as error:
            unknown = error
        if unknown is not None:
            raise TypeError(
                f"message_type {message_type!r} is no type that msgspec can decode ({unknown}); "
                "declare a msgspec.Struct or a dataclass, or use dict or msgspec.Raw"
            )
        self.decode_lines: Callable[[bytes | memoryview], list[ResultItem[M]]] = strict.decode_lines
        self._decode: Callable[[bytes], ResultItem[M]] = strict.decode

    def decode_line(self, line: bytes) -> ResultItem[M]:
        """Decode one line.

        Raises:
            UNDECODABLE: it is no JSON, or no result whose known parts have their known shapes.
        """
        try:
            return self._decode(line)
        except msgspec.ValidationError:
            opened = _item_decoder.decode(line)
            type_ = _type_decoder.decode(opened.result).type
            if type_ not in _KNOWN_RESULTS:
                unknown = UnknownResult(_fields_decoder.decode(opened.result))
                return ResultItem(custom_id=opened.custom_id, result=unknown)
            if type_ != SucceededResult.type or not self._opens_messages:
                raise
            message = _open_message(_succeeded_decoder.decode(opened.result).message)
            return ResultItem(
                custom_id=opened.custom_id, result=SucceededResult(message=cast("M", message))
            )


@functools.cache
def message_decoder() -> ResultDecoder[Message]:
    """Give the decoder of whole messages, which takes milliseconds to build, once."""
    return ResultDecoder(Message)


class RawDecoder:
    """Keeps the lines of a results file as they are, and reads nothing of them but the ids."""

    def decode_lines(self, block: bytes | memoryview) -> list[RawResult]:
        """Take many lines, each with its line end.

        What it gives are as many as the lines only where there are as many objects as lines.

        Raises:
            UNDECODABLE: one of them is no JSON object with an id.
        """
        named = _named_decoder.decode_lines(block)
        lines = bytes(block).split(b"\n")
        return [
            RawResult(custom_id=each.custom_id, raw=line.removesuffix(b"\r"))
            for each, line in zip(named, lines, strict=False)
        ]

    def decode_line(self, line: bytes) -> RawResult:
        """Take one line.

        Raises:
            UNDECODABLE: it is no JSON object with an id.
        """
        return RawResult(custom_id=_named_decoder.decode(line).custom_id, raw=line)
