"""What is retried after a lost response, and what is reported, on every transport."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core import OutcomeUnknownError, TransportError
from tests.support.batches import (
    BATCH,
    CHUNKED,
    ONE_ATTEMPT,
    QUICK_RETRIES,
    chunk,
    ended_batch,
    read_until_error,
)
from tests.support.carriers import Carrier
from tests.support.marks import every_carrier
from tests.support.playbook import REQUEST, result_line
from tests.support.scripted import close, raw, reply, reset, scripted

pytestmark = pytest.mark.usefixtures("nothing_left_behind")

REQUESTS = [{**REQUEST, "custom_id": f"r-{n}"} for n in range(30)]

ends = pytest.mark.parametrize("end", [close, reset], ids=["closed", "reset"])


@every_carrier
@ends
def test_a_create_is_not_retried_after_a_lost_response(carrier: Carrier, end: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            with pytest.raises(OutcomeUnknownError, match="30 requests"):
                await client.create(REQUESTS)

    with scripted(end, reply(BATCH)) as served:
        carrier.run(scenario)
    assert len(served.requests) == 1


@every_carrier
@ends
def test_a_read_is_retried_after_a_lost_response(carrier: Carrier, end: Any) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            assert (await client.get("msgbatch_1")).id == "msgbatch_1"

    with scripted(end, reply(BATCH)) as served:
        carrier.run(scenario)
    assert len(served.requests) == 2


@every_carrier
def test_a_delete_succeeds_if_its_retry_after_a_lost_response_gets_a_404(carrier: Carrier) -> None:
    async def scenario() -> None:
        async with carrier.client(served.base_url, retry=QUICK_RETRIES) as client:
            await client.get("msgbatch_1")
            assert (await client.delete("msgbatch_1")).id == "msgbatch_1"

    with scripted(reply(BATCH), close, reply(b"{}", 404)) as served:
        carrier.run(scenario)


@every_carrier
def test_a_refused_connection_raises_a_transport_error_with_nothing_sent(carrier: Carrier) -> None:
    with scripted() as served:
        base_url = served.base_url  # closed below: connections to it are refused

    async def scenario() -> None:
        async with carrier.client(base_url, retry=QUICK_RETRIES) as client:
            with pytest.raises(
                TransportError, match=r"127\.0\.0\.1.*was not sent completely"
            ) as caught:
                await client.create(REQUESTS)
            assert not isinstance(caught.value, OutcomeUnknownError)
            assert not caught.value.sent

    carrier.run(scenario)


@every_carrier
def test_a_silent_peer_raises_a_transport_error_after_the_timeout(carrier: Carrier) -> None:
    async def scenario() -> None:
        settings = {"timeout": 0.1, "retry": ONE_ATTEMPT}
        async with carrier.client(served.base_url, **settings) as client:
            with pytest.raises(TransportError, match=r"no byte came .* in 0\.1 s"):
                await client.get("msgbatch_1")
            stream = client.results_stream(ended_batch(served.base_url))
            custom_ids, error = await read_until_error(stream)
            assert custom_ids == ["a"]
            assert isinstance(error, TransportError)
            assert "no byte came" in str(error)

    silent_in_body = raw(CHUNKED, chunk(result_line("a")))
    with scripted(raw(), silent_in_body) as served:
        carrier.run(scenario)
