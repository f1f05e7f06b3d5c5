"""The client over HTTP/1.1, without a backend.

`transports.h11`, `transports.trio` and `transports.asyncio` add one, and document the parameters.
"""

from __future__ import annotations

import random
import ssl
from typing import Any, ClassVar, Generic, Self, TypeVar, Unpack

from batches_core import BatchesAPI
from transports._client._async.client import AsyncBatchesClientBase
from transports._client.environment import settings_from_env
from transports._client.events import OnEvent
from transports._client.settings import (
    TIMEOUT,
    Settings,
    check_names,
    make_api,
    shows_parameters_of,
)

from .dialer import AsyncDialer
from .stream import AsyncBackend
from .transport import AsyncHTTP11Transport

ConnectT = TypeVar("ConnectT")


class AsyncHTTP11Arguments(Settings, Generic[ConnectT], total=False):
    """The parameters of an HTTP/1.1 client and of its ``from_env``. All are optional."""

    timeout: float
    ssl_context: ssl.SSLContext | None
    proxy: str | None
    connect: ConnectT | None
    on_event: OnEvent | None


class AsyncHTTP11Client(AsyncBatchesClientBase, Generic[ConnectT]):
    """A client over the streams of one backend."""

    _make_backend: ClassVar[type[AsyncBackend[Any]]]

    @shows_parameters_of(BatchesAPI, jitter=random.random)
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
        super().__init__(api, AsyncHTTP11Transport(backend, dialer), on_event)

    @classmethod
    @shows_parameters_of(__init__)
    def from_env(cls, **arguments: Unpack[AsyncHTTP11Arguments[ConnectT]]) -> Self:
        """Build a client with the credential, base URL and proxy from the environment.

        Reads ``ANTHROPIC_API_KEY``, or ``ANTHROPIC_AUTH_TOKEN`` if that is not set,
        ``ANTHROPIC_BASE_URL``, and ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. An argument
        takes precedence over its variable.

        Raises:
            InvalidInputError: there is no credential, or a value cannot be used.
            TypeError: an argument has an unknown name. The message lists the parameters.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=True))
