"""Declare content blocks, the parts of a message. The JSON distinguishes them by their `type`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import msgspec

from .base import Tagged, Unknown


class TextBlock(Tagged, tag="text", frozen=True, kw_only=True):
    """Text that the model wrote."""

    type: ClassVar[Literal["text"]] = "text"
    text: str
    citations: list[Any] | None = None


class ThinkingBlock(Tagged, tag="thinking", frozen=True, kw_only=True):
    """The model's thinking. Send `signature` back unchanged."""

    type: ClassVar[Literal["thinking"]] = "thinking"
    thinking: str
    signature: str = ""


class RedactedThinkingBlock(Tagged, tag="redacted_thinking", frozen=True, kw_only=True):
    """The model's thinking, encrypted. Send `data` back unchanged."""

    type: ClassVar[Literal["redacted_thinking"]] = "redacted_thinking"
    data: str


class ToolUseBlock(Tagged, tag="tool_use", frozen=True, kw_only=True):
    """A call of one of the caller's tools."""

    type: ClassVar[Literal["tool_use"]] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None
    toolset_name: str | None = None


class ServerToolUseBlock(Tagged, tag="server_tool_use", frozen=True, kw_only=True):
    """A call of a tool that the service runs."""

    type: ClassVar[Literal["server_tool_use"]] = "server_tool_use"
    id: str
    name: str
    input: dict[str, Any]
    caller: Any = None


class _ServerToolResultBlock(Tagged, frozen=True, kw_only=True):
    """The result of a tool that the service runs: `content` is a list of results, or an error."""

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


class MCPToolUseBlock(Tagged, tag="mcp_tool_use", frozen=True, kw_only=True):
    """A call of a tool of an MCP server."""

    type: ClassVar[Literal["mcp_tool_use"]] = "mcp_tool_use"
    id: str
    name: str
    server_name: str
    input: dict[str, Any]


class MCPToolResultBlock(Tagged, tag="mcp_tool_result", frozen=True, kw_only=True):
    """The result of a tool of an MCP server: `content` is text or a list of text blocks."""

    type: ClassVar[Literal["mcp_tool_result"]] = "mcp_tool_result"
    tool_use_id: str
    content: Any
    is_error: bool = False


class MCPToolListingBlock(Tagged, tag="mcp_tool_listing", frozen=True, kw_only=True):
    """The tools that an MCP server offers."""

    type: ClassVar[Literal["mcp_tool_listing"]] = "mcp_tool_listing"
    mcp_server_name: str
    tools: list[Any]


class CompactionBlock(Tagged, tag="compaction", frozen=True, kw_only=True):
    """A summary that replaces the conversation before it. Send it back unchanged."""

    type: ClassVar[Literal["compaction"]] = "compaction"
    content: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    tool_changes: list[Any] | None = None


class FallbackBlock(Tagged, tag="fallback", frozen=True, kw_only=True):
    """A change to another model within the message: `from_` and `to` name the models."""

    type: ClassVar[Literal["fallback"]] = "fallback"
    from_: Any = msgspec.field(name="from")
    to: Any
    trigger: Any = None


class ContainerUploadBlock(Tagged, tag="container_upload", frozen=True, kw_only=True):
    """A file that was uploaded to the container."""

    type: ClassVar[Literal["container_upload"]] = "container_upload"
    file_id: str


class UnknownBlock(Unknown):
    """A content block of a type or a shape that this version does not know, as a dict.

    Its `type` can be that of a known block. One of its fields is then null, or not of the type that
    the class of the known block declares.
    """


#: The blocks that are decoded to a class of their own.
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

# msgspec decodes a union by the tags of its members, so it accepts none without a tag. At run time
# the union is that of the known blocks, and `decoding` inserts unknown ones. A type checker sees
# both.
if TYPE_CHECKING:
    ContentBlock: TypeAlias = KnownBlock | UnknownBlock
else:
    ContentBlock = KnownBlock
