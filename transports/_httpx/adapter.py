"""httpx or httpx2: which one is used, how requests are built for it, what its errors mean.

The two libraries have the same surface. Where both are installed httpx2 is preferred: the pool of
httpx 0.28 runs full when many tasks are cancelled. Either is imported when a client is made.
"""

from __future__ import annotations

import importlib
import re
from types import ModuleType
from typing import Any

from batches_core import InvalidInputError, LocalProtocolError, Request, TransportError
from batches_core.lowlevel import check_seconds, origin, shown_host
from transports._client import failures
from transports._client.content_encoding import ACCEPTED
from transports._client.settings import CLOSED, CONNECT_TIMEOUT, TIMEOUT

from .progress import Progress
from .upload import InThread, Upload

#: In the order of preference.
_LIBRARIES = ("httpx2", "httpx")


def find_library(client: object | None, kind: str) -> ModuleType:
    """Return the module of a client's library; without a client, the one that is installed."""
    if client is not None:
        for base in type(client).__mro__:
            root = base.__module__.partition(".")[0]
            if root in _LIBRARIES and base.__name__ == kind:
                return importlib.import_module(root)
        raise InvalidInputError(
            f"client is to be the {kind} of httpx or httpx2, not {client.__class__.__module__}."
            f"{client.__class__.__name__}"
        )
    for name in _LIBRARIES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise InvalidInputError(
        "neither httpx nor httpx2 is installed: pip install 'batches-core[httpx]'"
    )


class Adapter:
    """Translates between the core and one of the libraries: requests out, errors back."""

    def __init__(self, library: ModuleType, timeout: float | None, *, owned: bool) -> None:
        self.errors: tuple[type[Exception], ...] = (
            library.TransportError,
            library.StreamError,
            UnicodeError,
            # On asyncio the error of a broken TLS record is not wrapped.
            importlib.import_module("ssl").SSLError,
        )
        # Without httpx's LocalProtocolError: over HTTP/2 the response can be its reason.
        self._not_sent = (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
            library.UnsupportedProtocol,
        )
        self._library = library
        self._upload_type: type[Upload] = type(
            "_Upload", (Upload, library.SyncByteStream, library.AsyncByteStream), {}
        )
        self._not_built = (library.InvalidURL, ValueError)
        if timeout is not None:
            check_seconds("timeout", timeout, positive=True)
        #: None keeps the timeouts of the caller's client.
        self._timeout: Any = None
        if timeout is not None or owned:
            seconds = timeout or TIMEOUT
            self._timeout = library.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))

    def build(
        self, client: Any, request: Request, in_thread: InThread | None = None
    ) -> tuple[Any, Progress]:
        """Build the library's request, and the record of its progress.

        `in_thread` reads a body that blocks, for an async library.

        Raises:
            LocalProtocolError: the client was closed.
            TransportError: the library cannot send to such a URL.
        """
        if client.is_closed:
            raise LocalProtocolError(CLOSED)
        upload = None if request.body is None else self._upload_type(request.body, in_thread)
        timeouts = (self._timeout or client.timeout).as_dict()
        bound = self._timeout and self._timeout.connect
        progress = Progress(request, upload, timeouts, bound)
        extensions = {"timeout": timeouts, "trace": progress.anote if in_thread else progress.note}
        # Without the headers and cookies that the caller's client has for the API.
        make = self._library.Request if request.cross_origin else client.build_request
        headers = [*request.headers, ("accept-encoding", ACCEPTED)]
        try:
            built = make(
                request.method,
                request.url,
                headers=headers,
                content=upload,
                extensions=extensions,
            )
        except self._not_built as error:
            cause = failures.cause_of(error, request)
            raise TransportError(f"the URL cannot be used: {error}", sent=False) from cause
        if upload is not None:
            built.stream = (
                upload  # instead of the library's wrapper, which only blocking clients can read
            )
        return built, progress

    def lost(
        self, error: Exception, progress: Progress, *, in_body: bool = False
    ) -> TransportError:
        """Turn an error of the library into a `TransportError`, which also knows `sent`."""
        by_kind = not isinstance(error, self._not_sent)
        sent = in_body or progress.is_sent(by_kind=by_kind)
        if in_body or (by_kind and not progress.is_connecting):
            reason = self._break(error, progress, in_body=in_body)
        else:
            reason = self._no_connection(error, progress)
        lost = TransportError(reason, sent=sent)
        lost.__cause__ = failures.cause_of(error, progress.request)
        return lost

    def _no_connection(self, error: Exception, progress: Progress) -> str:
        text = str(error)
        match error:
            case self._library.PoolTimeout():
                why = f"no connection was free in {progress.waits.get('pool')} s"
            case self._library.TimeoutException():
                why = failures.no_answer(progress.connect_wait)
            case self._library.ProxyError():
                status = re.match(r"[0-9]{3}\b", text)
                why = failures.proxy_refused(status[0] if status else text)
            case self._library.RemoteProtocolError():
                is_closed = "disconnected" in text
                why = failures.PROXY_CLOSED if is_closed else failures.proxy_broke(text)
            case _:
                why = failures.why(error)
        return failures.cannot_connect(progress.peer, why, progress.proxy)

    def _break(self, error: Exception, progress: Progress, *, in_body: bool) -> str:
        text = str(error)
        match error:
            case self._library.TimeoutException():
                is_write = isinstance(error, self._library.WriteTimeout)
                reason = failures.stalled(
                    progress.peer, progress.waits.get("write" if is_write else "read")
                )
            case self._library.RemoteProtocolError():
                # Only its words tell a closed connection from a response that is not HTTP.
                is_closed = "disconnected" in text or "peer closed connection" in text
                reason = failures.response_broken(
                    progress.peer, failures.CLOSED_EARLY if is_closed else text
                )
                if is_closed and not in_body:
                    reason = failures.closed_without_response(progress.peer)
            case _:
                reason = failures.broke(progress.peer, failures.why(error))
        return reason


def mounts_for(base_url: str) -> dict[str, None]:
    """Return mounts that keep plain http away from a proxy, which could read the credential."""
    return {f"http://{shown_host(base_url)}": None} if origin(base_url)[0] == "http" else {}


def auth_for(request: Request) -> dict[str, None]:
    """Return arguments that keep a client's own credentials out of a cross-origin request."""
    return {"auth": None} if request.cross_origin else {}
