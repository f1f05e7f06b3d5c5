"""Connections that can be used again. Pure: opening and closing them is the transport's work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from batches_core import LocalProtocolError, Request
from transports._client.settings import CLOSED

from .connection import HTTP11Connection

#: Scheme, host and port, as in `Request.origin`.
Origin = tuple[str, str, int]

#: How many idle connections are kept for one origin.
_KEPT = 8


class PooledConnection(Protocol):
    """The part of a connection that the pool uses."""

    @property
    def origin(self) -> Origin:
        """Where the connection leads."""
        ...

    @property
    def http(self) -> HTTP11Connection:
        """The HTTP/1.1 on it."""
        ...


C = TypeVar("C", bound=PooledConnection)


@dataclass
class Pool(Generic[C]):
    """The open connections of one client, and the idle ones by origin."""

    _open: set[C] = field(default_factory=set)
    _idle: dict[Origin, list[C]] = field(default_factory=dict)
    _closed: bool = False

    def add(self, connection: C) -> C:
        """Record a new connection, and return it."""
        self._open.add(connection)
        return connection

    def acquire(self, request: Request) -> C | None:
        """Return the idle connection that was used last, which is the likeliest to be alive.

        Only for a GET. A connection can die just as a request is sent on it, and then nobody knows
        whether the request arrived. A GET is repeated without harm; every other request gets a new
        connection, where such a loss is unlikely and is reported.
        """
        idle = self._idle.get(request.origin)
        return idle.pop() if idle and request.method == "GET" else None

    def release(self, connection: C) -> bool:
        """Keep a connection whose exchange is over; return False if it must be closed."""
        idle = self._idle.setdefault(connection.origin, [])
        if self._closed or len(idle) >= _KEPT or not connection.http.start_next_cycle():
            return False
        idle.append(connection)
        return True

    def discard(self, connection: C) -> None:
        """Record that a connection was closed."""
        self._open.discard(connection)

    def check_open(self) -> None:
        """Check that the client was not closed.

        Raises:
            LocalProtocolError: it was.
        """
        if self._closed:
            raise LocalProtocolError(CLOSED)

    def close(self) -> list[C]:
        """Return all open connections, to be closed; no connection is kept from now on."""
        self._closed = True
        self._idle.clear()
        return [*self._open]
