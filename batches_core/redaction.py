"""Remove credentials from reprs, errors, and responses that repeat them.

`endpoint` decides to which hosts credentials are sent.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Credentials of fewer characters are not redacted: they are placeholders, not secrets, and occur
#: inside ordinary words.
_LEAST_SECRET_LENGTH = 8
_SECRET_HEADERS = frozenset({"x-api-key", "authorization"})
#: The text that replaces a credential.
HIDDEN = "[hidden]"
#: What `errors.quote` appends to a text that it has cut.
_ELLIPSIS = "…".encode()


class Secret(str):
    """A credential whose repr hides it, also in tracebacks that list local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"


def hide(credential: str | None) -> str | None:
    """Return a credential as a `Secret`, which no repr shows; any value but a str as it is."""
    return Secret(credential) if isinstance(credential, str) else credential


def redact_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return header pairs for a repr, with the credentials hidden."""
    return [(name, HIDDEN if name in _SECRET_HEADERS else value) for name, value in headers]


def redact(headers: Iterable[tuple[str, str]], data: bytes) -> bytes:
    """Return `data` with every credential of these request `headers` replaced."""
    for name, value in headers:
        secret = value.removeprefix("Bearer ").encode("latin-1")
        if name in _SECRET_HEADERS and len(secret) >= _LEAST_SECRET_LENGTH:
            data = _redact_end(data.replace(secret, HIDDEN.encode()), secret)
    return data


def _redact_end(data: bytes, secret: bytes) -> bytes:
    """Replace the beginning of a credential at the end of `data`, which may have been cut there."""
    kept = data.removesuffix(_ELLIPSIS)
    for length in range(len(secret) - 1, _LEAST_SECRET_LENGTH - 1, -1):
        if kept.endswith(secret[:length]):
            return kept[:-length] + HIDDEN.encode() + data[len(kept) :]
    return data


def redact_text(headers: Iterable[tuple[str, str]], text: str) -> str:
    """Return `text` with every credential of these request `headers` replaced."""
    return redact(headers, text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
