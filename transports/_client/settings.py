"""The parameters that every client shares, and the `BatchesAPI` that is built from them.

This module also keeps the process's `CreateLedger` objects. `environment` reads environment
variables.
"""

from __future__ import annotations

import difflib
import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, TypeVar

from batches_core import BatchesAPI, CreateLedger, Jitter, RetryPolicy, SettlingPolicy

F = TypeVar("F", bound=Callable[..., Any])

#: The default timeout: an exchange fails if no byte is sent or received for this many seconds. Each
#: read and write restarts it, so a download may take as long as it needs.
TIMEOUT = 120.0
#: The longest time to establish a connection, with TLS and proxy, in seconds.
CONNECT_TIMEOUT = 15.0

#: The ledgers of this process, by `BatchesAPI.scope`. All clients of one base URL, credential and
#: workspace share a ledger, in every thread, and after they are closed.
_ledgers: dict[str, CreateLedger] = {}
#: A ledger numbers its creates, beginning with a random number of this many bits.
_SERIAL_BITS = 48

#: The message about a client that is used after it was closed.
CLOSED = "this client was closed: make a new one, or close it later"
#: The message about a client that is used in a second event loop.
OTHER_LOOP = (
    "this client was used in another event loop, and its connections belong to that loop: make a "
    "new client inside this asyncio.run()"
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


def shows_parameters_of(source: Callable[..., Any], **defaults: object) -> Callable[[F], F]:
    """Let ``help()`` show each parameter that a function accepts through ``**settings``.

    These are the keyword-only parameters of `source`. `defaults` replaces the defaults of some of
    them. Type checkers read the parameters from ``Unpack`` instead; a test compares the two.
    """

    def decorate(function: F) -> F:
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

    return decorate


def check_names(client: type, names: Iterable[str]) -> None:
    """Check that a client has parameters of these names.

    Raises:
        TypeError: it does not. The message names the most similar parameter, and all parameters.
    """
    if _accepts_any_keyword(client):
        return  # a subclass by the caller, which has parameters of its own
    parameters = inspect.signature(client).parameters
    for name in names:
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, 1)
            hint = f"did you mean {close[0]}? Its" if close else "its"
            raise TypeError(
                f"{client.__module__}.{client.__qualname__} has no parameter {name}: {hint} "
                f"parameters are {', '.join(parameters)}"
            )


def _accepts_any_keyword(client: type) -> bool:
    parameters = inspect.signature(client).parameters.values()
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def make_api(settings: Settings, client: type = BatchesAPI) -> BatchesAPI:
    """Build the `BatchesAPI` of a client, with random jitter and the process's ledger.

    Raises:
        TypeError: `client` does not accept one of the settings.
        InvalidInputError: a value cannot be used.
    """
    # A subclass by the caller may accept any keyword, and pass the unknown ones to its base class.
    # Check the names against the first base class that lists its parameters.
    check_names(next(each for each in client.__mro__ if not _accepts_any_keyword(each)), settings)
    merged: Settings = {"jitter": random.random, **settings}
    api = BatchesAPI(**merged)
    if merged.get("ledger") is None:
        fresh = CreateLedger(random.getrandbits(_SERIAL_BITS))
        api.ledger = _ledgers.setdefault(api.scope, fresh)
    return api
