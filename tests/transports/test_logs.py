"""What the clients log: what went wrong and passed, and never a credential or a link's query."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest

from batches_core import BatchesError, Event, MessageBatch, RetryPolicy
from batches_core.emulator import Emulator, FaultPlan
from tests.support.carriers import CARRIERS, Carrier
from tests.support.leaks import secrets_in
from tests.support.playbook import REQUEST, batch_json, result_line
from tests.support.scripted import close, reply, scripted
from transports.emulator import running_emulator

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
raw = pytest.mark.parametrize(
    "carrier",
    [each for each in CARRIERS if each.name in {"h11-sync", "trio"}],
    ids=lambda c: c.name,
)

KEY = "sk-never-to-be-logged"
AT_ONCE = RetryPolicy(initial_delay=0.001)
BATCH = msgspec.json.encode(batch_json())


def many(count: int) -> list[dict[str, Any]]:
    return [{**REQUEST, "custom_id": f"r{n}"} for n in range(count)]


def told(caplog: pytest.LogCaptureFixture, level: int, logger: str = "transports.client") -> Any:
    return [r.getMessage() for r in caplog.records if (r.name, r.levelno) == (logger, level)]


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "transports")


@every
def test_a_create_and_a_retry_are_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    created: list[MessageBatch] = []

    async def job() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=AT_ONCE) as client:
            created.append(await client.create(many(2)))
            await client.get(created[0])
            assert [batch async for batch in client.list_all()]

    with running_emulator(Emulator(faults=FaultPlan("get:status=503"))) as base_url:
        carrier.run(job)
    made, retry = told(caplog, logging.INFO)
    assert made == f"created batch {created[0].id}"
    assert retry.startswith("retry 1 in 0.0 s: ")
    assert "503" in retry
    assert not told(caplog, logging.WARNING)
    assert told(caplog, logging.DEBUG) == [
        "a create of 2 requests is about to be sent",
        "received a page of 1 batches",
    ]


@every
def test_an_outage_in_a_wait_is_logged_as_a_warning_and_polls_are_not(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=AT_ONCE) as client:
            batch = await client.create(many(1))
            await client.wait_for(batch, poll_interval=0.001)

    served = Emulator(speed=1e6, faults=FaultPlan("get:status=503,times=3"))
    with running_emulator(served) as base_url:
        carrier.run(job)
    assert len(told(caplog, logging.INFO)) == 2  # created, and the first retry
    second, third = told(caplog, logging.WARNING)
    assert second.startswith("retry 2 in 0.0 s: ")
    assert third.startswith("retry 3 in 0.0 s: ")
    assert told(caplog, logging.DEBUG)[-1].endswith("is ended")


@every
def test_settling_and_an_adopted_batch_are_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    created: list[MessageBatch] = []

    async def job() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=AT_ONCE) as client:
            created.append(await client.create(many(2), if_unknown="settle", settle_time=0.02))

    with running_emulator(Emulator(faults=FaultPlan("create:drop=after"))) as base_url:
        carrier.run(job)
    [settling] = told(caplog, logging.WARNING)
    assert settling.startswith(
        "it is unknown whether a batch was created; searching the list for it for up to 0.02 s: "
    )
    assert told(caplog, logging.INFO) == [f"adopted batch {created[0].id}, found in the list"]


@every
def test_results_that_broke_off_are_logged_and_results_are_not(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        async with carrier.client(base_url, api_key=KEY, retry=AT_ONCE) as client:
            batch = await client.wait_for(await client.create(many(20)), poll_interval=0.01)
            before.append(len(caplog.records))
            await client.results(batch)

    before: list[int] = []
    served = Emulator(speed=1e6, faults=FaultPlan("results:cut=3000,end=close"))
    with running_emulator(served) as base_url:
        carrier.run(job)
    [broken] = told(caplog, logging.WARNING)
    assert broken.startswith("the results were interrupted after ")
    assert " items and are read again in 0.0 s: " in broken
    assert len([r for r in caplog.records[before[0] :] if r.name == "transports.client"]) == 1


@every
def test_exchanges_are_logged_by_host_path_and_status(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, api_key=KEY) as client:
            await client.get("msgbatch_1")
            await client.list(limit=7)

    page = b'{"data":[],"has_more":false}'
    with scripted(reply(BATCH), reply(page)) as served:
        carrier.run(job)
    host = served.base_url.removeprefix("http://")
    assert told(
        caplog, logging.DEBUG, f"transports.{carrier.name.partition('-')[0].rstrip('2')}"
    ) == [
        f"GET {host}/v1/messages/batches/msgbatch_1: 200",
        f"GET {host}/v1/messages/batches: 200",
    ]


@raw
def test_a_kept_connection_that_had_died_is_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        async with carrier.client(served.base_url, api_key=KEY) as client:
            await client.get("msgbatch_1")
            await client.get("msgbatch_1")

    with scripted(reply(BATCH), close, reply(BATCH)) as served:
        carrier.run(job)
    assert served.connections == 2
    [reconnect] = [
        text
        for text in told(caplog, logging.DEBUG, f"transports.{carrier.name.partition('-')[0]}")
        if "reconnecting" in text
    ]
    host = served.base_url.removeprefix("http://")
    assert reconnect.startswith(f"an idle connection to {host} was lost, reconnecting: ")


@every
def test_neither_a_key_nor_a_signed_links_query_is_logged(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    async def job() -> None:
        settings = {"api_key": KEY, "retry": AT_ONCE, "trusted_hosts": ["127.0.0.1"]}
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
        carrier.run(job)
    text = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("transports"))
    assert "the key [hidden] is wrong" in text
    assert not secrets_in(text)
    assert "secret" not in text
    assert "path-of-a-link" not in text


@every
def test_a_callback_that_fails_comes_after_the_log(
    carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    def on_event(event: Event) -> None:
        raise ZeroDivisionError(event)

    async def job() -> None:
        async with carrier.client(base_url, api_key=KEY, on_event=on_event) as client:
            with pytest.raises(ZeroDivisionError):
                [batch async for batch in client.list_all()]

    with running_emulator(Emulator()) as base_url:
        carrier.run(job)
    assert told(caplog, logging.DEBUG) == ["received a page of 0 batches"]


def test_nothing_is_printed_where_logging_is_not_configured() -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("transports").handlers)


@pytest.mark.parametrize(
    "text", [f"with {KEY} in it", "https://a.test/x?signature=1", "authorization: Bearer abc"]
)
def test_the_watch_over_all_tests_sees_a_leak(text: str) -> None:
    assert secrets_in(text)
    assert not secrets_in("GET https://a.test/v1/messages: 200; what is it? (sent=False)")
