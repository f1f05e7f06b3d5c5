"""Tests of `api`: each method checks its arguments at once, and passes them on."""

from __future__ import annotations

import functools
import math
from typing import Any

import msgspec
import pytest

from batches_core import (
    BatchState,
    DeletedMessageBatch,
    InvalidInputError,
    MessageBatch,
    Operation,
    ResultsReceived,
    RetryPolicy,
    RetryScheduled,
    TransportError,
    WaitTimeoutError,
)
from tests.support.callables import ASYNC_CALLABLES, PlainCallable
from tests.support.ids import readable
from tests.support.playbook import Playbook, api, batch_json, error_json, result_line
from tests.support.results_playbook import start_reading
from tests.support.settling_playbook import unknown_outcome

BATCHES = "/v1/messages/batches"
REQUEST: dict[str, Any] = {"custom_id": "a", "params": {"x": 1}}


def expect_first_request(operation: Operation[Any], method: str, path: str) -> None:
    Playbook(operation).expect_request(method, path)


# --- creates -----------------------------------------------------------------------------


def test_create_refuses_invalid_requests_at_once() -> None:
    with pytest.raises(
        InvalidInputError, match=r"requests\.1\.custom_id: 'a' is already the id of requests"
    ):
        api().create([REQUEST, REQUEST])


def test_create_refuses_an_empty_list_at_once() -> None:
    with pytest.raises(InvalidInputError, match="no requests"):
        api().create([])


def test_create_sends_the_requests_of_an_iterator() -> None:
    book = Playbook(api().create(iter([REQUEST])))
    book.expect_marker()
    body = book.expect_request("POST", BATCHES).body
    assert body is not None
    sent = b'{"requests":[{"custom_id":"a","params":{"x":1}}]}'
    assert b"".join(body) == b"".join(body) == sent


@pytest.mark.parametrize(
    "options",
    [
        {"if_unknown": "retry"},
        {"if_unknown": None},
        {"if_unmarked": "no"},
        {"settle_time": -1},
        {"known_ids": "msgbatch_1"},
    ],
    ids=readable,
)
def test_create_refuses_an_invalid_option_at_once(options: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"if_unknown|if_unmarked|settle_time|known_ids"):
        api().create([REQUEST], **options)


@pytest.mark.parametrize(
    "outcome",
    [None, "msgbatch_1", TransportError("no", sent=True)],
    ids=["None", "id", "another error"],
)
def test_settle_refuses_anything_but_an_unknown_outcome_or_its_marker(outcome: Any) -> None:
    with pytest.raises(InvalidInputError, match="OutcomeUnknownError of a create, or its marker"):
        api().settle(outcome)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"base_url": "https://other.test"}, "settle it with that base_url"),
        ({"workspace_id": "there"}, "settle it with that workspace_id"),
    ],
    ids=["base_url", "workspace_id"],
)
def test_settle_refuses_an_outcome_of_another_base_url_or_workspace(
    settings: Any, advice: str
) -> None:
    outcome = unknown_outcome(on=api(workspace_id="here"))
    with pytest.raises(InvalidInputError, match=advice):
        api(**settings).settle(outcome)


# --- batches -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "verb", "suffix"),
    [
        ("get", "GET", ""),
        ("cancel", "POST", "/cancel"),
        ("delete", "DELETE", ""),
        ("wait_for", "GET", ""),
        ("results_stream", "GET", ""),
    ],
)
def test_a_batch_can_be_passed_in_place_of_its_id(method: str, verb: str, suffix: str) -> None:
    batch = msgspec.convert(batch_json("msgbatch_7"), MessageBatch)
    path = f"{BATCHES}/msgbatch_7{suffix}"
    expect_first_request(getattr(api(), method)(batch), verb, path)
    expect_first_request(getattr(api(), method)(batch=batch), verb, path)


def test_a_wait_for_a_batch_names_its_id_in_the_timeout_error() -> None:
    batch = msgspec.convert(batch_json("msgbatch_7"), MessageBatch)
    book = Playbook(api().wait_for(batch, timeout=0, max_outage=0))
    book.expect_request("GET", f"{BATCHES}/msgbatch_7")
    book.respond(batch_json("msgbatch_7"))
    book.expect(BatchState)
    with pytest.raises(WaitTimeoutError, match=r"^batch msgbatch_7 was still"):
        book.next()


def test_the_deletion_of_a_batch_has_its_id() -> None:
    batch = msgspec.convert(batch_json("msgbatch_7", "ended"), MessageBatch)
    book = Playbook(api(retry=RetryPolicy(initial_delay=0)).delete(batch))
    book.expect_request("DELETE", f"{BATCHES}/msgbatch_7")
    book.lose()
    book.expect(RetryScheduled)
    book.expect_request("DELETE", f"{BATCHES}/msgbatch_7")
    book.respond(error_json("not_found_error"), 404)
    assert book.expect_done() == DeletedMessageBatch(id="msgbatch_7")


def test_a_coroutine_in_place_of_a_batch_is_refused_with_a_hint() -> None:
    async def create() -> None:
        """A create that the caller forgot to await."""

    coroutine: Any = create()
    try:
        with pytest.raises(InvalidInputError, match=r"^batch .* not a coroutine; await it first$"):
            api().wait_for(coroutine)
    finally:
        coroutine.close()


# --- lists -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["list", "list_all"])
@pytest.mark.parametrize(
    ("query", "encoded"),
    [
        ({}, ""),
        ({"limit": 1}, "?limit=1"),
        ({"limit": 1000}, "?limit=1000"),
        ({"after_id": "msgbatch_1"}, "?after_id=msgbatch_1"),
        ({"limit": 5, "before_id": "a&b"}, "?limit=5&before_id=a%26b"),
    ],
    ids=readable,
)
def test_list_and_list_all_encode_their_query(
    method: str, query: dict[str, Any], encoded: str
) -> None:
    expect_first_request(getattr(api(), method)(**query), "GET", BATCHES + encoded)


@pytest.mark.parametrize("method", ["list", "list_all"])
@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ({"limit": 0}, "limit must be an int from 1 to 1,000, not 0"),
        ({"limit": -1}, "limit must be an int from 1 to 1,000, not -1"),
        ({"limit": 1001}, "limit must be an int from 1 to 1,000, not 1001"),
        ({"limit": math.nan}, "limit must be an int from 1 to 1,000, not nan"),
        (
            {"before_id": "a", "after_id": "b"},
            "both before_id and after_id were passed: pass one",
        ),
        ({"before_id": ""}, "before_id must be an id"),
        ({"after_id": ".."}, "after_id must be an id"),
        ({"after_id": "\ud800"}, "after_id contains characters"),
    ],
    ids=readable,
)
def test_list_and_list_all_refuse_an_invalid_query_at_once(
    method: str, query: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        getattr(api(), method)(**query)


# --- waits -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["poll_interval", "timeout", "max_outage"])
@pytest.mark.parametrize("value", [-1, -0.1, math.inf, math.nan, -math.inf])
def test_wait_for_refuses_a_negative_or_infinite_time(name: str, value: Any) -> None:
    expected = f"^{name} must be a number of seconds, .* finite, not {value}$"
    with pytest.raises(InvalidInputError, match=expected):
        api().wait_for("b", **{name: value})


def test_wait_for_refuses_a_poll_interval_of_zero() -> None:
    expected = "poll_interval must be a number of seconds, more than 0"
    with pytest.raises(InvalidInputError, match=expected):
        api().wait_for("b", poll_interval=0)


@pytest.mark.parametrize(
    "options",
    [
        {"poll_interval": 0},
        {"poll_interval": -1},
        {"poll_interval": float("nan")},
        {"poll_interval": float("inf")},
        {"timeout": -1},
        {"timeout": "60"},
        {"poll_interval": None},
        {"timeout": float("nan")},
        {"max_outage": -0.1},
    ],
    ids=readable,
)
def test_wait_for_refuses_a_time_that_is_not_a_valid_number_of_seconds(
    options: dict[str, Any],
) -> None:
    with pytest.raises(InvalidInputError, match="number of seconds"):
        api().wait_for("msgbatch_1", **options)


@pytest.mark.parametrize("until", [3, "ended"])
def test_wait_for_refuses_a_predicate_that_is_not_callable(until: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"until must be a function of .*, not "):
        api().wait_for("msgbatch_1", until=until)


@pytest.mark.parametrize("until", ASYNC_CALLABLES, ids=readable)
def test_wait_for_refuses_an_async_predicate(until: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        api().wait_for("b", until=until)
    assert str(caught.value) == (
        "until is an async function, but is called without await: pass a plain function"
    )


@pytest.mark.parametrize(
    "until",
    [PlainCallable(), functools.partial(bool), lambda batch: batch.ended],
    ids=["object", "partial", "function"],
)
def test_wait_for_accepts_any_plain_predicate(until: Any) -> None:
    api().wait_for("b", until=until)


def test_wait_for_accepts_a_timeout_and_a_max_outage_of_zero() -> None:
    book = Playbook(api().wait_for("b", timeout=0, max_outage=0))
    book.expect_request("GET", f"{BATCHES}/b")
    book.respond(batch_json("b"))
    book.expect(BatchState)
    with pytest.raises(WaitTimeoutError):
        book.next()


# --- results -----------------------------------------------------------------------------


def test_results_stream_refuses_a_message_type_that_is_not_a_type() -> None:
    not_a_type: Any = 5
    with pytest.raises(TypeError, match="message_type 5 is not a type"):
        api().results_stream("b", message_type=not_a_type)


def test_results_stream_decodes_messages_to_the_message_type() -> None:
    book = start_reading(message_type=dict)
    book.respond(result_line("a") + result_line("b"))
    items: list[Any] = book.expect(ResultsReceived).items
    assert [item.result.message["id"] for item in items] == ["msg_a", "msg_b"]


def test_max_line_limits_the_lines_of_results() -> None:
    book = start_reading(settings={"max_line": 10})
    book.respond(result_line("a"))
    [item] = book.expect(ResultsReceived).items
    assert "over the limit max_line=10" in item.reason


def test_a_max_line_below_1_is_refused() -> None:
    with pytest.raises(
        InvalidInputError, match="max_line must be a number of bytes, 1 or more, not 0"
    ):
        api(max_line=0)


@pytest.mark.parametrize("expected", ["abc", [b"a"], [None], [{"custom_id": "a"}]], ids=readable)
def test_results_stream_refuses_expected_values_that_are_not_custom_ids(expected: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected must be a list of custom_ids"):
        api().results_stream("msgbatch_1", expected=expected)


@pytest.mark.parametrize("name", ["expected", "delivered"])
@pytest.mark.parametrize("ids", ["abc", [b"a"], [5]], ids=readable)
def test_raw_results_refuses_ids_that_are_not_custom_ids(name: str, ids: Any) -> None:
    with pytest.raises(InvalidInputError, match=f"{name} must be a list of custom_ids"):
        api().raw_results("msgbatch_1", **{name: ids})


# --- policies ----------------------------------------------------------------------------


def test_operations_use_the_retry_policy_and_jitter_of_the_caller() -> None:
    policy = RetryPolicy(attempts=2, initial_delay=8)
    book = Playbook(api(retry=policy, jitter=lambda: 0.25).get("b"))
    book.expect_request("GET", f"{BATCHES}/b")
    book.respond(error_json("api_error"), status=500)
    assert book.expect(RetryScheduled).delay == 2
    book.expect_wait(2)
    book.expect_request("GET", f"{BATCHES}/b")
    book.respond(batch_json("b"))
    assert book.expect_done().id == "b"


@pytest.mark.parametrize("retry", [3, True, "twice"])
def test_a_retry_that_is_not_a_retry_policy_is_refused(retry: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"retry must be a RetryPolicy, not .*: pass retry="
    ):
        api(retry=retry)


def test_a_settling_that_is_not_a_settling_policy_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="settling must be a SettlingPolicy, not 60: pass"):
        api(settling=60)
