"""The clients over httpx or httpx2: `BatchesClient`, and `AsyncBatchesClient` on asyncio and trio.

If both libraries are installed, httpx2 is used, unless you pass a client of httpx.
"""

from __future__ import annotations

from ._httpx._async.client import AsyncHTTPXClient
from ._httpx._sync.client import HTTPXClient

__all__ = ["AsyncBatchesClient", "BatchesClient"]


class BatchesClient(HTTPXClient):
    """A blocking client over httpx or httpx2. Any number of threads can use it at once.

    - `client`: your own ``httpx.Client`` or ``httpx2.Client``, with its proxies, TLS settings and
      pool. It is not closed with this client. By default a new one is made.
    - `timeout`: limits each read and write, in seconds. It also limits making a connection, which
      fails after 15 s at the latest. By default the limits of your `client` apply; without one they
      are 120 s and 15 s.
    - `on_event`: a function that is called with each event, such as a retry; none by default.

    The other parameters are those of `BatchesAPI`.

    Raises:
        InvalidInputError: there is no credential or there are two, or a value cannot be used.
        TypeError: an argument has an unknown name. The message lists the parameters.
    """


class AsyncBatchesClient(AsyncHTTPXClient):
    """An async client over httpx or httpx2, on asyncio or trio.

    Any number of tasks of one event loop can use it.

    - `client`: your own ``httpx.AsyncClient`` or ``httpx2.AsyncClient``; by default a new one.

    The other parameters are those of `BatchesClient`.
    """
