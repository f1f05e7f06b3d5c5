from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, cast

import pytest

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan
from tests.support.emulator_client import (
    BATCHES,
    CREATED_AT,
    KEY,
    VERSION,
    Client,
    Headers,
    request,
)


def bearer(token: str) -> Headers:
    return (("authorization", token),)


@pytest.mark.parametrize(
    "headers", [KEY, bearer("Bearer sk-test"), bearer("bearer sk-test"), (("X-API-Key", "k"),)]
)
def test_a_key_is_accepted_in_either_header(headers: Headers) -> None:
    assert Client().call("GET", "", headers=headers + VERSION).status == 200


@pytest.mark.parametrize(
    "headers",
    [(), (("x-api-key", ""),), bearer("Basic sk-test"), bearer("Bearer"), bearer("Bearer ")],
)
def test_a_request_without_a_key_is_a_401(headers: Headers) -> None:
    response = Client().call("GET", "", headers=headers + VERSION)
    assert response.error == (401, "authentication_error", "x-api-key header is required")


@pytest.mark.parametrize(("key", "status"), [("good", 200), ("better", 200), ("bad", 401)])
def test_an_emulator_with_api_keys_refuses_other_keys(key: str, status: int) -> None:
    client = Client(Emulator(api_keys=["good", "better"]))
    responses = [
        client.call("GET", "", headers=headers + VERSION)
        for headers in ((("x-api-key", key),), bearer(f"Bearer {key}"))
    ]
    assert [response.status for response in responses] == [status, status]
    if status == 401:
        assert responses[0].error == (401, "authentication_error", "invalid x-api-key")


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_a_known_api_version_is_accepted(version: str) -> None:
    headers = (*KEY, ("anthropic-version", version))
    assert Client().call("GET", "", headers=headers).status == 200


@pytest.mark.parametrize("headers", [(), (("anthropic-version", "2023-06-02"),)])
def test_a_missing_or_unknown_api_version_is_a_400(headers: Headers) -> None:
    status, type_, message = Client().call("GET", "", headers=KEY + headers).error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith("anthropic-version: ")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/msgbatch_none"),
        ("DELETE", "/msgbatch_none"),
        ("POST", "/msgbatch_none/cancel"),
        ("GET", "/msgbatch_none/results"),
        ("GET", "/msgbatch_none/other"),
        ("GET", "/msgbatch_none/results/more"),
        ("POST", "/v1/messages"),
        ("GET", "/v1/models"),
        ("GET", "/v1/v1/messages/batches"),
    ],
)
def test_an_unknown_batch_or_path_is_a_404(method: str, path: str) -> None:
    status, type_, message = Client().call(method, path).error
    assert (status, type_) == (404, "not_found_error")
    assert ("msgbatch_none" in message) == path.endswith(("none", "cancel", "results"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", ""),
        ("PUT", ""),
        ("POST", "/{id}"),
        ("GET", "/{id}/cancel"),
        ("POST", "/{id}/results"),
        ("DELETE", "/{id}/results"),
    ],
)
def test_a_method_that_an_endpoint_does_not_support_is_a_405(method: str, path: str) -> None:
    client = Client()
    id_ = client.create([request()])
    status, type_, _ = client.call(method, path.format(id=id_)).error
    assert (status, type_) == (405, "invalid_request_error")
    assert client.get(id_)["processing_status"] == "in_progress"


def test_a_percent_encoded_path_finds_the_batch() -> None:
    client = Client()
    id_ = client.create([request()])
    assert client.get(id_.replace("_", "%5F"))["id"] == id_


def calls(client: Client) -> list[tuple[str, str, Any]]:
    id_ = client.create([request()])
    client.now += 60
    return [
        ("GET", f"/{id_}", None),
        ("GET", f"/{id_}/results", None),
        ("GET", "", None),
        ("GET", "?limit=0", None),
        ("POST", "", b"{"),
        ("POST", f"/{id_}/cancel", None),
        ("PUT", "", None),
        ("DELETE", f"/{id_}", None),
        ("GET", f"/{id_}", None),
        ("GET", BATCHES + "/x/y", None),
    ]


def test_each_response_has_a_unique_request_id_that_error_bodies_repeat() -> None:
    client = Client()
    responses = [client.call(*call) for call in calls(client)]
    responses.append(client.call("GET", headers=()))
    ids = [response.headers["request-id"] for response in responses]
    assert all(id_.startswith("req_01") for id_ in ids)
    assert len(set(ids)) == len(ids)
    errors = [response for response in responses if response.status != 200]
    assert [error.status for error in errors] == [400, 400, 400, 405, 404, 404, 401]
    for error in errors:
        assert error.json["request_id"] == error.headers["request-id"]


def test_only_errors_have_x_should_retry_false() -> None:
    client = Client()
    for call in calls(client):
        response = client.call(*call)
        assert response.headers.get("x-should-retry") == (
            None if response.status == 200 else "false"
        )


def test_responses_have_the_headers_of_the_live_service() -> None:
    response = Client().call("GET")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["vary"] == "Accept-Encoding"
    assert response.headers["anthropic-organization-id"]
    assert response.headers["date"] == CREATED_AT.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_an_invalid_url_is_a_400() -> None:
    broken = Request(method="GET", url="http://[/v1/messages/batches", headers=KEY + VERSION)
    assert Emulator().handle(broken, 0.0).status == 400


@pytest.mark.parametrize("skew", [-0.75, 0.75, 3600])
def test_date_skew_changes_the_date_header_and_no_timestamp(skew: float) -> None:
    client = Client(Emulator(date_skew=skew, faults=FaultPlan("list:proxy_page")))
    for response in (
        client.call("GET"),
        client.call("GET"),
        client.call("POST", "", {"requests": [request()]}),
        client.call("GET", headers=()),
    ):
        shown = parsedate_to_datetime(response.headers["date"])
        assert shown == (CREATED_AT + timedelta(seconds=skew)).replace(microsecond=0)
    (batch,) = client.ok("GET")["data"]
    assert datetime.fromisoformat(batch["created_at"]) == CREATED_AT


def test_date_skew_must_be_finite() -> None:
    with pytest.raises(ValueError, match="date_skew must be a number of seconds, not nan"):
        Emulator(date_skew=float("nan"))


def test_ties_must_be_a_known_order() -> None:
    with pytest.raises(ValueError, match="ties must be newest, oldest or id, not 'random'"):
        Emulator(ties=cast("Any", "random"))


# --- several keys ----------------------------------------------------------------------

A, B, EVERY = "sk-a", "sk-b", "sk-every"
WORKSPACES = {A: "wrkspc_a", B: "wrkspc_b", EVERY: None}


def sends(key: str, workspace: str | None = None) -> Headers:
    chosen = () if workspace is None else (("anthropic-workspace-id", workspace),)
    return (("x-api-key", key), *VERSION, *chosen)


def created(client: Client, headers: Headers) -> str:
    response = client.call("POST", "", {"requests": [request()]}, headers)
    assert response.status == 200, response.body
    return str(response.json["id"])


def listed(client: Client, headers: Headers) -> list[str]:
    response = client.call("GET", "", None, headers)
    assert response.status == 200, response.body
    return [batch["id"] for batch in response.json["data"]]


def test_by_default_all_keys_and_workspace_headers_share_one_list() -> None:
    client = Client()
    ids = [
        created(client, headers)
        for headers in (sends(A), sends(B), sends(B, "wrkspc_a"), bearer("Bearer x") + VERSION)
    ]
    assert listed(client, sends(A)) == listed(client, sends(B, "wrkspc_c")) == ids[::-1]


def test_a_key_sees_only_the_batches_of_its_workspace() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    a, b = created(client, sends(A)), created(client, sends(B))
    other = created(client, sends("sk-not-named"))
    assert listed(client, sends(A)) == [a]
    assert listed(client, sends(B)) == [b]
    assert listed(client, bearer("Bearer " + A) + VERSION) == [a]
    assert listed(client, sends("sk-not-named-either")) == [other]
    client.now += 60
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        response = client.call(method, f"/{b}{path}", None, sends(A))
        assert response.error == (404, "not_found_error", f"Batch `{b}` was not found.")
    assert client.call("GET", f"?after_id={b}", None, sends(A)).status == 400
    assert client.call("GET", f"/{b}/results", None, sends(B)).status == 200


def test_a_key_for_every_workspace_must_name_one_in_a_header() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    a, b = created(client, sends(A)), created(client, sends(EVERY, "wrkspc_b"))
    assert listed(client, sends(EVERY, "wrkspc_a")) == [a]
    assert listed(client, sends(EVERY, "wrkspc_b")) == listed(client, sends(B)) == [b]
    assert listed(client, sends(EVERY, "wrkspc_c")) == []
    status, type_, message = client.call("GET", "", None, sends(EVERY)).error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith("anthropic-workspace-id: ")


def test_a_workspace_header_must_match_the_workspace_of_the_key() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    assert listed(client, sends(A, "wrkspc_a")) == []
    assert client.call("GET", "", None, sends(A, "wrkspc_b")).error[:2] == (403, "permission_error")


def test_each_response_to_an_accepted_key_names_its_organization() -> None:
    rules = "get:status=529", "cancel:location=/x"
    emulator = Emulator(organizations={B: "org-b"}, faults=FaultPlan(*rules), api_keys=[A, B])
    client = Client(emulator)
    named: dict[str, set[str | None]] = {A: set(), B: set()}
    for key, method, path in (
        *((B, "GET", "/x"), (B, "POST", "/x/cancel"), (B, "GET", ""), (B, "PUT", "")),
        *((A, "GET", ""), (A, "GET", "/x")),
    ):
        response = client.call(method, path, None, sends(key))
        named[key].add(response.headers.get("anthropic-organization-id"))
    assert emulator.faults.unmet == []
    assert named == {A: {"00000000-0000-4000-8000-000000000000"}, B: {"org-b"}}
    # A response to a missing or unknown key names no organization.
    for headers in (VERSION, sends("sk-c")):
        response = client.call("GET", "", None, headers)
        assert response.status == 401
        assert "anthropic-organization-id" not in response.headers


def test_equal_workspace_ids_in_two_organizations_are_different_workspaces() -> None:
    client = Client(Emulator(organizations={B: "org-b"}, workspaces={A: "w", B: "w"}))
    a, b = created(client, sends(A)), created(client, sends(B))
    assert (listed(client, sends(A)), listed(client, sends(B))) == ([a], [b])
    client = Client(Emulator(organizations={B: "org-b"}))
    a, b = created(client, sends(A)), created(client, sends(B))
    assert (listed(client, sends(A)), listed(client, sends(B))) == ([a], [b])


@pytest.mark.parametrize("numbers", [{"speed": 0}, {"parallel": 0}, {"seconds_per_request": -1}])
def test_parallel_seconds_per_request_and_speed_must_be_more_than_0(
    numbers: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Emulator(**numbers)


def test_failed_is_a_500_without_x_should_retry() -> None:
    response = Emulator().failed(0.0)
    assert response.status == 500
    assert "x-should-retry" not in dict(response.headers)


@pytest.mark.parametrize("wrong", [{"api_keys": "one-key"}, {"responder": "text"}])
def test_api_keys_and_responder_must_have_the_right_type(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{next(iter(wrong))} must be a "):
        Emulator(**wrong)
