"""The client over httpx or httpx2. `transports.httpx` documents its parameters."""

from __future__ import annotations

import random
from typing import Any, Self, Unpack

from batches_core import BatchesAPI
from transports._client._async.client import AsyncBatchesClientBase
from transports._client.environment import settings_from_env
from transports._client.events import OnEvent
from transports._client.settings import Settings, check_names, make_api, shows_parameters_of

from .transport import AsyncHTTPXTransport


class AsyncHTTPXArguments(Settings, total=False):
    """The parameters of an httpx client and of its ``from_env``. All are optional."""

    client: Any | None
    timeout: float | None
    on_event: OnEvent | None


class AsyncHTTPXClient(AsyncBatchesClientBase):
    """A client over httpx or httpx2."""

    @shows_parameters_of(BatchesAPI, jitter=random.random)
    def __init__(
        self,
        *,
        client: Any | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings, type(self))
        super().__init__(api, AsyncHTTPXTransport(client, timeout, api.base_url), on_event)

    @classmethod
    @shows_parameters_of(__init__)
    def from_env(cls, **arguments: Unpack[AsyncHTTPXArguments]) -> Self:
        """Build a client with the credential and base URL from the environment.

        Reads ``ANTHROPIC_API_KEY``, or ``ANTHROPIC_AUTH_TOKEN`` if that is not set, and
        ``ANTHROPIC_BASE_URL``. httpx itself reads ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.
        An argument takes precedence over its variable.

        Raises:
            InvalidInputError: there is no credential, or a value cannot be used.
            TypeError: an argument has an unknown name. The message lists the parameters.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=False))
