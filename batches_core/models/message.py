"""Messages and their usage."""

from __future__ import annotations

from typing import Any

from .base import Wire
from .content import ContentBlock, TextBlock, UnknownBlock


class CacheCreation(Wire, frozen=True, kw_only=True):
    """Input tokens written to the cache, by its time to live."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class Usage(Wire, frozen=True, kw_only=True):
    """The tokens of a message; all input is the sum of the three ``*input_tokens`` fields."""

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
    """What the model answered to one request.

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
        """The text of all text blocks, joined; also of one that is an `UnknownBlock`."""
        return "".join(filter(None, map(_text, self.content)))


def _text(block: ContentBlock) -> str | None:
    if isinstance(block, TextBlock):
        return block.text
    if isinstance(block, UnknownBlock) and block.type == "text":
        text = block.get("text")
        return text if isinstance(text, str) else None
    return None


class IrregularMessage(Message, frozen=True, kw_only=True):
    """A message of which a field has a shape that this version does not know, or is missing.

    Fields that fit are as in any `Message`. A field that does not fit has its default: `id` and
    `model` are empty strings, `content` an empty list, `usage` keeps those of its counts that fit.
    Strings in the place of the content or of a block are read as text blocks. `fields` is the
    whole object as it was received, with all that could not be read.
    """

    fields: dict[str, Any]
