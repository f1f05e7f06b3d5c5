"""The words for what goes wrong on a network: one failure reads the same on every transport.

Pure. Takes hosts, seconds and exceptions; knows no library's exceptions, which the transports tell
apart. A reason names host and port, never a URL, whose query or password can be a credential.
"""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterator
from typing import Any

CLOSED_EARLY = "the connection was closed before the body's end"
#: Seldom read, for an operation whose deadline passes has words of its own.
TOO_LATE = "no answer came by the deadline"


def peer_of(host: str, port: int) -> str:
    """Name the other side: ``host:port``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cannot_connect(peer: str, why: str, proxy: str | None = None) -> str:
    """Tell of a connection that did not come about."""
    return f"cannot connect to {peer}{f' through the proxy {proxy}' if proxy else ''}: {why}"


def no_answer(seconds: float | None) -> str:
    """Tell why: nothing came in time."""
    return "no answer in time" if seconds is None else f"no answer in {seconds:g} s"


def proxy_refused(answer: object) -> str:
    """Tell why: the proxy said no."""
    return f"the proxy refused the tunnel: {answer}"


PROXY_CLOSED = "the proxy closed the connection without an answer"


def proxy_broke(why: str) -> str:
    """Tell why: what the proxy said is no HTTP."""
    return f"the proxy's answer is broken: {why}"


def stalled(peer: str, seconds: float | None) -> str:
    """Tell of a connection on which nothing moved."""
    how_long = "in time" if seconds is None else f"in {seconds:g} s"
    return f"no byte came from {peer} or went there {how_long}"


def closed_without_answer(peer: str) -> str:
    """Tell of a connection that ended before its answer began."""
    return f"{peer} closed the connection without an answer"


def broke(peer: str, why: str) -> str:
    """Tell of a connection that broke."""
    return f"the connection to {peer} broke: {why}"


def answer_broken(peer: str, why: str) -> str:
    """Tell of an answer that is no HTTP, or not all of it."""
    return f"the answer of {peer} is broken: {why}"


def why(error: BaseException) -> str:
    """Find the words for an error of the system's, or of what wraps it."""
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


def root_of(error: BaseException) -> BaseException:
    """Find the system's own error under those that wrap it; the error itself if there is none."""
    return next((each for each in _wrapped(error) if _is_systems(each)), error)


def cause_of(error: BaseException) -> BaseException | None:
    """Choose what an error of ours can name as its cause: the system's own error, and nothing else.

    A library's error can quote the peer, who may repeat a credential, and its traceback holds
    the request with its headers and body. The system's error, bare, holds neither.
    """
    root = root_of(error)
    if not _is_systems(root):
        return None
    root.__cause__ = root.__context__ = None
    return root.with_traceback(None)


def _is_systems(error: BaseException) -> bool:
    # What event loops raise in the name of several attempts has no number.
    return isinstance(error, OSError) and error.errno is not None


def _wrapped(error: BaseException) -> Iterator[BaseException]:
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _wrapped(each)
    below = error.__cause__
    if below is None and type(error).__module__.partition(".")[0] in {"httpcore", "httpcore2"}:
        # It raises its errors `from None`, which takes their cause away. With others the context
        # may be anything that the caller was handling.
        below = error.__context__
    if below is not None:
        yield from _wrapped(below)
