from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from batches_core import Request
from batches_core.emulator import Emulator, FaultPlan, FaultRule, Response
from tests.support.emulator_client import (
    BATCHES,
    CREATED_AT,
    DAY,
    KEY,
    ORIGIN,
    VERSION,
    Client,
    ClientResponse,
    request,
    requests,
)

ENDED = 100.0


def faulty(*rules: FaultRule | str, **options: Any) -> Client:
    """Return a client of an emulator with these faults, whose batches end within 20 s."""
    return Client(Emulator(seconds_per_request=20, faults=FaultPlan(*rules, **options)))


def applied(client: Client) -> list[str]:
    return client.emulator.faults.applied


def respond(client: Client, method: str = "GET", path: str = "") -> Response:
    sent = Request(method=method, url=ORIGIN + BATCHES + path, headers=KEY + VERSION)
    return client.emulator.handle(sent, client.now)


def ended(client: Client, count: int = 20) -> str:
    id_ = client.create(requests(count))
    client.now += ENDED
    return id_


# --- when a rule applies ---------------------------------------------------------------


def statuses(client: Client, count: int, path: str = "") -> list[int]:
    return [client.call("GET", path).status for _ in range(count)]


def test_a_rule_skips_after_requests_and_then_applies_times_times() -> None:
    assert statuses(faulty("list:status=500"), 3) == [500, 200, 200]
    assert statuses(faulty("list:status=500,after=1,times=2"), 4) == [200, 500, 500, 200]
    assert statuses(faulty("list:status=500,after=1,times=always"), 3) == [200, 500, 500]


def test_a_request_gets_only_the_first_due_rule_and_the_others_stay_due() -> None:
    client = faulty("list:status=500,after=1", "list:status=503", "any:status=529,after=1")
    assert statuses(client, 5) == [503, 500, 529, 200, 200]
    assert applied(client) == ["list:status=503", "list:status=500", "list:status=529"]


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "", "create"),
        ("GET", "", "list"),
        ("GET", "/ID", "get"),
        ("DELETE", "/ID", "delete"),
        ("POST", "/ID/cancel", "cancel"),
        ("GET", "/ID/results", "results"),
        ("GET", "/v1/models", "other"),
        ("PUT", "/ID", "other"),
    ],
)
def test_a_rule_applies_to_requests_of_its_route_or_to_any(
    method: str, path: str, route: str
) -> None:
    client = faulty("any:status=529,after=1,times=always")
    for name in ("create", "get", "list", "cancel", "delete", "results"):
        client.emulator.faults.add(f"{name}:status=418,times=always")
    first = client.call(method, path)
    assert (first.status == 418) == (route != "other")
    # The first rule also applies to a request that the emulator itself refuses.
    assert client.call(method, path).status == 529
    assert applied(client)[-1] == f"{route}:status=529"


def test_added_rules_count_requests_from_then_on() -> None:
    client = faulty()
    assert statuses(client, 2) == [200, 200]
    client.emulator.faults.add("list:status=500,after=1", FaultRule(route="list", status=503))
    assert statuses(client, 3) == [503, 500, 200]
    with pytest.raises(ValueError, match="unknown field 'nonsense'"):
        client.emulator.faults.add("list:status=500", "list:nonsense=1")
    assert statuses(client, 1) == [200]


def test_unmet_lists_the_rules_that_are_still_to_apply() -> None:
    client = faulty("list:status=500,times=2", "get:status=500,times=always", "archived")
    unmet = client.emulator.faults.unmet
    assert list(map(str, unmet)) == [
        "list:status=500,times=2", "get:status=500,times=always", "any:archived",
    ]  # fmt: skip
    statuses(client, 2)
    statuses(client, 1, "/x")
    client.create([request()])
    assert client.emulator.faults.unmet == []


def test_rules_can_be_added_while_another_thread_serves() -> None:
    client = faulty()
    plan, failed = client.emulator.faults, []

    def serve() -> None:
        while len(plan.applied) < 500:
            failed.append(client.call("GET").status)

    thread = threading.Thread(target=serve)
    thread.start()
    for _ in range(250):
        plan.add("list:status=500", "list:status=503")
    thread.join(30)
    assert Counter(failed)[500] == Counter(failed)[503] == 250


# --- a seed ----------------------------------------------------------------------------


def chosen(count: int = 2000, route: str = "get", **options: Any) -> list[FaultRule | None]:
    plan = FaultPlan(**options)
    return [plan.for_request(route) for _ in range(count)]


def test_equal_seeds_choose_equal_faults_and_different_seeds_do_not() -> None:
    assert chosen(seed=1) == chosen(seed=1)
    assert chosen(seed=1) != chosen(seed=2)
    assert chosen() == [None] * 2000


def test_a_seed_injects_every_kind_of_temporary_fault_at_its_rate() -> None:
    assert 150 < sum(rule is not None for rule in chosen(seed=1)) < 250
    assert chosen(seed=1, rate=0) == [None] * 2000
    always = chosen(seed=1, rate=1)
    kinds: Counter[Any] = Counter()
    for rule in always:
        assert rule is not None
        assert not rule.is_of_batch
        kinds[
            rule.status, rule.drop, rule.end, rule.cut is not None, bool(rule.delay), rule.drip
        ] += 1
    assert len(kinds) == 10
    assert min(kinds.values()) > 120
    cuts = sorted(rule.cut for rule in always if rule is not None and rule.cut is not None)
    assert cuts[0] == 0
    assert 10 < cuts[len(cuts) // 2] < 1000
    assert 10_000 < cuts[-1] < 2**16
    assert not any(
        rule is not None and rule.drip for rule in chosen(seed=1, rate=1, route="results")
    )


def test_a_due_rule_applies_before_the_seed() -> None:
    client = faulty("list:status=418,times=3", seed=7, rate=1)
    assert statuses(client, 3) == [418] * 3
    client.emulator.faults.for_request("list")
    assert len(applied(client)) == 4


# --- faults that replace the response --------------------------------------------------


@pytest.mark.parametrize(
    ("status", "type_", "word"),
    [
        (400, "invalid_request_error", "false"),
        (401, "authentication_error", "false"),
        (402, "billing_error", "false"),
        (403, "permission_error", "false"),
        (404, "not_found_error", "false"),
        (408, "invalid_request_error", None),
        (409, "conflict_error", None),
        (413, "request_too_large", "false"),
        (429, "rate_limit_error", None),
        (500, "api_error", None),
        (503, "api_error", None),
        (504, "timeout_error", None),
        (529, "overloaded_error", None),
        (599, "api_error", None),
    ],
)
def test_an_injected_status_has_the_error_type_and_x_should_retry_of_the_service(
    status: int, type_: str, word: str | None
) -> None:
    client = faulty(FaultRule(status=status))
    response = client.call("POST", "", {"requests": requests(1)})
    assert response.error[:2] == (status, type_)
    assert response.json["request_id"] == response.headers["request-id"]
    assert response.headers.get("x-should-retry") == word
    assert "retry-after" not in response.headers
    assert client.ok("GET")["data"] == []


def test_a_status_fault_can_set_retry_after_should_retry_and_error_code() -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    client = faulty(
        "status=429,retry_after=1.5",
        f"status=429,retry_after={date}",
        "status=500,retry_after=0,should_retry=false",
        "status=400,should_retry",
        "status=429,error_code=enforced_spend_limit_reached",
    )
    responses = [client.call("GET") for _ in range(5)]
    assert [response.headers.get("retry-after") for response in responses[:3]] == ["1.5", date, "0"]
    words = [response.headers.get("x-should-retry") for response in responses]
    assert words == [None, None, "false", "true", None]
    assert responses[4].json["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}


def test_with_taken_the_request_takes_effect_despite_the_status() -> None:
    client = faulty("create:status=504,taken", "delete:proxy_page,taken")
    assert client.call("POST", "", {"requests": requests(1)}).status == 504
    [batch] = client.ok("GET")["data"]
    client.now += ENDED
    assert client.call("DELETE", f"/{batch['id']}").status == 502
    assert client.ok("GET")["data"] == []


@pytest.mark.parametrize(
    ("rule", "status"), [("", 502), ("status=503,", 503), ("status=200,", 200)]
)
def test_a_proxy_page_is_html_without_a_request_id(rule: str, status: int) -> None:
    response = faulty(f"{rule}proxy_page,retry_after=3").call("GET")
    assert response.status == status
    assert response.headers["content-type"] == "text/html"
    assert response.headers["retry-after"] == "3"
    assert "request-id" not in response.headers
    assert response.body.startswith(b"<html>")


def test_a_location_fault_is_a_redirect_with_its_placeholders_filled_in() -> None:
    client = faulty("location=https://b.test/x", "status=302,location={origin}/there{target}")
    first, second = client.call("GET"), client.call("GET", "?limit=2")
    assert (first.status, first.headers["location"], first.body) == (307, "https://b.test/x", b"")
    assert (second.status, second.headers["location"]) == (
        302,
        f"{ORIGIN}/there{BATCHES}?limit=2",
    )


def test_a_drop_sends_no_response_before_or_after_the_effect() -> None:
    for when, created in (("before", 0), ("after", 1)):
        client = faulty(f"create:drop={when}")
        assert client.call("POST", "", {"requests": requests(1)}).status == 0
        assert len(client.ok("GET")["data"]) == created


def test_a_drop_ends_with_a_reset_unless_the_rule_says_close() -> None:
    client = faulty("drop=before", "drop=after,end=close,delay=2")
    assert respond(client) == Response(status=0, headers=(), chunks=(), end="reset")
    closed = Response(status=0, headers=(), chunks=(), end="close", delay=2.0)
    assert respond(client) == closed


# --- faults that change the response ---------------------------------------------------


def test_a_delay_can_be_added_to_any_response() -> None:
    client = faulty("delay=1.5", "delay=2,status=500", "delay=3,location=https://b.test")
    assert [respond(client).delay for _ in range(4)] == [1.5, 2.0, 3.0, 0.0]


def test_a_request_takes_effect_before_the_delay_of_its_response() -> None:
    client = faulty("create:delay=9")
    client.create([request()])
    assert len(client.ok("GET")["data"]) == 1


@pytest.mark.parametrize("end", ["clean", "close", "reset", None])
def test_a_cut_ends_the_body_after_that_many_bytes(end: Any) -> None:
    client = faulty()
    id_ = ended(client, 100)
    whole = client.call("GET", f"/{id_}/results").body
    assert len(whole) > 40_000
    for cut in (0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, len(whole), len(whole) + 1):
        client.emulator.faults.add(FaultRule(route="results", cut=cut, end=end))
        response = respond(client, path=f"/{id_}/results")
        chunks = list(response.chunks)
        assert b"".join(chunks) == whole[:cut]
        assert all(chunks)
        assert response.end == (end or "close")
    assert respond(client, path=f"/{id_}/results").end == "clean"


def test_a_dripping_body_is_sent_bytewise_and_can_be_cut() -> None:
    client = faulty("drip", "drip,cut=3,end=reset", "status=500,drip,cut=4")
    assert [len(chunk) for chunk in respond(client).chunks] == [1] * 59
    second, third = respond(client), respond(client)
    assert (list(second.chunks), second.end) == ([b"{", b'"', b"d"], "reset")
    assert (third.status, len(list(third.chunks)), third.end) == (500, 4, "close")


# --- lines and fields ------------------------------------------------------------------


def lines(client: Client, rule: str, count: int = 20) -> list[bytes]:
    client.emulator.faults.add(f"results:{rule}")
    response = client.call("GET", f"/{ended(client, count)}/results")
    assert response.body.endswith(b"\n")
    return response.body.splitlines()


def decoded(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except ValueError:
        return None


def test_bad_lines_are_corrupted_in_four_ways() -> None:
    found = lines(faulty(), "bad_lines=4")
    assert len(found) == 20
    broken = [line for line in found if decoded(line) is None]
    assert len(broken) == 3
    assert sum(line.startswith(b"{") and not line.endswith(b"}") for line in broken) == 1
    assert sum(line.startswith(b"<html>") for line in broken) == 1
    assert sum(b"\xff" in line for line in broken) == 1
    whole = [decoded(line) for line in found if line not in broken]
    assert sum(set(line) == {"result"} for line in whole) == 1
    assert len({line["custom_id"] for line in whole if "custom_id" in line}) == 16


def test_duplicate_lines_are_repeated_at_once_or_at_the_end() -> None:
    found = lines(faulty(), "duplicate_lines=4")
    assert len(found) == 24
    assert sorted(Counter(found).values()) == [1] * 16 + [2] * 4
    assert sum(a == b for a, b in pairwise(found)) == 2
    assert all(found.index(line) < 20 for line in found[-2:])


def test_a_fault_of_lines_applies_to_results_only() -> None:
    client = faulty("bad_lines=20")
    id_ = ended(client)
    assert client.get(id_)["id"] == id_
    assert applied(client) == []
    found = client.call("GET", f"/{id_}/results").body.splitlines()
    assert sum(decoded(line) is None for line in found) == 15
    assert applied(client) == ["results:bad_lines=20"]


def test_unknown_variants_replace_results_by_an_unknown_type() -> None:
    found = [decoded(line) for line in lines(faulty(), "unknown_variants=3")]
    types = Counter(line["result"]["type"] for line in found)
    assert types == {"succeeded": 17, "postponed": 3}
    assert len({line["custom_id"] for line in found}) == 20


def test_each_line_is_changed_in_one_way_at_most() -> None:
    found = lines(faulty(), "bad_lines=1,unknown_variants=1,duplicate_lines=1", 2)
    assert len(found) == 2
    assert decoded(found[0]) is None or decoded(found[1]) is None
    assert b"postponed" in b"".join(found)
    assert len(lines(faulty(), "duplicate_lines=5", 2)) == 4


def test_results_are_uncorrupted_after_the_rule_has_applied() -> None:
    client = faulty("results:bad_lines=20")
    id_ = ended(client)
    client.call("GET", f"/{id_}/results")
    assert len(client.results(id_)) == 20


def strange(value: Any) -> int:
    """Count the objects that have the unknown field."""
    if isinstance(value, list):
        return sum(map(strange, value))
    if not isinstance(value, dict):
        return 0
    return ("a_field_of_tomorrow" in value) + sum(
        strange(item) for name, item in value.items() if name != "a_field_of_tomorrow"
    )


def test_unknown_fields_are_added_to_every_object_but_a_tool_input() -> None:
    client = faulty("unknown_fields,times=always")
    calls = {"tool_choice": {"type": "any"}, "tools": [{"name": "find"}]}
    id_ = client.create([request(**calls), request("bad", max_tokens=0)])
    client.now += ENDED
    assert strange(client.get(id_)) == 2  # the batch and its counts
    assert strange(client.ok("GET")) == 3  # the same, and the page
    assert strange(client.call("GET", "/none").json) == 2  # the body and the error in it
    by_id = {
        line["custom_id"]: line
        for line in map(decoded, client.call("GET", f"/{id_}/results").body.splitlines())
    }
    # The line, the result, its error and the error in that.
    assert strange(by_id["bad"]) == 4
    # The line, result, message, usage, cache_creation and a block, but not the tool's input.
    assert strange(by_id["a"]) == 6
    assert by_id["a"]["result"]["message"]["content"][0]["input"] == {"query": "a"}


def test_unknown_fields_can_be_combined_with_changed_lines() -> None:
    found = lines(faulty(), "unknown_fields,unknown_variants=1,duplicate_lines=2", 4)
    assert len(found) == 6
    assert all(strange(decoded(line)) for line in found)


# --- faults of a batch -----------------------------------------------------------------


def test_requests_for_a_missing_batch_are_404s_until_missing_for_is_over() -> None:
    client = faulty("missing_for=30")
    id_ = ended(client)
    client.now = CREATED_AT.timestamp() + 29.9
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        error = client.call(method, f"/{id_}{path}").error
        assert error == (404, "not_found_error", f"Batch `{id_}` was not found.")
    assert [batch["id"] for batch in client.ok("GET")["data"]] == [id_]
    client.now += 0.2
    assert client.get(id_)["id"] == id_


def test_an_unlisted_batch_is_in_no_list_until_unlisted_for_is_over() -> None:
    client = faulty("create:unlisted_for=30,after=1")
    listed, unlisted = client.create([request()]), client.create([request()])
    client.now += 29.9
    assert [batch["id"] for batch in client.ok("GET")["data"]] == [listed]
    assert client.get(unlisted)["id"] == unlisted
    assert client.call("GET", f"?after_id={unlisted}").status == 400
    client.now += 0.2
    assert [batch["id"] for batch in client.ok("GET")["data"]] == [unlisted, listed]


def listed(client: Client) -> list[str]:
    return [batch["id"] for batch in client.ok("GET")["data"]]


def test_created_at_skew_changes_timestamps_and_the_place_in_lists_but_not_processing() -> None:
    client = faulty("create:created_at_skew=-5,after=1", "create:created_at_skew=0.5,after=2")
    first, early, late = [client.create([request()]) for _ in range(3)]
    stamps = [datetime.fromisoformat(client.get(id_)["created_at"]) for id_ in (first, early, late)]
    assert [stamp - CREATED_AT for stamp in stamps] == [
        timedelta(0),
        timedelta(seconds=-5),
        timedelta(seconds=0.5),
    ]
    assert listed(client) == [late, first, early]
    assert applied(client) == ["create:created_at_skew=-5", "create:created_at_skew=0.5"]
    for id_, stamp in zip((first, early, late), stamps, strict=True):
        batch = client.get(id_)
        assert datetime.fromisoformat(batch["expires_at"]) - stamp == timedelta(days=1)
    # Processing began when the batch was created, whatever its created_at says.
    client.now += 9.9
    assert [client.get(id_)["ended_at"] for id_ in (first, early, late)] == [None] * 3
    client.now += 10.1
    assert all(client.get(id_)["ended_at"] for id_ in (first, early, late))


def test_pages_follow_the_order_of_skewed_created_at() -> None:
    client = faulty("create:created_at_skew=-0.1,after=2")
    first = client.create([request()])
    client.now += 1
    second, third = client.create([request()]), client.create([request()])
    assert listed(client) == [second, third, first]
    page = client.ok("GET", f"?limit=1&after_id={second}")
    assert ([batch["id"] for batch in page["data"]], page["has_more"]) == ([third], True)
    page = client.ok("GET", f"?limit=1&before_id={third}")
    assert ([batch["id"] for batch in page["data"]], page["has_more"]) == ([second], False)


def test_batches_whose_created_at_is_equal_by_skew_are_a_tie() -> None:
    client = faulty("create:created_at_skew=-1,after=1")
    first = client.create([request()])
    client.now += 1
    second = client.create([request()])
    assert client.get(first)["created_at"] == client.get(second)["created_at"]
    assert listed(client) == [second, first]


@pytest.mark.parametrize(("share", "count"), [(1, 20), (0.5, 10), (0.01, 1)])
def test_an_expired_share_of_the_requests_expires_when_the_batch_ends(
    share: float, count: int
) -> None:
    client = faulty(FaultRule(expired=share))
    id_ = client.create(requests(20))
    expires_at = client.get(id_)["expires_at"]
    client.now += ENDED
    batch = client.get(id_)
    assert batch["processing_status"] == "ended"
    assert batch["expires_at"] == batch["ended_at"] == expires_at
    assert batch["request_counts"]["expired"] == count
    assert batch["request_counts"]["succeeded"] == 20 - count
    outcomes = Counter(result["type"] for result in client.results(id_).values())
    assert outcomes["expired"] == count
    # The next batch has no fault.
    other = client.get(ended(client))
    assert other["request_counts"]["expired"] == 0
    assert other["expires_at"] > other["ended_at"]


def test_an_archived_batch_has_no_results_as_soon_as_it_ends() -> None:
    client = faulty("archived")
    id_ = client.create(requests(2))
    assert client.get(id_)["archived_at"] is None
    client.now += ENDED
    batch = client.get(id_)
    assert batch["archived_at"] == batch["ended_at"] is not None
    assert batch["results_url"] is None
    assert client.call("GET", f"/{id_}/results").status == 404
    client.now += 40 * DAY
    assert client.get(id_) == batch


def test_a_results_url_fault_replaces_the_results_url() -> None:
    client = faulty("results_url=https://b.test/{id}?a=1", "results_url={origin}/x/{id}")
    first, second = client.create([request()]), client.create([request()])
    assert client.get(first)["results_url"] is None
    client.now += ENDED
    assert client.get(first)["results_url"] == f"https://b.test/{first}?a=1"
    assert client.get(second)["results_url"] == f"{ORIGIN}/x/{second}"


def test_rules_of_batches_count_batches_and_apply_beside_rules_of_responses() -> None:
    client = faulty("create:drop=before", "create:drop=after", "create:archived")
    body = {"requests": requests(1)}
    responses: list[ClientResponse] = [client.call("POST", "", body) for _ in range(3)]
    assert [response.status for response in responses] == [0, 0, 200]
    client.now += ENDED
    archived = [batch["archived_at"] is not None for batch in client.ok("GET")["data"]]
    assert archived == [False, True]
    assert applied(client) == ["create:drop=before", "create:drop=after", "create:archived"]


# --- rules as text, and mistakes -------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "create:status=503,retry_after=1,times=2",
            FaultRule(route="create", status=503, retry_after=1, times=2),
        ),
        ("results:cut=1000,end=reset", FaultRule(route="results", cut=1000, end="reset")),
        ("any:drip", FaultRule(drip=True)),
        ("any:delay=0.25,times=always", FaultRule(delay=0.25, times=None)),
        ("any:status=400,should_retry=false", FaultRule(status=400, should_retry=False)),
        ("any:status=429,retry_after=0", FaultRule(status=429, retry_after=0.0)),
        (
            "get:status=429,retry_after=Wed, 21 Oct 2026 07:28:00 GMT,after=2",
            FaultRule(
                route="get", status=429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", after=2
            ),
        ),
        (
            "create:results_url=https://B.test/{id}?a=1&b=2",
            FaultRule(route="create", results_url="https://B.test/{id}?a=1&b=2"),
        ),
        ("any:location=https://b.test:8000/", FaultRule(location="https://b.test:8000/")),
        (
            "results:unknown_fields,bad_lines=1,duplicate_lines=2,unknown_variants=3",
            FaultRule(
                route="results",
                bad_lines=1,
                duplicate_lines=2,
                unknown_variants=3,
                unknown_fields=True,
            ),
        ),
        (
            "create:missing_for=2,unlisted_for=3,expired=0.5,archived",
            FaultRule(route="create", missing_for=2, unlisted_for=3, expired=0.5, archived=True),
        ),
        ("create:created_at_skew=-0.1", FaultRule(route="create", created_at_skew=-0.1)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_rule_is_parsed_from_text_and_written_back(text: str, rule: FaultRule) -> None:
    assert FaultRule.parse(text) == rule
    assert str(rule) == text


def test_a_rules_text_can_omit_the_route_and_contain_spaces() -> None:
    assert FaultRule.parse("location=http://b.test/") == FaultRule(location="http://b.test/")
    assert FaultRule.parse("drip") == FaultRule(drip=True)
    assert FaultRule.parse("drip=true, delay = 1") == FaultRule(drip=True, delay=1)
    assert FaultRule.parse("get : status=500, times=2") == FaultRule(
        route="get", status=500, times=2
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "unknown field ''; the fields are after, times, status"),
        ("create", "the fault is missing; write, for example, create:status=503"),
        ("create:", "unknown field ''"),
        (
            "creates:drip",
            "route must be one of create, get, list, cancel, delete, results, any, not 'creates'",
        ),
        ("create:statsu=503", "unknown field 'statsu'; the fields are"),
        ("create:times=2,statsu=503", "unknown field 'statsu'; the fields are"),
        ("create:status", "status needs a value: status="),
        ("create:status=many", "status must be a whole number, not 'many'"),
        ("create:times=1.5", "times must be a whole number, not '1.5'"),
        ("create:delay=long", "delay must be a number, not 'long'"),
        ("create:drip=yes", "drip must be true or false, not 'yes'"),
        ("create:status=500,status=503", "status is given twice"),
        ("create:route=get", "unknown field 'route'"),
        ("create:times=2", "the rule has no fault; add one, such as status=503"),
        ("drop=during", "drop must be before or after, not 'during'"),
        ("cut=1,end=dirty", "end must be clean, close or reset, not 'dirty'"),
    ],
)
def test_an_invalid_rule_text_is_a_value_error_that_says_what_to_write(
    text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=r"^invalid fault rule ") as raised:
        FaultRule.parse(text)
    assert str(raised.value).startswith(f"invalid fault rule {text!r}: {message}")


DRIP = {"drip": True}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "the rule has no fault"),
        ({"route": "create", "after": 1}, "the rule has no fault"),
        ({**DRIP, "route": "other"}, "route must be one of"),
        ({**DRIP, "after": -1}, "after must be 0 or more, not -1"),
        ({**DRIP, "times": 0}, "times must be 1 or more, or None"),
        ({"bad_lines": -1}, "bad_lines must be 0 or more, not -1"),
        ({"duplicate_lines": -1}, "duplicate_lines must be 0 or more, not -1"),
        ({"unknown_variants": -1}, "unknown_variants must be 0 or more, not -1"),
        ({"delay": -1}, "delay must be 0 or more seconds, not -1"),
        ({"delay": float("inf")}, "delay must be 0 or more seconds, not inf"),
        ({"missing_for": float("nan")}, "missing_for must be 0 or more seconds, not nan"),
        ({"unlisted_for": -1}, "unlisted_for must be 0 or more seconds, not -1"),
        ({"created_at_skew": float("inf")}, "created_at_skew must be a number of seconds, not inf"),
        (
            {"created_at_skew": 1, "drip": True},
            "faults of a response and of a batch cannot be combined",
        ),
        (
            {"created_at_skew": 1, "route": "get"},
            "a fault of a batch needs the route create, not get",
        ),
        ({"cut": -1}, "cut must be 0 or more bytes, not -1"),
        ({"expired": 1.5}, "expired must be a share from 0 to 1, not 1.5"),
        (
            {"status": 503, "retry_after": -1},
            "retry_after must be 0 or more seconds, or the text of a header",
        ),
        (
            {"status": 503, "retry_after": ""},
            "retry_after must be 0 or more seconds, or the text of a header",
        ),
        (
            {"status": 503, "retry_after": "a\r\nb"},
            "retry_after must be 0 or more seconds, or the text of a header",
        ),
        ({"location": "a\nb"}, "location must be printable ASCII"),
        ({"results_url": ""}, "results_url must be at least one character"),
        ({"status": 200}, "status must be from 400"),
        ({"status": 304}, "status must be from 400"),
        ({"status": 307}, "status must be from 400"),
        ({"status": 600}, "status must be from 400"),
        ({"status": 500, "location": "/x"}, "status must be from 400"),
        ({"status": 201, "proxy_page": True}, "status must be from 400"),
        ({**DRIP, "retry_after": 1}, "retry_after needs a status"),
        ({**DRIP, "retry_after": 0}, "retry_after needs a status"),
        ({**DRIP, "should_retry": False}, "should_retry needs a status"),
        ({**DRIP, "taken": True}, "taken needs a status"),
        ({**DRIP, "error_code": "x"}, "error_code needs a status"),
        ({"location": "/x", "taken": True}, "taken needs a status"),
        (
            {"location": "/x", "proxy_page": True},
            "location cannot be combined with proxy_page or error_code",
        ),
        (
            {"location": "/x", "status": 302, "error_code": "x"},
            "location cannot be combined with proxy_page or error_code",
        ),
        ({"proxy_page": True, "error_code": "x"}, "proxy_page cannot be combined with error_code"),
        ({"status": 500, "unknown_fields": True}, "a rule that replaces the response cannot"),
        ({"location": "/x", "bad_lines": 1}, "a rule that replaces the response cannot"),
        ({"drop": "before", "status": 500}, "drop cannot be combined with another fault"),
        ({"drop": "before", "cut": 0}, "drop cannot be combined with another fault"),
        ({"drop": "before", "drip": True}, "drop cannot be combined with another fault"),
        ({"drop": "after", "unknown_fields": True}, "drop cannot be combined with another fault"),
        ({"drop": "after", "end": "clean"}, "drop cannot be combined with the end clean"),
        ({**DRIP, "end": "reset"}, "end needs cut or drop"),
        (
            {"archived": True, "drip": True},
            "faults of a response and of a batch cannot be combined",
        ),
        ({"archived": True, "route": "get"}, "a fault of a batch needs the route create, not get"),
        (
            {"bad_lines": 1, "route": "get"},
            "a fault of result lines needs the route results, not get",
        ),
    ],
    ids=repr,
)
def test_a_rule_with_a_value_out_of_range_or_contradictory_fields_is_a_value_error(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        FaultRule(**fields)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_the_rate_of_a_plan_must_be_a_share_from_0_to_1(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be a share from 0 to 1"):
        FaultPlan(seed=1, rate=rate)
