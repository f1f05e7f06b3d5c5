"""Reads the cells of one settled row of a job: its answer, or why it failed."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from batches_core import SucceededResult
from batches_core.jobs import Chunk
from batches_jobs._results import AnsweredRow, RowResult
from batches_jobs._usage import UsageSum, read_answer

_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Fields(msgspec.Struct):
    content: msgspec.Raw = msgspec.Raw()
    stop_reason: Any = None
    model: Any = None


_fields_decoder = msgspec.json.Decoder(_Fields)


class _Part(msgspec.Struct):
    type: Any = None
    text: Any = None


_parts_decoder = msgspec.json.Decoder(list[_Part])


class ResultRow:
    """A settled row, with an attribute for each column. Cells are read when they are needed."""

    def __init__(self, result: RowResult[msgspec.Raw], chunk: Chunk) -> None:
        self._result = result
        self._chunk = chunk
        self.row = result.row
        self.custom_id = result.custom_id

    @property
    def type(self) -> str:
        """``succeeded``, or the outcome of a row that failed."""
        result = self._result
        return "succeeded" if isinstance(result, AnsweredRow) else result.failure.outcome

    @property
    def text(self) -> str | None:
        """The text of all text blocks, joined; None without a message."""
        return None if self._message is None else _text(bytes(self._fields.content))

    @property
    def content(self) -> msgspec.Raw | None:
        """The content of the message, byte for byte; None without a message."""
        content = bytes(self._fields.content)
        return msgspec.Raw(content) if content else None

    @property
    def stop_reason(self) -> str | None:
        """Why the model stopped."""
        reason = self._fields.stop_reason
        return reason if isinstance(reason, str) else None

    @property
    def model(self) -> str | None:
        """The model that answered."""
        model = self._fields.model
        return model if isinstance(model, str) else None

    @property
    def input_tokens(self) -> int | None:
        """The tokens that were neither read from the cache nor written to it."""
        return self._tokens[0]

    @property
    def output_tokens(self) -> int | None:
        """The tokens of the answer."""
        return self._tokens[1]

    @property
    def cache_read_tokens(self) -> int | None:
        """The tokens that were read from the cache."""
        return self._tokens[2]

    @property
    def cache_write_5m_tokens(self) -> int | None:
        """The tokens that were written to the cache for five minutes."""
        return self._tokens[3]

    @property
    def cache_write_1h_tokens(self) -> int | None:
        """The tokens that were written to the cache for an hour."""
        return self._tokens[4]

    @property
    def error_type(self) -> str | None:
        """The service's type of the error, or else the outcome; None if the row was answered."""
        result = self._result
        if isinstance(result, AnsweredRow):
            return None
        return result.failure.type or result.failure.outcome

    @property
    def error_message(self) -> str | None:
        """What the service or this library says about the error."""
        result = self._result
        return None if isinstance(result, AnsweredRow) else result.failure.message or None

    @property
    def batch_id(self) -> str | None:
        """The batch of the last attempt; None if the row was never sent."""
        return self._chunk.batch_id or None

    @property
    def round(self) -> int:
        """How often the row was sent again."""
        return self._chunk.plan.round

    @cached_property
    def _message(self) -> msgspec.Raw | None:
        result = self._result
        if isinstance(result, AnsweredRow):
            return result.message
        # An answer that the caller's function rejected was paid for as well.
        return result.result.message if isinstance(result.result, SucceededResult) else None

    @cached_property
    def _fields(self) -> _Fields:
        if self._message is None:
            return _Fields()
        try:
            return _fields_decoder.decode(self._message)
        except _UNDECODABLE:
            return _Fields()  # it is not an object

    @cached_property
    def _tokens(self) -> tuple[int | None, ...]:
        answer = None if self._message is None else read_answer(bytes(self._message))
        if answer is None:
            return (None,) * 5
        usage = UsageSum()
        usage.add([answer])
        sums = usage.result()
        return (
            sum(each.input_tokens for each in sums),
            sum(each.output_tokens for each in sums),
            sum(each.cache_read_tokens for each in sums),
            sum(each.cache_write_5m_tokens for each in sums),
            sum(each.cache_write_1h_tokens for each in sums),
        )


def _text(content: bytes) -> str:
    try:
        parts: Any = _parts_decoder.decode(content)
    except _UNDECODABLE:
        try:
            value = msgspec.json.decode(content)
        except _UNDECODABLE:
            return ""
        # The rules of `Message`: a string in place of the content or of a block is text.
        blocks = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        parts = [
            _Part("text", each)
            if isinstance(each, str)
            else _Part(each.get("type"), each.get("text"))
            for each in blocks
            if isinstance(each, (str, dict))
        ]
    return "".join(
        part.text for part in parts if part.type == "text" and isinstance(part.text, str)
    )
