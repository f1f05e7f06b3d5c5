"""Clients over httpx or httpx2: `BatchesClient`, and `AsyncBatchesClient` on asyncio and trio.

Carries bytes and maps errors; knows nothing of batches. The two libraries have the same surface,
so one adapter serves both: the one whose client is handed in, or else the one that is installed
(httpx where both are). Either is imported when a client is made, not before.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, ModuleType
from typing import Any, Self, TypeVar, Unpack

from batches_core import (
    Body,
    InvalidRequest,
    LocalProtocolError,
    RawHeaders,
    Request,
    TransportError,
)
from batches_core.api import check_seconds
from batches_core.http import origin, shown_host

from .async_client import AsyncBatchesClientBase
from .content_encoding import ACCEPTED, decoder_for
from .settings import CLOSED, CONNECT_TIMEOUT, TIMEOUT, OnEvent, Settings, make_api
from .sync_client import BlockingBatchesClient

T = TypeVar("T")

#: Seconds that closing a response may take: TLS says goodbye, and the peer may not answer.
_CLOSE_TIMEOUT = 5.0

_LIBRARIES = ("httpx", "httpx2")


def _library(client: object | None, kind: str) -> ModuleType:
    """Find the library of a client, or without one whichever is installed."""
    if client is not None:
        for base in type(client).__mro__:
            root = base.__module__.partition(".")[0]
            if root in _LIBRARIES and base.__name__ == kind:
                return importlib.import_module(root)
        raise InvalidRequest(
            f"client is to be the {kind} of httpx or httpx2, not {client.__class__.__module__}."
            f"{client.__class__.__name__}"
        )
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InvalidRequest("neither httpx nor httpx2 is installed: pip install 'batches-core[httpx]'")


class _Carriage:
    """What the blocking and the async transport share: building requests, mapping errors."""

    def __init__(self, library: ModuleType, timeout: float | None, *, owned: bool) -> None:
        self.errors: tuple[type[Exception], ...] = (
            library.TransportError,
            library.StreamError,
            UnicodeError,
            # On asyncio what TLS says of broken records comes through as it is.
            importlib.import_module("ssl").SSLError,
        )
        # Not what httpx calls a local protocol error: over HTTP/2 that can be the answer's fault.
        self._not_sent = (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
            library.UnsupportedProtocol,
        )
        self._request_type = library.Request
        self._not_built = (library.InvalidURL, ValueError)
        self._timed_out = library.TimeoutException
        if timeout is not None:
            check_seconds("timeout", timeout, positive=True)
        #: None leaves it to the client that was handed in.
        self._timeout: Any = None
        if timeout is not None or owned:
            seconds = timeout or TIMEOUT
            self._timeout = library.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))

    def build(self, client: Any, request: Request, content: object) -> Any:
        """Build the library's request.

        Raises:
            LocalProtocolError: the client was closed.
            TransportError: the library cannot send to such a URL.
        """
        if client.is_closed:
            raise LocalProtocolError(CLOSED)
        timeout = client.timeout if self._timeout is None else self._timeout
        headers = [*request.headers, ("accept-encoding", ACCEPTED)]
        try:
            if request.foreign:
                # Not with the headers and cookies that a handed-in client has for the API.
                extensions = {"timeout": timeout.as_dict()}
                return self._request_type(
                    request.method, request.url, headers=headers, extensions=extensions
                )
            return client.build_request(
                request.method, request.url, headers=headers, content=content, timeout=timeout
            )
        except self._not_built as error:
            raise TransportError(f"the URL cannot be used: {error}", sent=False) from None

    def lost(self, error: Exception, request: Request) -> TransportError:
        """Turn an error of the library into ours, which says what nobody else knows: `sent`."""
        host = request.origin[1]
        timed_out = isinstance(error, self._timed_out)
        what = _text(error) or ("no answer in time" if timed_out else "the connection broke")
        reason = f"{what} ({type(error).__name__}, {request.method} to {host})"
        return TransportError(reason, sent=not isinstance(error, self._not_sent))


def _text(error: BaseException | None) -> str:
    """Find the words for an error that may have none itself, but only a cause that has."""
    while error is not None and not str(error):
        error = error.__cause__ or error.__context__
    return str(error or "")


def _mounts(base_url: str) -> dict[str, None]:
    """Keep plain http to this machine away from a proxy, which would get the credential to read."""
    return {f"http://{shown_host(base_url)}": None} if origin(base_url)[0] == "http" else {}


def _auth(request: Request) -> dict[str, None]:
    """Leave a handed-in client's own credentials out of what leaves the API's origin."""
    return {"auth": None} if request.foreign else {}


class _Received:
    """What the blocking and the async response share: the head, and which bytes to read."""

    def __init__(
        self,
        response: Any,
        carriage: _Carriage,
        request: Request,
        *,
        raw: Callable[[], Any],
        decoded: Callable[[], Any],
    ) -> None:
        self.status: int = response.status_code
        self.headers: RawHeaders = response.headers.raw
        self._response = response
        # Read and decoded already, as a user's mock or event hook leaves it, or still to be read.
        is_read = response.is_stream_consumed
        self._chunks = decoded() if is_read else raw()
        self._decoder = decoder_for(() if is_read else self.headers)
        self._pieces: Iterator[bytes] = iter(())
        self._carriage = carriage
        self._request = request

    def _lost(self, error: Exception) -> TransportError:
        return self._carriage.lost(error, self._request)


class _Response(_Received):
    def __init__(self, response: Any, carriage: _Carriage, request: Request) -> None:
        raw, decoded = response.iter_raw, response.iter_bytes
        super().__init__(response, carriage, request, raw=raw, decoded=decoded)

    def read(self) -> bytes:
        while True:
            # A chunk can give no piece, where it does not complete an encoded byte, or many.
            for piece in self._pieces:
                return piece
            try:
                chunk = next(self._chunks, None)
            except self._carriage.errors as error:
                raise self._lost(error) from None
            if chunk is None:
                self._decoder.finish()
                return b""
            self._pieces = self._decoder.feed(chunk)

    def close(self) -> None:
        self._response.close()


class _Transport:
    def __init__(self, client: Any | None, timeout: float | None, base_url: str) -> None:
        library = _library(client, "Client")
        self._carriage = _Carriage(library, timeout, owned=client is None)
        self._client = client or library.Client(mounts=_mounts(base_url))
        self._owned = client is None

    def send(self, request: Request) -> _Response:
        content = None if request.body is None else iter(request.body)
        built = self._carriage.build(self._client, request, content)
        try:
            response = self._client.send(
                built, stream=True, follow_redirects=False, **_auth(request)
            )
        except self._carriage.errors as error:
            raise self._carriage.lost(error, request) from None
        return _Response(response, self._carriage, request)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._owned:
            self._client.close()


class BatchesClient(BlockingBatchesClient):
    """A blocking client over httpx or httpx2.

    `client` is a ready ``httpx.Client`` or ``httpx2.Client`` with proxies, TLS settings or a pool
    of its own; it is not closed with this one. `timeout` bounds each read and write, in seconds; by
    default it is the handed-in client's own, or else 120.
    The other parameters are those of `BatchesAPI`.
    """

    def __init__(
        self,
        *,
        client: Any | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings)
        super().__init__(api, _Transport(client, timeout, api.base_url), on_event)


class _AsyncBody:
    """A body to iterate over, in place of httpx's own, which is an async generator.

    One that is not used up, because the peer answers early or not at all, is left to the event
    loop's garbage collector, and under trio that complains.
    """

    def __init__(self, body: Body) -> None:
        self._pieces = iter(body)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


async def _close_generators(outer: AsyncGeneratorType[bytes, None]) -> None:
    """Close an async generator and those that it iterates over, from the innermost out.

    The libraries read a body through half a dozen nested generators, and closing one does not
    close the one inside: that is left to the garbage collector, which hands it to the event loop,
    which under trio complains. An iterated generator is on the stack of its iterating one, where
    only the collector's own view shows it.
    """
    for inner in gc.get_referents(outer):
        if isinstance(inner, AsyncGeneratorType):
            await _close_generators(inner)
    await outer.aclose()


class _AsyncResponse(_Received):
    def __init__(self, response: Any, carriage: _Carriage, request: Request, anyio: Any) -> None:
        raw, decoded = response.aiter_raw, response.aiter_bytes
        super().__init__(response, carriage, request, raw=raw, decoded=decoded)
        self._anyio = anyio

    async def read(self) -> bytes:
        while True:
            for piece in self._pieces:
                return piece
            try:
                chunk = await anext(self._chunks, None)
            except self._carriage.errors as error:
                raise self._lost(error) from None
            if chunk is None:
                self._decoder.finish()
                return b""
            self._pieces = self._decoder.feed(chunk)

    async def aclose(self) -> None:
        # Shielded, for this is what a cancelled task has to do as well; and bounded.
        with self._anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            try:
                await _close_generators(self._chunks)
            except RuntimeError:
                pass  # another task is reading, and is woken by what follows
            finally:
                await self._response.aclose()


class _AsyncTransport:
    def __init__(self, client: Any | None, timeout: float | None, base_url: str) -> None:
        library = _library(client, "AsyncClient")
        self._anyio = importlib.import_module("anyio")
        importlib.import_module("anyio.to_thread")
        self._carriage = _Carriage(library, timeout, owned=client is None)
        self._body_type: Any = type("_AsyncBody", (_AsyncBody, library.AsyncByteStream), {})
        self._client = client or library.AsyncClient(mounts=_mounts(base_url))
        self._owned = client is None

    async def send(self, request: Request) -> _AsyncResponse:
        built = self._carriage.build(self._client, request, None)
        if request.body is not None:
            built.stream = self._body_type(request.body)
        try:
            response = await self._client.send(
                built, stream=True, follow_redirects=False, **_auth(request)
            )
        except self._carriage.errors as error:
            raise self._carriage.lost(error, request) from None
        return _AsyncResponse(response, self._carriage, request, self._anyio)

    def now(self) -> float:
        return float(self._anyio.current_time())

    async def sleep(self, seconds: float) -> None:
        await self._anyio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        result: T = await self._anyio.to_thread.run_sync(work)
        return result

    async def aclose(self) -> None:
        if self._owned:
            await self._client.aclose()


class AsyncBatchesClient(AsyncBatchesClientBase):
    """An async client over httpx or httpx2, on asyncio or trio.

    `client` is a ready ``httpx.AsyncClient`` or ``httpx2.AsyncClient``; the rest is as with
    `BatchesClient`.
    """

    def __init__(
        self,
        *,
        client: Any | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings)
        super().__init__(api, _AsyncTransport(client, timeout, api.base_url), on_event)
