"""What clients are made from, and how they behave on a clock that only a test moves."""

from __future__ import annotations

import importlib
import inspect
import pydoc
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import anyio
import httpx
import httpx2
import msgspec
import pytest

from batches_core import (
    BatchesAPI,
    BatchState,
    Event,
    InvalidInputError,
    MessageBatch,
    OutcomeUnknownError,
    Page,
    RawHeaders,
    Request,
    RetryPolicy,
    RetryScheduled,
    TransportError,
)
from batches_core.emulator import Emulator
from tests.support.callables import ASYNC_CALLABLES
from tests.support.playbook import REQUEST, batch_json, result_line
from transports import asyncio, h11, trio
from transports._client._sync.client import BatchesClientBase
from transports._client.settings import Settings, make_api
from transports._http11._async.client import AsyncHTTP11Arguments
from transports._http11._sync.client import HTTP11Arguments
from transports._httpx._async.client import AsyncHTTPXArguments
from transports._httpx._sync.client import HTTPXArguments
from transports.httpx import AsyncBatchesClient, BatchesClient

T = TypeVar("T")

KEY = "sk-never-to-be-shown"


class EmulatedResponse:
    def __init__(self, status: int, headers: RawHeaders, chunks: Iterator[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._chunks = chunks
        self.closed = 0

    def read(self, deadline: float | None) -> bytes:
        del deadline
        return next(self._chunks, b"")

    def close(self) -> None:
        self.closed += 1


class EmulatedTransport:
    """An emulator without a network, on a virtual clock; it can be down until a moment."""

    def __init__(self, emulator: Emulator, down_until: float = 0.0) -> None:
        self.clock = 1000.0
        self.emulator = emulator
        self.down_until = down_until
        self.slept: list[float] = []
        self.responses: list[EmulatedResponse] = []

    def send(self, request: Request, deadline: float | None) -> EmulatedResponse:
        del deadline
        assert all(response.closed for response in self.responses), "two exchanges at once"
        if self.clock < self.down_until:
            raise TransportError("it is down", sent=False)
        response = self.emulator.handle(request, self.clock)
        emulated = EmulatedResponse(response.status, response.headers, iter(response.chunks))
        self.responses.append(emulated)
        return emulated

    def now(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock += seconds

    def in_thread(self, work: Callable[[], T]) -> T:
        return work()

    def close(self) -> None:
        pass


def client(transport: EmulatedTransport, events: list[Event]) -> BatchesClientBase:
    api = make_api({"api_key": KEY, "base_url": "https://emulated.test"})
    return BatchesClientBase(api, transport, events.append)


def test_a_wait_sleeps_from_poll_to_poll_and_holds_nothing_open() -> None:
    events: list[Event] = []
    transport = EmulatedTransport(Emulator(seconds_per_request=100))
    ours = client(transport, events)
    batch = ours.wait_for(ours.create([REQUEST]).id)
    assert batch.ended
    assert all(24.0 <= seconds <= 30.0 for seconds in transport.slept)
    polls = [event for event in events if isinstance(event, BatchState)]
    assert len(polls) == len(transport.slept) + 1
    assert all(response.closed == 1 for response in transport.responses)


def test_an_outage_is_told_and_waited_out() -> None:
    events: list[Event] = []
    transport = EmulatedTransport(Emulator(seconds_per_request=1))
    ours = client(transport, events)
    batch_id = ours.create([REQUEST]).id
    transport.down_until = transport.clock + 300
    assert ours.wait_for(batch_id).ended
    assert sum(isinstance(event, RetryScheduled) for event in events) > 5


def test_a_callback_that_fails_closes_what_is_open() -> None:
    transport = EmulatedTransport(Emulator())
    api = make_api({"api_key": KEY, "base_url": "https://emulated.test"})

    def on_event(event: Event) -> None:
        if isinstance(event, BatchState):
            raise ZeroDivisionError(event)

    ours = BatchesClientBase(api, transport, on_event)
    batch = ours.create([REQUEST])
    with pytest.raises(ZeroDivisionError):
        ours.wait_for(batch.id)
    assert all(response.closed for response in transport.responses)


def test_a_stream_that_is_dropped_closes_what_is_open() -> None:
    transport = EmulatedTransport(Emulator(speed=1e6))
    ours = client(transport, [])
    batch = ours.create([REQUEST, {**REQUEST, "custom_id": "b"}])
    transport.clock += 10
    stream = ours.results_stream(batch.id)
    assert next(stream).custom_id in {"a", "b"}
    assert not transport.responses[-1].closed
    del stream
    assert transport.responses[-1].closed


def test_list_all_reads_a_page_when_it_is_used() -> None:
    transport = EmulatedTransport(Emulator())
    ours = client(transport, [])
    for _ in range(5):
        ours.create([REQUEST])
    before = len(transport.responses)
    walk = ours.list_all(limit=2)
    assert len(transport.responses) == before
    next(walk)
    next(walk)
    assert len(transport.responses) == before + 1
    assert len(list(walk)) == 3
    assert isinstance(ours.list(), Page)


# --- how clients are made ----------------------------------------------------------------


CLIENTS = [
    BatchesClient,
    AsyncBatchesClient,
    h11.BatchesClient,
    trio.BatchesClient,
    asyncio.BatchesClient,
]
#: What each client takes besides, with the defaults.
RAW = {"timeout": 120.0, "ssl_context": None, "proxy": None, "connect": None, "on_event": None}
OWN: list[tuple[Any, Any, dict[str, Any]]] = [
    (BatchesClient, HTTPXArguments, {"client": None, "timeout": None}),
    (AsyncBatchesClient, AsyncHTTPXArguments, {"client": None, "timeout": None}),
    (h11.BatchesClient, HTTP11Arguments, RAW),
    (trio.BatchesClient, AsyncHTTP11Arguments, RAW),
    (asyncio.BatchesClient, AsyncHTTP11Arguments, RAW),
]
every_client = pytest.mark.parametrize("client_type", CLIENTS)


def written(types: Any) -> dict[str, str]:
    return {name: hint.__forward_arg__ for name, hint in types.__annotations__.items()}


def test_the_settings_are_the_parameters_of_the_api() -> None:
    parameters = inspect.signature(BatchesAPI).parameters
    assert written(Settings) == {name: p.annotation for name, p in parameters.items()}


@pytest.mark.parametrize(("client_type", "arguments", "own"), OWN)
def test_help_shows_each_parameter_of_a_client_with_its_default(
    client_type: Any, arguments: Any, own: dict[str, Any]
) -> None:
    of_the_api = inspect.signature(BatchesAPI).parameters
    defaults = {name: parameter.default for name, parameter in of_the_api.items()}
    defaults |= {"jitter": random.random, "on_event": None, **own}
    for shown in (inspect.signature(client_type), inspect.signature(client_type.from_env)):
        assert {name: each.default for name, each in shown.parameters.items()} == defaults
        assert {each.kind for each in shown.parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
        # What a checker goes by and what is shown are the same.
        types = {name: each.annotation for name, each in shown.parameters.items()}
        assert types == written(arguments)
    text = pydoc.plain(pydoc.render_doc(client_type))
    assert f"max_line: 'int' = {defaults['max_line']}" in text
    assert text.count("max_line: 'int'") == 3  # the class, its __init__ and from_env


@every_client
def test_every_parameter_that_is_shown_is_taken(
    client_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    shown = inspect.signature(client_type).parameters
    given = {name: each.default for name, each in shown.items()}
    for make in (client_type, client_type.from_env):
        made = make(**{**given, "api_key": KEY})
        assert made._api._jitter is random.random


@pytest.mark.parametrize("method", ["results_stream", "results", "download"])
@every_client
def test_help_shows_how_results_are_read(client_type: Any, method: str) -> None:
    shown = inspect.signature(getattr(client_type, method)).parameters
    of_the_api = inspect.signature(BatchesAPI.results_stream).parameters
    for name in ("resume", "expected"):
        assert shown[name] == of_the_api[name]


@every_client
def test_a_misspelt_parameter_is_told_with_the_clients_name_and_the_likeliest_one(
    client_type: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    name = f"{client_type.__module__}.{client_type.__qualname__}"
    for make in (client_type, client_type.from_env):
        with pytest.raises(TypeError) as caught:
            make(apikey=KEY)
        told = str(caught.value)
        assert told.startswith(f"{name} has no parameter apikey: did you mean api_key? Its ")
        assert told.endswith(f"{', '.join(inspect.signature(client_type).parameters)}")
        assert KEY not in told
        with pytest.raises(TypeError, match=r"time_out: did you mean timeout\?"):
            make(api_key=KEY, time_out=3)
        with pytest.raises(
            TypeError, match=f"^{name} has no parameter zzz: its parameters are api_key, "
        ):
            make(api_key=KEY, zzz=3)


def test_a_subclass_may_take_parameters_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ours(h11.BatchesClient):
        def __init__(self, *, team: str, **arguments: Any) -> None:
            super().__init__(**arguments)
            self.team = team

    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    from_env: Any = Ours.from_env
    assert from_env(team="blue", max_line=3).team == "blue"
    with pytest.raises(TypeError, match=r"^transports\.h11\.BatchesClient has no parameter mx"):
        from_env(team="blue", mx_line=3)


@every_client
@pytest.mark.parametrize("on_event", ASYNC_CALLABLES)
def test_a_callback_that_nobody_would_await_is_refused(client_type: Any, on_event: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        client_type(api_key=KEY, on_event=on_event)
    assert str(caught.value) == (
        "on_event is an async function, but is called without await: pass a plain function"
    )


def test_from_env_reads_the_key_and_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1/x")
    with BatchesClient.from_env(timeout=3) as ours:
        assert repr(ours) == "<transports.httpx.BatchesClient of http://127.0.0.1:1/x>"
        assert ours._api._endpoint._credentials == (("x-api-key", KEY),)
    with BatchesClient.from_env(base_url="http://127.0.0.1:2", auth_token="t") as ours:
        assert ours._api._endpoint._credentials == (("authorization", "Bearer t"),)
        assert "127.0.0.1:2" in repr(ours)


def test_from_env_takes_a_token_where_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "tok")
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    ours = AsyncBatchesClient.from_env()
    assert ours._api._endpoint._credentials == (("authorization", "Bearer tok"),)
    assert "https://api.anthropic.com" in repr(ours)


def test_from_env_without_a_credential_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInputError, match="set ANTHROPIC_API_KEY"):
        BatchesClient.from_env()


def test_a_key_with_a_line_break_is_refused_without_being_shown() -> None:
    with pytest.raises(InvalidInputError, match="line break") as caught:
        BatchesClient(api_key=KEY + "\n")
    assert KEY not in str(caught.value)


class GivesUp(httpx.BaseTransport):
    """Takes a whole request and then says that the protocol was broken, as over HTTP/2."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.taken.append(request.method)
        raise httpx.LocalProtocolError("received a frame with non-compliant data")


def test_what_httpx_calls_local_does_not_prove_that_nothing_was_sent() -> None:
    transport = GivesUp()
    with httpx.Client(transport=transport) as inner:
        ours = BatchesClient(api_key=KEY, client=inner, retry=RetryPolicy(initial_delay=0))
        with pytest.raises(OutcomeUnknownError):
            ours.create([REQUEST], if_unmarked="send")
    assert transport.taken.count("POST") == 1


def test_a_handed_in_client_keeps_its_own_timeout_unless_one_is_given() -> None:
    seen: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=batch_json())

    with httpx.Client(transport=httpx.MockTransport(handle), timeout=7) as inner:
        BatchesClient(api_key=KEY, client=inner).get("msgbatch_1")
        BatchesClient(api_key=KEY, client=inner, timeout=9).get("msgbatch_1")
    assert seen == [7, 9]


@pytest.mark.parametrize("timeout", [0, -1, "5", float("nan"), float("inf")])
@every_client
def test_a_timeout_that_is_none_is_refused(client_type: Any, timeout: Any) -> None:
    with pytest.raises(InvalidInputError, match="timeout is in seconds, more than 0"):
        client_type(api_key=KEY, timeout=timeout)


@every_client
def test_a_callback_that_is_none_is_refused(client_type: Any) -> None:
    with pytest.raises(InvalidInputError, match="on_event is a function"):
        client_type(api_key=KEY, on_event=3)


def test_a_host_that_the_library_cannot_write_is_a_transport_error() -> None:
    with httpx.Client() as inner:
        once = RetryPolicy(attempts=1)
        ours = BatchesClient(api_key=KEY, base_url="https://xn--a", retry=once, client=inner)
        with pytest.raises(TransportError, match="cannot be used") as caught:
            ours.get("msgbatch_1")
        assert not caught.value.sent


class SlowlyClosed(httpx.AsyncByteStream):
    """A body that takes a while to close, as TLS or a user's own transport may."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield result_line("a")
        await anyio.sleep(10)

    async def aclose(self) -> None:
        await anyio.sleep(0.01)
        self.closed = True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_stream_is_closed_to_the_end(backend: str) -> None:
    body = SlowlyClosed()
    url = "https://api.example.test/r"
    batch = msgspec.convert(batch_json(status="ended", results_url=url), MessageBatch, strict=False)

    async def job() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
        async with httpx.AsyncClient(transport=transport) as inner:
            ours = AsyncBatchesClient(
                api_key=KEY, base_url="https://api.example.test", client=inner
            )
            with anyio.move_on_after(0.05):
                async with ours.results_stream(batch) as stream:
                    async for _ in stream:
                        pass

    anyio.run(job, backend=backend)
    assert body.closed


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_a_client_that_was_handed_in_is_not_closed(library: Any) -> None:
    with library.Client() as inner:
        with BatchesClient(api_key=KEY, client=inner):
            pass
        assert not inner.is_closed


def test_a_subclass_of_a_librarys_client_is_one() -> None:
    class Tuned(httpx.Client):
        pass

    with Tuned() as inner:
        BatchesClient(api_key=KEY, client=inner)


@pytest.mark.parametrize("wrong", [object(), 3, "httpx"])
def test_what_is_no_client_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidInputError, match="Client of httpx or httpx2"):
        BatchesClient(api_key=KEY, client=wrong)


def test_a_client_of_the_other_kind_is_refused() -> None:
    with (
        httpx.Client() as inner,
        pytest.raises(InvalidInputError, match="AsyncClient of httpx or httpx2, not httpx"),
    ):
        AsyncBatchesClient(api_key=KEY, client=inner)


@pytest.mark.parametrize(
    ("missing", "used"), [(set(), "httpx2"), ({"httpx"}, "httpx2"), ({"httpx2"}, "httpx")]
)
def test_whichever_library_is_installed_is_used_and_httpx2_where_both_are(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], used: str
) -> None:
    original = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name in missing:
            raise ModuleNotFoundError(name)
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with BatchesClient(api_key=KEY) as ours:
        inner: Any = ours._transport
        assert type(inner._client).__module__.partition(".")[0] == used


def test_with_no_library_installed_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def import_module(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(InvalidInputError, match="pip install"):
        BatchesClient(api_key=KEY)


def test_jitter_is_random_by_default_and_can_be_handed_in() -> None:
    assert make_api({"api_key": KEY})._jitter is random.random
    assert make_api({"api_key": KEY, "jitter": float})._jitter is float
