"""A scripted server behind TLS, and the contexts of both sides.

Every certificate is issued by `AUTHORITY`, which only `client_context` trusts.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trustme

from tests.support.scripted import scripted

AUTHORITY = trustme.CA()


def server_context(host: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(host).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def tls_server(*handlers: Any, host: str = "localhost") -> Iterator[tuple[Any, str, list[Any]]]:
    """Serve handlers over TLS, as `scripted` does.

    Yields:
        The server, its base URL, and a list that grows with each handshake by the server name and
        the protocol that was negotiated.
    """
    context = server_context(host)
    seen: list[Any] = []
    context.sni_callback = lambda _, name, __: seen.append(name)

    def prepare(connection: socket.socket) -> socket.socket:
        wrapped = context.wrap_socket(connection, server_side=True)
        seen.append(wrapped.selected_alpn_protocol())
        return wrapped

    with scripted(*handlers, prepare=prepare) as served:
        yield served, served.base_url.replace("http://127.0.0.1", "https://localhost"), seen
