"""Decode JSON to models: the bodies of responses, errors, and the lines of a results file.

`jsonl` splits a results file into lines. `models` declares the shapes.

A strict decoder reads everything that the models declare in one fast pass. A line that it refuses
is decoded to plain objects and read field by field. Then an unknown variant is kept whole, a field
of an unknown shape costs only that field, and a line is an error only if it is not a result at all.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import msgspec

from .errors import RemoteProtocolError, quote
from .message_types import KNOWN_BLOCKS, describe_misspelt_field, find_undecodable_type
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

#: Every exception that a msgspec decoder raises for some bytes: `MsgspecError` for invalid JSON or
#: another shape, `UnicodeDecodeError` for a string that is not UTF-8, `RecursionError` for nesting
#: deeper than the interpreter allows.
UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def decode_body(body: bytes, type_: type[T], what: str, redact: Callable[[bytes], bytes]) -> T:
    """Decode a whole JSON body.

    `what` names the expected value in an error. `redact` removes credentials from bytes that an
    error quotes.

    Raises:
        RemoteProtocolError: the body is not JSON, or not of that type.
    """
    try:
        return msgspec.json.decode(body, type=type_)
    except UNDECODABLE as error:
        reason = redact(str(error).encode()).decode()
        beginning = quote(redact(body)[:200].decode(errors="replace"))
        raise RemoteProtocolError(
            f"the response is not {what} ({reason}): {beginning!r}; "
            "check that base_url is the API's and that no proxy responds in its place"
        ) from None


def decode_error(body: bytes) -> tuple[str | None, str, str | None, str | None]:
    """Decode the body of an error response: return its type, message, error_code and request_id.

    What the body lacks is None. If it lacks a message, its text is the message.
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


def _spell_out_lone_surrogates(line: bytes) -> bytes:
    r"""Replace each escape of a lone surrogate by its six characters: `\ud83d` by `\\ud83d`.

    Such an escape is valid JSON, but msgspec refuses it. One escape is replaced by another, so an
    invalid line stays invalid.
    """
    if b"\0" in line:
        return line  # not JSON; the decoder reports why
    # In `\\ud83d` the backslash is itself escaped, so this is not a surrogate: mask each `\\`.
    masked = line.replace(rb"\\", b"\0\0")
    return _LONE_SURROGATE.sub(rb"\\\g<0>", masked).replace(b"\0\0", rb"\\")


def _decode_with_surrogates(decode: Callable[[bytes], T], line: bytes) -> T:
    """Decode a line; if that fails, try again with its lone surrogates spelled out."""
    try:
        return decode(line)
    except msgspec.DecodeError:
        spelled_out = _spell_out_lone_surrogates(line)
        if spelled_out == line:
            raise
        return decode(spelled_out)


# --- results, field by field ---------------------------------------------------------------


class _CustomId(Wire, frozen=True, kw_only=True):
    custom_id: str


_EMPTY_RESULTS: dict[str, Any] = {each.type: each() for each in (CanceledResult, ExpiredResult)}
_plain_decoder = msgspec.json.Decoder()
_custom_id_decoder = msgspec.json.Decoder(_CustomId)


def _read_item(value: Any, *, read_messages: bool = True) -> ResultItem[Any] | None:
    """Read a decoded line field by field; return None if it is not a result.

    If `read_messages` is False, return None for a success as well: its message has a caller's type.

    A line that the strict decoder accepts results in an equal item here. The lines around it
    therefore do not influence how a line is decoded.
    """
    custom_id = _get_str(value, "custom_id")
    fields = _get(value, "result")
    type_ = _get_str(fields, "type")
    if custom_id is None or type_ is None:
        return None
    result: Result[Any]
    if type_ == SucceededResult.type:
        message = _get(fields, "message")
        if not read_messages or not isinstance(message, dict):
            return None
        result = SucceededResult(message=_read_message(message))
    elif type_ == ErroredResult.type:
        result = ErroredResult(error=_read_error(fields.get("error")))
    else:
        result = _EMPTY_RESULTS.get(type_) or UnknownResult(fields)
    return ResultItem(custom_id=custom_id, result=result)


def _read_message(fields: dict[str, Any]) -> Message:
    content = fields.get("content")
    if isinstance(content, list) and {*map(type, content)} <= {dict}:
        try:
            message = msgspec.convert({**fields, "content": []}, Message)
        except msgspec.ValidationError:
            pass
        else:
            blocks = [_read_block(block) for block in content]
            msgspec.structs.force_setattr(message, "content", blocks)
            return message
    return _read_irregular_message(fields)


def _read_block(block: dict[str, Any]) -> ContentBlock:
    type_ = block.get("type")
    if isinstance(type_, str) and type_ in KNOWN_BLOCKS:
        try:
            # The class, not the union: for a union msgspec builds its type info at every call.
            return msgspec.convert(block, KNOWN_BLOCKS[type_])
        except msgspec.ValidationError:
            pass
    return UnknownBlock(block)


def _read_irregular_message(fields: dict[str, Any]) -> IrregularMessage:
    parts = fields.get("content")
    if not isinstance(parts, list):
        parts = [parts]
    content: list[ContentBlock] = [
        _read_block(part) if isinstance(part, dict) else TextBlock(text=part)
        for part in parts
        if isinstance(part, (dict, str))
    ]
    fitting = _fitting_fields(fields, Message, {"id": "", "model": "", "content": []})
    if isinstance(usage := fields.get("usage"), dict):
        fitting["usage"] = _fitting_fields(usage, Usage, {})
    message = msgspec.convert({**fitting, "fields": fields}, IrregularMessage)
    msgspec.structs.force_setattr(message, "content", content)
    return message


def _fitting_fields(
    fields: dict[str, Any], type_: type[Any], required: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields whose values fit their types in `type_`, and the `required` defaults."""
    fitting = dict(required)
    for name in fields.keys() & set(type_.__struct_fields__) - {"content"}:
        try:
            msgspec.convert({**required, name: fields[name]}, type_)
        except msgspec.ValidationError:
            continue
        fitting[name] = fields[name]
    return fitting


def _read_error(error: Any) -> ResultError:
    try:
        return msgspec.convert(error, ResultError)
    except msgspec.ValidationError:
        # The request failed, whatever the shape of the error: keep what can be read of it.
        inner = _get(error, "error") or error
        message = _get_str(inner, "message") or _get_str(error, "message")
        return ResultError(
            type=_get_str(inner, "type") or "unknown",
            message=message or ("" if inner is None else str(inner)),
            request_id=_get_str(error, "request_id"),
            details=error,
        )


def _decode_custom_id(line: bytes) -> str:
    return _decode_with_surrogates(_custom_id_decoder.decode, line).custom_id


def custom_id_of(line: bytes) -> str | None:
    """Return the custom_id of a line that is not a valid result; None if it has none to read."""
    try:
        return _decode_custom_id(line)
    except UNDECODABLE:
        return None


class ResultDecoder(Generic[M]):
    """Decode the lines of a results file to `ResultItem`s.

    `message_type` is the type of a success's message: `Message`, or any type that msgspec decodes.
    `decode_lines` decodes many lines in one call. `decode_line` decodes one line, and accepts a
    lone surrogate as well.

    Raises:
        TypeError: msgspec cannot decode `message_type`, or it declares a misspelt field.
    """

    def __init__(self, message_type: type[M]) -> None:
        self._reads_messages = message_type is Message
        undecodable: object = None
        misspelt: str | None = None
        try:
            # A type that is known only at run time is no type to a checker.
            item_type: Any = ResultItem
            strict: msgspec.json.Decoder[ResultItem[M]] = msgspec.json.Decoder(
                item_type[message_type]
            )
            if not self._reads_messages:  # `Message` is correct, and slow to inspect
                info = msgspec.inspect.type_info(message_type)
                undecodable = find_undecodable_type(info, set())
                misspelt = describe_misspelt_field(info)
        except TypeError as error:
            undecodable = error
        if undecodable is not None:
            raise TypeError(
                f"message_type {message_type!r} is not a type that msgspec can decode "
                f"({undecodable}); declare a msgspec.Struct or a dataclass, or use dict or "
                "msgspec.Raw"
            )
        if misspelt is not None:
            raise TypeError(f"message_type {message_type!r} declares {misspelt}")
        self._strict = strict

    def decode_lines(self, block: bytes | memoryview) -> list[ResultItem[M]]:
        """Decode many lines in one call. Each ends with a line feed.

        Values are decoded one after the other, whether or not each is on a line of its own.

        Raises:
            UNDECODABLE: a line is not JSON or not a result. `decode_line` finds out which.
        """
        try:
            return self._strict.decode_lines(block)
        except msgspec.ValidationError:
            if not self._reads_messages:
                raise
            items = [_read_item(value) for value in _plain_decoder.decode_lines(block)]
            if not all(items):
                raise
            return cast("list[ResultItem[M]]", items)

    def decode_line(self, line: bytes) -> ResultItem[M]:
        """Decode one line.

        Raises:
            UNDECODABLE: the line is not JSON, or not a result: it has no custom_id or no type, or
                is a success whose message is not an object, or does not fit a caller's
                `message_type`.
        """
        return _decode_with_surrogates(self._decode_line, line)

    def _decode_line(self, line: bytes) -> ResultItem[M]:
        try:
            return self._strict.decode(line)
        except msgspec.ValidationError:
            value = _plain_decoder.decode(line)
            item = _read_item(value, read_messages=self._reads_messages)
            if item is None:
                raise
            return item


@functools.cache
def message_decoder() -> ResultDecoder[Message]:
    """Return the decoder for `Message`. It is built once, which takes milliseconds."""
    return ResultDecoder(Message)


class RawDecoder:
    """Decode the lines of a results file to `RawResult`s: keep the bytes, read only the ids."""

    def decode_lines(self, block: bytes | memoryview) -> list[RawResult]:
        """Decode many lines in one call. Each ends with a line feed.

        The result is valid only if it has one item per line: two objects on one line are paired
        with the wrong lines.

        Raises:
            UNDECODABLE: a value is not a JSON object with a custom_id.
        """
        ids = _custom_id_decoder.decode_lines(block)
        lines = bytes(block).split(b"\n")
        return [
            RawResult(custom_id=each.custom_id, raw=line.removesuffix(b"\r"))
            for each, line in zip(ids, lines, strict=False)
        ]

    def decode_line(self, line: bytes) -> RawResult:
        """Decode one line.

        Raises:
            UNDECODABLE: the line is not a JSON object with a custom_id.
        """
        return RawResult(custom_id=_decode_custom_id(line), raw=line)
