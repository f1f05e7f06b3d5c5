"""Read a client's credential, base URL and proxy from environment variables.

`settings` builds the `BatchesAPI` from them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from batches_core import BASE_URL, InvalidInputError
from batches_core.lowlevel import Secret, check_base_url, check_header_value

_CREDENTIALS = {"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"}


def settings_from_env(arguments: Mapping[str, Any], *, with_proxy: bool) -> dict[str, Any]:
    """Return a client's arguments, completed from the environment.

    Reads ``ANTHROPIC_API_KEY``, or ``ANTHROPIC_AUTH_TOKEN`` if that is not set, and
    ``ANTHROPIC_BASE_URL``. Reads the proxy only if `with_proxy` is True, for transports whose
    library does not read it. An argument takes precedence over its variable. An empty variable
    counts as unset.

    Raises:
        InvalidInputError: there is no credential, or a variable cannot be used.
    """
    settings = dict(arguments)
    if settings.get("api_key") is None and settings.get("auth_token") is None:
        for name, variable in _CREDENTIALS.items():
            if value := os.environ.get(variable):
                settings[name] = check_header_value(variable, Secret(value))
                break
        else:
            raise InvalidInputError(
                "there is no credential: set ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN)"
            )
    if "base_url" not in settings and (base_url := os.environ.get("ANTHROPIC_BASE_URL")):
        settings["base_url"] = check_base_url(base_url, "ANTHROPIC_BASE_URL")
    if with_proxy and "proxy" not in settings:
        url = urlsplit(str(settings.get("base_url", BASE_URL)))
        https = url.scheme == "https"
        settings["proxy"] = proxy_of(os.environ, url.hostname or "") if https else None
    return settings


def proxy_of(environment: Mapping[str, str], host: str) -> str | None:
    """Return the URL of the proxy for https requests to a host, or None.

    Reads ``HTTPS_PROXY``, or ``ALL_PROXY`` if that is not set, and the exceptions in ``NO_PROXY``.
    The names may be in upper or lower case.
    """
    lower = {name.lower(): value for name, value in environment.items() if value}
    for exception in lower.get("no_proxy", "").split(","):
        suffix = exception.strip().lstrip("*.").lower().partition(":")[0]
        if exception.strip() == "*" or (suffix and (host == suffix or host.endswith("." + suffix))):
            return None
    proxy = lower.get("https_proxy") or lower.get("all_proxy")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
