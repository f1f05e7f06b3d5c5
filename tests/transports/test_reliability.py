"""Nothing lost, nothing bought twice, no credential astray: on every transport, over sockets."""

from __future__ import annotations

import logging
import pickle
import time
import traceback
from typing import Any

import anyio
import httpx
import httpx2
import msgspec
import pytest

from batches_core import (
    BatchCreated,
    BatchesAPI,
    BatchesError,
    Event,
    IncompleteResultsError,
    InvalidInputError,
    MessageBatch,
    OutcomeUnknownError,
    RetryPolicy,
    RetryScheduled,
    SettlingStarted,
    UntrustedHostError,
)
from batches_core.emulator import Emulator, FaultPlan
from tests.support.carriers import ASYNC_CARRIERS, CARRIERS, Carrier
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, reset, scripted
from transports.emulator import running_emulator
from transports.httpx import AsyncBatchesClient, BatchesClient

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

every = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)

KEY = "sk-carried-0123456789"
AT_ONCE = RetryPolicy(initial_delay=0.001)
BATCH = msgspec.json.encode(batch_json())
RESULTS = result_line("a") + result_line("b")


def emulator(*faults: str) -> Emulator:
    return Emulator(speed=1e6, faults=FaultPlan(*faults))


def requests(count: int) -> list[dict[str, Any]]:
    params = {
        "model": "claude-test",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": "?"}],
    }
    return [{"custom_id": f"r{n}", "params": params} for n in range(count)]


def ended(results_url: str) -> Any:
    data = batch_json(status="ended", request_counts={"succeeded": 2}, results_url=results_url)
    return msgspec.convert(data, MessageBatch, strict=False)


async def listed(client: Any) -> list[str]:
    return [batch.id async for batch in client.list_all()]


# --- creating ----------------------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "fault", ["create:drop=after", "create:status=504,taken=true", "create:cut=30,end=reset"]
)
def test_a_create_whose_answer_is_lost_is_found_and_adopted(carrier: Carrier, fault: str) -> None:
    events: list[Event] = []

    async def job() -> None:
        settings = {"retry": AT_ONCE, "on_event": events.append}
        async with carrier.client(base_url, **settings) as client:
            other = await client.create(requests(2))
            served.faults.add(fault)
            batch = await client.create(requests(2), if_unknown="settle", settle_time=0.02)
            assert await listed(client) == [batch.id, other.id]
            assert batch.request_counts.total == 2

    served = emulator()
    with running_emulator(served) as base_url:
        carrier.run(job)
    assert not served.faults.unmet
    assert [e.adopted for e in events if isinstance(e, BatchCreated)] == [False, True]
    assert sum(isinstance(event, SettlingStarted) for event in events) == 1


@every
def test_a_create_that_never_arrived_is_sent_again(carrier: Carrier) -> None:
    events: list[Event] = []

    async def job() -> None:
        settings = {"retry": AT_ONCE, "on_event": events.append}
        async with carrier.client(base_url, **settings) as client:
            batch = await client.create(requests(2), if_unknown="settle", settle_time=0.01)
            assert await listed(client) == [batch.id]

    with running_emulator(emulator("create:drop=before")) as base_url:
        carrier.run(job)
    assert [e.adopted for e in events if isinstance(e, BatchCreated)] == [False]
    assert sum(isinstance(event, RetryScheduled) for event in events) == 1


@every
def test_an_outcome_is_settled_later_by_another_client(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create(requests(3))
        kept = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            found = [await client.settle(kept, settle_time=0.02) for _ in range(2)]
            assert [batch.id for batch in found] == await listed(client) * 2
            await client.delete(found[0].id)
            # This process knows that the create made it, whatever the list shows now.
            assert (await client.settle(kept)).id == found[0].id

    with running_emulator(emulator("create:drop=after")) as base_url:
        carrier.run(job)


@every
def test_what_a_client_created_itself_does_not_settle_an_outcome(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            with pytest.raises(OutcomeUnknownError) as caught:
                await client.create(requests(2))
            later = [await client.create(requests(2)) for _ in range(2)]
            assert await client.settle(caught.value, settle_time=0.01) is None
            assert await listed(client) == [batch.id for batch in reversed(later)]

    with running_emulator(emulator("create:drop=before")) as base_url:
        carrier.run(job)


@every
def test_two_outcomes_of_one_client_are_not_settled_by_one_batch(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            outcomes = []
            for _ in range(2):
                with pytest.raises(OutcomeUnknownError) as caught:
                    await client.create(requests(2))
                outcomes.append(caught.value)
            (made,) = await listed(client)
            # The second was marked after the batch was there, so it cannot be the second's.
            found = await client.settle(outcomes[0], settle_time=0.01)
            assert found.id == made
            assert await client.settle(outcomes[1], settle_time=0.01) is None

    with running_emulator(emulator("create:drop=after", "create:drop=before")) as base_url:
        carrier.run(job)


@pytest.mark.parametrize("carrier", ASYNC_CARRIERS, ids=lambda carrier: carrier.name)
def test_creates_at_once_never_adopt_each_others_batches(carrier: Carrier) -> None:
    outcome: dict[str, Any] = {}

    async def one(client: Any, name: str) -> None:
        try:
            wanted = [{**each, "custom_id": name + each["custom_id"]} for each in requests(2)]
            outcome[name] = await client.create(wanted, if_unknown="settle", settle_time=0.1)
        except OutcomeUnknownError as error:
            outcome[name] = error

    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            async with anyio.create_task_group() as tasks:
                for name in "ABC":
                    tasks.start_soon(one, client, name)
            created = await listed(client)
            answers = [value for value in outcome.values() if isinstance(value, MessageBatch)]
            assert len({batch.id for batch in answers}) == len(answers)
            for name, value in outcome.items():
                if isinstance(value, MessageBatch):
                    batch = await client.wait_for(value.id, poll_interval=0.01)
                    await client.results(batch, expected=[f"{name}r0", f"{name}r1"])
            assert len(created) <= 3

    # One is dropped before it arrives, and one is answered late.
    faults = ["create:drop=before", "create:delay=0.05,after=1"]
    with running_emulator(emulator(*faults)) as base_url:
        carrier.run(job)
    assert len(outcome) == 3


@every
def test_two_creates_of_one_client_never_adopt_one_batch(carrier: Carrier) -> None:
    clock = [time.time()]

    def on_event(event: Event) -> None:
        if isinstance(event, SettlingStarted):
            clock[0] += 100  # by now the list shows the first one, which the marker did not see

    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE, on_event=on_event) as client:
            first = await client.create(requests(2), if_unknown="settle")
            second = await client.create(requests(2), if_unknown="settle", settle_time=0.01)
            assert first.id != second.id
            clock[0] += 100
            assert await listed(client) == [second.id, first.id]

    served = emulator("create:unlisted_for=10,times=2", "create:drop=before,after=1")
    with running_emulator(served, clock=lambda: clock[0]) as base_url:
        carrier.run(job)
    assert len(served.faults.applied) == 3


# --- results -----------------------------------------------------------------------------


@every
@pytest.mark.parametrize("end", ["clean", "close", "reset"])
def test_results_that_break_off_are_completed_and_held_against_the_ids(
    carrier: Carrier, end: str
) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            batch = await client.create(requests(20))
            batch = await client.wait_for(batch.id, poll_interval=0.01)
            ids = [request["custom_id"] for request in requests(20)]
            items = await client.results(batch, expected=ids)
            assert sorted(item.custom_id for item in items) == sorted(ids)
            with pytest.raises(
                IncompleteResultsError, match=r"missing ids \(1\): z; unexpected ids \(1\): r19"
            ):
                await client.results(batch, expected=[*ids[:-1], "z"])

    served = emulator(f"results:cut=3000,end={end}")
    with running_emulator(served) as base_url:
        carrier.run(job)
    assert not served.faults.unmet


@every
def test_an_outage_and_passing_refusals_are_waited_out(carrier: Carrier) -> None:
    async def job() -> None:
        async with carrier.client(base_url, retry=AT_ONCE) as client:
            batch = await client.create(requests(1))
            assert (await client.wait_for(batch.id, poll_interval=0.005)).ended

    faults = ["get:status=503,times=4", "get:drop=before,times=3", "get:status=404"]
    served = emulator(*faults)
    with running_emulator(served) as base_url:
        carrier.run(job)
    assert not served.faults.unmet


# --- credentials -------------------------------------------------------------------------


@every
@pytest.mark.parametrize("credential", [{"api_key": KEY}, {"api_key": None, "auth_token": KEY}])
@pytest.mark.parametrize("way", ["results_url", "redirect"])
def test_another_origin_gets_no_credential(
    carrier: Carrier, way: str, credential: dict[str, Any]
) -> None:
    async def job() -> None:
        place = f"{elsewhere.base_url}/r"
        batch = ended(place if way == "results_url" else f"{api.base_url}/r")
        async with carrier.client(api.base_url, **credential) as client:
            with pytest.raises(UntrustedHostError):
                await client.results(batch)
        trusted = {"trusted_hosts": ["127.0.0.1"], **credential}
        async with carrier.client(api.base_url, **trusted) as client:
            assert len(await client.results(batch)) == 2

    def lead_away(connection: Any) -> bool:
        location = b"location: %s/r\r\n" % elsewhere.base_url.encode()
        return reply(b"", 302, location)(connection)

    with scripted(reply(RESULTS)) as elsewhere, scripted(lead_away, lead_away) as api:
        carrier.run(job)
    assert len(elsewhere.requests) == 1
    assert len(api.requests) == (0 if way == "results_url" else 2)
    assert KEY.encode() not in elsewhere.requests[0]
    assert all(KEY.encode() in request for request in api.requests)


@every
def test_a_key_is_not_shown_to_a_proxy_on_its_way_to_this_machine(
    carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def job() -> None:
        if carrier.name in {"h11-sync", "trio"}:
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
        carrier.run(job)
    assert (len(api.requests), len(proxy.requests)) == (1, 0)


@pytest.mark.parametrize(
    "names", [{}, {"api_key": KEY, "auth_token": KEY}, {"api_key": KEY + "\n"}]
)
@pytest.mark.parametrize("settings", [{}, {"base_url": "http://x.test"}, {"retry": 5}])
def test_no_credential_is_shown_where_a_client_is_not_made(
    names: dict[str, str], settings: dict[str, Any]
) -> None:
    arguments = {"api_key": KEY, **names, **settings, "betas": "no list"}
    with pytest.raises(InvalidInputError) as caught:
        BatchesAPI(**arguments)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    _keep_ours(report)
    assert KEY not in "".join([*report.format(), repr(caught.value)])


HANDED_IN = {"headers": {"authorization": f"Bearer {KEY}"}, "auth": ("me", KEY)}


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_what_a_handed_in_client_has_for_the_api_stays_there(library: Any) -> None:
    with (
        scripted(reply(RESULTS)) as elsewhere,
        library.Client(**HANDED_IN) as inner,
        BatchesClient(api_key="k", client=inner, trusted_hosts=["127.0.0.1"]) as client,
    ):
        assert len(client.results(ended(f"{elsewhere.base_url}/r"))) == 2
    assert b"authorization" not in elsewhere.requests[0].lower()


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
@pytest.mark.anyio
async def test_what_a_handed_in_async_client_has_for_the_api_stays_there(library: Any) -> None:
    with scripted(reply(RESULTS)) as elsewhere:
        async with library.AsyncClient(**HANDED_IN) as inner:
            client = AsyncBatchesClient(api_key="k", client=inner, trusted_hosts=["127.0.0.1"])
            assert len(await client.results(ended(f"{elsewhere.base_url}/r"))) == 2
    assert b"authorization" not in elsewhere.requests[0].lower()


SILENT = [
    close,
    reset,
    raw(b"nonsense\r\n\r\n", keep=False),
    raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{", keep=False),
    reply(b"<html>", 502),
    reply(b'{"id": "msgbatch_1"}'),
]
#: Answers that repeat the credential.
INDISCREET = [
    raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + KEY.encode(), keep=False),
    reply(b'{"error": {"message": "the key %s is wrong"}}' % KEY.encode(), 401),
    reply(b"<html>%s</html>" % KEY.encode()),
    reply(b"%s" % KEY.encode(), 502),
    reply(b'{"id": "%s"}' % KEY.encode()),
    reply(b"", 307, b"location: http://elsewhere.test/?%s\r\n" % KEY.encode()),
]


@every
@pytest.mark.parametrize("credential", [{"api_key": KEY}, {"api_key": None, "auth_token": KEY}])
@pytest.mark.parametrize("failure", [*SILENT, *INDISCREET])
def test_no_credential_is_shown_anywhere(
    carrier: Carrier, failure: Any, credential: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[str] = []

    async def job() -> None:
        settings = {"retry": RetryPolicy(attempts=2, initial_delay=0), **credential}
        async with carrier.client(
            served.base_url, on_event=lambda event: shown.append(repr(event)), **settings
        ) as client:
            shown.append(repr(client))
            calls: list[tuple[Any, Any]] = [
                (client.get, "msgbatch_1"),
                (client.create, requests(1)),
                (client.results, ended(f"{served.base_url}/r")),
            ]
            for call, argument in calls:
                with pytest.raises(BatchesError) as caught:
                    await call(argument)
                error = caught.value
                shown.extend((repr(error), str(error), repr(error.args)))
                if not isinstance(error, OutcomeUnknownError) and hasattr(error, "body"):
                    shown.append(repr(error.body))
                # With local variables too, but for the bytes of an answer that repeats it, and
                # of our own frames: what a test or a library holds is not ours to hide.
                report = traceback.TracebackException.from_exception(
                    error, capture_locals=failure in SILENT
                )
                _keep_ours(report)
                shown.extend(report.format())

    caplog.set_level(logging.DEBUG)
    with scripted(*[failure] * 6) as served:
        carrier.run(job)
    # What a library logs of an answer that repeats it is not ours to hide either.
    everything = "\n".join([*shown, caplog.text if failure in SILENT else ""])
    assert "batches_core" in everything
    assert KEY not in everything


def _keep_ours(report: traceback.TracebackException) -> None:
    """Drop the frames of tests and libraries from a report, and from those that it follows."""
    ours = ("/batches_core/", "/transports/")
    report.stack[:] = [
        frame
        for frame in report.stack
        if any(part in frame.filename for part in ours)
        and not any(part in frame.filename for part in ("/tests/", "/site-packages/"))
    ]
    for before in (report.__cause__, report.__context__):
        if before is not None:
            _keep_ours(before)
