"""Keep idle connections for reuse, without I/O. The transport opens and closes connections."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from batches_core import LocalProtocolError, Request
from transports._client.settings import CLOSED

from .connection import HTTP11Connection

#: Scheme, host and port, as in `Request.origin`.
Origin = tuple[str, str, int]

#: How many idle connections are kept for each origin.
_MAX_IDLE = 8


class PooledConnection(Protocol):
    """The part of a connection that the pool uses."""

    @property
    def origin(self) -> Origin:
        """The origin that the connection leads to."""
        ...

    @property
    def http(self) -> HTTP11Connection:
        """The HTTP/1.1 state of the connection."""
        ...


C = TypeVar("C", bound=PooledConnection)


@dataclass
class Pool(Generic[C]):
    """The open connections of one client, and the idle ones among them by origin.

    `add` a new connection. After that the transport acquires, releases and discards it. Threads can
    share a pool: each step on the dict, a list or the set is atomic.
    """

    _open: set[C] = field(default_factory=set)
    _idle: dict[Origin, list[C]] = field(default_factory=dict)
    _closed: bool = False

    def add(self, connection: C) -> C:
        """Record a new connection, and return it."""
        self._open.add(connection)
        return connection

    def acquire(self, request: Request) -> C | None:
        """Return an idle connection for a request, or None if it needs a new one.

        It is the connection that was used last, because that is the most likely to be alive.

        Only a GET is sent on an idle connection. The peer can close it just as the request is sent,
        and then it is unknown whether the request arrived. A GET can be repeated without harm. Any
        other request gets a new connection, on which such a loss is unlikely and is reported.
        """
        if request.method != "GET":
            return None
        try:
            return self._idle[request.origin].pop()
        except (KeyError, IndexError):
            return None

    def release(self, connection: C) -> bool:
        """Keep a connection after its exchange; return False if it must be closed instead."""
        idle = self._idle.setdefault(connection.origin, [])
        if self._closed or len(idle) >= _MAX_IDLE or not connection.http.start_next_cycle():
            return False
        idle.append(connection)
        return True

    def discard(self, connection: C) -> None:
        """Forget a connection that is closed."""
        self._open.discard(connection)

    def check_open(self) -> None:
        """Check that the client was not closed.

        Raises:
            LocalProtocolError: it was closed.
        """
        if self._closed:
            raise LocalProtocolError(CLOSED)

    def close(self) -> list[C]:
        """Stop keeping connections, and return all open ones for the transport to close."""
        self._closed = True
        self._idle.clear()
        return [*self._open.copy()]
