"""Choose httpx or httpx2, build its requests, and translate its errors.

`progress` records how far a request got. The transports send the requests.

The two libraries have the same API. If both are installed, httpx2 is used, because the pool of
httpx 0.28 runs full when many tasks are cancelled. The library is imported when a client is made.
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

#: The supported libraries, the preferred one first.
_LIBRARIES = ("httpx2", "httpx")


def find_library(client: object | None, kind: str) -> ModuleType:
    """Return the library of the caller's client; without a client, the installed library.

    `kind` is the name of the client's class: ``Client`` or ``AsyncClient``.

    Raises:
        InvalidInputError: `client` is not a client of that class, or no library is installed.
    """
    if client is not None:
        for base in type(client).__mro__:
            root = base.__module__.partition(".")[0]
            if root in _LIBRARIES and base.__name__ == kind:
                return importlib.import_module(root)
        raise InvalidInputError(
            f"client must be the {kind} of httpx or httpx2, not {client.__class__.__module__}."
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
    """Build the requests of one of the libraries, and translate its errors to `TransportError`.

    `timeout` limits each read and write, in seconds. It also limits connecting, which may take 15 s
    at most. `owned` says that the client is the transport's own. If `timeout` is None, the
    transport's own client has the limits 120 s and 15 s; a client of the caller keeps its limits.
    """

    def __init__(self, library: ModuleType, timeout: float | None, *, owned: bool) -> None:
        self.errors: tuple[type[Exception], ...] = (
            library.TransportError,
            library.StreamError,
            UnicodeError,
            # On asyncio the libraries do not wrap the error of a broken TLS record.
            importlib.import_module("ssl").SSLError,
        )
        # httpx's LocalProtocolError is not one of them: over HTTP/2 a response can cause it.
        self._errors_before_sending = (
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
        self._build_errors = (library.InvalidURL, ValueError)
        if timeout is not None:
            check_seconds("timeout", timeout, positive=True)
        #: None to use the timeouts of the caller's client.
        self._timeout: Any = None
        if timeout is not None or owned:
            seconds = timeout or TIMEOUT
            self._timeout = library.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))

    def build(
        self, client: Any, request: Request, in_thread: InThread | None = None
    ) -> tuple[Any, Progress]:
        """Build the library's request, and the object that records its progress.

        `in_thread` reads blocking bodies in a thread; None for a blocking client.

        Raises:
            LocalProtocolError: the client was closed.
            TransportError: the library does not accept the URL.
        """
        if client.is_closed:
            raise LocalProtocolError(CLOSED)
        upload = None if request.body is None else self._upload_type(request.body, in_thread)
        timeouts = (self._timeout or client.timeout).as_dict()
        connect_timeout = self._timeout and self._timeout.connect
        progress = Progress(request, upload, timeouts, connect_timeout)
        trace = progress.record_async if in_thread else progress.record
        extensions = {"timeout": timeouts, "trace": trace}
        # A cross-origin request must not carry the headers and cookies of the caller's client.
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
        except self._build_errors as error:
            cause = failures.cause_of(error, request)
            raise TransportError(f"the URL cannot be used: {error}", sent=False) from cause
        if upload is not None:
            # Replace the library's wrapper, which only blocking clients can read.
            built.stream = upload
        return built, progress

    def transport_error(
        self, error: Exception, progress: Progress, *, in_body: bool = False
    ) -> TransportError:
        """Translate an error of the library, with its reason and whether the request was `sent`.

        `in_body` says whether the head of the response had arrived.
        """
        may_be_sent = not isinstance(error, self._errors_before_sending)
        sent = in_body or progress.is_sent(may_be_sent=may_be_sent)
        if in_body or (may_be_sent and not progress.is_connecting):
            reason = self._exchange_failure(error, progress, in_body=in_body)
        else:
            reason = self._connect_failure(error, progress)
        failure = TransportError(reason, sent=sent)
        if isinstance(error, self._library.ProxyError):
            # The proxy chose the text, and can repeat its credential in it.
            error = type(error)(reason)
        failure.__cause__ = failures.cause_of(error, progress.request)
        return failure

    def _connect_failure(self, error: Exception, progress: Progress) -> str:
        text = str(error)
        match error:
            case self._library.PoolTimeout():
                why = f"no connection of the pool was free in {progress.configured.get('pool')} s"
            case self._library.TimeoutException():
                why = failures.no_response(progress.connect_seconds)
            case self._library.ProxyError():
                status = re.match(r"[0-9]{3}\b", text)
                why = failures.proxy_refused(status[0] if status else text)
            case self._library.RemoteProtocolError():
                is_closed = "disconnected" in text
                why = failures.PROXY_CLOSED if is_closed else failures.proxy_response_broken(text)
            case _:
                why = failures.describe(error)
        return failures.cannot_connect(progress.peer, why, progress.proxy)

    def _exchange_failure(self, error: Exception, progress: Progress, *, in_body: bool) -> str:
        text = str(error)
        match error:
            case self._library.TimeoutException():
                is_write = isinstance(error, self._library.WriteTimeout)
                seconds = progress.configured.get("write" if is_write else "read")
                reason = failures.stalled(progress.peer, seconds)
            case self._library.RemoteProtocolError():
                # Only the text distinguishes a closed connection from a response that is not HTTP.
                is_closed = "disconnected" in text or "peer closed connection" in text
                reason = failures.response_broken(
                    progress.peer, failures.CLOSED_EARLY if is_closed else text
                )
                if is_closed and not in_body:
                    reason = failures.closed_without_response(progress.peer)
            case _:
                reason = failures.connection_broke(progress.peer, failures.describe(error))
        return reason


def mounts_for(base_url: str) -> dict[str, None]:
    """Return httpx's `mounts` that keep plain http off a proxy, which could read the credential."""
    return {f"http://{shown_host(base_url)}": None} if origin(base_url)[0] == "http" else {}


def auth_for(request: Request) -> dict[str, None]:
    """Return arguments for httpx that keep a client's `auth` out of a cross-origin request."""
    return {"auth": None} if request.cross_origin else {}
