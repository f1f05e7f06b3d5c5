"""The client over httpx or httpx2. The door adds its documentation."""

from __future__ import annotations

import random
from typing import Any, Self, Unpack

from batches_core import BatchesAPI
from transports._client._async.client import AsyncBatchesClientBase
from transports._client.environment import settings_from_env
from transports._client.events import OnEvent
from transports._client.settings import Settings, check_names, make_api, shows

from .transport import AsyncHTTPXTransport


class AsyncHTTPXArguments(Settings, total=False):
    """The parameters of an httpx client and its ``from_env``; every one is optional."""

    client: Any | None
    timeout: float | None
    on_event: OnEvent | None


class AsyncHTTPXClient(AsyncBatchesClientBase):
    """A client over httpx or httpx2."""

    @shows(BatchesAPI, jitter=random.random)
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
    @shows(__init__)
    def from_env(cls, **arguments: Unpack[AsyncHTTPXArguments]) -> Self:
        """Build a client with the credential and base URL of the environment.

        Reads ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``; and ``ANTHROPIC_BASE_URL``.
        httpx itself reads ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. Arguments win over the
        environment.

        Raises:
            InvalidInputError: there is no credential.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=False))
