"""The wire's objects, typed.

Knows the shapes and nothing of how bytes become them (that is `decoding`). All are immutable
msgspec structs, and all are open: fields that are not declared here are left out, strings that
are enumerations today stay strings, and a variant that is not known becomes `UnknownResult` or
`UnknownBlock`, which hold the whole object. A message with a field of an unknown shape becomes an
`IrregularMessage`. Timestamps are aware datetimes. `msgspec.json.encode` writes any of them back
as JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import msgspec

# Message is defined below; the default of a type variable is no part of Python 3.11.
M = TypeVar("M")


class _Wire(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The base of all: immutable, so never part of a cycle, so nothing to collect."""


class _Tagged(_Wire, tag_field="type", frozen=True, kw_only=True):
    """The base of the variants that the wire tells apart by their `type`."""


# --- batches -----------------------------------------------------------------------------


class RequestCounts(_Wire, frozen=True, kw_only=True):
    """How many requests of a batch are in which state; the sum is always the batch's size.

    All but `processing` stay 0 until the whole batch has ended.
    """

    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """The number of requests in the batch."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


_TIMESTAMPS = ("created_at", "expires_at", "ended_at", "archived_at", "cancel_initiated_at")


class MessageBatch(_Wire, frozen=True, kw_only=True):
    """A batch as the service describes it.

    `processing_status` is ``in_progress``, ``canceling`` or ``ended`` today. `results_url` is
    there once the batch has ended and until it is archived.
    """

    id: str
    processing_status: str
    request_counts: RequestCounts
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    cancel_initiated_at: datetime | None = None
    results_url: str | None = None
    type: str = "message_batch"

    def __post_init__(self) -> None:
        for name in _TIMESTAMPS:
            moment = getattr(self, name)
            # One without an offset was not seen yet; the service's times are UTC.
            if moment is not None and moment.tzinfo is None:
                msgspec.structs.force_setattr(self, name, moment.replace(tzinfo=UTC))

    @property
    def ended(self) -> bool:
        """Whether processing has ended and the results can be read."""
        return self.processing_status == "ended"


class DeletedMessageBatch(_Wire, frozen=True, kw_only=True):
    """The service's word that a batch is gone."""

    id: str
    type: str = "message_batch_deleted"


class Page(_Wire, frozen=True, kw_only=True):
    """One page of a list, newest first.

    `last_id` is the cursor to the page after it (``after_id``), `first_id` to the one before it
    (``before_id``); both are None on an empty page.
    """

    data: list[MessageBatch]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


# --- content blocks ----------------------------------------------------------------------


class TextBlock(_Tagged, tag="text", frozen=True, kw_only=True):
    """What the model wrote."""

    type: ClassVar[Literal["text"]] = "text"
    text: str
    citations: list[Any] | None = None


class ThinkingBlock(_Tagged, tag="thinking", frozen=True, kw_only=True):
    """What the model thought; `signature` has to be sent back as it is."""

    type: ClassVar[Literal["thinking"]] = "thinking"
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(_Tagged, tag="redacted_thinking", frozen=True, kw_only=True):
    """Thinking that is encrypted; `data` has to be sent back as it is."""

    type: ClassVar[Literal["redacted_thinking"]] = "redacted_thinking"
    data: str


class ToolUseBlock(_Tagged, tag="tool_use", frozen=True, kw_only=True):
    """A call of one of the caller's tools."""

    type: ClassVar[Literal["tool_use"]] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None
    toolset_name: str | None = None


class ServerToolUseBlock(_Tagged, tag="server_tool_use", frozen=True, kw_only=True):
    """A call of a tool that the service runs itself."""

    type: ClassVar[Literal["server_tool_use"]] = "server_tool_use"
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None


class _ServerToolResultBlock(_Tagged, frozen=True, kw_only=True):
    """What a service's tool gave back: `content` is its list of results, or its error."""

    tool_use_id: str
    content: Any
    caller: Any = None


class WebSearchToolResultBlock(
    _ServerToolResultBlock, tag="web_search_tool_result", frozen=True, kw_only=True
):
    """The result of a web search."""

    type: ClassVar[Literal["web_search_tool_result"]] = "web_search_tool_result"


class WebFetchToolResultBlock(
    _ServerToolResultBlock, tag="web_fetch_tool_result", frozen=True, kw_only=True
):
    """The result of fetching a page."""

    type: ClassVar[Literal["web_fetch_tool_result"]] = "web_fetch_tool_result"


class CodeExecutionToolResultBlock(
    _ServerToolResultBlock, tag="code_execution_tool_result", frozen=True, kw_only=True
):
    """The result of running code."""

    type: ClassVar[Literal["code_execution_tool_result"]] = "code_execution_tool_result"


class BashCodeExecutionToolResultBlock(
    _ServerToolResultBlock, tag="bash_code_execution_tool_result", frozen=True, kw_only=True
):
    """The result of running a shell command."""

    type: ClassVar[Literal["bash_code_execution_tool_result"]] = "bash_code_execution_tool_result"


class TextEditorCodeExecutionToolResultBlock(
    _ServerToolResultBlock, tag="text_editor_code_execution_tool_result", frozen=True, kw_only=True
):
    """The result of an edit of a file."""

    type: ClassVar[Literal["text_editor_code_execution_tool_result"]] = (
        "text_editor_code_execution_tool_result"
    )


class ToolSearchToolResultBlock(
    _ServerToolResultBlock, tag="tool_search_tool_result", frozen=True, kw_only=True
):
    """The result of a search for tools."""

    type: ClassVar[Literal["tool_search_tool_result"]] = "tool_search_tool_result"


class AdvisorToolResultBlock(
    _ServerToolResultBlock, tag="advisor_tool_result", frozen=True, kw_only=True
):
    """The answer of an advisor model."""

    type: ClassVar[Literal["advisor_tool_result"]] = "advisor_tool_result"


class MCPToolUseBlock(_Tagged, tag="mcp_tool_use", frozen=True, kw_only=True):
    """A call of a tool of an MCP server."""

    type: ClassVar[Literal["mcp_tool_use"]] = "mcp_tool_use"
    id: str
    name: str
    server_name: str
    input: dict[str, Any]


class MCPToolResultBlock(_Tagged, tag="mcp_tool_result", frozen=True, kw_only=True):
    """The result of a tool of an MCP server: `content` is text or a list of text blocks."""

    type: ClassVar[Literal["mcp_tool_result"]] = "mcp_tool_result"
    tool_use_id: str
    content: Any
    is_error: bool = False


class MCPToolListingBlock(_Tagged, tag="mcp_tool_listing", frozen=True, kw_only=True):
    """The tools that an MCP server offers."""

    type: ClassVar[Literal["mcp_tool_listing"]] = "mcp_tool_listing"
    mcp_server_name: str
    tools: list[Any]


class CompactionBlock(_Tagged, tag="compaction", frozen=True, kw_only=True):
    """A summary that replaces the conversation before it; it has to be sent back as it is."""

    type: ClassVar[Literal["compaction"]] = "compaction"
    content: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    tool_changes: list[Any] | None = None


class FallbackBlock(_Tagged, tag="fallback", frozen=True, kw_only=True):
    """A change of the model within the message: `from_` and `to` name the models."""

    type: ClassVar[Literal["fallback"]] = "fallback"
    from_: Any = msgspec.field(name="from")
    to: Any
    trigger: Any = None


class ContainerUploadBlock(_Tagged, tag="container_upload", frozen=True, kw_only=True):
    """A file that was put into the container."""

    type: ClassVar[Literal["container_upload"]] = "container_upload"
    file_id: str


class _Unknown(dict[str, Any]):
    """A variant that this version does not know: the whole object, and its `type`.

    A dict, so that it is written back just as it came.
    """

    @property
    def type(self) -> str:
        """The wire's own word for what this is; empty if it has none."""
        type_ = self.get("type")
        return type_ if isinstance(type_, str) else ""


class UnknownBlock(_Unknown):
    """A content block of a type or a shape that this version does not know, as a dict.

    It has a `type`, which can be that of a known block: one of whose fields is null or retyped.
    """


#: The blocks that are decoded as what they are.
KnownBlock: TypeAlias = (
    TextBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ToolUseBlock
    | ServerToolUseBlock
    | WebSearchToolResultBlock
    | WebFetchToolResultBlock
    | CodeExecutionToolResultBlock
    | BashCodeExecutionToolResultBlock
    | TextEditorCodeExecutionToolResultBlock
    | ToolSearchToolResultBlock
    | AdvisorToolResultBlock
    | MCPToolUseBlock
    | MCPToolResultBlock
    | MCPToolListingBlock
    | CompactionBlock
    | FallbackBlock
    | ContainerUploadBlock
)

# A union that msgspec decodes by tag cannot hold a member without one. So the decoder is told of
# the known variants alone, and `decoding` puts the unknown ones in; readers are told of both.
if TYPE_CHECKING:
    ContentBlock: TypeAlias = KnownBlock | UnknownBlock
else:
    ContentBlock = KnownBlock


# --- messages ----------------------------------------------------------------------------


class CacheCreation(_Wire, frozen=True, kw_only=True):
    """Input tokens written to the cache, by its time to live."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class Usage(_Wire, frozen=True, kw_only=True):
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


class Message(_Wire, frozen=True, kw_only=True):
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


# --- results -----------------------------------------------------------------------------


class SucceededResult(_Tagged, Generic[M], tag="succeeded", frozen=True, kw_only=True):
    """The request was answered; `message` is a `Message` or the type that was asked for."""

    type: ClassVar[Literal["succeeded"]] = "succeeded"
    message: M


class _NestedError(_Wire, frozen=True, kw_only=True):
    type: str
    message: str = ""
    details: Any = None


class ResultError(_Wire, frozen=True, kw_only=True):
    """Why a request failed.

    The service nests it, ``{"type": "error", "error": {"type", "message"}, "request_id"}``;
    a flat ``{"type", "message"}`` is read as well. Either way the fields here are the inner ones.
    An error of any other shape keeps what can be read of it: without a type, `type` is
    ``unknown``; `details` is the whole error as it was received.
    """

    type: str
    message: str = ""
    request_id: str | None = None
    details: Any = None
    #: The wire's nested object; None once read, for its fields then stand above.
    error: _NestedError | None = None

    def __post_init__(self) -> None:
        nested = self.error
        if nested is not None:
            move = msgspec.structs.force_setattr
            move(self, "type", nested.type)
            move(self, "message", nested.message)
            move(self, "details", nested.details)
            move(self, "error", None)


class ErroredResult(_Tagged, tag="errored", frozen=True, kw_only=True):
    """The request failed and is not billed."""

    type: ClassVar[Literal["errored"]] = "errored"
    error: ResultError


class CanceledResult(_Tagged, tag="canceled", frozen=True, kw_only=True):
    """The batch was canceled before this request was worked on; it is not billed."""

    type: ClassVar[Literal["canceled"]] = "canceled"


class ExpiredResult(_Tagged, tag="expired", frozen=True, kw_only=True):
    """The batch expired before this request was worked on; it is not billed."""

    type: ClassVar[Literal["expired"]] = "expired"


class UnknownResult(_Unknown):
    """A result of a type that this version does not know, as a dict; it has a `type`."""


#: The results that are decoded as what they are.
KnownResult: TypeAlias = SucceededResult[M] | ErroredResult | CanceledResult | ExpiredResult

if TYPE_CHECKING:
    Result: TypeAlias = KnownResult[M] | UnknownResult
else:
    Result = KnownResult


class RawResult(_Wire, frozen=True, kw_only=True):
    """One line of a results file as it came: `raw` holds its bytes, without the line end.

    `custom_id` is as in a `ResultItem`.
    """

    custom_id: str
    raw: bytes


class ResultItem(_Wire, Generic[M], frozen=True, kw_only=True):
    r"""One line of a results file: the request's own id and what became of it.

    Half of a surrogate pair, as in ``"\ud83d"``, is legal JSON but no text that can be encoded or
    printed. In a `custom_id`, as in every other string, it is spelled out as those six characters.
    """

    custom_id: str
    result: Result[M]
