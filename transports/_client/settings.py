"""The parameters that every client shares, and how they become a `BatchesAPI`.

Keeps the process's ledgers of creates. The environment is read by `environment`.
"""

from __future__ import annotations

import difflib
import inspect
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, TypeVar

from batches_core import BatchesAPI, CreateLedger, Jitter, RetryPolicy, SettlingPolicy

F = TypeVar("F", bound=Callable[..., Any])

#: Seconds without a byte in either direction before an exchange fails. Each read and write starts
#: the count anew, so a download may take as long as it needs.
TIMEOUT = 120.0
#: Seconds to establish a connection, TLS and proxy included.
CONNECT_TIMEOUT = 15.0

#: The creates of this process, by the scope of the list that they appear in. Clients of one base
#: URL, credential and workspace share a ledger, in any thread and also after they are closed.
_ledgers: dict[str, CreateLedger] = {}
#: The bits of the random number from which a process counts its creates.
_SERIAL_BITS = 48

#: The error of a client that was closed.
CLOSED = "this client was closed: make a new one, or close it later"
#: The error of a client that is used in a second event loop.
OTHER_LOOP = (
    "this client was used in another event loop, which its connections belong to: make a new "
    "client inside this asyncio.run()"
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
    """Let ``help()`` show the parameters that a function accepts by its ``**settings``.

    They are the keyword-only parameters of `source`, with `defaults` for those that differ. Type
    checkers read the same from ``Unpack``; a test compares the two.
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


def check_names(client: type, names: Iterable[str]) -> None:
    """Reject parameters that a client does not have.

    Raises:
        TypeError: it names the client, the closest parameter, and all parameters.
    """
    if _passes_any(client):
        return  # a caller's subclass, which checks its own
    parameters = inspect.signature(client).parameters
    for name in names:
        if name not in parameters:
            close = difflib.get_close_matches(name, parameters, 1)
            likeliest = f"did you mean {close[0]}? It" if close else "it"
            raise TypeError(
                f"{client.__module__}.{client.__qualname__} has no parameter {name}: {likeliest} "
                f"takes {', '.join(parameters)}"
            )


def _passes_any(client: type) -> bool:
    parameters = inspect.signature(client).parameters.values()
    return any(each.kind is each.VAR_KEYWORD for each in parameters)


def make_api(settings: Settings, client: type = BatchesAPI) -> BatchesAPI:
    """Build the `BatchesAPI` of a client, with jitter and the process's ledger.

    Raises:
        TypeError: `client` has no parameter of such a name.
        InvalidInputError: a value cannot be used.
    """
    # Of a caller's subclass with parameters of its own, the class that it passes the others to.
    check_names(next(each for each in client.__mro__ if not _passes_any(each)), settings)
    merged: Settings = {"jitter": random.random, **settings}
    api = BatchesAPI(**merged)
    if merged.get("ledger") is None:
        fresh = CreateLedger(random.getrandbits(_SERIAL_BITS))
        api.ledger = _ledgers.setdefault(api.scope, fresh)
    return api
