"""The limits of an account, and the record of what was sold."""

from __future__ import annotations

from typing import Any

import pytest

from batches_core.emulator import Emulator, FaultPlan
from tests.support.emulator_client import CREATED_AT, Client, ClientResponse, requests

START = CREATED_AT.timestamp()


def create(client: Client, count: int) -> ClientResponse:
    return client.call("POST", body={"requests": requests(count)})


def test_a_batch_is_refused_with_a_429_if_the_queue_would_be_too_long() -> None:
    client = Client(Emulator(queue_limit=5, parallel=1))
    assert create(client, 3).status == 200
    response = create(client, 3)
    assert response.status == 429
    assert dict(response.headers)["retry-after"] == "30"
    assert "x-should-retry" not in dict(response.headers)
    assert create(client, 2).status == 200


def test_processed_requests_leave_the_queue() -> None:
    client = Client(Emulator(queue_limit=4, parallel=1, seconds_per_request=10))
    assert create(client, 4).status == 200
    client.now = START + 9
    assert create(client, 1).status == 429
    client.now = START + 10
    assert create(client, 1).status == 200
    client.now = START + 1000
    assert create(client, 4).status == 200


def test_requests_beyond_the_rate_are_refused_until_a_minute_has_passed() -> None:
    client = Client(Emulator(requests_per_minute=2))
    for _ in range(2):
        assert client.call("GET").status == 200
    client.now = START + 20
    response = client.call("GET")
    assert response.status == 429
    assert dict(response.headers)["retry-after"] == "40"
    client.now = START + 60
    assert client.call("GET").status == 200


@pytest.mark.parametrize("limit", ["queue_limit", "requests_per_minute"])
def test_a_limit_below_one_is_refused(limit: str) -> None:
    settings: dict[str, Any] = {limit: 0}
    with pytest.raises(ValueError, match=f"{limit} must be 1 or more, not 0"):
        Emulator(**settings)


def test_sales_list_every_accepted_batch_and_no_refused_one() -> None:
    emulator = Emulator(queue_limit=3, parallel=1)
    client = Client(emulator)
    create(client, 2)
    create(client, 2)
    (sale,) = emulator.sales
    assert len(sale.custom_ids) == 2


def test_a_create_whose_response_is_lost_is_sold() -> None:
    emulator = Emulator(faults=FaultPlan("create:drop=after"))
    create(Client(emulator), 2)
    assert [len(sale.custom_ids) for sale in emulator.sales] == [2]


def test_only_answered_requests_of_ended_batches_are_billed() -> None:
    emulator = Emulator(errored=0.5)
    client = Client(emulator)
    create(client, 40)
    assert emulator.billed(START) == 0
    assert 0 < emulator.billed(START + 1000) < 40
