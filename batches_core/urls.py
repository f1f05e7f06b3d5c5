"""URLs: which can be fetched, what they name, and how a link becomes absolute.

Knows the syntax. Which hosts are trusted is `endpoint`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, ip_address
from urllib.parse import quote, urlencode, urljoin, urlsplit

from .errors import InvalidInputError, RemoteProtocolError

#: The longest id that is sent; the service's have about 33 characters.
_MAX_ID = 256
#: The longest URL that is fetched. Signed links have one or two thousand characters.
_MAX_URL = 16 * 1024
#: The longest part of a host name between two dots, by the domain name system.
_MAX_LABEL = 63

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_AUTHORITY_END = re.compile(r"[/?#]")
#: A host name or IPv4 address, or an IPv6 address in brackets, and a port.
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


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
        InvalidInputError: it is no absolute http or https URL, has a query or a fragment, or ends
            with the ``/v1`` that belongs to the paths.
    """
    if not isinstance(url, str):
        raise InvalidInputError(f"{what} must be a str such as 'https://api.anthropic.com'")
    fault = _fault_of_url(url)
    if fault is None and ("?" in url or "#" in url):
        fault = "it has a query or a fragment"
    base = url.rstrip("/")
    if fault is None and base.endswith("/v1"):
        fault = "it ends with /v1, which is added to it: leave that off"
    if fault is not None:
        raise InvalidInputError(f"{what} cannot be used: {fault}")
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
        InvalidInputError: it is no str, is empty, or is a dot segment, which would lead elsewhere.
    """
    if not isinstance(value, str):
        hint = "; pass its .id" if isinstance(getattr(value, "id", None), str) else ""
        raise InvalidInputError(f"{what} must be a str, not {type(value).__name__}{hint}")
    if not value or value in {".", ".."} or len(value) > _MAX_ID:
        raise InvalidInputError(
            f"{what} must be an id as the service gave it, not {value[:_MAX_ID]!r}"
        )
    try:
        return quote(value, safe="")
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} holds characters that no URL can carry") from None
