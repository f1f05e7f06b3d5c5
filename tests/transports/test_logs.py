"""What the clients log: exchanges, retries, outcomes; never a credential or a query."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from batches_core import BatchesError, Event, MessageBatch
from batches_core.emulator import Emulator, FaultPlan
from tests.conftest import leaks
from tests.support.batches import BATCH, QUICK_RETRIES
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier, raw_carriers
from tests.support.playbook import REQUEST, batch_json, result_line
from tests.support.scripted import close, reply, scripted
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

KEY = "sk-never-to-be-logged"


def requests(count: int) -> list[dict[str, Any]]:
    return [{**REQUEST, "custom_id": f"r{n}"} for n in range(count)]


def logger_of(carrier: Carrier) -> str:
    return f"transports.{carrier.name.partition('-')[0].rstrip('2')}"


def messages(
    caplog: pytest.LogCaptureFixture, level: int, logger: str = "transports.client"
) -> list[str]:
    """Return the messages that a logger recorded at one level."""
    return [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelno) == (logger, level)
    ]


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "transports")


@every_carrier
def test_a_create_and_a_retry_are_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    created: list[MessageBatch] = []

    async def scenario() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=QUICK_RETRIES) as client:
            created.append(await client.create(requests(2)))
            await client.get(created[0])
            assert [batch async for batch in client.list_all()]

    with running_emulator(Emulator(faults=FaultPlan("get:status=503"))) as base_url:
        carrier.run(scenario)
    creation, retry = messages(caplog, logging.INFO)
    assert creation == f"created batch {created[0].id}"
    assert retry.startswith("retry 1 in 0.0 s: ")
    assert "503" in retry
    assert not messages(caplog, logging.WARNING)
    assert messages(caplog, logging.DEBUG) == [
        "a create of 2 requests is about to be sent",
        "received a page of 1 batches",
    ]


@every_carrier
def test_repeated_retries_of_a_wait_are_logged_as_warnings(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=QUICK_RETRIES) as client:
            batch = await client.create(requests(1))
            await client.wait_for(batch, poll_interval=0.001)

    served = Emulator(speed=1e6, faults=FaultPlan("get:status=503,times=3"))
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    assert len(messages(caplog, logging.INFO)) == 2  # the creation and the first retry
    second, third = messages(caplog, logging.WARNING)
    assert second.startswith("retry 2 in 0.0 s: ")
    assert third.startswith("retry 3 in 0.0 s: ")
    assert messages(caplog, logging.DEBUG)[-1].endswith("is ended")


@every_carrier
def test_settling_and_an_adopted_batch_are_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    created: list[MessageBatch] = []

    async def scenario() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=QUICK_RETRIES) as client:
            created.append(await client.create(requests(2), if_unknown="settle", settle_time=0.02))

    with running_emulator(Emulator(faults=FaultPlan("create:drop=after"))) as base_url:
        carrier.run(scenario)
    [settling] = messages(caplog, logging.WARNING)
    assert settling.startswith(
        "it is unknown whether a batch was created; searching the list for it for up to 0.02 s: "
    )
    assert messages(caplog, logging.INFO) == [f"adopted batch {created[0].id}, found in the list"]


@every_carrier
def test_results_that_break_off_are_logged_once_and_items_are_not(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=QUICK_RETRIES) as client:
            batch = await client.wait_for(await client.create(requests(20)), poll_interval=0.01)
            records_before.append(len(caplog.records))
            await client.results(batch)

    records_before: list[int] = []
    served = Emulator(speed=1e6, faults=FaultPlan("results:cut=3000,end=close"))
    with running_emulator(served) as base_url:
        carrier.run(scenario)
    [message] = messages(caplog, logging.WARNING)
    assert message.startswith("the results broke off after ")
    assert " items and are read again in 0.0 s: " in message
    records = caplog.records[records_before[0] :]
    assert sum(record.name == "transports.client" for record in records) == 1


@every_carrier
def test_exchanges_are_logged_with_host_path_and_status(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, api_key=KEY) as client:
            await client.get("msgbatch_1")
            await client.list(limit=7)

    page = b'{"data":[],"has_more":false}'
    with scripted(reply(BATCH), reply(page)) as served:
        carrier.run(scenario)
    host = served.base_url.removeprefix("http://")
    assert messages(caplog, logging.DEBUG, logger_of(carrier)) == [
        f"GET {host}/v1/messages/batches/msgbatch_1: 200",
        f"GET {host}/v1/messages/batches: 200",
    ]


@raw_carriers
def test_replacing_a_kept_connection_that_died_is_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, api_key=KEY) as client:
            await client.get("msgbatch_1")
            await client.get("msgbatch_1")

    with scripted(reply(BATCH), close, reply(BATCH)) as served:
        carrier.run(scenario)
    assert served.connections == 2
    [reconnect] = [
        text
        for text in messages(caplog, logging.DEBUG, logger_of(carrier))
        if "reconnecting" in text
    ]
    host = served.base_url.removeprefix("http://")
    assert reconnect.startswith(f"an idle connection to {host} was lost, reconnecting: ")


@every_carrier
def test_credentials_and_query_strings_are_not_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        settings = {"api_key": KEY, "retry": QUICK_RETRIES, "trusted_hosts": ["127.0.0.1"]}
        async with carrier.client(api.base_url, **settings) as client:
            link = f"{elsewhere.base_url}/path-of-a-link?signature=secret"
            data = batch_json(status="ended", request_counts={"succeeded": 1}, results_url=link)
            await client.results(msgspec.convert(data, MessageBatch, strict=False))
            with pytest.raises(BatchesError):
                await client.get("msgbatch_1")

    refusal = reply(b'{"error":{"message":"the key %s is wrong"}}' % KEY.encode(), 503)
    with (
        scripted(close, reply(b"", 503), reply(result_line("a"))) as elsewhere,
        scripted(refusal, refusal, refusal) as api,
    ):
        carrier.run(scenario)
    text = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("transports")
    )
    assert "the key [hidden] is wrong" in text
    assert not secrets_in(text)
    assert "secret" not in text
    assert "path-of-a-link" not in text


@every_carrier
def test_an_event_is_logged_before_the_event_callback_runs(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    def on_event(event: Event) -> None:
        raise ZeroDivisionError(event)

    async def scenario() -> None:
        async with carrier.client(base_url, api_key=KEY, on_event=on_event) as client:
            with pytest.raises(ZeroDivisionError):
                [batch async for batch in client.list_all()]

    with running_emulator(Emulator()) as base_url:
        carrier.run(scenario)
    assert messages(caplog, logging.DEBUG) == ["received a page of 0 batches"]


def test_nothing_is_printed_if_logging_is_not_configured() -> None:
    handlers = logging.getLogger("transports").handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


@pytest.mark.parametrize(
    "text",
    [f"with {KEY} in it", "https://a.test/x?signature=1", "authorization: Bearer abc"],
    ids=["key", "query", "token"],
)
def test_the_log_watch_over_all_tests_detects_a_leak(text: str) -> None:
    assert leaks(text)
    assert not leaks("GET https://a.test/v1/messages: 200; what is it? (sent=False)")
