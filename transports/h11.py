"""A blocking client on sockets and h11: `BatchesClient`."""

from __future__ import annotations

from ._http11._sync.client import RawClient
from ._http11.sockets import Connect, SocketBackend, unix_socket

__all__ = ["BatchesClient", "Connect", "unix_socket"]


class BatchesClient(RawClient[Connect]):
    """A blocking client on sockets, for one thread: give each thread its own.

    `timeout` is the seconds without a byte in either direction before an exchange fails, 120 by
    default. Making a connection may take as long, and 15 s at most. `ssl_context` replaces the
    default, which verifies certificates. `proxy` is an ``http://[user:password@]host:port`` for
    https. `connect` returns connected sockets, for tunnels of your own; `unix_socket` makes one.
    `on_event` is called with each event. The other parameters are those of `BatchesAPI`.
    """

    _make_backend = SocketBackend
