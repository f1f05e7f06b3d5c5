"""Clients over httpx or httpx2: `BatchesClient`, and `AsyncBatchesClient` on asyncio and trio.

Carries bytes and maps errors; knows nothing of batches. The two libraries have the same surface,
so one adapter serves both: the one whose client is passed, or else the one that is installed.
Where both are, that is httpx2: the pool of httpx 0.28 runs full when many tasks are cancelled.
Either is imported when a client is made, not before.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from types import AsyncGeneratorType, ModuleType
from typing import Any, Self, TypeVar, Unpack

from batches_core import (
    BatchesAPI,
    InvalidInputError,
    LocalProtocolError,
    RawHeaders,
    Request,
    TransportError,
)
from batches_core.lowlevel import check_seconds, origin, shown_host

from . import wording
from .async_client import AsyncBatchesClientBase
from .content_encoding import ACCEPTED, decoder_for
from .logs import log_exchange
from .read_ahead import InThread
from .settings import (
    CLOSED,
    CONNECT_TIMEOUT,
    OTHER_LOOP,
    TIMEOUT,
    OnEvent,
    Settings,
    check_names,
    make_api,
    settings_from_env,
    shows,
)
from .sync_client import BlockingBatchesClient
from .uploads import Upload

T = TypeVar("T")

_logger = logging.getLogger(__name__)

#: Seconds that closing a response may take: TLS says goodbye, and the peer may not answer.
_CLOSE_TIMEOUT = 5.0

#: In the order of preference.
_LIBRARIES = ("httpx2", "httpx")

#: The steps of a trace in which a connection comes about, each with a time limit of its own.
_CONNECTING = frozenset({"connect_tcp.started", "connect_unix_socket.started", "start_tls.started"})


def _library(client: object | None, kind: str) -> ModuleType:
    """Find the library of a client, or without one whichever is installed."""
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


class _Progress:
    """How far a request has got, by what the library's trace tells; and its time limits.

    A request to connect through a proxy is traced as well, and is not the request. A user's own
    trace replaces this one, and a user's own transport need not have any; then nothing is seen.
    """

    def __init__(
        self, request: Request, upload: Upload | None, timeouts: dict[str, Any], bound: float | None
    ) -> None:
        _, host, port = request.origin
        self.request = request
        self.peer = wording.peer_of(host, port)
        #: The proxy that was connected to, if one was.
        self.proxy: str | None = None
        self.upload = upload
        #: The seconds that each step may take, by its name; those that hold, and those given.
        self.timeouts = timeouts
        self.waits = dict(timeouts)
        #: The seconds that all steps of connecting may take together.
        self._bound = bound
        self._deadline: float | None = None
        #: When the whole of it is to be done, where that is not seen to by a cancellation.
        self._until: float | None = None
        self._is_seen = False
        self._has_begun = False

    @property
    def is_connecting(self) -> bool:
        """Whether the connection had not come about, as far as was seen."""
        return self._is_seen and not self._has_begun

    @property
    def connect_wait(self) -> float | None:
        """The seconds that connecting may take, a proxy's part included where that is ours."""
        return self.waits.get("connect") if self._bound is None else self._bound

    def is_sent(self, *, by_kind: bool) -> bool:
        """Whether the last byte may have left; `by_kind` is what the kind of an error says."""
        if self.upload is not None and not self.upload.is_whole:
            return False
        if self._has_begun:
            return True
        # What was handed over whole and is not seen to have left may have been read for signing.
        return by_kind if self.upload is not None or not self._is_seen else False

    def note(self, name: str, info: dict[str, Any]) -> None:
        """Take a step of the library's."""
        self._is_seen = True
        step = name.partition(".")[2]
        if step in _CONNECTING:
            if step == "connect_tcp.started":
                peer = wording.peer_of(str(info.get("host")), info.get("port") or 0)
                self.proxy = None if peer == self.peer else peer
            info["timeout"] = self._limited(info.get("timeout"))
        elif step == "send_request_headers.started":
            if getattr(info.get("request"), "method", None) == b"CONNECT":
                for which in ("read", "write"):
                    self.timeouts[which] = self._limited(self.waits.get(which))
            else:
                self._has_begun = True
                self._limit_steps()
        elif self._has_begun and step.endswith(".started"):
            self._limit_steps()

    def limit(self, deadline: float | None) -> None:
        """Let no step that begins from now on last beyond a deadline.

        Connecting, sending, and the first waits for head and body end at it. What can overshoot:
        a head that drips, for each byte has the whole wait; and a body that drips and then stops,
        by as much as was left when it began, for the library reads the limit once for a body.

        Raises:
            TransportError: it has passed.
        """
        if deadline is None and self._until is None:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TransportError(wording.TOO_LATE, sent=True)
        self._until = deadline
        self._limit_steps()

    async def anote(self, name: str, info: dict[str, Any]) -> None:
        """Take a step of the library's where it is asynchronous."""
        self.note(name, info)

    def _limited(self, seconds: float | None) -> float | None:
        """Limit a step to what is left of the time for connecting, which begins with the first."""
        if self._bound is None:
            return _at_most(seconds, self._until)
        self._deadline = self._deadline or time.monotonic() + self._bound
        return _at_most(_at_most(seconds, self._deadline), self._until)

    def _limit_steps(self) -> None:
        for which, seconds in self.waits.items():
            self.timeouts[which] = _at_most(seconds, self._until)


def _at_most(seconds: float | None, deadline: float | None) -> float | None:
    """Shorten a wait, None being one without end, to what is left until a deadline."""
    if deadline is None:
        return seconds
    left = max(0.001, deadline - time.monotonic())
    return left if seconds is None else min(seconds, left)


class _Carriage:
    """What the blocking and the async transport share: building requests, mapping errors."""

    def __init__(self, library: ModuleType, timeout: float | None, *, owned: bool) -> None:
        self.errors: tuple[type[Exception], ...] = (
            library.TransportError,
            library.StreamError,
            UnicodeError,
            # On asyncio what TLS says of broken records comes through as it is.
            importlib.import_module("ssl").SSLError,
        )
        # Not what httpx calls a local protocol error: over HTTP/2 that can be the answer's fault.
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
        #: None leaves it to the client that was passed.
        self._timeout: Any = None
        if timeout is not None or owned:
            seconds = timeout or TIMEOUT
            self._timeout = library.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT))

    def build(
        self, client: Any, request: Request, in_thread: InThread | None = None
    ) -> tuple[Any, _Progress]:
        """Build the library's request, and what knows how far it gets.

        `in_thread` is an async transport's, to read a body that blocks.

        Raises:
            LocalProtocolError: the client was closed.
            TransportError: the library cannot send to such a URL.
        """
        if client.is_closed:
            raise LocalProtocolError(CLOSED)
        upload = None if request.body is None else self._upload_type(request.body, in_thread)
        timeouts = (self._timeout or client.timeout).as_dict()
        bound = self._timeout and self._timeout.connect
        progress = _Progress(request, upload, timeouts, bound)
        extensions = {"timeout": timeouts, "trace": progress.anote if in_thread else progress.note}
        # Not with the headers and cookies that a handed-in client has for the API.
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
            raise TransportError(f"the URL cannot be used: {error}", sent=False) from None
        if upload is not None:
            built.stream = upload  # in place of one that is for blocking clients alone
        return built, progress

    def lost(
        self, error: Exception, progress: _Progress, *, in_body: bool = False
    ) -> TransportError:
        """Turn an error of the library into ours, which says what nobody else knows: `sent`."""
        by_kind = not isinstance(error, self._not_sent)
        sent = in_body or progress.is_sent(by_kind=by_kind)
        if in_body or (by_kind and not progress.is_connecting):
            reason = self._break(error, progress, in_body=in_body)
        else:
            reason = self._no_connection(error, progress)
        lost = TransportError(reason, sent=sent)
        lost.__cause__ = wording.cause_of(error)
        return lost

    def _no_connection(self, error: Exception, progress: _Progress) -> str:
        text = str(error)
        match error:
            case self._library.PoolTimeout():
                why = f"no connection was free in {progress.waits.get('pool')} s"
            case self._library.TimeoutException():
                why = wording.no_answer(progress.connect_wait)
            case self._library.ProxyError():
                status = re.match(r"[0-9]{3}\b", text)
                why = wording.proxy_refused(status[0] if status else text)
            case self._library.RemoteProtocolError():
                is_closed = "disconnected" in text
                why = wording.PROXY_CLOSED if is_closed else wording.proxy_broke(text)
            case _:
                why = wording.why(error)
        return wording.cannot_connect(progress.peer, why, progress.proxy)

    def _break(self, error: Exception, progress: _Progress, *, in_body: bool) -> str:
        text = str(error)
        match error:
            case self._library.TimeoutException():
                is_write = isinstance(error, self._library.WriteTimeout)
                reason = wording.stalled(
                    progress.peer, progress.waits.get("write" if is_write else "read")
                )
            case self._library.RemoteProtocolError():
                # Only its words tell the end of a connection from an answer that is no HTTP.
                is_closed = "disconnected" in text or "peer closed connection" in text
                reason = wording.answer_broken(
                    progress.peer, wording.CLOSED_EARLY if is_closed else text
                )
                if is_closed and not in_body:
                    reason = wording.closed_without_answer(progress.peer)
            case _:
                reason = wording.broke(progress.peer, wording.why(error))
        return reason


def _mounts(base_url: str) -> dict[str, None]:
    """Keep plain http to this machine away from a proxy, which would get the credential to read."""
    return {f"http://{shown_host(base_url)}": None} if origin(base_url)[0] == "http" else {}


def _auth(request: Request) -> dict[str, None]:
    """Leave a handed-in client's own credentials out of what leaves the API's origin."""
    return {"auth": None} if request.cross_origin else {}


class _Received:
    """What the blocking and the async response share: the head, and which bytes to read."""

    def __init__(
        self,
        response: Any,
        carriage: _Carriage,
        progress: _Progress,
        *,
        raw: Callable[[], Any],
        decoded: Callable[[], Any],
    ) -> None:
        self.status: int = response.status_code
        self.headers: RawHeaders = response.headers.raw
        self._response = response
        # Read and decoded already, as a user's mock or event hook leaves it, or still to be read.
        is_read = response.is_stream_consumed
        self._chunks = decoded() if is_read else raw()
        self._decoder = decoder_for(() if is_read else self.headers)
        self._pieces: Iterator[bytes] = iter(())
        self._carriage = carriage
        self._progress = progress
        log_exchange(_logger, progress.request, self.status)

    def _lost(self, error: Exception) -> TransportError:
        return self._carriage.lost(error, self._progress, in_body=True)


class _Response(_Received):
    def __init__(self, response: Any, carriage: _Carriage, progress: _Progress) -> None:
        raw, decoded = response.iter_raw, response.iter_bytes
        super().__init__(response, carriage, progress, raw=raw, decoded=decoded)

    def read(self, deadline: float | None) -> bytes:
        while True:
            # A chunk can give no piece, where it does not complete an encoded byte, or many.
            for piece in self._pieces:
                return piece
            self._progress.limit(deadline)
            try:
                chunk = next(self._chunks, None)
            except self._carriage.errors as error:
                lost = self._lost(error)
                raise lost from lost.__cause__
            if chunk is None:
                self._decoder.finish()
                return b""
            self._pieces = self._decoder.feed(chunk)

    def close(self) -> None:
        self._response.close()


class _Transport:
    def __init__(self, client: Any | None, timeout: float | None, base_url: str) -> None:
        library = _library(client, "Client")
        self._carriage = _Carriage(library, timeout, owned=client is None)
        self._client = client or library.Client(mounts=_mounts(base_url))
        self._owned = client is None

    def send(self, request: Request, deadline: float | None) -> _Response:
        built, progress = self._carriage.build(self._client, request)
        progress.limit(deadline)
        try:
            response = self._client.send(
                built, stream=True, follow_redirects=False, **_auth(request)
            )
        except self._carriage.errors as error:
            lost = self._carriage.lost(error, progress)
            raise lost from lost.__cause__
        return _Response(response, self._carriage, progress)

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def close(self) -> None:
        if self._owned:
            self._client.close()


class Arguments(Settings, total=False):
    """What the clients and their ``from_env`` take; every one is optional."""

    client: Any | None
    timeout: float | None
    on_event: OnEvent | None


class BatchesClient(BlockingBatchesClient):
    """A blocking client over httpx or httpx2.

    `client` is a ready ``httpx.Client`` or ``httpx2.Client`` with proxies, TLS settings or a pool
    of its own; it is not closed with this one. `timeout` bounds each read and write in seconds, and
    the making of a connection, which may take 15 s at most; by default all limits are the handed-in
    client's own, or else 120 and 15.
    The other parameters are those of `BatchesAPI`.
    """

    @shows(BatchesAPI, jitter=random.random)
    def __init__(
        self,
        *,
        client: Any | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings, BatchesClient)
        super().__init__(api, _Transport(client, timeout, api.base_url), on_event)

    @classmethod
    @shows(__init__)
    def from_env(cls, **arguments: Unpack[Arguments]) -> Self:
        """Build a client with the credential and base URL of the environment.

        ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_BASE_URL``; and
        the usual ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. What is given as an argument
        wins.

        Raises:
            InvalidInputError: there is no credential.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=False))


async def _close_generators(outer: AsyncGeneratorType[bytes, None]) -> None:
    """Close an async generator and those that it iterates over, from the innermost out.

    The libraries read a body through half a dozen nested generators, and closing one does not
    close the one inside: that is left to the garbage collector, which hands it to the event loop,
    which under trio complains. An iterated generator is on the stack of its iterating one, where
    only the collector's own view shows it.
    """
    for inner in gc.get_referents(outer):
        if isinstance(inner, AsyncGeneratorType):
            await _close_generators(inner)
    await outer.aclose()


async def _by(anyio: Any, deadline: float | None, work: Callable[[], Awaitable[T]]) -> T:
    """Do something by a deadline.

    Raises:
        TransportError: it was not done by then, and was cancelled.
    """
    if deadline is None:
        return await work()
    with anyio.CancelScope(deadline=deadline):
        return await work()
    raise TransportError(wording.TOO_LATE, sent=True)


class _AsyncResponse(_Received):
    def __init__(self, response: Any, carriage: _Carriage, progress: _Progress, anyio: Any) -> None:
        raw, decoded = response.aiter_raw, response.aiter_bytes
        super().__init__(response, carriage, progress, raw=raw, decoded=decoded)
        self._anyio = anyio

    async def read(self, deadline: float | None) -> bytes:
        return await _by(self._anyio, deadline, self._read)

    async def _read(self) -> bytes:
        while True:
            for piece in self._pieces:
                return piece
            try:
                chunk = await anext(self._chunks, None)
            except self._carriage.errors as error:
                lost = self._lost(error)
                raise lost from lost.__cause__
            if chunk is None:
                self._decoder.finish()
                return b""
            self._pieces = self._decoder.feed(chunk)

    async def aclose(self) -> None:
        # Shielded, for this is what a cancelled task has to do as well; and bounded.
        with self._anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
            try:
                await _close_generators(self._chunks)
            except RuntimeError:
                pass  # another task is reading, and is woken by what follows
            finally:
                await self._response.aclose()


async def _in_executor(work: Callable[[], T]) -> T:
    """Run work in a thread of asyncio's; a native cancellation waits until it has ended.

    A shield holds off a cancellation by anyio's scopes, but not ``Task.cancel()``.
    """
    future = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        future.exception()  # looked at, so that asyncio does not report it
        raise cancelled
    return future.result()


class _Home:
    """The event loop that a client's connections belong to: that of its first exchange.

    On trio they belong to none, and go on in the next run.
    """

    def __init__(self, anyio: Any) -> None:
        self._anyio = anyio
        self._loop: asyncio.AbstractEventLoop | str | None = None

    def enter(self) -> None:
        """Check that this is the loop, or make it so.

        Raises:
            LocalProtocolError: it is another one.
        """
        loop = self._running()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise LocalProtocolError(OTHER_LOOP)

    def has_ended(self) -> bool:
        """Whether the loop was closed, and so can close no connection any more."""
        return isinstance(self._loop, asyncio.AbstractEventLoop) and self._loop.is_closed()

    def _running(self) -> asyncio.AbstractEventLoop | str:
        if self._anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            return asyncio.get_running_loop()
        return "trio"


class _AsyncTransport:
    def __init__(self, client: Any | None, timeout: float | None, base_url: str) -> None:
        library = _library(client, "AsyncClient")
        self._anyio = importlib.import_module("anyio")
        importlib.import_module("anyio.to_thread")
        self._carriage = _Carriage(library, timeout, owned=client is None)
        self._client = client or library.AsyncClient(mounts=_mounts(base_url))
        self._owned = client is None
        self._home = _Home(self._anyio)

    async def send(self, request: Request, deadline: float | None) -> _AsyncResponse:
        self._home.enter()
        return await _by(self._anyio, deadline, partial(self._send, request))

    async def _send(self, request: Request) -> _AsyncResponse:
        built, progress = self._carriage.build(self._client, request, self.in_thread)
        try:
            response = await self._client.send(
                built, stream=True, follow_redirects=False, **_auth(request)
            )
        except self._carriage.errors as error:
            lost = self._carriage.lost(error, progress)
            raise lost from lost.__cause__
        return _AsyncResponse(response, self._carriage, progress, self._anyio)

    def now(self) -> float:
        return float(self._anyio.current_time())

    async def sleep(self, seconds: float) -> None:
        await self._anyio.sleep(seconds)

    async def in_thread(self, work: Callable[[], T]) -> T:
        with self._anyio.CancelScope(shield=True):
            if self._anyio.get_cancelled_exc_class() is asyncio.CancelledError:
                return await _in_executor(work)
            result: T = await self._anyio.to_thread.run_sync(work)
            return result

    async def aclose(self) -> None:
        if self._owned and not self._home.has_ended():
            self._home.enter()
            await self._client.aclose()


class AsyncBatchesClient(AsyncBatchesClientBase):
    """An async client over httpx or httpx2, on asyncio or trio.

    `client` is a ready ``httpx.AsyncClient`` or ``httpx2.AsyncClient``; the rest is as with
    `BatchesClient`.
    """

    @shows(BatchesAPI, jitter=random.random)
    def __init__(
        self,
        *,
        client: Any | None = None,
        timeout: float | None = None,
        on_event: OnEvent | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        api = make_api(settings, AsyncBatchesClient)
        super().__init__(api, _AsyncTransport(client, timeout, api.base_url), on_event)

    @classmethod
    @shows(__init__)
    def from_env(cls, **arguments: Unpack[Arguments]) -> Self:
        """Build a client with the credential and base URL of the environment.

        ``ANTHROPIC_API_KEY``, or else ``ANTHROPIC_AUTH_TOKEN``, and ``ANTHROPIC_BASE_URL``; and
        the usual ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. What is given as an argument
        wins.

        Raises:
            InvalidInputError: there is no credential.
        """
        check_names(cls, arguments)
        return cls(**settings_from_env(arguments, with_proxy=False))
