"""The blocking client on sockets and h11: `BatchesClient`."""

from __future__ import annotations

from ._http11._sync.client import HTTP11Client
from ._http11.sockets import Connect, SocketBackend, unix_socket

__all__ = ["BatchesClient", "Connect", "unix_socket"]


class BatchesClient(HTTP11Client[Connect]):
    """A blocking client on sockets. Any number of threads can use it at once.

    - `timeout`: an exchange fails if no byte is sent or received for this many seconds; 120 by
      default. It also limits making a connection, which fails after 15 s at the latest.
    - `ssl_context`: replaces the default context, which verifies certificates.
    - `proxy`: a proxy for https, ``http://[user:password@]host:port``; none by default.
    - `connect`: a function of host and port that returns a connected socket, for a tunnel of your
      own; `unix_socket` makes such a function. TCP by default.
    - `on_event`: a function that is called with each event, such as a retry; none by default.

    The other parameters are those of `BatchesAPI`.

    Raises:
        InvalidInputError: there is no credential or there are two, or a value cannot be used.
        TypeError: an argument has an unknown name. The message lists the parameters.
    """

    _make_backend = SocketBackend
