"""All that the core knows of HTTP: a request as a value, headers, and URLs.

Knows neither the API's paths nor any socket. A transport reads a `Request`'s fields; whatever
it hands back (status, header pairs, decoded body bytes) is read here and in `exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Protocol
from urllib.parse import quote, urlencode, urljoin, urlsplit

from .errors import InvalidRequest, LocalProtocolError, RemoteProtocolError

#: Header pairs as transports have them: str or bytes, in any case of letters.
RawHeaders = Iterable[tuple[str, str] | tuple[bytes, bytes]] | Mapping[str, str]
#: The longest id that is sent; the service's have about 33 characters.
_MAX_ID = 256
#: The longest URL that is fetched. Signed links have one or two thousand characters.
_MAX_URL = 16 * 1024
#: The longest part of a host name between two dots, by the domain name system.
_MAX_LABEL = 63

_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Header values that every transport can send: no control characters (a line break would start a
#: new header), nothing but ASCII. Spaces at the ends would be cut off on the way.
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/?#]")
#: A host name or IPv4 address, or an IPv6 address in brackets, and a port.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
#: What is shorter than this many characters is no secret but a placeholder.
_LEAST_SECRET = 8
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


class Secret(str):
    """A credential that no repr shows, so neither does a report that lists local variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[hidden]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, ready to be sent: an absolute URL, header pairs, and a body or None.

    `headers` holds lower-case names and everything but what belongs to the transport (host,
    connection, accept-encoding); content-length is there whenever there is a body. Where it is
    `foreign` it leaves the API's own origin: it holds no credential, and a transport is to add
    none of its own, nor anything else that is meant for the API.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: Body | None = None
    foreign: bool = False

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
        headers = [(n, "[hidden]" if n in _SECRET_HEADERS else v) for n, v in self.headers]
        # A query can be a credential too: a signed link to a file is.
        path, query, _ = self.url.partition("?")
        url = f"{path}{query and '?…'}"
        return f"Request({self.method} {url}, headers={headers}, body={self.body!r})"


def read_headers(headers: RawHeaders) -> dict[str, str]:
    """Fold header pairs into a dict with lower-case names; repeated ones are joined by commas.

    Raises:
        LocalProtocolError: they are no pairs of str or of bytes.
    """
    folded: dict[str, str] = {}
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


def without_credentials(request: Request, data: bytes) -> bytes:
    """Strike the credentials of a request out of what came back for it, which may repeat them.

    Very short ones are left: they are nobody's secret, and parts of many a word.
    """
    for name, value in request.headers:
        secret = value.removeprefix("Bearer ").encode("latin-1")
        if name in _SECRET_HEADERS and len(secret) >= _LEAST_SECRET:
            data = data.replace(secret, b"[hidden]")
    return data


def struck(request: Request, text: str) -> str:
    """Strike the credentials of a request out of a text that the other side wrote."""
    return without_credentials(request, text.encode("utf-8", "surrogatepass")).decode(
        "utf-8", "surrogatepass"
    )


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
    """Scheme, host and port of an absolute URL that was checked before."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def shown_host(url: str) -> str:
    """Give the host of a URL that was checked before, as it stands in one."""
    _, host, _ = origin(url)
    return f"[{host}]" if ":" in host else host


def authority(url: str) -> str:
    """Host, and port where it is not the scheme's usual one, of a URL that was checked before."""
    scheme, _, port = origin(url)
    return shown_host(url) if port == _DEFAULT_PORTS[scheme] else f"{shown_host(url)}:{port}"


def is_in_the_clear(url: str) -> bool:
    """Whether what goes to a URL can be read on the way: plain http, and to another machine."""
    scheme, host, _ = origin(url)
    if scheme == "https" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def is_host(text: object) -> bool:
    """Whether this is a host name or address, and a port or none: what `authority` gives."""
    return isinstance(text, str) and _fault_of_authority("https://" + text, text) is None


def _fault_of_url(url: str) -> str | None:
    if len(url) > _MAX_URL:
        return f"it has more than {_MAX_URL:,} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it holds characters that a URL must have percent-encoded"
    if not _SCHEME.match(url):
        return "it does not begin with https:// or http://"
    return _fault_of_authority(url, _AUTHORITY_END.split(url, maxsplit=3)[2])


def _fault_of_authority(url: str, authority: str) -> str | None:
    # What is wrong is not shown: it may be a password.
    if not authority or authority.startswith(":"):
        return "it names no host"
    if "@" in authority:
        return "it holds a user name or password"
    if not _AUTHORITY.fullmatch(authority) or not _names_a_host(url):
        return "its host or port is malformed"
    return None


def _names_a_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removesuffix(".")
        # Looked up as an IPv4 address where its last label is a number, as the URL standard has it.
        if host.rpartition(".")[2].isdecimal():
            IPv4Address(host)
        labels = [host] if ":" in host else host.split(".")
        return parts.port != 0 and all(0 < len(label) <= _MAX_LABEL for label in labels)
    except ValueError:
        return False


def check_base_url(url: object, what: str = "base_url") -> str:
    """Return a base URL without a slash at its end; `what` is what to call it.

    Raises:
        InvalidRequest: it is no absolute http or https URL, has a query or a fragment, or ends
            with the ``/v1`` that belongs to the paths.
    """
    if not isinstance(url, str):
        raise InvalidRequest(f"{what} must be a str such as 'https://api.anthropic.com'")
    fault = _fault_of_url(url)
    if fault is None and ("?" in url or "#" in url):
        fault = "it has a query or a fragment"
    base = url.rstrip("/")
    if fault is None and base.endswith("/v1"):
        fault = "it ends with /v1, which is added to it: leave that off"
    if fault is not None:
        raise InvalidRequest(f"{what} cannot be used: {fault}")
    return base


def resolve(base_url: str, link: str) -> str:
    """Make a URL that the service sent absolute.

    A relative one is taken below `base_url`, path included, as the service's own paths are.

    Raises:
        RemoteProtocolError: it is no URL that could be fetched.
    """
    is_path = link.startswith("/") and not link.startswith("//")
    return _checked_link(base_url + link if is_path else link)


def redirected(url: str, location: str) -> str:
    """Make the target of a redirect absolute, which may be relative to where it came from.

    Raises:
        RemoteProtocolError: it is no URL that could be fetched.
    """
    try:
        return _checked_link(urljoin(url, location))
    except ValueError:
        raise RemoteProtocolError("the service redirects to what is no URL") from None


def _checked_link(url: str) -> str:
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
    if not isinstance(value, str):
        hint = "; pass its .id" if isinstance(getattr(value, "id", None), str) else ""
        raise InvalidRequest(f"{what} must be a str, not {type(value).__name__}{hint}")
    if not value or value in {".", ".."} or len(value) > _MAX_ID:
        raise InvalidRequest(
            f"{what} must be an id as the service gave it, not {value[:_MAX_ID]!r}"
        )
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} holds characters that no URL can carry") from None
