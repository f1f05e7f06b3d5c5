"""An async client on trio and h11: `BatchesClient`."""

from __future__ import annotations

from ._http11._async.client import AsyncRawClient
from ._http11.trio import Connect, TrioBackend, unix_socket

__all__ = ["BatchesClient", "Connect", "unix_socket"]


class BatchesClient(AsyncRawClient[Connect]):
    """An async client on trio's streams, for any number of tasks of one ``trio.run``.

    A cancelled task closes its connection at once. `timeout` is the seconds without a byte in
    either direction before an exchange fails, 120 by default. Making a connection may take as long,
    and 15 s at most. `ssl_context` replaces the default, which verifies certificates. `proxy` is an
    ``http://[user:password@]host:port`` for https. `connect` returns connected streams, for tunnels
    of your own; `unix_socket` makes one. `on_event` is called with each event. The other parameters
    are those of `BatchesAPI`.
    """

    _make_backend = TrioBackend
