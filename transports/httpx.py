"""Clients over httpx or httpx2: `BatchesClient`, and `AsyncBatchesClient` on asyncio and trio.

Where both libraries are installed httpx2 is used, unless you pass a client of httpx.
"""

from __future__ import annotations

from ._httpx._async.client import AsyncHTTPXClient
from ._httpx._sync.client import HTTPXClient

__all__ = ["AsyncBatchesClient", "BatchesClient"]


class BatchesClient(HTTPXClient):
    """A blocking client over httpx or httpx2, for one thread: give each thread its own.

    `client` is your own ``httpx.Client`` or ``httpx2.Client``, with its proxies, TLS settings or
    pool; it is not closed with this one. `timeout` limits each read and write, in seconds, and
    making a connection, which may take 15 s at most. By default your client's own limits apply, or
    else 120 s and 15 s. `on_event` is called with each event. The other parameters are those of
    `BatchesAPI`.
    """


class AsyncBatchesClient(AsyncHTTPXClient):
    """An async client over httpx or httpx2, on asyncio or trio, for all tasks of one event loop.

    `client` is your own ``httpx.AsyncClient`` or ``httpx2.AsyncClient``. The other parameters are
    those of `BatchesClient`.
    """
