"""Declare messages and their usage of tokens."""

from __future__ import annotations

from typing import Any

from .base import Wire
from .content import ContentBlock, TextBlock, UnknownBlock


class CacheCreation(Wire, frozen=True, kw_only=True):
    """The number of input tokens written to the cache, by their time to live."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class Usage(Wire, frozen=True, kw_only=True):
    """The tokens of a message. The total input is the sum of the three ``*input_tokens`` fields."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: CacheCreation | None = None
    output_tokens_details: Any = None
    server_tool_use: Any = None
    iterations: Any = None
    fallback_credit: Any = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None


class Message(Wire, frozen=True, kw_only=True):
    """The answer of the model to one request.

    `stop_reason` is ``end_turn``, ``max_tokens``, ``stop_sequence``, ``tool_use``,
    ``pause_turn``, ``refusal`` or ``model_context_window_exceeded`` today.
    """

    id: str
    model: str
    content: list[ContentBlock]
    role: str = "assistant"
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: Any = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    input_transformations: Any = None
    usage: Usage = Usage()
    type: str = "message"

    @property
    def text(self) -> str:
        """The text of all text blocks, joined, including those that are an `UnknownBlock`."""
        return "".join(filter(None, map(_text, self.content)))


def _text(block: ContentBlock) -> str | None:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, UnknownBlock) and block.type == "text":
        text = block.get("text")
        return text if isinstance(text, str) else None
    return None


class IrregularMessage(Message, frozen=True, kw_only=True):
    """A message with a missing field, or a field of a shape that this version does not know.

    A field of the declared type is read as in any `Message`. Any other field has its default: `id`
    and `model` are empty strings, `content` is an empty list. `usage` keeps the counts that have
    the declared type. A string in place of the content or of a block is read as a text block.
    `fields` is the whole object as it was received, including what could not be read.
    """

    fields: dict[str, Any]
