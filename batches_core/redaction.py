"""Keeping credentials out of texts: reprs, errors, and what a peer repeats.

Knows which headers hold a credential. Where they are sent is `endpoint`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Shorter values are placeholders, not secrets, and occur in ordinary words.
_LEAST_SECRET = 8
_SECRET_HEADERS = frozenset({"x-api-key", "authorization"})
#: What stands in the place of a credential.
HIDDEN = "[hidden]"


class Secret(str):
    """A credential that no repr shows, so neither does a report that lists local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"


def hide(credential: str | None) -> str | None:
    """Return a credential that no repr shows; any other value as it is."""
    return Secret(credential) if isinstance(credential, str) else credential


def shown_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return header pairs for a repr, with the credentials hidden."""
    return [(name, HIDDEN if name in _SECRET_HEADERS else value) for name, value in headers]


def redact(headers: Iterable[tuple[str, str]], data: bytes) -> bytes:
    """Replace the credentials of a request's headers in bytes that came back for it."""
    for name, value in headers:
        secret = value.removeprefix("Bearer ").encode("latin-1")
        if name in _SECRET_HEADERS and len(secret) >= _LEAST_SECRET:
            data = data.replace(secret, HIDDEN.encode())
    return data


def redact_text(headers: Iterable[tuple[str, str]], text: str) -> str:
    """Replace the credentials of a request's headers in a text of the peer's."""
    return redact(headers, text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
