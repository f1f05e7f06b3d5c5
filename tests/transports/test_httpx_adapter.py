"""The transport over httpx and httpx2: the library, passed clients, and what was sent."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest

from batches_core import InvalidInputError, OutcomeUnknownError, RetryPolicy, TransportError
from tests.support.batches import BATCH, ONE_ATTEMPT, ended_batch
from tests.support.carriers import Carrier
from tests.support.marks import httpx_carriers, httpx_libraries
from tests.support.playbook import BASE, REQUEST, batch_json, result_line
from tests.support.scripted import close, reply, reset, scripted
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

KEY = "sk-never-to-be-shown"

# --- the library and its client --------------------------------------------------------


@pytest.mark.parametrize(
    ("missing", "used"),
    [(set(), "httpx2"), ({"httpx"}, "httpx2"), ({"httpx2"}, "httpx")],
    ids=["none missing", "httpx missing", "httpx2 missing"],
)
def test_the_installed_httpx_library_is_used_and_httpx2_is_preferred(
    monkeypatch: pytest.MonkeyPatch, missing: set[str], used: str
) -> None:
    original = importlib.import_module

    def import_module(name: str, package: str | None = None) -> Any:
        if name in missing:
            raise ModuleNotFoundError(name)
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with BatchesClient(api_key=KEY) as client:
        transport: Any = client._transport
        assert type(transport._client).__module__.partition(".")[0] == used


def test_a_client_without_an_httpx_library_names_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def import_module(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(InvalidInputError, match="pip install"):
        BatchesClient(api_key=KEY)


@pytest.mark.parametrize("wrong", [object(), 3, "httpx"], ids=["object", "int", "str"])
def test_an_object_that_is_not_an_httpx_client_is_rejected(wrong: object) -> None:
    with pytest.raises(InvalidInputError, match="Client of httpx or httpx2"):
        BatchesClient(api_key=KEY, client=wrong)


def test_a_blocking_httpx_client_is_rejected_by_the_async_client() -> None:
    with (
        httpx.Client() as inner,
        pytest.raises(InvalidInputError, match="AsyncClient of httpx or httpx2, not httpx"),
    ):
        AsyncBatchesClient(api_key=KEY, client=inner)


def test_an_instance_of_an_httpx_client_subclass_is_accepted() -> None:
    class TunedClient(httpx.Client):
        pass

    with TunedClient() as inner:
        BatchesClient(api_key=KEY, client=inner)


@httpx_libraries
def test_a_passed_httpx_client_is_not_closed(library: Any) -> None:
    with library.Client() as inner:
        with BatchesClient(api_key=KEY, client=inner):
            pass
        assert not inner.is_closed


def test_a_passed_httpx_client_keeps_its_timeout_unless_another_is_passed() -> None:
    timeouts: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(200, json=batch_json())

    with httpx.Client(transport=httpx.MockTransport(handle), timeout=7) as inner:
        BatchesClient(api_key=KEY, client=inner).get("msgbatch_1")
        BatchesClient(api_key=KEY, client=inner, timeout=9).get("msgbatch_1")
    assert timeouts == [7, 9]


def test_a_host_that_httpx_cannot_encode_raises_a_transport_error() -> None:
    with httpx.Client() as inner:
        client = BatchesClient(
            api_key=KEY, base_url="https://xn--a", retry=ONE_ATTEMPT, client=inner
        )
        with pytest.raises(TransportError, match="cannot be used") as caught:
            client.get("msgbatch_1")
        assert not caught.value.sent


# --- whether a request was sent --------------------------------------------------------


class LocalErrorTransport(httpx.BaseTransport):
    """Reads a whole request and then raises `LocalProtocolError`, as can happen over HTTP/2."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.methods.append(request.method)
        raise httpx.LocalProtocolError("received a frame with non-compliant data")


def test_an_httpx_local_protocol_error_leaves_the_create_outcome_unknown() -> None:
    transport = LocalErrorTransport()
    with httpx.Client(transport=transport) as inner:
        client = BatchesClient(api_key=KEY, client=inner, retry=RetryPolicy(initial_delay=0))
        with pytest.raises(OutcomeUnknownError):
            client.create([REQUEST], if_unmarked="send")
    assert transport.methods.count("POST") == 1


@httpx_libraries
@pytest.mark.parametrize(
    ("kind", "sent"), [("ConnectError", False), ("ReadError", True), ("ReadTimeout", True)]
)
def test_an_error_type_decides_what_was_sent_if_there_are_no_trace_events(
    library: Any, kind: str, *, sent: bool
) -> None:
    def handle(request: Any) -> Any:
        if request.method == "GET":
            return library.Response(200, json={"data": []})
        raise getattr(library, kind)("it failed")

    with library.Client(transport=library.MockTransport(handle)) as inner:
        client = BatchesClient(api_key="k", client=inner, retry=ONE_ATTEMPT)
        with pytest.raises(TransportError) as caught:
            client.create([REQUEST])
        assert caught.value.sent is sent


@httpx_carriers
def test_a_last_slice_that_httpx_requested_leaves_the_outcome_unknown(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=ONE_ATTEMPT) as client:
            with pytest.raises(OutcomeUnknownError):
                await client.create([REQUEST])

    with scripted(upload=lambda connection, _: reset(connection)) as served:
        carrier.run(scenario)


@httpx_libraries
def test_a_transport_that_never_requests_the_last_slice_has_not_sent_it(library: Any) -> None:
    class HalfwayTransport(library.BaseTransport):  # type: ignore[misc]  # of either library
        def handle_request(self, request: Any) -> Any:
            if request.method == "GET":
                return library.Response(200, json={"data": []})
            next(iter(request.stream))
            raise library.ReadError("it failed")

    with library.Client(transport=HalfwayTransport()) as inner:
        client = BatchesClient(api_key="k", client=inner, retry=ONE_ATTEMPT)
        with pytest.raises(TransportError, match="it failed") as caught:
            client.create([{"custom_id": "a", "params": {"system": "x" * 600_000}}])
        assert not caught.value.sent


@httpx_libraries
def test_an_auth_flow_that_reads_the_body_does_not_mark_it_as_sent(library: Any) -> None:
    class SigningAuth(library.Auth):  # type: ignore[misc]  # of either library
        requires_request_body = True

        def auth_flow(self, request: Any) -> Any:
            yield request

    with scripted() as served:
        base_url = served.base_url  # closed below: connections to it are refused
    with library.Client(auth=SigningAuth()) as inner:
        client = BatchesClient(api_key="k", base_url=base_url, client=inner, retry=ONE_ATTEMPT)
        with pytest.raises(TransportError) as caught:
            client.create([REQUEST])
        assert not caught.value.sent


@httpx_carriers
@pytest.mark.parametrize("end", [reply(BATCH), close], ids=["answered", "closed"])
def test_a_trace_extension_of_the_caller_still_receives_its_events(
    carrier: Carrier, end: Any
) -> None:
    names: list[str] = []

    def trace(name: str, info: dict[str, Any]) -> None:
        del info
        names.append(name)

    async def async_trace(name: str, info: dict[str, Any]) -> None:
        trace(name, info)

    is_blocking = carrier.name.endswith("sync")

    def hook(request: Any) -> None:
        request.extensions["trace"] = trace if is_blocking else async_trace

    async def async_hook(request: Any) -> None:
        hook(request)

    async def scenario() -> None:
        options = {"event_hooks": {"request": [hook if is_blocking else async_hook]}}
        async with carrier.client(served.base_url, options=options, retry=ONE_ATTEMPT) as client:
            if end is close:
                with pytest.raises(OutcomeUnknownError):
                    await client.create([REQUEST])
            else:
                assert (await client.create([REQUEST])).id == "msgbatch_1"

    with scripted(end) as served:
        carrier.run(scenario)
    assert "http11.send_request_headers.started" in names


# --- closing ---------------------------------------------------------------------------


class SlowlyClosedBody(httpx.AsyncByteStream):
    """A body that needs 10 ms to close, as TLS or a transport of the caller may."""

    is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield result_line("a")
        await anyio.sleep(10)

    async def aclose(self) -> None:
        await anyio.sleep(0.01)
        self.is_closed = True


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_httpx_stream_finishes_closing_its_body(backend: str) -> None:
    body = SlowlyClosedBody()
    batch = ended_batch(BASE)

    async def scenario() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=body))
        async with httpx.AsyncClient(transport=transport) as inner:
            client = AsyncBatchesClient(api_key=KEY, base_url=BASE, client=inner)
            with anyio.move_on_after(0.05):
                async with client.results_stream(batch) as stream:
                    async for _ in stream:
                        pass

    anyio.run(scenario, backend=backend)
    assert body.is_closed
