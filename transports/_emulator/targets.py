"""Request targets: the URL that a client used, and the target as a log may show it."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: The form of a target that a client sends to a proxy: a whole URL.
_ABSOLUTE_TARGET = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE)
#: A host and an optional port, without user information.
_AUTHORITY = re.compile(r"[A-Za-z0-9._~-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")
#: The parameters of a query that hold no secret. A log shows no other parameter.
_LOGGED_PARAMETERS = frozenset({"limit", "before_id", "after_id", "beta"})


def read_url(target: str, headers: Mapping[str, str], public_url: str | None) -> str:
    """Return the URL of a request as its client used it, whatever proxies are in between.

    `headers` are those of the request, with names in lower case. `public_url` is the origin that
    clients use; if it is None, the origin is read from the headers and the target.
    """
    scheme, authority = "http", headers.get("host", "localhost")
    absolute = _ABSOLUTE_TARGET.fullmatch(target)
    if absolute is not None:
        scheme, authority, target = absolute.groups()
        authority = authority.rpartition("@")[2]
        target = target if target.startswith("/") else f"/{target}"
    # Each of several proxies adds its value; the first one is of the proxy next to the client.
    forwarded_scheme = headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    if forwarded_scheme.lower() in {"http", "https"}:
        scheme = forwarded_scheme
    forwarded_host = headers.get("x-forwarded-host", "").partition(",")[0].strip()
    if _AUTHORITY.fullmatch(forwarded_host):
        authority = forwarded_host
    return (public_url or f"{scheme.lower()}://{authority}") + target


def check_public_url(text: str) -> str:
    """Return an origin without a slash at its end.

    Raises:
        ValueError: the text is not an origin.
    """
    scheme, _, authority = text.removesuffix("/").partition("://")
    if scheme not in {"http", "https"} or not _AUTHORITY.fullmatch(authority):
        shown = text.rpartition("@")[2]
        raise ValueError(f"public_url must be an origin such as https://host:8443, not {shown!r}")
    return f"{scheme}://{authority}"


def redact_target(target: str) -> str:
    """Return the path and query of a target, with every parameter hidden that can be secret."""
    absolute = _ABSOLUTE_TARGET.fullmatch(target)
    path, mark, query = (target if absolute is None else absolute[3] or "/").partition("?")
    return path + mark + "&".join(map(_redact_parameter, query.split("&")))


def _redact_parameter(part: str) -> str:
    return part if not part or part.partition("=")[0] in _LOGGED_PARAMETERS else "[hidden]"
