"""Represent HTTP requests, their bodies, and header fields as plain values.

`endpoint` builds requests, and transports send them. `exchange` holds the received response.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from .errors import LocalProtocolError
from .redaction import redact_headers
from .urls import authority, origin

#: Header fields as transports receive them: pairs of str or of bytes, in upper or lower case.
RawHeaders = Iterable[tuple[str, str] | tuple[bytes, bytes]] | Mapping[str, str]


class Body(Protocol):
    """A request body that can be sent more than once.

    Each iteration yields all of its bytes from the start, in pieces of any size.
    """

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body in memory, as a sequence of pieces."""

    pieces: tuple[bytes, ...]

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        return sum(map(len, self.pieces))

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.pieces)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.content_length} bytes>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, ready to be sent.

    `url` is absolute. `headers` are pairs with lower-case names, including content-length if there
    is a body. The transport adds only host, connection and accept-encoding.

    A `cross_origin` request goes to an origin other than the API's. It contains no credential. A
    transport must not add one, nor any other header that is meant for the API.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: Body | None = None
    cross_origin: bool = False

    @property
    def origin(self) -> tuple[str, str, int]:
        """The scheme, host and port to connect to."""
        return origin(self.url)

    @property
    def authority(self) -> str:
        """The value of the host header: the host, and the port if it is not the default one."""
        return authority(self.url)

    @property
    def target(self) -> str:
        """The request target of an HTTP/1.1 request line: the path and the query."""
        parts = urlsplit(self.url)
        path = parts.path or "/"
        return f"{path}?{parts.query}" if parts.query else path

    def __repr__(self) -> str:
        # The query of a signed link is a credential.
        path, query, _ = self.url.partition("?")
        url = f"{path}{query and '?…'}"
        headers = redact_headers(self.headers)
        return f"Request({self.method} {url}, headers={headers}, body={self.body!r})"


class Headers(dict[str, str]):
    """Header fields, folded: lower-case names, and the values of repeated ones joined by commas."""

    __slots__ = ()


def fold_headers(headers: RawHeaders) -> Headers:
    """Fold header fields: lower-case the names, and join the values of a repeated one by commas.

    `Headers` are returned as they are.

    Raises:
        LocalProtocolError: they are not pairs of str or of bytes, nor a mapping of str to str.
    """
    if isinstance(headers, Headers):
        return headers
    folded = Headers()
    try:
        for raw_name, raw_value in headers.items() if hasattr(headers, "items") else headers:
            name = raw_name.decode("latin-1") if isinstance(raw_name, bytes) else raw_name
            value = raw_value.decode("latin-1") if isinstance(raw_value, bytes) else raw_value
            if not isinstance(value, str):
                raise TypeError(f"a header value is a str or bytes, not {type(value).__name__}")  # noqa: TRY301 - one way out
            name = name.lower()
            folded[name] = f"{folded[name]}, {value}" if name in folded else value
    except (TypeError, ValueError, AttributeError):
        raise LocalProtocolError(
            "headers must be pairs of a name and a value, both str or both bytes, or a mapping of "
            "names to values"
        ) from None
    return folded
