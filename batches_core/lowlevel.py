"""The names for authors of transports and of request sources, promised like the package's own.

A user of a client needs none of them. `batches_core` has the names for everybody.
"""

from .decoding import RawDecoder, ResultDecoder, message_decoder
from .errors import quote
from .http import BytesBody, Headers, fold_headers
from .jsonl import MAX_LINE, JSONLines
from .operations.create import IfUnknown, IfUnmarked
from .redaction import Secret, redact_text
from .requests import RequestChecker, as_sent, envelope, prepare
from .urls import check_base_url, origin, path_segment, shown_host
from .validation import check_callback, check_header_value, check_seconds

__all__ = [
    "MAX_LINE",
    "BytesBody",
    "Headers",
    "IfUnknown",
    "IfUnmarked",
    "JSONLines",
    "RawDecoder",
    "RequestChecker",
    "ResultDecoder",
    "Secret",
    "as_sent",
    "check_base_url",
    "check_callback",
    "check_header_value",
    "check_seconds",
    "envelope",
    "fold_headers",
    "message_decoder",
    "origin",
    "path_segment",
    "prepare",
    "quote",
    "redact_text",
    "shown_host",
]
