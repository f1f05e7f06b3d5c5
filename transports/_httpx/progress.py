"""Record how far a request got in httpx, and limit the time of each of the library's steps.

`adapter` uses the record to translate errors. `concurrency` sets the deadlines.
"""

from __future__ import annotations

import time
from typing import Any

from batches_core import Request, TransportError
from transports._client import failures

from .upload import Upload

#: The trace events at which the steps of connecting begin. Each step has a timeout of its own.
_CONNECTING = frozenset({"connect_tcp.started", "connect_unix_socket.started", "start_tls.started"})


class Progress:
    """How far one request got, by the library's trace; and the time limits of the request.

    `record` receives the trace, except in two cases: the caller's client replaces it by a trace of
    its own, or the caller's transport has no trace. The CONNECT request to a proxy is traced too,
    but does not count as the request.

    - `upload`: the body, or None.
    - `timeouts`: the seconds that each step may take, by name. The library reads this dict before
      each step, so changing it changes the limit of later steps.
    - `connect_timeout`: the seconds that all steps of connecting may take together; None to limit
      only each step.
    """

    def __init__(
        self,
        request: Request,
        upload: Upload | None,
        timeouts: dict[str, Any],
        connect_timeout: float | None,
    ) -> None:
        _, host, port = request.origin
        self.request = request
        self.peer = failures.peer_name(host, port)
        #: The proxy that the client connects to, or None.
        self.proxy: str | None = None
        self.upload = upload
        self.timeouts = timeouts
        #: The timeouts as they were configured.
        self.configured = dict(timeouts)
        self._connect_timeout = connect_timeout
        #: When connecting must have ended, and when the whole exchange must have ended; None if
        #: there is no such limit. An async transport limits the exchange by a cancellation instead.
        self._connect_deadline: float | None = None
        self._deadline: float | None = None
        self._is_traced = False
        self._request_has_begun = False

    @property
    def is_connecting(self) -> bool:
        """Whether the trace shows that the connection is not established yet."""
        return self._is_traced and not self._request_has_begun

    @property
    def connect_seconds(self) -> float | None:
        """The seconds that connecting may take. Without `connect_timeout`, those of one step."""
        if self._connect_timeout is None:
            return self.configured.get("connect")
        return self._connect_timeout

    def is_sent(self, *, may_be_sent: bool) -> bool:
        """Whether the last byte of the request may have left.

        `may_be_sent` is what the type of the error alone says.
        """
        if self.upload is not None and not self.upload.was_read_to_end:
            return False
        if self._request_has_begun:
            return True
        # No trace shows that sending began. In two cases the type of the error has to decide. There
        # may be no trace at all. Or the body was read to its end, to be sent or only to be signed.
        return may_be_sent if self.upload is not None or not self._is_traced else False

    def record(self, name: str, info: dict[str, Any]) -> None:
        """Record an event of the library's trace, and limit the step that begins with it."""
        self._is_traced = True
        step = name.partition(".")[2]
        if step in _CONNECTING:
            if step == "connect_tcp.started":
                peer = failures.peer_name(str(info.get("host")), info.get("port") or 0)
                self.proxy = None if peer == self.peer else peer
            info["timeout"] = self._limit_connecting(info.get("timeout"))
        elif step == "send_request_headers.started":
            if getattr(info.get("request"), "method", None) == b"CONNECT":
                for key in ("read", "write"):
                    self.timeouts[key] = self._limit_connecting(self.configured.get(key))
            else:
                self._request_has_begun = True
                self._limit_steps()
        elif self._request_has_begun and step.endswith(".started"):
            self._limit_steps()

    async def record_async(self, name: str, info: dict[str, Any]) -> None:
        """Record an event of an async library's trace."""
        self.record(name, info)

    def limit(self, deadline: float | None) -> None:
        """Limit every step that begins from now on to a deadline.

        The library reads a timeout once for the head of a response and once for its body, and
        applies it to each wait for bytes. So a slow response can exceed the deadline in two cases:

        - In a head, each wait for bytes may take the time that was left when the head began.
        - In a body, the last wait may take the time that was left when the body began.

        Everything else ends at the deadline: connecting, sending, and the first wait for bytes of a
        head or a body.

        Raises:
            TransportError: the deadline has passed.
        """
        if deadline is None and self._deadline is None:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TransportError(failures.TOO_LATE, sent=True)
        self._deadline = deadline
        self._limit_steps()

    def _limit_connecting(self, seconds: float | None) -> float | None:
        """Return the timeout of a step of connecting. The first step starts the time limit."""
        if self._connect_timeout is None:
            return _at_most(seconds, self._deadline)
        self._connect_deadline = self._connect_deadline or time.monotonic() + self._connect_timeout
        return _at_most(_at_most(seconds, self._connect_deadline), self._deadline)

    def _limit_steps(self) -> None:
        for key, seconds in self.configured.items():
            self.timeouts[key] = _at_most(seconds, self._deadline)


def _at_most(seconds: float | None, deadline: float | None) -> float | None:
    """Shorten a timeout to the time until a deadline. None is no timeout, or no deadline."""
    if deadline is None:
        return seconds
    left = max(0.001, deadline - time.monotonic())
    return left if seconds is None else min(seconds, left)
