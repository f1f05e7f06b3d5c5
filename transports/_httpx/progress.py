"""How far a request got in httpx, and how its time limits become those of the library's steps."""

from __future__ import annotations

import time
from typing import Any

from batches_core import Request, TransportError
from transports._client import failures

from .upload import Upload

#: The steps of a trace that connecting consists of, each with a time limit of its own.
_CONNECTING = frozenset({"connect_tcp.started", "connect_unix_socket.started", "start_tls.started"})


class Progress:
    """How far one request got, as the library's trace reports it; and the request's time limits.

    The CONNECT request to a proxy is traced as well, but it is not the request. A caller's trace
    replaces this one, and a caller's transport need not have a trace; then nothing is seen.
    """

    def __init__(
        self, request: Request, upload: Upload | None, timeouts: dict[str, Any], bound: float | None
    ) -> None:
        _, host, port = request.origin
        self.request = request
        self.peer = failures.peer_of(host, port)
        #: The proxy that was connected to, if one was.
        self.proxy: str | None = None
        self.upload = upload
        #: The seconds that each step may take, by its name: as the library reads them now, and as
        #: they were configured.
        self.timeouts = timeouts
        self.waits = dict(timeouts)
        #: The seconds that all steps of connecting may take together.
        self._bound = bound
        self._deadline: float | None = None
        #: When the whole exchange must have ended, if no cancellation sees to that.
        self._until: float | None = None
        self._is_seen = False
        self._has_begun = False

    @property
    def is_connecting(self) -> bool:
        """Whether the connection was not established yet, as far as was seen."""
        return self._is_seen and not self._has_begun

    @property
    def connect_wait(self) -> float | None:
        """The seconds that connecting may take; with our own limit, a proxy's part included."""
        return self.waits.get("connect") if self._bound is None else self._bound

    def is_sent(self, *, by_kind: bool) -> bool:
        """Whether the last byte may have left; `by_kind` is the verdict of the kind of error."""
        if self.upload is not None and not self.upload.is_whole:
            return False
        if self._has_begun:
            return True
        # A body that was read whole but was not seen to leave may have been read for signing.
        return by_kind if self.upload is not None or not self._is_seen else False

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Record a step of the library's trace."""
        self._is_seen = True
        step = name.partition(".")[2]
        if step in _CONNECTING:
            if step == "connect_tcp.started":
                peer = failures.peer_of(str(info.get("host")), info.get("port") or 0)
                self.proxy = None if peer == self.peer else peer
            info["timeout"] = self._limit_connecting(info.get("timeout"))
        elif step == "send_request_headers.started":
            if getattr(info.get("request"), "method", None) == b"CONNECT":
                for which in ("read", "write"):
                    self.timeouts[which] = self._limit_connecting(self.waits.get(which))
            else:
                self._has_begun = True
                self._limit_steps()
        elif self._has_begun and step.endswith(".started"):
            self._limit_steps()

    def limit(self, deadline: float | None) -> None:
        """Limit every step that begins from now on to a deadline.

        Connecting, sending, and the first waits for head and body end at the deadline. Two things
        can overshoot it: a head that arrives byte by byte, since each byte has the whole wait; and
        a body that does and then stops, by as much as was left when it began, since the library
        reads the limit once for a body.

        Raises:
            TransportError: the deadline has passed.
        """
        if deadline is None and self._until is None:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TransportError(failures.TOO_LATE, sent=True)
        self._until = deadline
        self._limit_steps()

    async def anote(self, name: str, info: dict[str, Any]) -> None:
        """Record a step of an async library's trace."""
        self.note(name, info)

    def _limit_connecting(self, seconds: float | None) -> float | None:
        """Limit a step to the rest of the time for connecting, which begins with the first step."""
        if self._bound is None:
            return _at_most(seconds, self._until)
        self._deadline = self._deadline or time.monotonic() + self._bound
        return _at_most(_at_most(seconds, self._deadline), self._until)

    def _limit_steps(self) -> None:
        for which, seconds in self.waits.items():
            self.timeouts[which] = _at_most(seconds, self._until)


def _at_most(seconds: float | None, deadline: float | None) -> float | None:
    """Shorten a wait to the time until a deadline; None is a wait without an end."""
    if deadline is None:
        return seconds
    left = max(0.001, deadline - time.monotonic())
    return left if seconds is None else min(seconds, left)
