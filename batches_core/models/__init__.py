"""The wire's objects, typed.

Knows the shapes and nothing of how bytes become them (that is `decoding`). All are immutable
msgspec structs. Fields that are not declared here are left out; a string that is an enumeration
today stays a string; a variant of an unknown type becomes an `UnknownResult` or `UnknownBlock`,
which hold the whole object. A message with a field of an unknown shape becomes an
`IrregularMessage`. Timestamps are aware datetimes. `msgspec.json.encode` writes any of them back as
JSON.
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
