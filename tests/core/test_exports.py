from __future__ import annotations

import ast
from pathlib import Path

import batches_core
from batches_core import lowlevel

PROMISED = """
    AdvisorToolResultBlock CompactionBlock FallbackBlock IrregularMessage
    MCPToolListingBlock MCPToolResultBlock MCPToolUseBlock
    APIStatusError AuthenticationError BASE_URL BadRequestError BashCodeExecutionToolResultBlock
    BatchCreated BatchRequest BatchState BatchesAPI BatchesError BillingError Body CacheCreation
    CanceledResult CodeExecutionToolResultBlock ConflictError ContainerUploadBlock ContentBlock
    CreateLedger CreateMarked CreateMarker CreateOperation DeletedMessageBatch Directive Done
    ErroredResult Event
    ExpiredResult RequestProblem IncompleteResultsError InternalServerError InvalidInputError Jitter
    LocalProtocolError MAX_BYTES MAX_REQUESTS MalformedResultError Message MessageBatch Need
    NotFoundError Operation OutcomeUnknownError OverloadedError Page PageReceived
    PermissionDeniedError PreparedRequests RateLimitError RawHeaders RawResult RedactedThinkingBlock
    RemoteProtocolError Request RequestCounts RequestLike RequestTooLargeError RequestsSource
    Result ResultError ResultItem ResultsInterrupted ResultsReceived ResultsUnavailableError
    RetryPolicy RetryScheduled SendRequest ServerTimeoutError ServerToolUseBlock SettlingPolicy
    SettlingStarted
    SucceededResult TextBlock TextEditorCodeExecutionToolResultBlock ThinkingBlock
    ToolSearchToolResultBlock ToolUseBlock TransportError UnknownBlock UnknownResult
    UntrustedHostError Usage VERSION WaitTimeoutError WaitUntil WebFetchToolResultBlock
    WebSearchToolResultBlock
"""

PROMISED_LOWLEVEL = """
    BytesBody Headers
    IfUnknown IfUnmarked JSONLines MAX_LINE RawDecoder RequestChecker ResultDecoder Secret
    as_sent check_base_url check_callback check_header_value check_seconds envelope fold_headers
    message_decoder origin path_segment prepare quote redact_text shown_host
"""


def test_the_public_names_are_the_promised_ones() -> None:
    assert sorted(batches_core.__all__) == sorted(PROMISED.split())
    for name in batches_core.__all__:
        assert hasattr(batches_core, name)


def test_the_names_for_authors_of_transports_are_the_promised_ones() -> None:
    assert sorted(lowlevel.__all__) == sorted(PROMISED_LOWLEVEL.split())
    for name in lowlevel.__all__:
        assert hasattr(lowlevel, name)


def test_every_public_error_and_model_is_documented() -> None:
    for name in batches_core.__all__:
        value = getattr(batches_core, name)
        if isinstance(value, type):
            assert value.__doc__, name


def test_the_tree_of_errors_in_the_docstring_is_the_tree() -> None:
    doc = batches_core.errors.__doc__ or ""
    for name in batches_core.__all__:
        value = getattr(batches_core, name)
        if isinstance(value, type) and issubclass(value, batches_core.BatchesError):
            assert name in doc


def test_init_holds_nothing_but_imports() -> None:
    tree = ast.parse(Path(batches_core.__file__).read_text(encoding="utf-8"))
    kinds = {type(node) for node in tree.body[1:]}
    assert kinds == {ast.ImportFrom, ast.Assign}
