"""From bytes to the models, strictly where that is fast and openly where it has to be.

Knows the models and msgspec, not how the bytes came. The strict decoder reads everything that
the models name in one pass. Lines that it refuses are decoded to plain objects and read field by
field: an unknown variant is kept whole, a field of an unknown shape costs that field alone, and
only a line that cannot be read as a result is an error.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from .errors import RemoteProtocolError, quote
from .message_types import KNOWN_BLOCKS, custom_type, misspelt_field
from .models import (
    CanceledResult,
    ContentBlock,
    ErroredResult,
    ExpiredResult,
    IrregularMessage,
    M,
    Message,
    RawResult,
    Result,
    ResultError,
    ResultItem,
    SucceededResult,
    TextBlock,
    UnknownBlock,
    UnknownResult,
    Usage,
)
from .models.base import Wire

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


# --- lone surrogates -----------------------------------------------------------------------

_HIGH, _LOW = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_LONE_SURROGATE = re.compile(rb"%b(?!%b)|(?<!%b)%b" % (_HIGH, _LOW, _HIGH, _LOW))


def _spell_out(line: bytes) -> bytes:
    r"""Turn each escape of half a surrogate pair into its six characters: `\ud83d` to `\\ud83d`.

    Such an escape is grammatical JSON, but msgspec refuses it. Escapes are replaced by escapes, so
    what was no JSON stays none.
    """
    if b"\0" in line:
        return line  # the decoder then says why it is not JSON
    # A backslash that is escaped itself begins no escape, and no half of a pair.
    masked = line.replace(rb"\\", b"\0\0")
    return _LONE_SURROGATE.sub(rb"\\\g<0>", masked).replace(b"\0\0", rb"\\")


def _decode_spelled(decode: Callable[[bytes], T], line: bytes) -> T:
    """Decode a line; once more with its lone surrogates spelled out, if it has any."""
    try:
        return decode(line)
    except msgspec.DecodeError:
        spelled = _spell_out(line)
        if spelled == line:
            raise
        return decode(spelled)


# --- results, openly ---------------------------------------------------------------------


class _Named(Wire, frozen=True, kw_only=True):
    custom_id: str


_EMPTY_RESULTS: dict[str, Any] = {each.type: each() for each in (CanceledResult, ExpiredResult)}
_plain_decoder = msgspec.json.Decoder()
_named_decoder = msgspec.json.Decoder(_Named)


def _open_item(value: Any, *, opens_messages: bool = True) -> ResultItem[Any] | None:
    """Read a decoded line field by field; None if it cannot be delivered as a result.

    A line that the strict decoder takes gives the same here, so that it does not matter beside
    which other lines it is decoded.
    """
    custom_id = _get_str(value, "custom_id")
    result = _get(value, "result")
    type_ = _get_str(result, "type")
    if custom_id is None or type_ is None:
        return None
    opened: Result[Any]
    if type_ == SucceededResult.type:
        message = _get(result, "message")
        if not opens_messages or not isinstance(message, dict):
            return None
        opened = SucceededResult(message=_open_message(message))
    elif type_ == ErroredResult.type:
        opened = ErroredResult(error=_open_error(result.get("error")))
    else:
        opened = _EMPTY_RESULTS.get(type_) or UnknownResult(result)
    return ResultItem(custom_id=custom_id, result=opened)


def _open_message(fields: dict[str, Any]) -> Message:
    content = fields.get("content")
    if isinstance(content, list) and {*map(type, content)} <= {dict}:
        try:
            message = msgspec.convert({**fields, "content": []}, Message)
        except msgspec.ValidationError:
            pass
        else:
            blocks = [_open_block(block) for block in content]
            msgspec.structs.force_setattr(message, "content", blocks)
            return message
    return _irregular_message(fields)


def _open_block(block: dict[str, Any]) -> ContentBlock:
    type_ = block.get("type")
    if isinstance(type_, str) and type_ in KNOWN_BLOCKS:
        try:
            # By its class: for a union, msgspec would build the whole type anew at every call.
            return msgspec.convert(block, KNOWN_BLOCKS[type_])
        except msgspec.ValidationError:
            pass
    return UnknownBlock(block)


def _irregular_message(fields: dict[str, Any]) -> IrregularMessage:
    parts = fields.get("content")
    if not isinstance(parts, list):
        parts = [parts]
    content: list[ContentBlock] = [
        _open_block(part) if isinstance(part, dict) else TextBlock(text=part)
        for part in parts
        if isinstance(part, (dict, str))
    ]
    fitting = _fitting(fields, Message, {"id": "", "model": "", "content": []})
    if isinstance(usage := fields.get("usage"), dict):
        fitting["usage"] = _fitting(usage, Usage, {})
    message = msgspec.convert({**fitting, "fields": fields}, IrregularMessage)
    msgspec.structs.force_setattr(message, "content", content)
    return message


def _fitting(fields: dict[str, Any], type_: type[Any], least: dict[str, Any]) -> dict[str, Any]:
    """Choose those of the fields that have the shape that the type names, beside the `least`."""
    fitting = dict(least)
    for name in fields.keys() & set(type_.__struct_fields__) - {"content"}:
        try:
            msgspec.convert({**least, name: fields[name]}, type_)
        except msgspec.ValidationError:
            continue
        fitting[name] = fields[name]
    return fitting


def _open_error(error: Any) -> ResultError:
    try:
        return msgspec.convert(error, ResultError)
    except msgspec.ValidationError:
        # Whatever else it is, it is told: a request that failed is no line that cannot be read.
        inner = _get(error, "error") or error
        told = _get_str(inner, "message") or _get_str(error, "message")
        return ResultError(
            type=_get_str(inner, "type") or "unknown",
            message=told or ("" if inner is None else str(inner)),
            request_id=_get_str(error, "request_id"),
            details=error,
        )


def _raw_custom_id(line: bytes) -> str:
    return _decode_spelled(_named_decoder.decode, line).custom_id


def custom_id_of(line: bytes) -> str | None:
    """Find the custom_id of a line that is no result but at least a JSON object with one."""
    try:
        return _raw_custom_id(line)
    except UNDECODABLE:
        return None


class ResultDecoder(Generic[M]):
    """Decodes the lines of a results file; `message_type` is what a success's message becomes.

    `decode_lines` decodes many lines in one call and raises one of `UNDECODABLE` if any of them
    cannot be read so. `decode_line` decodes one, and reads a lone surrogate as well.

    Raises:
        TypeError: msgspec cannot decode `message_type`, or it declares a misspelt field.
    """

    def __init__(self, message_type: type[M]) -> None:
        self._opens_messages = message_type is Message
        unknown: object = None
        misspelt: str | None = None
        try:
            strict = msgspec.json.Decoder(ResultItem[message_type])  # type: ignore[valid-type]  # a runtime type by design
            if not self._opens_messages:  # to look through our own takes longer than all the rest
                info = msgspec.inspect.type_info(message_type)
                unknown = custom_type(info, set())
                misspelt = misspelt_field(info)
        except TypeError as error:
            unknown = error
        if unknown is not None:
            raise TypeError(
                f"message_type {message_type!r} is no type that msgspec can decode ({unknown}); "
                "declare a msgspec.Struct or a dataclass, or use dict or msgspec.Raw"
            )
        if misspelt is not None:
            raise TypeError(f"message_type {message_type!r} declares {misspelt}")
        self._strict = strict

    def decode_lines(self, block: bytes | memoryview) -> list[ResultItem[M]]:
        """Decode many lines, each with its line end, in one call.

        Raises:
            UNDECODABLE: one of them is not JSON or cannot be delivered; `decode_line` finds it.
        """
        try:
            return self._strict.decode_lines(block)
        except msgspec.ValidationError:
            if not self._opens_messages:
                raise
            items = [_open_item(value) for value in _plain_decoder.decode_lines(block)]
            if not all(items):
                raise
            return cast("list[ResultItem[M]]", items)

    def decode_line(self, line: bytes) -> ResultItem[M]:
        """Decode one line.

        Raises:
            UNDECODABLE: it is not JSON, or not a result: without a custom_id or a type, a success
                whose message is no object or, of a `message_type` of the user's, does not fit it.
        """
        return _decode_spelled(self._decode_line, line)

    def _decode_line(self, line: bytes) -> ResultItem[M]:
        try:
            return self._strict.decode(line)
        except msgspec.ValidationError:
            value = _plain_decoder.decode(line)
            item = _open_item(value, opens_messages=self._opens_messages)
            if item is None:
                raise
            return item


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
        return RawResult(custom_id=_raw_custom_id(line), raw=line)
