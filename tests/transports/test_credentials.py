"""Credentials go to the API alone, and appear in no error, event, repr or log."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from typing import Any

import pytest

import transports.asyncio
import transports.h11
from batches_core import (
    APIStatusError,
    AuthenticationError,
    BatchesAPI,
    BatchesError,
    InvalidInputError,
    OutcomeUnknownError,
    RetryPolicy,
    TransportError,
    UntrustedHostError,
)
from batches_core.emulator import Emulator
from tests.support.batches import BATCH, ONE_ATTEMPT, ended_batch
from tests.support.carriers import RAW, Carrier
from tests.support.marks import every_carrier, httpx_libraries
from tests.support.playbook import REQUEST, result_line
from tests.support.scripted import close, raw, reply, reset, scripted
from transports.emulator import running_emulator
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

KEY = "sk-carried-0123456789"
RESULTS = result_line("a") + result_line("b")

credentials = pytest.mark.parametrize(
    "credential",
    [{"api_key": KEY}, {"api_key": None, "auth_token": KEY}],
    ids=["api_key", "auth_token"],
)


# --- where credentials go --------------------------------------------------------------


@every_carrier
@credentials
@pytest.mark.parametrize("through", ["results_url", "redirect"])
def test_a_request_to_another_origin_carries_no_credential(
    carrier: Carrier, through: str, credential: dict[str, Any]
) -> None:
    async def scenario() -> None:
        server = elsewhere if through == "results_url" else api
        batch = ended_batch(server.base_url, 2)
        async with carrier.client(api.base_url, **credential) as client:
            with pytest.raises(UntrustedHostError):
                await client.results(batch)
        trusted = {"trusted_hosts": ["127.0.0.1"], **credential}
        async with carrier.client(api.base_url, **trusted) as client:
            assert len(await client.results(batch)) == 2

    def redirect(connection: Any) -> bool:
        location = b"location: %s/results\r\n" % elsewhere.base_url.encode()
        return reply(b"", 302, location)(connection)

    with scripted(reply(RESULTS)) as elsewhere, scripted(redirect, redirect) as api:
        carrier.run(scenario)
    assert len(elsewhere.requests) == 1
    assert len(api.requests) == (0 if through == "results_url" else 2)
    assert KEY.encode() not in elsewhere.requests[0]
    assert all(KEY.encode() in request for request in api.requests)


@every_carrier
def test_a_request_to_loopback_bypasses_the_proxies_of_the_environment(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        if carrier in RAW:
            async with carrier.client(api.base_url) as client:
                await client.get("msgbatch_1")
        elif carrier.name.endswith("sync"):
            with BatchesClient(api_key=KEY, base_url=api.base_url) as client:
                client.get("msgbatch_1")
        else:
            async with AsyncBatchesClient(api_key=KEY, base_url=api.base_url) as client:
                await client.get("msgbatch_1")

    with scripted(reply(BATCH)) as api, scripted(reply(BATCH)) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base_url)
        carrier.run(scenario)
    assert (len(api.requests), len(proxy.requests)) == (1, 0)


#: The settings of a passed httpx client that has credentials of its own.
WITH_CREDENTIALS = {"headers": {"authorization": f"Bearer {KEY}"}, "auth": ("me", KEY)}


@httpx_libraries
def test_a_passed_httpx_client_sends_its_credentials_only_to_the_api(library: Any) -> None:
    with (
        scripted(reply(RESULTS)) as elsewhere,
        library.Client(**WITH_CREDENTIALS) as inner,
        BatchesClient(api_key="k", client=inner, trusted_hosts=["127.0.0.1"]) as client,
    ):
        assert len(client.results(ended_batch(elsewhere.base_url, 2))) == 2
    assert b"authorization" not in elsewhere.requests[0].lower()


@httpx_libraries
@pytest.mark.anyio
async def test_a_passed_async_httpx_client_sends_its_credentials_only_to_the_api(
    library: Any,
) -> None:
    with scripted(reply(RESULTS)) as elsewhere:
        async with library.AsyncClient(**WITH_CREDENTIALS) as inner:
            client = AsyncBatchesClient(api_key="k", client=inner, trusted_hosts=["127.0.0.1"])
            assert len(await client.results(ended_batch(elsewhere.base_url, 2))) == 2
    assert b"authorization" not in elsewhere.requests[0].lower()


# --- where they never appear -----------------------------------------------------------


@every_carrier
def test_a_wrong_api_key_raises_an_authentication_error_and_is_not_shown(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, api_key="sk-secret-and-wrong") as client:
            with pytest.raises(AuthenticationError) as caught:
                await client.get("msgbatch_1")
            error = caught.value
            assert "sk-secret" not in f"{error}{error!r}{vars(error)}{client!r}"

    with running_emulator(Emulator(api_keys={"right"})) as base_url:
        carrier.run(scenario)


@pytest.mark.parametrize(
    "credentials",
    [{}, {"api_key": KEY, "auth_token": KEY}, {"api_key": KEY + "\n"}],
    ids=["valid", "two", "line break"],
)
@pytest.mark.parametrize("settings", [{}, {"base_url": "http://x.test"}, {"retry": 5}], ids=str)
def test_an_error_about_client_parameters_shows_no_credential(
    credentials: dict[str, str], settings: dict[str, Any]
) -> None:
    arguments = {"api_key": KEY, **credentials, **settings, "betas": "not a list"}
    with pytest.raises(InvalidInputError) as caught:
        BatchesAPI(**arguments)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    keep_package_frames(report)
    assert KEY not in "".join([*report.format(), repr(caught.value)])


FAILURES: dict[str, Any] = {
    "closed": close,
    "reset": reset,
    "not HTTP": raw(b"nonsense\r\n\r\n", keep=False),
    "cut off": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", keep=False),
    "502": reply(b"<html>", 502),
    "not a batch": reply(b'{"id": "msgbatch_1"}'),
}
#: Responses that repeat the credential.
ECHOES: dict[str, Any] = {
    "cut off echo": raw(
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + KEY.encode(), keep=False
    ),
    "401 echo": reply(b'{"error": {"message": "the key %s is wrong"}}' % KEY.encode(), 401),
    "HTML echo": reply(b"<html>%s</html>" % KEY.encode()),
    "502 echo": reply(b"%s" % KEY.encode(), 502),
    "id echo": reply(b'{"id": "%s"}' % KEY.encode()),
    "redirect echo": reply(b"", 307, b"location: http://elsewhere.test/?%s\r\n" % KEY.encode()),
}


@every_carrier
@credentials
@pytest.mark.parametrize("failure", [*FAILURES, *ECHOES])
def test_a_credential_appears_in_no_error_event_repr_or_log(
    carrier: Carrier, failure: str, credential: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []

    async def scenario() -> None:
        settings = {"retry": RetryPolicy(attempts=2, initial_delay=0), **credential}
        async with carrier.client(
            served.base_url, on_event=lambda event: shown.append(repr(event)), **settings
        ) as client:
            shown.append(repr(client))
            calls: list[tuple[Any, Any]] = [
                (client.get, "msgbatch_1"),
                (client.create, [REQUEST]),
                (client.results, ended_batch(served.base_url, 2)),
            ]
            for call, argument in calls:
                with pytest.raises(BatchesError) as caught:
                    await call(argument)
                error = caught.value
                shown.extend((repr(error), str(error), repr(error.args)))
                if not isinstance(error, OutcomeUnknownError) and hasattr(error, "body"):
                    shown.append(repr(error.body))
                # Local variables are shown too, unless they hold a response that repeats the key.
                report = traceback.TracebackException.from_exception(
                    error, capture_locals=failure in FAILURES
                )
                keep_package_frames(report)
                shown.extend(report.format())

    caplog.set_level(logging.DEBUG)
    with scripted(*[{**FAILURES, **ECHOES}[failure]] * 6) as served:
        carrier.run(scenario)
    # A library may log a response that repeats the key.
    everything = "\n".join([*shown, caplog.text if failure in FAILURES else ""])
    assert "batches_core" in everything
    assert KEY not in everything


@every_carrier
def test_a_credential_on_which_a_long_reason_is_cut_is_not_shown(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, api_key=KEY, retry=ONE_ATTEMPT) as client:
            for _ in lengths:
                with pytest.raises(TransportError) as caught:
                    await client.get("msgbatch_1")
                assert KEY[:8] not in str(caught.value)

    lengths = range(140, 260, 6)
    replies = [
        raw(b"x" * length + KEY.encode() + b"x" * 99 + b"\r\n\r\n", keep=False)
        for length in lengths
    ]
    with scripted(*replies) as served:
        carrier.run(scenario)


@every_carrier
def test_a_credential_on_which_the_body_of_an_error_is_cut_is_not_kept(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, api_key=KEY, retry=ONE_ATTEMPT) as client:
            with pytest.raises(APIStatusError) as caught:
                await client.get("msgbatch_1")
            assert KEY[:8].encode() not in caught.value.body

    with scripted(reply(b"x" * (65536 - 12) + KEY.encode() * 9, 400)) as served:
        carrier.run(scenario)


def locals_of_packages(error: BaseException) -> str:
    """Return a traceback with the local variables of the frames of the packages."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    keep_package_frames(report)
    return "".join(report.format())


def test_an_interrupt_of_a_blocking_send_shows_no_credential() -> None:
    class InterruptedSocket(socket.socket):
        def send(self, *_: Any) -> int:
            raise KeyboardInterrupt

    def connect(host: str, port: int) -> socket.socket:
        connected = InterruptedSocket()
        connected.connect((host, port))
        return connected

    with scripted() as served:
        with (
            transports.h11.BatchesClient(
                api_key=KEY, base_url=served.base_url, connect=connect
            ) as client,
            pytest.raises(KeyboardInterrupt) as caught,
        ):
            client.get("msgbatch_1")
        assert KEY not in locals_of_packages(caught.value)


def test_a_cancellation_at_any_asyncio_step_shows_no_credential() -> None:
    shown: list[str] = []

    async def scenario() -> None:
        async with transports.asyncio.BatchesClient(
            api_key=KEY, base_url=served.base_url
        ) as client:
            for steps in range(1, 40):
                task = asyncio.ensure_future(client.get("msgbatch_1"))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError as error:
                    shown.append(locals_of_packages(error))

    with scripted(*[reply(BATCH)] * 50) as served:
        asyncio.run(scenario())
    assert len(shown) > 3
    assert KEY not in "".join(shown)


def keep_package_frames(report: traceback.TracebackException) -> None:
    """Drop the frames of tests and libraries from a report, and from those of its causes.

    The packages cannot hide the local variables of a test or a library.
    """
    packages = ("/batches_core/", "/transports/")
    report.stack[:] = [
        frame
        for frame in report.stack
        if any(part in frame.filename for part in packages)
        and not any(part in frame.filename for part in ("/tests/", "/site-packages/"))
    ]
    for before in (report.__cause__, report.__context__):
        if before is not None:
            keep_package_frames(before)
