"""What went wrong on a network: its words, the same on every transport, and its cause.

Pure. Takes hosts, seconds and exceptions; which exception means what is decided by each transport.
A reason names host and port, never a URL, whose query or password can be a credential.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator
from typing import Any

from batches_core import Request
from batches_core.lowlevel import redact_text

CLOSED_EARLY = "the connection was closed before the body's end"
#: Seldom read, since an operation whose deadline passes has words of its own.
TOO_LATE = "no response came by the deadline"
PROXY_CLOSED = "the proxy closed the connection without a response"


# --- words -------------------------------------------------------------------------------


def peer_of(host: str, port: int) -> str:
    """Name the peer: ``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_connect(peer: str, why: str, proxy: str | None = None) -> str:
    """Say that no connection was made."""
    return f"cannot connect to {peer}{f' through the proxy {proxy}' if proxy else ''}: {why}"


def no_answer(seconds: float | None) -> str:
    """Say that nothing came in time."""
    return "no answer in time" if seconds is None else f"no answer in {seconds:g} s"


def proxy_refused(status: object) -> str:
    """Say that the proxy refused."""
    return f"the proxy refused the tunnel: {status}"


def proxy_broke(why: str) -> str:
    """Say that the proxy's response is not HTTP."""
    return f"the proxy's response is broken: {why}"


def stalled(peer: str, seconds: float | None) -> str:
    """Say that nothing moved on a connection."""
    how_long = "in time" if seconds is None else f"in {seconds:g} s"
    return f"no byte came from {peer} or went there {how_long}"


def closed_without_response(peer: str) -> str:
    """Say that a connection ended before its response began."""
    return f"{peer} closed the connection without a response"


def broke(peer: str, why: str) -> str:
    """Say that a connection broke."""
    return f"the connection to {peer} broke: {why}"


def response_broken(peer: str, why: str) -> str:
    """Say that a response is not HTTP, or not all of it."""
    return f"the response of {peer} is broken: {why}"


def why(error: BaseException) -> str:
    """Return the words for an error of the operating system, or for one that wraps it."""
    ssl: Any = importlib.import_module("ssl")  # only now: it takes long to import
    match root := root_of(error):
        case socket.gaierror():
            words = f"its name was not found: {root.strerror or root}"
        case ssl.SSLCertVerificationError():
            words = f"its certificate was refused: {root.verify_message or root}"
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            words = "TLS was cut off"
        case ssl.SSLError():
            reason = getattr(root, "reason", None) or root.strerror or str(root)
            words = f"TLS failed: {reason.replace('_', ' ')}"
        case ConnectionRefusedError():
            words = "it refused the connection"
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            words = "it was reset"
        case UnicodeError():
            words = f"its name cannot be written: {root}"
        case OSError(strerror=str() as text):
            words = text
        case _:
            words = str(root)
    return words or str(error) or type(error).__name__


# --- causes ------------------------------------------------------------------------------


def root_of(error: BaseException) -> BaseException:
    """Return the operating system's error under those that wrap it, or the error itself."""
    return next((each for each in _wrapped(error) if _is_systems(each)), error)


def cause_of(error: BaseException, request: Request | None = None) -> BaseException:
    """Return a copy of a library's error that a `TransportError` can have as its cause.

    The copy has no traceback, whose frames hold the request with its headers and body. Credentials
    of the request are redacted, since the error can quote a peer that repeats them. An error of the
    operating system underneath becomes the copy's cause.
    """
    root = root_of(error)
    copy = _bare(error, request)
    if root is not error:
        copy.__cause__ = _bare(root, request)
    return copy


def _bare(error: BaseException, request: Request | None) -> BaseException:
    if _is_systems(error):
        # Its words are the system's own. A copy would lose fields such as `verify_message`.
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    text = str(error) if request is None else redact_text(request.headers, str(error))
    try:
        return type(error)(text)
    except Exception:  # noqa: BLE001 - a library's constructor can require anything
        return Exception(f"{type(error).__name__}: {text}")


def _is_systems(error: BaseException) -> bool:
    # An event loop's summary of several attempts has no number.
    return isinstance(error, OSError) and error.errno is not None


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _wrapped(each)
    below = error.__cause__
    if below is None and type(error).__module__.partition(".")[0] in {"httpcore", "httpcore2"}:
        # httpcore raises its errors `from None`, which hides their cause. In other errors the
        # context can be anything that the caller was handling.
        below = error.__context__
    if below is not None:
        yield from _wrapped(below)
