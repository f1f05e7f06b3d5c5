from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest

from batches_core.emulator import Emulator
from tests.support.emulator_client import (
    BATCHES,
    CREATED_AT,
    DAY,
    ORIGIN,
    Client,
    request,
    requests,
)


def counts(**changes: int) -> dict[str, int]:
    none = dict.fromkeys(("canceled", "errored", "expired", "processing", "succeeded"), 0)
    return {**none, **changes}


def moment(text: str) -> datetime:
    assert text.endswith("+00:00")
    assert text[19] == "."
    return datetime.fromisoformat(text)


def after(seconds: float) -> datetime:
    return CREATED_AT + timedelta(seconds=seconds)


def outcomes(client: Client, id_: str) -> dict[str, int]:
    return Counter(result["type"] for result in client.results(id_).values())


# --- processing ------------------------------------------------------------------------


def test_all_counts_but_processing_stay_0_until_the_batch_ends() -> None:
    client = Client()
    id_ = client.create([*requests(2), request("bad", max_tokens=0)])
    for seconds in (0, 12, 24.99):
        client.now = CREATED_AT.timestamp() + seconds
        batch = client.get(id_)
        assert batch["processing_status"] == "in_progress"
        assert batch["request_counts"] == counts(processing=3)
        assert batch["ended_at"] is batch["results_url"] is None
        assert client.call("GET", f"/{id_}/results").error[:2] == (404, "not_found_error")
    client.now = CREATED_AT.timestamp() + 30
    batch = client.get(id_)
    assert batch["processing_status"] == "ended"
    assert batch["request_counts"] == counts(succeeded=2, errored=1)
    assert after(25) <= moment(batch["ended_at"]) <= after(30)
    assert batch["results_url"] == f"{ORIGIN}{BATCHES}/{id_}/results"
    assert batch["archived_at"] is batch["cancel_initiated_at"] is None
    assert outcomes(client, id_) == {"succeeded": 2, "errored": 1}
    client.now += DAY
    assert client.get(id_) == batch


def test_a_batch_ends_at_its_ended_at() -> None:
    client = Client()
    id_ = client.create(requests(3))
    client.now += 60
    ended_at = moment(client.get(id_)["ended_at"]).timestamp()
    again = Client()
    assert again.create(requests(3)) == id_
    for seconds, status in ((-0.001, "in_progress"), (0.001, "ended")):
        again.now = ended_at + seconds
        assert again.get(id_)["processing_status"] == status


def duration(**pace: Any) -> float:
    client = Client(Emulator(**{"seconds_per_request": 10, **pace}))
    id_ = client.create(requests(12))
    client.now += DAY
    return (moment(client.get(id_)["ended_at"]) - CREATED_AT).total_seconds()


def test_speed_divides_the_duration_of_a_batch() -> None:
    usual = duration(parallel=5)
    assert 20 < usual <= 30
    assert duration(parallel=5, speed=10) == pytest.approx(usual / 10, abs=1e-5)
    assert duration(parallel=5, speed=0.5) == pytest.approx(usual * 2, abs=1e-5)


def test_requests_are_processed_in_parallel() -> None:
    assert 110 < duration(parallel=1) <= 120
    assert 5 <= duration(parallel=12) <= 10


# --- cancel ----------------------------------------------------------------------------


def test_a_canceled_batch_finishes_the_started_requests_and_then_ends() -> None:
    client = Client()
    id_ = client.create(requests(5))
    client.now += 12
    canceled = client.ok("POST", f"/{id_}/cancel")
    assert canceled["processing_status"] == "canceling"
    assert canceled["request_counts"] == counts(processing=5)
    assert moment(canceled["cancel_initiated_at"]) == after(12)
    assert canceled["ended_at"] is canceled["results_url"] is None
    client.now += 2.99
    assert client.get(id_) == canceled
    client.now += 5.01
    batch = client.get(id_)
    assert batch["processing_status"] == "ended"
    assert batch["request_counts"] == counts(succeeded=2, canceled=3)
    assert moment(batch["cancel_initiated_at"]) == after(12)
    assert after(15) <= moment(batch["ended_at"]) <= after(20)
    results = client.results(id_)
    assert [results[name]["type"] for name in ("r0", "r1")] == ["succeeded"] * 2
    assert [results[name] for name in ("r2", "r3", "r4")] == [{"type": "canceled"}] * 3


def test_a_cancel_after_every_request_has_started_cancels_none() -> None:
    client = Client()
    id_ = client.create(requests(2))
    client.now += 11
    client.ok("POST", f"/{id_}/cancel")
    client.now += 10
    assert client.get(id_)["request_counts"] == counts(succeeded=2)


def test_a_second_cancel_has_no_effect() -> None:
    client = Client()
    id_ = client.create(requests(5))
    client.now += 12
    first = client.ok("POST", f"/{id_}/cancel")
    client.now += 2
    assert client.ok("POST", f"/{id_}/cancel") == first
    client.now += 60
    assert client.get(id_)["request_counts"] == counts(succeeded=2, canceled=3)


@pytest.mark.parametrize("cancel_first", [False, True])
def test_canceling_an_ended_batch_is_a_400(*, cancel_first: bool) -> None:
    client = Client()
    id_ = client.create(requests(3))
    if cancel_first:
        client.ok("POST", f"/{id_}/cancel")
    client.now += 60
    before = client.get(id_)
    assert client.call("POST", f"/{id_}/cancel").error[:2] == (400, "invalid_request_error")
    assert client.get(id_) == before


def test_ended_at_is_never_before_cancel_initiated_at() -> None:
    client = Client()
    id_ = client.create(requests(3))
    # The first request has finished by now, and the second has not started.
    client.now += 9.999
    assert client.get(id_)["processing_status"] == "in_progress"
    client.ok("POST", f"/{id_}/cancel")
    client.now += 60
    batch = client.get(id_)
    assert batch["request_counts"] == counts(succeeded=1, canceled=2)
    assert moment(batch["ended_at"]) >= moment(batch["cancel_initiated_at"])


def test_a_cancel_works_after_the_clock_was_set_back() -> None:
    client = Client()
    id_ = client.create(requests(3))
    client.now -= 1
    assert client.ok("POST", f"/{id_}/cancel")["cancel_initiated_at"] is not None


# --- delete ----------------------------------------------------------------------------


def test_only_an_ended_batch_can_be_deleted() -> None:
    client = Client()
    id_ = client.create(requests(3))
    status, type_, message = client.call("DELETE", f"/{id_}").error
    assert (status, type_) == (400, "invalid_request_error")
    assert id_ in message
    client.ok("POST", f"/{id_}/cancel")
    status, type_, message = client.call("DELETE", f"/{id_}").error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith(f"Batch `{id_}` has not finished canceling.")
    client.now += 10
    assert client.ok("DELETE", f"/{id_}") == {"id": id_, "type": "message_batch_deleted"}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/results")):
        assert client.call(method, f"/{id_}{path}").error[:2] == (404, "not_found_error")


def test_the_id_of_a_deleted_batch_is_not_reused() -> None:
    client = Client()
    id_ = client.create([request()])
    client.now += 10
    client.ok("DELETE", f"/{id_}")
    assert client.create([request()]) != id_


# --- expiry and archiving --------------------------------------------------------------


def test_a_batch_expires_after_a_day_and_keeps_the_results_finished_by_then() -> None:
    client = Client(Emulator(parallel=1, seconds_per_request=5000))
    id_ = client.create(requests(20))
    client.now += DAY - 0.01
    assert client.get(id_)["request_counts"] == counts(processing=20)
    client.now += 0.01
    batch = client.get(id_)
    assert batch["processing_status"] == "ended"
    assert batch["ended_at"] == batch["expires_at"]
    # 17 requests fit into a day; the 18th had started.
    assert batch["request_counts"] == counts(succeeded=17, expired=3)
    results = client.results(id_)
    expired = [name for name, result in results.items() if result == {"type": "expired"}]
    assert sorted(expired) == ["r17", "r18", "r19"]


def test_a_canceled_batch_can_expire() -> None:
    client = Client(Emulator(parallel=1, seconds_per_request=5000))
    id_ = client.create(requests(20))
    client.now += 86_000
    client.ok("POST", f"/{id_}/cancel")
    client.now += 400
    batch = client.get(id_)
    assert batch["ended_at"] == batch["expires_at"]
    assert batch["request_counts"] == counts(succeeded=17, expired=1, canceled=2)


def test_results_are_archived_after_29_days_and_the_batch_stays() -> None:
    client = Client()
    id_ = client.create(requests(3))
    client.now += 29 * DAY - 0.01
    kept = client.get(id_)
    assert kept["archived_at"] is None
    assert outcomes(client, id_) == {"succeeded": 3}
    client.now += 0.01
    batch = client.get(id_)
    assert moment(batch["archived_at"]) == after(29 * DAY)
    assert batch == {**kept, "archived_at": batch["archived_at"], "results_url": None}
    assert client.call("GET", f"/{id_}/results").error[:2] == (404, "not_found_error")
    assert client.ok("GET")["data"] == [batch]
    assert client.ok("DELETE", f"/{id_}")["type"] == "message_batch_deleted"
