"""What every client takes, whatever carries it: the parameters of `BatchesAPI` and the environment.

Knows names and environment variables; nothing of a network.
"""

from __future__ import annotations

import difflib
import inspect
import os
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar
from urllib.parse import urlsplit

from batches_core import (
    BASE_URL,
    BatchesAPI,
    CreateLedger,
    Event,
    InvalidInputError,
    Jitter,
    LocalProtocolError,
    Operation,
    RetryPolicy,
    SettlingPolicy,
)
from batches_core.lowlevel import Secret, check_base_url, check_callback, check_header_value

F = TypeVar("F", bound=Callable[..., Any])

#: Called with each event that is not the value of the call: polls, pages, retries.
OnEvent = Callable[[Event], None]


#: Seconds without a byte in either direction before an exchange is given up. It is counted anew
#: with each read and write, so a download may take as long as it likes.
TIMEOUT = 120.0
#: Seconds to establish a connection, TLS and proxy included.
CONNECT_TIMEOUT = 15.0

#: What this process knows of its creates, for each list of batches that they can be in: shared by
#: all clients of one base URL, credential and workspace, in any thread, also after they are closed.
_ledgers: dict[str, CreateLedger] = {}
#: The range of the random number from which a process counts its creates.
_SERIAL_BITS = 48

#: What a client that was closed says.
CLOSED = "this client was closed: make a new one, or close it later"
#: What a client says in an event loop that is not its own.
OTHER_LOOP = (
    "this client was used in another event loop, which its connections belong to: make a new "
    "client inside this asyncio.run()"
)

_CREDENTIALS = {"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"}


def check_on_event(on_event: OnEvent | None) -> OnEvent:
    """Give what to call with each event.

    Raises:
        InvalidInputError: it cannot be called, or would have to be awaited.
    """
    if on_event is None:
        return ignore
    check_callback("on_event", on_event, "a function of one event")
    return on_event


def ignore(event: object) -> None:
    """Take what nobody asked for."""


def check_arrived(operation: Operation[None], arrived: int) -> None:
    """Check that every event that an operation handed over has arrived.

    Raises:
        LocalProtocolError: an interruption came between the two, and what it hit is lost.
    """
    if operation.handed_over != arrived:
        raise LocalProtocolError(
            "this was interrupted while results were handed over, and some are missing: start it "
            "again"
        )


class Settings(TypedDict, total=False):
    """The parameters that every client shares; `BatchesAPI` documents them."""

    api_key: str | None
    auth_token: str | None
    base_url: str
    version: str
    betas: Sequence[str]
    workspace_id: str | None
    user_profile_id: str | None
    retry: RetryPolicy | None
    jitter: Jitter
    settling: SettlingPolicy | None
    ledger: CreateLedger | None
    max_line: int
    trusted_hosts: Iterable[str]
    allow_http: bool


def shows(source: Callable[..., Any], **defaults: object) -> Callable[[F], F]:
    """Show in ``help()`` what a function takes by its ``**settings``.

    The parameters are the keywords of `source`, with `defaults` where they differ. A type checker
    knows the same from ``Unpack``: a test holds the two together.
    """

    def show(function: F) -> F:
        own = inspect.signature(function)
        settings = [
            each.replace(default=defaults.get(each.name, each.default))
            for each in inspect.signature(source).parameters.values()
            if each.kind is each.KEYWORD_ONLY
        ]
        kept = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        keywords = [each for each in kept if each.kind is each.KEYWORD_ONLY]
        before = [each for each in kept if each.kind is not each.KEYWORD_ONLY]
        shown: Any = function
        shown.__signature__ = own.replace(parameters=[*before, *settings, *keywords])
        return function

    return show


def check_names(client: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse parameters that a client does not have.

    Raises:
        TypeError: naming the client, the likeliest parameter, and all that there are.
    """
    parameters = inspect.signature(client).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return  # a user's subclass, which passes on what it does not know
    for name in names:
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, 1)
            likeliest = f"did you mean {close[0]}? It" if close else "it"
            raise TypeError(
                f"{client.__module__}.{client.__qualname__} has no parameter {name}: {likeliest} "
                f"takes {', '.join(parameters)}"
            )


def make_api(settings: Settings, client: Callable[..., Any] = BatchesAPI) -> BatchesAPI:
    """Build the API of a client, which unlike the core has randomness and a process around it.

    Raises:
        TypeError: `client` has no parameter of such a name.
        InvalidInputError: a value cannot be used.
    """
    check_names(client, settings)
    merged: Settings = {"jitter": random.random, **settings}
    api = BatchesAPI(**merged)
    if merged.get("ledger") is None:
        fresh = CreateLedger(random.getrandbits(_SERIAL_BITS))
        api.ledger = _ledgers.setdefault(api.scope, fresh)
    return api


def settings_from_env(given: Mapping[str, Any], *, with_proxy: bool) -> dict[str, Any]:
    """Add to a client's arguments what the environment has and they have not.

    Reads ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_BASE_URL``;
    `with_proxy` the proxy as well, for a transport that does not look for it itself. An empty
    variable counts as not set.

    Raises:
        InvalidInputError: there is no credential.
    """
    settings = dict(given)
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
    """Find the proxy for https that an environment names, where none of its exceptions fits.

    ``HTTPS_PROXY`` or ``ALL_PROXY``, and ``NO_PROXY``; in capitals or not.
    """
    lower = {name.lower(): value for name, value in environment.items() if value}
    for exception in lower.get("no_proxy", "").split(","):
        suffix = exception.strip().lstrip("*.").lower().partition(":")[0]
        if exception.strip() == "*" or (suffix and (host == suffix or host.endswith("." + suffix))):
            return None
    proxy = lower.get("https_proxy") or lower.get("all_proxy")
    return proxy if proxy is None or "://" in proxy else f"http://{proxy}"
