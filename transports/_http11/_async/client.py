"""The client of a raw transport. Each door adds a backend."""

from __future__ import annotations

import random
import ssl
from typing import Any, ClassVar, Generic, Self, TypeVar, Unpack

from batches_core import BatchesAPI
from transports._client._async.client import AsyncBatchesClientBase
from transports._client.environment import settings_from_env
from transports._client.events import OnEvent
from transports._client.settings import TIMEOUT, Settings, check_names, make_api, shows

from .dialer import AsyncDialer
from .stream import AsyncBackend
from .transport import AsyncRawTransport

ConnectT = TypeVar("ConnectT")


class AsyncRawArguments(Settings, Generic[ConnectT], total=False):
    """The parameters of a raw client and its ``from_env``; every one is optional."""

    timeout: float
    ssl_context: ssl.SSLContext | None
    proxy: str | None
    connect: ConnectT | None
    on_event: OnEvent | None


class AsyncRawClient(AsyncBatchesClientBase, Generic[ConnectT]):
    """A client over the streams of one backend."""

    _make_backend: ClassVar[type[AsyncBackend[Any]]]

    @shows(BatchesAPI, jitter=random.random)
    def __init__(
        self,
        *,
        timeout: float = TIMEOUT,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        connect: ConnectT | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings, type(self))
        backend: AsyncBackend[ConnectT] = self._make_backend()
        dialer = AsyncDialer(
            backend, ssl_context=ssl_context, proxy=proxy, connect=connect, timeout=timeout
        )
        super().__init__(api, AsyncRawTransport(backend, dialer), on_event)

    @classmethod
    @shows(__init__)
    def from_env(cls, **arguments: Unpack[AsyncRawArguments[ConnectT]]) -> Self:
        """Build a client with the credential, base URL and proxy of the environment.

        Reads ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``; ``ANTHROPIC_BASE_URL``; and
        ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. Arguments win over the environment.

        Raises:
            InvalidInputError: there is no credential.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=True))
