"""Describe network failures in the same words on every transport, and make their causes safe.

A transport decides which failure its library's exception means, and passes host, seconds and
exception. A description names host and port but never a URL, because a query or password in it can
be a credential.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator
from typing import Any

from batches_core import Request
from batches_core.lowlevel import redact_text

CLOSED_EARLY = "the connection was closed before the end of the body"
#: Users seldom see this one: an operation whose deadline passes raises an error of its own.
TOO_LATE = "no response arrived by the deadline"
PROXY_CLOSED = "the proxy closed the connection without a response"


# --- descriptions ------------------------------------------------------------------------


def peer_name(host: str, port: int) -> str:
    """Return the peer's name in descriptions, ``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_connect(peer: str, why: str, proxy: str | None = None) -> str:
    """Describe a connection that could not be established."""
    return f"cannot connect to {peer}{f' through the proxy {proxy}' if proxy else ''}: {why}"


def no_response(seconds: float | None) -> str:
    """Describe a peer that did not respond while connecting.

    `seconds` is the time limit, or None if it is unknown.
    """
    return "no response in time" if seconds is None else f"no response in {seconds:g} s"


def proxy_refused(status: object) -> str:
    """Describe a proxy that refused to open a tunnel."""
    return f"the proxy refused the tunnel: {status}"


def proxy_response_broken(why: str) -> str:
    """Describe a response of a proxy that is not HTTP."""
    return f"the response from the proxy is broken: {why}"


def stalled(peer: str, seconds: float | None) -> str:
    """Describe a connection that transferred nothing for too long.

    `seconds` is the time limit, or None if it is unknown.
    """
    how_long = "in time" if seconds is None else f"in {seconds:g} s"
    return f"no byte was sent to or received from {peer} {how_long}"


def closed_without_response(peer: str) -> str:
    """Describe a connection that the peer closed before its response began."""
    return f"{peer} closed the connection without a response"


def connection_broke(peer: str, why: str) -> str:
    """Describe a connection that broke during an exchange."""
    return f"the connection to {peer} broke: {why}"


def response_broken(peer: str, why: str) -> str:
    """Describe a response that is not HTTP, or is incomplete."""
    return f"the response from {peer} is broken: {why}"


def describe(error: BaseException) -> str:
    """Describe an error of the operating system or of TLS, or an error that wraps one."""
    ssl: Any = importlib.import_module("ssl")  # here, because importing it takes long
    match root := root_of(error):
        case socket.gaierror():
            words = f"the host name cannot be resolved: {root.strerror or root}"
        case ssl.SSLCertVerificationError():
            words = f"the certificate was rejected: {root.verify_message or root}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            words = "the TLS connection was cut off"
        case ssl.SSLError():
            reason = getattr(root, "reason", None) or root.strerror or str(root)
            words = f"TLS failed: {reason.replace('_', ' ')}"
        case ConnectionRefusedError():
            words = "connection refused"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            words = "connection reset"
        case UnicodeError():
            words = f"the host name cannot be encoded: {root}"
        case OSError(strerror=str() as text):
            words = text
        case _:
            words = str(root)
    return words or str(error) or type(error).__name__


# --- causes ------------------------------------------------------------------------------


def root_of(error: BaseException) -> BaseException:
    """Return the operating system's error that `error` wraps, or `error` if it wraps none."""
    return next((each for each in _wrapped(error) if _is_system_error(each)), error)


def cause_of(error: BaseException, request: Request | None = None) -> BaseException:
    """Return a copy of a library's error that is safe as the cause of a `TransportError`.

    The copy has no traceback, because a traceback's frames hold the request with its headers and
    body. The credentials of `request` are redacted, because the error can quote a peer that repeats
    them. If the error wraps one of the operating system, that one becomes the cause of the copy.
    """
    root = root_of(error)
    copy = _bare(error, request)
    if root is not error:
        copy.__cause__ = _bare(root, request)
    return copy


def _bare(error: BaseException, request: Request | None) -> BaseException:
    """Return an error without its traceback and context, and with its text redacted."""
    if _is_system_error(error):
        # The text comes from the system, so there is nothing to redact. A copy would lose fields
        # such as `verify_message`.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    text = str(error) if request is None else redact_text(request.headers, str(error))
    try:
        return type(error)(text)
    except Exception:  # noqa: BLE001 - a library's constructor can require anything
        return Exception(f"{type(error).__name__}: {text}")


def _is_system_error(error: BaseException) -> bool:
    # An OSError without a number is an event loop's summary of several attempts.
    return isinstance(error, OSError) and error.errno is not None


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and the errors that it wraps, from the outermost in."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _wrapped(each)
    below = error.__cause__
    if below is None and type(error).__module__.partition(".")[0] in {"httpcore", "httpcore2"}:
        # httpcore raises its errors `from None`, so the cause is only in the context. The context
        # of any other error can be an unrelated error that the caller was handling.
        below = error.__context__
    if below is not None:
        yield from _wrapped(below)
