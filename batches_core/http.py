"""All that the core knows of HTTP: a request as a value, headers, and URLs.

Knows neither the API's paths nor any socket. A transport reads a `Request`'s fields; whatever
it hands back (status, header pairs, decoded body bytes) is read here and in `exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode, urlsplit

from .errors import InvalidRequest, RemoteProtocolError

#: Header pairs as transports have them: str or bytes, in any case of letters.
RawHeaders = Iterable[tuple[str, str] | tuple[bytes, bytes]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Header values that no transport can send: control characters (a line break would start a new
#: header) and what is not Latin-1. Spaces at the ends would be cut off on the way.
_HEADER_VALUE = re.compile(r"[\x21-\x7e\xa1-\xff](?:[\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa1-\xff])?")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/?#]")
#: A host name or IPv4 address, or an IPv6 address in brackets, and a port.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_SECRET_HEADERS = frozenset({"x-api-key", "authorization"})


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
    connection, accept-encoding); content-length is there whenever there is a body.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: Body | None = None

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port that the request goes to."""
        return origin(self.url)

    @property
    def target(self) -> str:
        """Path and query: the request target of an HTTP/1.1 request line."""
        parts = urlsplit(self.url)
        path = parts.path or "/"
        return f"{path}?{parts.query}" if parts.query else path

    def __repr__(self) -> str:
        headers = [(n, "[hidden]" if n in _SECRET_HEADERS else v) for n, v in self.headers]
        # A query can be a credential too: a signed link to a file is.
        path, query, _ = self.url.partition("?")
        url = f"{path}{query and '?…'}"
        return f"Request({self.method} {url}, headers={headers}, body={self.body!r})"


def read_headers(headers: RawHeaders) -> dict[str, str]:
    """Fold header pairs into a dict with lower-case names; repeated ones are joined by commas."""
    folded: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = (raw_name.decode("latin-1") if isinstance(raw_name, bytes) else raw_name).lower()
        value = raw_value.decode("latin-1") if isinstance(raw_value, bytes) else raw_value
        folded[name] = f"{folded[name]}, {value}" if name in folded else value
    return folded


def check_header_value(what: str, value: object) -> str:
    """Return `value` if it can be sent as a header value, else raise without showing it.

    Raises:
        InvalidRequest: it is no str, is empty, or holds a character that no header can carry.
    """
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{what} must be a str that is not empty")
    if not _HEADER_VALUE.fullmatch(value):
        raise InvalidRequest(
            f"{what} holds a character that no header can carry, such as a line break or a space "
            "at an end; was it read from a file? strip() it"
        )
    return value


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an absolute URL that `check_url` has passed."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def _fault_of_url(url: str) -> str | None:
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it holds characters that a URL must have percent-encoded"
    if not _SCHEME.match(url):
        return "it does not begin with https:// or http://"
    # What is wrong is not shown: it may be a password.
    authority = _AUTHORITY_END.split(url, maxsplit=3)[2]
    if not authority or authority.startswith(":"):
        return "it names no host"
    if "@" in authority:
        return "it holds a user name or password"
    if not _AUTHORITY.fullmatch(authority) or not _has_port(url):
        return "its host or port is malformed"
    return None


def _has_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def check_base_url(url: object) -> str:
    """Return a base URL without a slash at its end.

    Raises:
        InvalidRequest: it is no absolute http or https URL, or has a query or a fragment.
    """
    if not isinstance(url, str):
        raise InvalidRequest("base_url must be a str such as 'https://api.anthropic.com'")
    fault = _fault_of_url(url)
    if fault is None and ("?" in url or "#" in url):
        fault = "it has a query or a fragment"
    if fault is not None:
        raise InvalidRequest(f"base_url cannot be used: {fault}")
    return url.rstrip("/")


def resolve(base_url: str, link: str) -> str:
    """Make a URL that the service sent absolute.

    A relative one is taken below `base_url`, path included, as the service's own paths are.

    Raises:
        RemoteProtocolError: it is no URL that could be fetched.
    """
    url = base_url + link if link.startswith("/") and not link.startswith("//") else link
    fault = _fault_of_url(url)
    if fault is not None:
        raise RemoteProtocolError(f"the service sent a URL that cannot be fetched: {fault}")
    return url.partition("#")[0]


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Append an encoded query string, or nothing where there is none."""
    return f"{url}?{urlencode(query)}" if query else url


def path_segment(what: str, value: object) -> str:
    """Percent-encode one segment of a path.

    Raises:
        InvalidRequest: it is no str, is empty, or is a dot segment, which would lead elsewhere.
    """
    if not isinstance(value, str) or not value or value in {".", ".."}:
        raise InvalidRequest(f"{what} must be an id as the service gave it, not {value!r}")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} holds characters that no URL can carry") from None
