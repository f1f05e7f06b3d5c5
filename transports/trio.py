"""The async client on trio's streams and h11: `BatchesClient`."""

from __future__ import annotations

from ._http11._async.client import AsyncHTTP11Client
from ._http11.trio import Connect, TrioBackend, unix_socket

__all__ = ["BatchesClient", "Connect", "unix_socket"]


class BatchesClient(AsyncHTTP11Client[Connect]):
    """An async client on trio, for any number of tasks of one ``trio.run``.

    A cancelled task closes its connection at once.

    - `timeout`: an exchange fails if no byte is sent or received for this many seconds; 120 by
      default. It also limits making a connection, which fails after 15 s at the latest.
    - `ssl_context`: replaces the default context, which verifies certificates.
    - `proxy`: a proxy for https, ``http://[user:password@]host:port``; none by default.
    - `connect`: an async function of host and port that returns a connected stream, for a tunnel of
      your own; `unix_socket` makes such a function. TCP by default.
    - `on_event`: a function that is called with each event, such as a retry; none by default.

    The other parameters are those of `BatchesAPI`.

    Raises:
        InvalidInputError: there is no credential or there are two, or a value cannot be used.
        TypeError: an argument has an unknown name. The message lists the parameters.
    """

    _make_backend = TrioBackend
