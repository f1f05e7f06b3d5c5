"""The TLS settings of the HTTP/1.1 transports."""

from __future__ import annotations

import contextlib
import importlib
import ssl


def tls_context() -> ssl.SSLContext:
    """Build a context that verifies certificates.

    If truststore is installed, it asks the operating system which certificate authorities to trust.
    Otherwise they come from OpenSSL's default store, or from certifi if that store is empty.
    """
    try:
        truststore = importlib.import_module("truststore")
        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    except ImportError:
        context = ssl.create_default_context()
        if not context.get_ca_certs():
            with contextlib.suppress(ImportError):
                context.load_verify_locations(importlib.import_module("certifi").where())
    context.set_alpn_protocols(["http/1.1"])
    return context
