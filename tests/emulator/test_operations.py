from __future__ import annotations

from typing import Any

import pytest

from batches_core import (
    AuthenticationError,
    BadRequestError,
    BatchCreated,
    BatchesAPI,
    BatchState,
    CanceledResult,
    CreateMarked,
    DeletedMessageBatch,
    ErroredResult,
    Event,
    ExpiredResult,
    Message,
    NotFoundError,
    Operation,
    PageReceived,
    RequestTooLargeError,
    ResultItem,
    ResultsReceived,
    ResultsUnavailableError,
    SucceededResult,
    WaitTimeoutError,
)
from batches_core.emulator import Emulator
from tests.support.emulator_client import CREATED_AT, DAY, ORIGIN, Client, request, requests, run

API = BatchesAPI(api_key="sk-test", base_url=ORIGIN)


def statuses(events: list[Event]) -> list[str]:
    assert all(isinstance(event, BatchState) for event in events)
    return [e.batch.processing_status for e in events if isinstance(e, BatchState)]


def items(operation: Operation[None], client: Client) -> dict[str, Any]:
    """Return the results by custom_id, each of which is valid and delivered once."""
    _, events = run(operation, client)
    found: dict[str, Any] = {}
    for event in events:
        assert isinstance(event, ResultsReceived)
        for item in event.items:
            assert isinstance(item, ResultItem)
            assert found.setdefault(item.custom_id, item.result) is item.result
    return found


def pages(operation: Operation[None], client: Client) -> list[list[str]]:
    _, events = run(operation, client)
    assert all(isinstance(event, PageReceived) for event in events)
    return [[b.id for b in event.page.data] for event in events if isinstance(event, PageReceived)]


def test_operations_create_wait_for_and_read_a_batch() -> None:
    client = Client()
    wanted = [*requests(10), request("bad", messages=[])]
    batch, [marked, created] = run(API.create(wanted), client)
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 11)
    assert batch.created_at == CREATED_AT
    assert isinstance(marked, CreateMarked)
    assert created == BatchCreated(batch=batch)
    ended, events = run(API.wait_for(batch.id), client)
    assert statuses(events) == ["in_progress"] * 4 + ["ended"]
    assert ended.ended
    assert (ended.request_counts.succeeded, ended.request_counts.errored) == (10, 1)
    results = items(API.results_stream(ended), client)
    assert results.keys() == {wish["custom_id"] for wish in wanted}
    bad = results.pop("bad")
    assert isinstance(bad, ErroredResult)
    assert (bad.error.type, bad.error.error) == ("invalid_request_error", None)
    for result in results.values():
        assert isinstance(result, SucceededResult)
        assert isinstance(result.message, Message)
        assert result.message.text
    assert items(API.results_stream(batch.id), client).keys() == {*results, "bad"}


def test_each_of_3000_results_is_delivered_once() -> None:
    client = Client(Emulator(parallel=3000))
    batch, _ = run(API.create(requests(3000)), client)
    ended, _ = run(API.wait_for(batch.id), client)
    _, events = run(API.results_stream(ended), client)
    assert len(events) > 50
    assert len(items(API.results_stream(ended), client)) == 3000


def test_a_canceled_batch_has_partial_results() -> None:
    client = Client()
    batch, _ = run(API.create(requests(5)), client)
    client.now += 12
    canceled, _ = run(API.cancel(batch.id), client)
    assert canceled.processing_status == "canceling"
    ended, events = run(API.wait_for(batch.id, poll_interval=2), client)
    assert statuses(events)[0] == "canceling"
    assert statuses(events)[-1] == "ended"
    results = items(API.results_stream(ended), client)
    kinds = {name: type(result) for name, result in results.items()}
    assert kinds == {
        **dict.fromkeys(("r0", "r1"), SucceededResult),
        **dict.fromkeys(("r2", "r3", "r4"), CanceledResult),
    }


def test_an_expired_batch_has_expired_results() -> None:
    client = Client(Emulator(parallel=1, seconds_per_request=2 * DAY))
    batch, _ = run(API.create(requests(2)), client)
    ended, _ = run(API.wait_for(batch.id, poll_interval=7200), client)
    assert ended.ended_at == ended.expires_at
    results = items(API.results_stream(ended), client)
    assert [type(result) for result in results.values()] == [ExpiredResult] * 2


def test_a_wait_that_times_out_has_the_last_state_of_the_batch() -> None:
    client = Client()
    batch, _ = run(API.create(requests(50)), client)
    with pytest.raises(WaitTimeoutError) as caught:
        run(API.wait_for(batch.id, timeout=45), client)
    assert caught.value.batch == batch
    assert client.now == CREATED_AT.timestamp() + 40  # the last poll, 5 s before the deadline


def test_list_all_reads_every_page_in_both_directions() -> None:
    client = Client()
    ids = [run(API.create([request()]), client)[0].id for _ in range(5)]
    a, b, c, d, e = ids
    assert pages(API.list_all(limit=2), client) == [[e, d], [c, b], [a]]
    assert pages(API.list_all(limit=2, after_id=d), client) == [[c, b], [a]]
    assert pages(API.list_all(limit=2, before_id=a), client) == [[c, b], [e, d]]
    assert pages(API.list_all(), client) == [[e, d, c, b, a]]
    page, _ = run(API.list(limit=3), client)
    assert ([batch.id for batch in page.data], page.has_more) == ([e, d, c], True)
    assert (page.first_id, page.last_id) == (e, c)


def test_delete_succeeds_only_after_the_batch_has_ended() -> None:
    client = Client()
    batch, _ = run(API.create(requests(2)), client)
    with pytest.raises(BadRequestError, match="has not finished") as refused:
        run(API.delete(batch.id), client)
    assert refused.value.should_retry is False
    assert client.now == CREATED_AT.timestamp()
    run(API.wait_for(batch.id), client)
    deleted, _ = run(API.delete(batch.id), client)
    assert deleted == DeletedMessageBatch(id=batch.id)
    with pytest.raises(NotFoundError) as gone:
        run(API.get(batch.id), client)
    assert gone.value.type == "not_found_error"
    assert (gone.value.request_id or "").startswith("req_01")


def test_results_are_unavailable_before_the_end_and_after_29_days() -> None:
    client = Client()
    batch, _ = run(API.create(requests(2)), client)
    with pytest.raises(ResultsUnavailableError, match="no results yet"):
        run(API.results_stream(batch), client)
    client.now += 29 * DAY
    with pytest.raises(ResultsUnavailableError, match="archived"):
        run(API.results_stream(batch), client)


def test_auth_token_is_accepted_like_api_key_and_a_wrong_key_is_refused() -> None:
    client = Client(Emulator(api_keys={"sk-test"}))
    for api in (API, BatchesAPI(auth_token="sk-test", base_url=ORIGIN)):
        run(api.create(requests(1)), client)
    with pytest.raises(AuthenticationError):
        run(BatchesAPI(api_key="sk-other", base_url=ORIGIN).create(requests(1)), client)
    assert len(pages(API.list_all(), client)[0]) == 2


def test_under_the_newest_version_sampling_params_become_errored_results() -> None:
    client = Client()
    api = BatchesAPI(api_key="sk-test", base_url=ORIGIN, version="2026-10-21")
    batch, _ = run(api.create([request("a"), request("b", temperature=0.5)]), client)
    run(api.wait_for(batch.id), client)
    results = items(api.results_stream(batch.id), client)
    assert isinstance(results["a"], SucceededResult)
    assert isinstance(results["b"], ErroredResult)


def test_a_create_over_the_limit_of_the_service_raises_request_too_large() -> None:
    client = Client()
    client.emulator.max_body = 100
    with pytest.raises(RequestTooLargeError):
        run(API.create(requests(2)), client)
