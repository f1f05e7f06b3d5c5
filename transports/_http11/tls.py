"""The TLS settings of the raw transports."""

from __future__ import annotations

import contextlib
import importlib
import ssl


def tls_context() -> ssl.SSLContext:
    """Build a context that verifies certificates.

    The certificate authorities come from truststore, which asks the operating system itself, if it
    is installed. Otherwise OpenSSL's default store is used, or certifi's if that one is empty.
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
