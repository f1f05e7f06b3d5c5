"""An HTTP proxy and the exchange that opens a tunnel through it, without I/O.

The dialer sends and receives the bytes.
"""

from __future__ import annotations

import base64
from urllib.parse import unquote, urlsplit

import h11

from batches_core import InvalidInputError
from batches_core.lowlevel import redact_text
from transports._client import failures

from .connection import client_side
from .pool import Origin


class TunnelError(Exception):
    """The proxy did not open a tunnel. The text says why."""


class Proxy:
    """A proxy for https, which opens tunnels on CONNECT: ``http://[user:password@]host:port``.

    Raises:
        InvalidInputError: the URL has another form. The message does not contain the URL, because
            it can contain a password.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            self.host, self.port = parts.hostname or "", parts.port or 80
        except ValueError:
            raise InvalidInputError(
                "proxy cannot be used, because its host or port is invalid: pass http://host:port"
            ) from None
        if parts.scheme != "http" or not self.host or parts.path.strip("/"):
            raise InvalidInputError(
                "proxy cannot be used, because it is not an http URL of a host: pass "
                "http://host:port"
            )
        self._credentials: str | None = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._credentials = base64.b64encode(pair.encode()).decode()

    def __repr__(self) -> str:
        return f"<Proxy {self.peer}>"

    @property
    def peer(self) -> str:
        """The name of the proxy in errors: ``host:port``."""
        return failures.peer_name(self.host, self.port)

    def tunnel(self, origin: Origin) -> Tunnel:
        """Return the exchange that opens a tunnel to an origin."""
        return Tunnel(origin, self._credentials)


class Tunnel:
    """The exchange that opens a tunnel. Send `request`, then pass the response to `receive`."""

    def __init__(self, origin: Origin, credentials: str | None) -> None:
        self._h11 = client_side()
        self._secrets = [] if credentials is None else [("authorization", credentials)]
        target = failures.peer_name(*origin[1:])
        headers = [("host", target)]
        if credentials is not None:
            headers.append(("proxy-authorization", f"Basic {credentials}"))
        head = h11.Request(method="CONNECT", target=target, headers=headers)
        self.request: bytes = (self._h11.send(head) or b"") + (
            self._h11.send(h11.EndOfMessage()) or b""
        )

    def receive(self, data: bytes) -> bool:
        """Accept received bytes, empty at the end; return True once the tunnel is open.

        Raises:
            TunnelError: the proxy refused the tunnel, or closed the connection, or its response is
                not HTTP.
        """
        self._h11.receive_data(data)
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                text = redact_text(self._secrets, str(error))
                why = failures.proxy_response_broken(text) if data else failures.PROXY_CLOSED
                raise TunnelError(why) from None  # the message contains the text of the error
            if isinstance(event, h11.InformationalResponse):
                continue
            if event is h11.NEED_DATA:
                return False
            if isinstance(event, h11.Response) and 200 <= event.status_code < 300:  # noqa: PLR2004 - HTTP's successes
                return True
            status = getattr(event, "status_code", "no status")
            raise TunnelError(failures.proxy_refused(status))
