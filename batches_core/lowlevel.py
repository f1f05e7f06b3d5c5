"""Export the names for authors of transports and request sources.

They are as stable as the names of `batches_core`, which has everything that users of a client need.
"""

from .batch_request import NotEncodableError, as_sent, encode_request
from .decoding import RawDecoder, ResultDecoder, message_decoder
from .errors import quote
from .http import BytesBody, Headers, fold_headers
from .jsonl import MAX_LINE, JSONLines
from .marker import CLOCK_SLACK
from .operations.create import IfUnknown, IfUnmarked
from .redaction import Secret, redact_text
from .request_checker import RequestChecker
from .requests import envelope, prepare
from .urls import check_base_url, origin, path_segment, shown_host
from .validation import check_callback, check_header_value, check_seconds

__all__ = [
    "CLOCK_SLACK",
    "MAX_LINE",
    "BytesBody",
    "Headers",
    "IfUnknown",
    "IfUnmarked",
    "JSONLines",
    "NotEncodableError",
    "RawDecoder",
    "RequestChecker",
    "ResultDecoder",
    "Secret",
    "as_sent",
    "check_base_url",
    "check_callback",
    "check_header_value",
    "check_seconds",
    "encode_request",
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
