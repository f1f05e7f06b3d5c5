"""What every client takes, whatever carries it: the parameters of `BatchesAPI` and the environment.

Knows names and environment variables; nothing of a network.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypedDict
from urllib.parse import urlsplit

from batches_core import (
    BASE_URL,
    BatchCreated,
    BatchesAPI,
    BatchesError,
    CreateMarker,
    Event,
    InvalidRequest,
    Jitter,
    OutcomeUnknown,
    RetryPolicy,
)
from batches_core.http import Secret, check_base_url, check_header_value

#: Called with each event that is not the value of the call: polls, pages, retries.
OnEvent = Callable[[Event], None]


#: Seconds without a byte in either direction before an exchange is given up. It is counted anew
#: with each read and write, so a download may take as long as it likes.
TIMEOUT = 120.0
#: Seconds to establish a connection, TLS and proxy included.
CONNECT_TIMEOUT = 15.0

#: How many of the batches that it created a client remembers.
_REMEMBERED = 1000

#: What a client that was closed says.
CLOSED = "this client was closed: make a new one, or close it later"

_CREDENTIALS = {"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"}


def check_on_event(on_event: OnEvent | None) -> OnEvent:
    """Give what to call with each event.

    Raises:
        InvalidRequest: it cannot be called.
    """
    if on_event is not None and not callable(on_event):
        raise InvalidRequest("on_event is a function of one event")
    return on_event or ignore


def ignore(event: object) -> None:
    """Take what nobody asked for."""


class Creates:
    """What a client knows of its own creates, so that none takes another's batch for its own."""

    def __init__(self) -> None:
        #: The batches that answered a create, or were adopted, the oldest first.
        self._ids: dict[str, None] = {}
        #: Those that `settle` adopted, and by which marker.
        self._settled: dict[str, CreateMarker] = {}
        #: The creates of which it is not known what became, with their numbers of requests; two
        #: that began at once can have the same key.
        self._in_doubt: deque[tuple[object, int]] = deque(maxlen=_REMEMBERED)

    def begin(self, requests: int) -> OneCreate:
        """Begin a create; until it is known what became of it, it is in doubt."""
        return OneCreate(self, object(), requests)

    def resume(self, outcome: OutcomeUnknown | CreateMarker) -> OneCreate:
        """Take up a create whose outcome is to be settled."""
        marker = outcome.marker if isinstance(outcome, OutcomeUnknown) else outcome
        key = object() if marker is None else _key(marker)
        return OneCreate(self, key, 0 if marker is None else marker.requests, marker)

    def ids_but(self, marker: CreateMarker | None) -> list[str]:
        """Give the ids that cannot be the batch of this marker's create."""
        return [id_ for id_ in self._ids if marker is None or self._settled.get(id_) != marker]

    def doubts_but(self, key: object, requests: int) -> bool:
        """Whether another create of so many requests is in doubt."""
        others = [k for k, n in self._in_doubt if n == requests]
        return len(others) > (key in others)

    def doubt(self, key: object, requests: int) -> None:
        """Remember that nobody knows what became of a create."""
        self._in_doubt.append((key, requests))

    def is_in_doubt(self, key: object, requests: int) -> bool:
        """Whether this create is remembered as one in doubt."""
        return (key, requests) in self._in_doubt

    def know(self, key: object, requests: int) -> None:
        """Remember that it is known."""
        if (key, requests) in self._in_doubt:
            self._in_doubt.remove((key, requests))

    def add(self, id_: str, marker: CreateMarker | None) -> None:
        """Remember a batch."""
        self._ids[id_] = None
        if marker is not None:
            self._settled[id_] = marker
        if len(self._ids) > _REMEMBERED:
            oldest = next(iter(self._ids))
            del self._ids[oldest]
            self._settled.pop(oldest, None)


def _key(marker: CreateMarker) -> tuple[int, str | None, datetime | None]:
    # Without the known ids, of which the error of a create has more than the event before it.
    return marker.requests, marker.newest_id, marker.read_at


class OneCreate(Collection[str]):
    """One create among the others of its client: as a collection, the ids of their batches."""

    def __init__(
        self, creates: Creates, key: object, requests: int, marker: CreateMarker | None = None
    ) -> None:
        self._creates = creates
        self._key = key
        self._requests = requests
        self._marker = marker

    def __iter__(self) -> Iterator[str]:
        return iter(self._creates.ids_but(self._marker))

    def __len__(self) -> int:
        return len(self._creates.ids_but(self._marker))

    def __contains__(self, id_: object) -> bool:
        return id_ in self._creates.ids_but(self._marker)

    def is_contested(self) -> bool:
        """Whether another create of this size is in doubt, and could have made a batch as well."""
        return self._creates.doubts_but(self._key, self._requests)

    def on_event(self, event: Event) -> None:
        """Take the event of a batch that answers this create."""
        if isinstance(event, BatchCreated):
            self._creates.add(event.batch.id, self._marker)

    def __enter__(self) -> Self:
        if not self._creates.is_in_doubt(self._key, self._requests):
            self._creates.doubt(self._key, self._requests)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, OutcomeUnknown):
            if error.marker is not None:
                # It can be settled, by its marker, and is in doubt until then.
                self._creates.know(self._key, self._requests)
                self._creates.doubt(_key(error.marker), self._requests)
        elif error is None or isinstance(error, BatchesError):
            self._creates.know(self._key, self._requests)
        # What broke in from outside, as a cancellation does, leaves it in doubt.


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
    max_line: int
    trusted_hosts: Iterable[str]
    allow_http: bool


class ReadOptions(TypedDict, total=False):
    """How results are read, by every client; `BatchesAPI.results_stream` documents it."""

    resume: bool
    expected: Iterable[str] | None


def make_api(settings: Settings) -> BatchesAPI:
    """Build the API of a client, which unlike the core has randomness for its jitter."""
    merged: Settings = {"jitter": random.random, **settings}
    return BatchesAPI(**merged)


def settings_from_env(given: Mapping[str, Any], *, with_proxy: bool) -> dict[str, Any]:
    """Add to a client's arguments what the environment has and they have not.

    Reads ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_BASE_URL``;
    `with_proxy` the proxy as well, for a transport that does not look for it itself. An empty
    variable counts as not set.

    Raises:
        InvalidRequest: there is no credential.
    """
    settings = dict(given)
    if settings.get("api_key") is None and settings.get("auth_token") is None:
        for name, variable in _CREDENTIALS.items():
            if value := os.environ.get(variable):
                settings[name] = check_header_value(variable, Secret(value))
                break
        else:
            raise InvalidRequest(
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
