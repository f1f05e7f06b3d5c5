from __future__ import annotations

from typing import Any

import msgspec
import pytest

from batches_core.emulator import Emulator, Response
from tests.support.emulator_client import ABSENT, CREATED_AT, Client, params, request


def refusal(body: Any, emulator: Emulator | None = None) -> tuple[int, str, str]:
    client = Client(emulator)
    response = client.call("POST", "", body)
    assert client.ok("GET")["data"] == []
    return response.error


def test_a_created_batch_has_the_fields_of_the_live_service() -> None:
    client = Client()
    batch = client.ok("POST", "", {"requests": [request()]})
    assert batch.pop("id").startswith("msgbatch_01")
    assert batch == {
        "archived_at": None,
        "cancel_initiated_at": None,
        "created_at": "2026-05-01T20:29:05.358585+00:00",
        "ended_at": None,
        "expires_at": "2026-05-02T20:29:05.358585+00:00",
        "processing_status": "in_progress",
        "request_counts": {
            "canceled": 0,
            "errored": 0,
            "expired": 0,
            "processing": 1,
            "succeeded": 0,
        },
        "results_url": None,
        "type": "message_batch",
    }


def test_a_timestamp_of_a_whole_second_has_microseconds() -> None:
    client = Client()
    client.now = CREATED_AT.replace(microsecond=0).timestamp()
    id_ = client.create([request()])
    assert client.get(id_)["created_at"] == "2026-05-01T20:29:05.000000+00:00"


def test_each_batch_has_a_unique_id() -> None:
    client = Client()
    assert len({client.create([request()]) for _ in range(20)}) == 20


def test_a_custom_id_can_have_64_characters() -> None:
    allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
    assert len(allowed) == 64
    assert Client().create([request(allowed), request("-"), request("A")])


def test_a_custom_id_of_65_characters_is_a_400_with_the_message_of_the_service() -> None:
    assert refusal({"requests": [request("x" * 65)]}) == (
        400,
        "invalid_request_error",
        "requests.0.custom_id: String should have at most 64 characters",
    )


@pytest.mark.parametrize(
    ("invalid", "place"),
    [
        ({"params": params()}, ".custom_id: Field required"),
        (request(None), ".custom_id: "),
        (request(7), ".custom_id: "),
        (request(["b"]), ".custom_id: "),
        (request(""), ".custom_id: "),
        (request("x" * 65), ".custom_id: "),
        (request("a b"), ".custom_id: "),
        (request("b\n"), ".custom_id: "),
        (request("é"), ".custom_id: "),
        (request("a"), ".custom_id: "),
        ({"custom_id": "b"}, ".params: Field required"),
        ({"custom_id": "b", "params": None}, ".params: "),
        ({"custom_id": "b", "params": [params()]}, ".params: "),
        ({"custom_id": "b", "params": "model"}, ".params: "),
        ({**request("b"), "method": "POST"}, ".method: "),
        ("b", ": "),
        (None, ": "),
        ([], ": "),
    ],
    ids=repr,
)
def test_an_invalid_request_is_a_400_that_names_its_index_and_field(
    invalid: Any, place: str
) -> None:
    status, type_, message = refusal({"requests": [request("a"), invalid, request("c")]})
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith(f"requests.1{place}")


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (None, "JSON"),
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"{'requests': []}", "JSON"),
        (b'{"requests": ' + b"[" * 100_000, "JSON"),
        (b"[]", ""),
        (b'"requests"', ""),
        ({}, "requests: Field required"),
        ({"request": [request()]}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": "a"}, "requests: Input should be a valid list"),
        ({"requests": []}, "requests: List should have at least 1 item"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_create_without_a_list_of_requests_is_a_400(body: Any, part: str) -> None:
    status, type_, message = refusal(body)
    assert (status, type_) == (400, "invalid_request_error")
    assert part in message


@pytest.mark.parametrize(
    ("count", "part"),
    [
        (100_000, "requests.0.custom_id: Field required"),
        (100_001, "requests: List should have at most 100000 items"),
    ],
)
def test_a_create_has_at_most_100_000_requests(count: int, part: str) -> None:
    # Empty requests: single requests are checked only after their number.
    body = b'{"requests":[' + b",".join([b"{}"] * count) + b"]}"
    status, type_, message = refusal(body)
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith(part)


@pytest.mark.parametrize(("over", "status"), [(0, 400), (1, 413)])
def test_a_create_with_a_body_over_the_limit_is_a_413_before_it_is_decoded(
    over: int, status: int
) -> None:
    assert Emulator.max_body == 256_000_000
    emulator = Emulator()
    emulator.max_body = 1000
    refused = refusal(b"{" * (1000 + over), emulator)
    assert refused[0] == status
    assert refused[1] == ("request_too_large" if status == 413 else "invalid_request_error")


def test_too_large_is_the_413_of_the_edge_without_a_request_id() -> None:
    response = Emulator().too_large(CREATED_AT.timestamp())
    assert isinstance(response, Response)
    assert response.status == 413
    body = msgspec.json.decode(b"".join(response.chunks))
    # The edge answers it, with a shorter error body than the service's.
    assert body.keys() == {"error"}
    assert body["error"].keys() == {"type", "message"}
    assert body["error"]["type"] == "request_too_large"
    assert not {"request-id", "anthropic-organization-id"} & dict(response.headers).keys()


def test_invalid_utf_8_in_params_refuses_the_create_or_becomes_an_errored_result() -> None:
    client = Client()
    body = b'{"requests":[{"custom_id":"a","params":{"model":"\xff"}}]}'
    response = client.call("POST", "", body)
    if response.status == 200:
        client.now += 60
        assert client.results(response.json["id"])["a"]["type"] == "errored"
    else:
        assert response.error[:2] == (400, "invalid_request_error")


def test_a_number_out_of_range_in_params_refuses_the_create_or_becomes_an_errored_result() -> None:
    client = Client()
    body = b'{"requests":[{"custom_id":"a","params":{"temperature":1e999}}]}'
    response = client.call("POST", "", body)
    if response.status == 200:
        client.now += 60
        assert client.results(response.json["id"])["a"]["type"] == "errored"
    else:
        assert response.error[:2] == (400, "invalid_request_error")


def test_invalid_params_do_not_refuse_the_create() -> None:
    assert Client().create([request(model=ABSENT), request("b", max_tokens="many")])
