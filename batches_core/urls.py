"""Check, split, resolve and build URLs.

`endpoint` decides which hosts are trusted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from urllib.parse import quote, urlencode, urljoin, urlsplit

from .errors import InvalidInputError, RemoteProtocolError

#: The longest id that is sent, in characters. The service's ids have about 33.
_MAX_ID = 256
#: The longest URL that is fetched, in characters. Signed links have one or two thousand.
_MAX_URL = 16 * 1024
#: The longest part of a host name between two dots, in characters (RFC 1035, section 2.3.4).
_MAX_LABEL = 63

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/?#]")
#: A host name, an IPv4 address or an IPv6 address in brackets, with or without a port.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


def origin(url: str) -> tuple[str, str, int]:
    """Return the scheme, host and port of an absolute URL that was checked before."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def shown_host(url: str) -> str:
    """Return the host of a URL that was checked before, an IPv6 address in brackets."""
    _, host, _ = origin(url)
    return f"[{host}]" if ":" in host else host


def authority(url: str) -> str:
    """Return the host of a URL that was checked before, and its port if that is not the default."""
    scheme, _, port = origin(url)
    return shown_host(url) if port == _DEFAULT_PORTS[scheme] else f"{shown_host(url)}:{port}"


def is_in_the_clear(url: str) -> bool:
    """Return whether others can read requests to a URL: it is plain http to another machine."""
    scheme, host, _ = origin(url)
    if scheme == "https" or host == "localhost":
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def is_host(text: object) -> bool:
    """Return whether a text is a host name or address, with or without a port."""
    return isinstance(text, str) and _find_authority_problem("https://" + text, text) is None


def _find_url_problem(url: str) -> str | None:
    if len(url) > _MAX_URL:
        return f"it has more than {_MAX_URL:,} characters"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "it contains characters that must be percent-encoded"
    if not _SCHEME.match(url):
        return "it does not begin with https:// or http://"
    return _find_authority_problem(url, _AUTHORITY_END.split(url, maxsplit=3)[2])


def _find_authority_problem(url: str, authority: str) -> str | None:
    # The problem does not quote the authority, which may contain a password.
    if not authority or authority.startswith(":"):
        return "it has no host"
    if "@" in authority:
        return "it contains a user name or password"
    if not _AUTHORITY.fullmatch(authority) or not _has_valid_host(url):
        return "its host or port is malformed"
    return None


def _has_valid_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").removesuffix(".")
        # By the URL standard, a host whose last label is a number must be an IPv4 address.
        if host.rpartition(".")[2].isdecimal():
            IPv4Address(host)
        labels = [host] if ":" in host else host.split(".")
        return parts.port != 0 and all(0 < len(label) <= _MAX_LABEL for label in labels)
    except ValueError:
        return False


def check_base_url(url: object, what: str = "base_url") -> str:
    """Check a base URL, and return it without a slash at its end.

    `what` names the URL in an error.

    Raises:
        InvalidInputError: it is not an absolute http or https URL, has a query or a fragment, or
            ends with ``/v1``, which is part of each path.
    """
    if not isinstance(url, str):
        raise InvalidInputError(f"{what} must be a str such as 'https://api.anthropic.com'")
    problem = _find_url_problem(url)
    if problem is None and ("?" in url or "#" in url):
        problem = "it has a query or a fragment"
    base = url.rstrip("/")
    if problem is None and base.endswith("/v1"):
        problem = "it ends with /v1, which is added automatically: leave it out"
    if problem is not None:
        raise InvalidInputError(f"{what} cannot be used: {problem}")
    return base


def resolve(base_url: str, link: str) -> str:
    """Return the absolute URL of a link that the service sent.

    A link that is a path is appended to `base_url`, whose own path is kept, as for all requests.

    Raises:
        RemoteProtocolError: the result is not a URL that can be fetched.
    """
    is_path = link.startswith("/") and not link.startswith("//")
    return _checked_link(base_url + link if is_path else link)


def resolve_redirect(url: str, location: str) -> str:
    """Return the absolute URL of a redirect's `location`, which may be relative to `url`.

    Raises:
        RemoteProtocolError: the result is not a URL that can be fetched.
    """
    try:
        return _checked_link(urljoin(url, location))
    except ValueError:
        raise RemoteProtocolError(
            "the service sent a redirect that is not a URL; try again later"
        ) from None


def _checked_link(url: str) -> str:
    problem = _find_url_problem(url)
    if problem is not None:
        raise RemoteProtocolError(f"the service sent a URL that cannot be fetched: {problem}")
    return url.partition("#")[0]


def with_query(url: str, query: Mapping[str, str]) -> str:
    """Append an encoded query string, if `query` is not empty."""
    return f"{url}?{urlencode(query)}" if query else url


def path_segment(what: str, value: object) -> str:
    """Percent-encode an id as one segment of a path.

    `what` names the id in an error.

    Raises:
        InvalidInputError: the id is not a str, is empty, has more than 256 characters, or is a dot
            segment, which would change the path.
    """
    if not isinstance(value, str):
        hint = "; pass its .id" if isinstance(getattr(value, "id", None), str) else ""
        raise InvalidInputError(f"{what} must be a str, not {type(value).__name__}{hint}")
    if not value or value in {".", ".."} or len(value) > _MAX_ID:
        raise InvalidInputError(f"{what} must be an id from the service, not {value[:_MAX_ID]!r}")
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} contains characters that a URL cannot contain") from None
