"""HTTP as values: a request and its body, and the header fields of a response.

Knows neither the API's paths nor any socket. A transport reads a `Request`'s fields; what it
receives (status, header pairs, decoded body bytes) is read in `exchange`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from .errors import LocalProtocolError
from .redaction import shown_headers
from .urls import authority, origin

#: Header pairs as transports have them: str or bytes, in any case of letters.
RawHeaders = Iterable[tuple[str, str] | tuple[bytes, bytes]] | Mapping[str, str]


class Body(Protocol):
    """A request body that can be sent more than once.

    `content_length` is its size in bytes; each iteration yields its bytes from the start, in
    pieces of the body's own choosing.
    """

    @property
    def content_length(self) -> int:
        """The size in bytes."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body held in memory, as the pieces it was made of."""

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
    """One HTTP request, ready to be sent: an absolute URL, header pairs, and a body or None.

    `headers` holds lower-case names and everything but what belongs to the transport (host,
    connection, accept-encoding); content-length is there whenever there is a body. Where it is
    `cross_origin` it leaves the API's own origin: it holds no credential, and a transport is to add
    none of its own, nor anything else that is meant for the API.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: Body | None = None
    cross_origin: bool = False

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port that the request goes to."""
        return origin(self.url)

    @property
    def authority(self) -> str:
        """The value of the host header, which is the transport's to send: host, and port if odd."""
        return authority(self.url)

    @property
    def target(self) -> str:
        """Path and query: the request target of an HTTP/1.1 request line."""
        parts = urlsplit(self.url)
        path = parts.path or "/"
        return f"{path}?{parts.query}" if parts.query else path

    def __repr__(self) -> str:
        # A query can be a credential too: a signed link to a file is.
        path, query, _ = self.url.partition("?")
        url = f"{path}{query and '?…'}"
        headers = shown_headers(self.headers)
        return f"Request({self.method} {url}, headers={headers}, body={self.body!r})"


class Headers(dict[str, str]):
    """Header fields, folded: lower-case names, and the values of repeated ones joined by commas."""

    __slots__ = ()


def fold_headers(headers: RawHeaders) -> Headers:
    """Fold header pairs, or any mapping; return `Headers` as they are.

    Raises:
        LocalProtocolError: they are no pairs of str or of bytes.
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
            "headers are pairs of a name and a value, both str or both bytes, or a mapping of them"
        ) from None
    return folded
