"""Declare the objects of the API as immutable msgspec structs.

`decoding` decodes JSON to them. `msgspec.json.encode` encodes them as JSON.

The models accept what the API may add later:

- Fields that are not declared here are dropped.
- A string that is an enumeration today stays a plain `str`.
- A variant of an unknown type becomes an `UnknownResult` or `UnknownBlock`, a dict of all its
  fields.
- A message with a field of an unknown shape becomes an `IrregularMessage`.

Timestamps are datetimes with a time zone.
"""

from .base import M
from .batch import DeletedMessageBatch, MessageBatch, Page, RequestCounts
from .content import (
    AdvisorToolResultBlock,
    BashCodeExecutionToolResultBlock,
    CodeExecutionToolResultBlock,
    CompactionBlock,
    ContainerUploadBlock,
    ContentBlock,
    FallbackBlock,
    KnownBlock,
    MCPToolListingBlock,
    MCPToolResultBlock,
    MCPToolUseBlock,
    RedactedThinkingBlock,
    ServerToolUseBlock,
    TextBlock,
    TextEditorCodeExecutionToolResultBlock,
    ThinkingBlock,
    ToolSearchToolResultBlock,
    ToolUseBlock,
    UnknownBlock,
    WebFetchToolResultBlock,
    WebSearchToolResultBlock,
)
from .message import CacheCreation, IrregularMessage, Message, Usage
from .result import (
    CanceledResult,
    ErroredResult,
    ExpiredResult,
    KnownResult,
    RawResult,
    Result,
    ResultError,
    ResultItem,
    SucceededResult,
    UnknownResult,
)

__all__ = [
    "AdvisorToolResultBlock",
    "BashCodeExecutionToolResultBlock",
    "CacheCreation",
    "CanceledResult",
    "CodeExecutionToolResultBlock",
    "CompactionBlock",
    "ContainerUploadBlock",
    "ContentBlock",
    "DeletedMessageBatch",
    "ErroredResult",
    "ExpiredResult",
    "FallbackBlock",
    "IrregularMessage",
    "KnownBlock",
    "KnownResult",
    "M",
    "MCPToolListingBlock",
    "MCPToolResultBlock",
    "MCPToolUseBlock",
    "Message",
    "MessageBatch",
    "Page",
    "RawResult",
    "RedactedThinkingBlock",
    "RequestCounts",
    "Result",
    "ResultError",
    "ResultItem",
    "ServerToolUseBlock",
    "SucceededResult",
    "TextBlock",
    "TextEditorCodeExecutionToolResultBlock",
    "ThinkingBlock",
    "ToolSearchToolResultBlock",
    "ToolUseBlock",
    "UnknownBlock",
    "UnknownResult",
    "Usage",
    "WebFetchToolResultBlock",
    "WebSearchToolResultBlock",
]
