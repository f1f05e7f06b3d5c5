"""Tests of the public names: `batches_core` and `lowlevel` export what is promised."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import batches_core
from batches_core import lowlevel

PROMISED = """
    AdvisorToolResultBlock APIStatusError AuthenticationError BadRequestError BASE_URL
    BashCodeExecutionToolResultBlock BatchCreated BatchesAPI BatchesError BatchRequest BatchState
    BillingError Body CacheCreation CanceledResult CodeExecutionToolResultBlock CompactionBlock
    ConflictError ContainerUploadBlock ContentBlock CreateLedger CreateMarked CreateMarker
    CreateOperation DeletedMessageBatch Directive Done ErroredResult Event ExpiredResult
    FallbackBlock IncompleteResultsError InternalServerError InvalidInputError IrregularMessage
    Jitter LocalProtocolError MalformedResultError MAX_BYTES MAX_REQUESTS MCPToolListingBlock
    MCPToolResultBlock MCPToolUseBlock Message MessageBatch Need NotFoundError Operation
    OutcomeUnknownError OverloadedError Page PageReceived PermissionDeniedError PreparedRequests
    RateLimitError RawHeaders RawResult RedactedThinkingBlock RemoteProtocolError Request
    RequestCounts RequestLike RequestProblem RequestsSource RequestTooLargeError Result ResultError
    ResultItem ResultsInterrupted ResultsReceived ResultsUnavailableError RetryPolicy
    RetryScheduled SendRequest ServerTimeoutError ServerToolUseBlock SettlingPolicy SettlingStarted
    SucceededResult TextBlock TextEditorCodeExecutionToolResultBlock ThinkingBlock
    ToolSearchToolResultBlock ToolUseBlock TransportError UnknownBlock UnknownResult
    UntrustedHostError Usage VERSION WaitTimeoutError WaitUntil WebFetchToolResultBlock
    WebSearchToolResultBlock __version__
"""
PROMISED_LOWLEVEL = """
    as_sent BytesBody check_base_url check_callback check_header_value check_seconds CLOCK_SLACK
    encode_request envelope fold_headers Headers IfUnknown IfUnmarked JSONLines MAX_LINE
    message_decoder NotEncodableError origin path_segment prepare quote RawDecoder redact_text
    RequestChecker ResultDecoder Secret shown_host
"""


def test_batches_core_exports_the_promised_names() -> None:
    assert sorted(batches_core.__all__) == sorted(PROMISED.split())
    for name in batches_core.__all__:
        assert hasattr(batches_core, name)


def test_lowlevel_exports_the_promised_names() -> None:
    assert sorted(lowlevel.__all__) == sorted(PROMISED_LOWLEVEL.split())
    for name in lowlevel.__all__:
        assert hasattr(lowlevel, name)


def test_each_public_class_has_a_docstring() -> None:
    for name in batches_core.__all__:
        value = getattr(batches_core, name)
        if isinstance(value, type):
            assert value.__doc__, name


def test_the_docstring_of_errors_names_each_error() -> None:
    docstring = batches_core.errors.__doc__ or ""
    for name in batches_core.__all__:
        value = getattr(batches_core, name)
        if isinstance(value, type) and issubclass(value, batches_core.BatchesError):
            assert name in docstring


def test_the_package_module_contains_only_imports() -> None:
    tree = ast.parse(Path(batches_core.__file__).read_text(encoding="utf-8"))
    # After the docstring there are only imports and `__all__`.
    kinds = {type(node) for node in tree.body[1:]}
    assert kinds == {ast.ImportFrom, ast.Assign}


def test_the_version_is_that_of_the_distribution() -> None:
    root = Path(batches_core.__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert batches_core.__version__ == project["version"]
