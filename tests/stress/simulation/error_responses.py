"""The HTTP error responses that the simulated network sends in place of the service's response."""

from __future__ import annotations

from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

from .service import EPOCH


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorResponse:
    """One error response.

    `is_retried` says whether a retry can succeed, and `is_ambiguous` whether a create may have had
    an effect. `type` None stands for a body that is not the API's. `retry_after` is the delay that
    the headers ask for, in seconds.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    type: str | None = "api_error"
    code: str | None = None
    is_retried: bool = True
    is_ambiguous: bool = False
    retry_after: float = 0.0


TRANSIENT: Final = (
    ErrorResponse(status=429),
    ErrorResponse(status=429, headers=(("Retry-After", "0"),)),
    ErrorResponse(status=429, headers=(("Retry-After", "3"),), retry_after=3.0),
    ErrorResponse(
        status=429,
        headers=(
            ("retry-after-ms", "250"),
            ("retry-after", "9"),
        ),
        retry_after=0.25,
    ),
    ErrorResponse(status=429, headers=(("retry-after", "86400"),), retry_after=86400.0),
    ErrorResponse(status=529, headers=(("retry-after", "soon"),)),
    ErrorResponse(
        status=529,
        headers=(
            ("Date", formatdate(EPOCH)),
            ("retry-after", formatdate(EPOCH + 4)),
        ),
        retry_after=4.0,
    ),
    ErrorResponse(status=500, headers=(("x-should-retry", "true"),), is_ambiguous=True),
    ErrorResponse(
        status=503,
        headers=(
            ("x-should-retry", "TRUE"),
            ("retry-after", "1"),
        ),
        is_ambiguous=True,
        retry_after=1.0,
    ),
    ErrorResponse(status=408, headers=(("x-should-retry", "true"),), is_ambiguous=True),
    ErrorResponse(status=500, is_ambiguous=True),
    ErrorResponse(status=502, type=None, is_ambiguous=True),
    ErrorResponse(
        status=503, type=None, headers=(("retry-after", "2"),), is_ambiguous=True, retry_after=2.0
    ),
    ErrorResponse(status=504, type="timeout_error", is_ambiguous=True),
    ErrorResponse(status=408, type=None, is_ambiguous=True),
)
#: A create does not retry these: they refuse it. Other requests are retried.
CONFLICTS: Final = (ErrorResponse(status=409), ErrorResponse(status=425))
#: No request retries these.
FINAL: Final = (
    ErrorResponse(status=400, type="invalid_request_error", is_retried=False),
    ErrorResponse(status=401, type="authentication_error", is_retried=False),
    ErrorResponse(status=403, type=None, is_retried=False),
    ErrorResponse(status=413, type=None, is_retried=False),
    ErrorResponse(status=429, code="enforced_spend_limit_reached", is_retried=False),
    ErrorResponse(status=429, headers=(("x-should-retry", "false"),), is_retried=False),
    ErrorResponse(
        status=302, headers=(("location", "https://login.sim.test/?q=1"),), is_retried=False
    ),
    ErrorResponse(
        status=503, headers=(("x-should-retry", "false"),), is_retried=False, is_ambiguous=True
    ),
)


def error_body(error: ErrorResponse, text: str) -> bytes:
    """Build the body of an error of the API, with `text` as its message."""
    details = f',"details":{{"error_code":"{error.code}"}}' if error.code else ""
    content = f'{{"type":"{error.type}","message":"{text}"{details}}}'
    return f'{{"type":"error","error":{content},"request_id":"req_1"}}'.encode()
