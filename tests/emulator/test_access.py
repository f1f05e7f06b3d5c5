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
def test_a_key_is_taken_from_either_header(headers: Headers) -> None:
    assert Client().call("GET", "", headers=headers + VERSION).status == 200


@pytest.mark.parametrize(
    "headers",
    [(), (("x-api-key", ""),), bearer("Basic sk-test"), bearer("Bearer"), bearer("Bearer ")],
)
def test_a_request_without_a_key_is_refused(headers: Headers) -> None:
    answer = Client().call("GET", "", headers=headers + VERSION)
    assert answer.error == (401, "authentication_error", "x-api-key header is required")


@pytest.mark.parametrize(("key", "status"), [("good", 200), ("better", 200), ("bad", 401)])
def test_keys_can_be_restricted(key: str, status: int) -> None:
    client = Client(Emulator(api_keys=["good", "better"]))
    answers = [
        client.call("GET", "", headers=headers + VERSION)
        for headers in ((("x-api-key", key),), bearer(f"Bearer {key}"))
    ]
    assert [answer.status for answer in answers] == [status, status]
    if status == 401:
        assert answers[0].error == (401, "authentication_error", "invalid x-api-key")


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
def test_a_known_version_is_accepted(version: str) -> None:
    headers = (*KEY, ("anthropic-version", version))
    assert Client().call("GET", "", headers=headers).status == 200


@pytest.mark.parametrize("headers", [(), (("anthropic-version", "2023-06-02"),)])
def test_a_missing_or_unknown_version_is_refused(headers: Headers) -> None:
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
def test_what_is_not_there_is_not_found(method: str, path: str) -> None:
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
def test_a_method_that_a_resource_does_not_have_is_refused(method: str, path: str) -> None:
    client = Client()
    id_ = client.create([request()])
    status, type_, _ = client.call(method, path.format(id=id_)).error
    assert (status, type_) == (405, "invalid_request_error")
    assert client.get(id_)["processing_status"] == "in_progress"


def test_a_path_may_be_percent_encoded() -> None:
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


def test_every_answer_has_a_request_id_of_its_own_and_an_errors_body_repeats_it() -> None:
    client = Client()
    answers = [client.call(*call) for call in calls(client)]
    answers.append(client.call("GET", headers=()))
    ids = [answer.headers["request-id"] for answer in answers]
    assert all(id_.startswith("req_01") for id_ in ids)
    assert len(set(ids)) == len(ids)
    errors = [answer for answer in answers if answer.status != 200]
    assert [error.status for error in errors] == [400, 400, 400, 405, 404, 404, 401]
    for error in errors:
        assert error.json["request_id"] == error.headers["request-id"]


def test_only_errors_say_that_they_should_not_be_retried() -> None:
    client = Client()
    for call in calls(client):
        answer = client.call(*call)
        assert answer.headers.get("x-should-retry") == (None if answer.status == 200 else "false")


def test_answers_look_like_the_services() -> None:
    answer = Client().call("GET")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["anthropic-organization-id"]
    assert answer.headers["date"] == CREATED_AT.strftime("%a, %d %b %Y %H:%M:%S GMT")


def test_a_url_that_cannot_be_read_is_a_bad_request() -> None:
    broken = Request(method="GET", url="http://[/v1/messages/batches", headers=KEY + VERSION)
    assert Emulator().handle(broken, 0.0).status == 400


@pytest.mark.parametrize("skew", [-0.75, 0.75, 3600])
def test_the_date_header_can_be_skewed_and_nothing_else_is(skew: float) -> None:
    client = Client(Emulator(date_skew=skew, faults=FaultPlan("list:proxy_page")))
    for answer in (
        client.call("GET"),
        client.call("GET"),
        client.call("POST", "", {"requests": [request()]}),
        client.call("GET", headers=()),
    ):
        shown = parsedate_to_datetime(answer.headers["date"])
        assert shown == (CREATED_AT + timedelta(seconds=skew)).replace(microsecond=0)
    (batch,) = client.ok("GET")["data"]
    assert datetime.fromisoformat(batch["created_at"]) == CREATED_AT


def test_a_date_skew_is_finite() -> None:
    with pytest.raises(ValueError, match="date_skew is in seconds"):
        Emulator(date_skew=float("nan"))


def test_ties_are_of_a_known_order() -> None:
    with pytest.raises(ValueError, match="ties is newest, oldest or id"):
        Emulator(ties=cast("Any", "random"))


# --- several keys ------------------------------------------------------------------------

A, B, EVERY = "sk-a", "sk-b", "sk-every"
WORKSPACES = {A: "wrkspc_a", B: "wrkspc_b", EVERY: None}


def sends(key: str, workspace: str | None = None) -> Headers:
    chosen = () if workspace is None else (("anthropic-workspace-id", workspace),)
    return (("x-api-key", key), *VERSION, *chosen)


def created(client: Client, headers: Headers) -> str:
    answer = client.call("POST", "", {"requests": [request()]}, headers)
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


def listed(client: Client, headers: Headers) -> list[str]:
    answer = client.call("GET", "", None, headers)
    assert answer.status == 200, answer.body
    return [batch["id"] for batch in answer.json["data"]]


def test_by_default_all_keys_and_workspace_headers_share_one_list() -> None:
    client = Client()
    ids = [
        created(client, headers)
        for headers in (sends(A), sends(B), sends(B, "wrkspc_a"), bearer("Bearer x") + VERSION)
    ]
    assert listed(client, sends(A)) == listed(client, sends(B, "wrkspc_c")) == ids[::-1]


def test_a_key_sees_the_batches_of_its_workspace_alone() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    a, b = created(client, sends(A)), created(client, sends(B))
    other = created(client, sends("sk-not-named"))
    assert listed(client, sends(A)) == [a]
    assert listed(client, sends(B)) == [b]
    assert listed(client, bearer("Bearer " + A) + VERSION) == [a]
    assert listed(client, sends("sk-not-named-either")) == [other]
    client.now += 60
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        answer = client.call(method, f"/{b}{path}", None, sends(A))
        assert answer.error == (404, "not_found_error", f"Batch `{b}` was not found.")
    assert client.call("GET", f"?after_id={b}", None, sends(A)).status == 400
    assert client.call("GET", f"/{b}/results", None, sends(B)).status == 200


def test_a_key_of_several_workspaces_names_one_in_a_header() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    a, b = created(client, sends(A)), created(client, sends(EVERY, "wrkspc_b"))
    assert listed(client, sends(EVERY, "wrkspc_a")) == [a]
    assert listed(client, sends(EVERY, "wrkspc_b")) == listed(client, sends(B)) == [b]
    assert listed(client, sends(EVERY, "wrkspc_c")) == []
    status, type_, message = client.call("GET", "", None, sends(EVERY)).error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith("anthropic-workspace-id: ")


def test_a_workspace_header_has_to_match_the_keys_workspace() -> None:
    client = Client(Emulator(workspaces=WORKSPACES))
    assert listed(client, sends(A, "wrkspc_a")) == []
    assert client.call("GET", "", None, sends(A, "wrkspc_b")).error[:2] == (403, "permission_error")


def test_each_answer_to_a_key_names_its_organization() -> None:
    rules = "get:status=529", "cancel:location=/x"
    emulator = Emulator(organizations={B: "org-b"}, faults=FaultPlan(*rules), api_keys=[A, B])
    client = Client(emulator)
    named: dict[str, set[str | None]] = {A: set(), B: set()}
    for key, method, path in (
        *((B, "GET", "/x"), (B, "POST", "/x/cancel"), (B, "GET", ""), (B, "PUT", "")),
        *((A, "GET", ""), (A, "GET", "/x")),
    ):
        answer = client.call(method, path, None, sends(key))
        named[key].add(answer.headers.get("anthropic-organization-id"))
    assert emulator.faults.unmet == []
    assert named == {A: {"00000000-0000-4000-8000-000000000000"}, B: {"org-b"}}
    # Nobody's organization is named to a key that is nobody's.
    for headers in (VERSION, sends("sk-c")):
        answer = client.call("GET", "", None, headers)
        assert answer.status == 401
        assert "anthropic-organization-id" not in answer.headers


def test_workspaces_of_one_name_in_two_organizations_are_two() -> None:
    client = Client(Emulator(organizations={B: "org-b"}, workspaces={A: "w", B: "w"}))
    a, b = created(client, sends(A)), created(client, sends(B))
    assert (listed(client, sends(A)), listed(client, sends(B))) == ([a], [b])
    client = Client(Emulator(organizations={B: "org-b"}))
    a, b = created(client, sends(A)), created(client, sends(B))
    assert (listed(client, sends(A)), listed(client, sends(B))) == ([a], [b])


@pytest.mark.parametrize("figures", [{"speed": 0}, {"parallel": 0}, {"seconds_per_request": -1}])
def test_figures_that_make_no_sense_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Emulator(**figures)


def test_a_server_can_answer_for_an_emulator_that_failed() -> None:
    response = Emulator().failed(0.0)
    assert response.status == 500
    assert "x-should-retry" not in dict(response.headers)


@pytest.mark.parametrize("wrong", [{"api_keys": "one-key"}, {"responder": "text"}])
def test_parameters_of_another_kind_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="list of keys"):
        Emulator(**wrong)
