"""The transport over an httpx client: it sends requests and reads responses.

`adapter` builds the requests and translates the errors. `concurrency` limits the time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from batches_core import Request
from batches_core.lowlevel import Headers, fold_headers
from transports._client.content_encoding import END, BodyDecoder
from transports._client.logs import log_exchange
from transports._httpx.adapter import Adapter, auth_for, find_library, mounts_for
from transports._httpx.concurrency import AsyncConcurrency
from transports._httpx.progress import Progress

T = TypeVar("T")

_logger = logging.getLogger("transports.httpx")


class _Response:
    def __init__(
        self, response: Any, adapter: Adapter, progress: Progress, concurrency: AsyncConcurrency
    ) -> None:
        self.status: int = response.status_code
        self.headers: Headers = fold_headers(response.headers.raw)
        self._response = response
        self._adapter = adapter
        self._progress = progress
        self._concurrency = concurrency
        # A mock transport or event hook of the caller may have read and decoded the body already.
        is_read = response.is_stream_consumed
        self._chunks = response.aiter_bytes() if is_read else response.aiter_raw()
        self._body = BodyDecoder({} if is_read else self.headers)

    async def read(self, deadline: float | None) -> bytes:
        while (piece := self._body.next_piece()) is None:
            await self._receive(deadline)
        return piece

    async def aclose(self) -> None:
        await self._concurrency.aclose(self._response, self._chunks)

    async def _receive(self, deadline: float | None) -> None:
        with self._concurrency.limited(self._progress, deadline):
            try:
                chunk = await anext(self._chunks, None)
            except self._adapter.errors as error:
                failure = self._adapter.transport_error(error, self._progress, in_body=True)
                raise failure from failure.__cause__
        if chunk is None:
            self._body.feed(END)
        elif chunk:
            self._body.feed(chunk)


class AsyncHTTPXTransport:
    """Carry exchanges over a client of httpx or httpx2: the caller's, or a new one.

    `client` is the caller's client, or None. `timeout` is in seconds; None for the default.
    """

    def __init__(self, client: Any | None, timeout: float | None, base_url: str) -> None:
        library = find_library(client, "AsyncClient")
        self._concurrency = AsyncConcurrency()
        self._adapter = Adapter(library, timeout, owned=client is None)
        self._client = client or library.AsyncClient(mounts=mounts_for(base_url))
        self._owned = client is None

    async def send(self, request: Request, deadline: float | None) -> _Response:
        """Send a request, and wait for the head of its response."""
        self._concurrency.enter()
        built, progress = self._adapter.build(self._client, request, self._concurrency.body_thread)
        with self._concurrency.limited(progress, deadline):
            try:
                response = await self._client.send(
                    built, stream=True, follow_redirects=False, **auth_for(request)
                )
            except self._adapter.errors as error:
                failure = self._adapter.transport_error(error, progress)
                raise failure from failure.__cause__
        received = _Response(response, self._adapter, progress, self._concurrency)
        log_exchange(_logger, request, received.status)
        return received

    def now(self) -> float:
        """Return the time of a monotonic clock, in seconds."""
        return self._concurrency.now()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._concurrency.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run blocking work to its end."""
        return await self._concurrency.in_thread(work)

    async def aclose(self) -> None:
        """Close the client, if it is not the caller's."""
        if self._owned and self._concurrency.can_close():
            await self._client.aclose()
