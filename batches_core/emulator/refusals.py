"""API errors: the statuses, types and bodies with which the emulator refuses a request.

The modules that check a request decide whether it is refused: `access`, `routes`, `create_body`,
`pages` and `endpoints`.
"""

from __future__ import annotations

from typing import Any

_SERVER_ERRORS = 500
#: The documented error types. For any other status, `error_type` returns the usual type.
_ERROR_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
#: Client errors that are temporary: their responses have no ``x-should-retry: false``.
_TEMPORARY = frozenset({408, 409, 425, 429})


class RefusedError(Exception):
    """A request is refused with an API error: a status, an error type and a message.

    `retry_after` is what the response suggests to wait, in seconds.
    """

    def __init__(
        self, status: int, type_: str, message: str, *, retry_after: float | None = None
    ) -> None:
        self.status = status
        self.type = type_
        self.retry_after = retry_after
        super().__init__(message)

    @property
    def is_final(self) -> bool:
        """Whether the response says ``x-should-retry: false``.

        The live service says so when it refuses a request. It was not seen to say so with a
        server error.
        """
        return self.status < _SERVER_ERRORS and self.status not in _TEMPORARY

    def body(self, request_id: str, error_code: str | None = None) -> dict[str, Any]:
        """Return the error body as a JSON object; `error_code` goes into its details."""
        error: dict[str, Any] = {"message": str(self), "type": self.type}
        if error_code is not None:
            error["details"] = {"error_code": error_code}
        return {"error": error, "request_id": request_id, "type": "error"}

    def edge_body(self) -> dict[str, Any]:
        """Return the shorter error body of the service's edge, which knows no request id."""
        return {"error": {"message": str(self), "type": self.type}}


def bad_request(message: str) -> RefusedError:
    """Build the 400 of an invalid request."""
    return RefusedError(400, "invalid_request_error", message)


def not_found(message: str) -> RefusedError:
    """Build the 404 of a resource that does not exist."""
    return RefusedError(404, "not_found_error", message)


def error_type(status: int) -> str:
    """Return the error type that the service uses with a status from 400 to 599."""
    usual = "api_error" if status >= _SERVER_ERRORS else "invalid_request_error"
    return _ERROR_TYPES.get(status, usual)
