"""The API's paths and headers, where the credential goes, and what is refused at once."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from batches_core import (
    BASE_URL,
    VERSION,
    BatchesAPI,
    BatchState,
    DeletedMessageBatch,
    InvalidInputError,
    MessageBatch,
    Operation,
    PageReceived,
    RemoteProtocolError,
    Request,
    ResultsReceived,
    RetryPolicy,
    RetryScheduled,
    WaitTimeoutError,
)
from tests.support.callables import ASYNC_CALLABLES, PlainCallable
from tests.support.playbook import BASE, KEY, Playbook, api, batch_json, error_json, result_line

BATCHES = "/v1/messages/batches"
ONE: dict[str, Any] = {"custom_id": "a", "params": {"x": 1}}
ONE_SENT = b'{"requests":[{"custom_id":"a","params":{"x":1}}]}'

#: Every operation, and the request that it begins with.
OPERATIONS: list[tuple[Callable[[BatchesAPI], Operation[Any]], str, str]] = [
    (lambda a: a.create([ONE]), "POST", BATCHES),
    (lambda a: a.get("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
    (lambda a: a.cancel("msgbatch_1"), "POST", f"{BATCHES}/msgbatch_1/cancel"),
    (lambda a: a.delete("msgbatch_1"), "DELETE", f"{BATCHES}/msgbatch_1"),
    (lambda a: a.list(), "GET", BATCHES),
    (lambda a: a.list_all(), "GET", BATCHES),
    (lambda a: a.wait_for("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
    (lambda a: a.results_stream("msgbatch_1"), "GET", f"{BATCHES}/msgbatch_1"),
]


def received(play: Playbook) -> list[Any]:
    return play.expect(ResultsReceived).items


def first_request(operation: Operation[Any], method: str, path: str) -> Request:
    play = Playbook(operation)
    if (method, path.removeprefix("/proxy")) == ("POST", BATCHES):
        play.expect_marker(prefix=path.removesuffix(BATCHES))
    return play.expect_request(method, path)


def ended(results_url: str | None, **changes: Any) -> MessageBatch:
    wire = batch_json(status="ended", results_url=results_url, **changes)
    return msgspec.convert(wire, MessageBatch)


def results_request(results_url: str, path: str = "/r", **settings: Any) -> Request:
    return first_request(api(**settings).results_stream(ended(results_url)), "GET", path)


@pytest.mark.parametrize(("operation", "method", "path"), OPERATIONS)
class TestEveryOperation:
    def test_begins_with_its_request(
        self, operation: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
    ) -> None:
        request = first_request(operation(api()), method, path)
        assert request.url == BASE + path
        assert request.origin == ("https", "api.example.test", 443)

    def test_is_below_the_path_of_the_base_url(
        self, operation: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
    ) -> None:
        first_request(operation(api(base_url=BASE + "/proxy/")), method, "/proxy" + path)

    @pytest.mark.parametrize(
        ("credential", "header"),
        [
            ({"api_key": KEY}, ("x-api-key", KEY)),
            ({"api_key": None, "auth_token": KEY}, ("authorization", f"Bearer {KEY}")),
        ],
    )
    def test_has_the_credential_and_the_settings_in_its_headers(
        self,
        operation: Callable[[BatchesAPI], Operation[Any]],
        method: str,
        path: str,
        credential: dict[str, Any],
        header: tuple[str, str],
    ) -> None:
        settings = {"version": "2026-10-21", "betas": ["one", "two"], "workspace_id": "wrkspc_1"}
        request = first_request(operation(api(**credential, **settings)), method, path)
        headers = dict(request.headers)
        assert len(headers) == len(request.headers)
        assert all(name == name.lower() for name in headers)
        content = {name: headers.pop(name, None) for name in ("content-length", "content-type")}
        assert headers.pop("user-agent").startswith("batches-core/")
        assert headers == {
            header[0]: header[1],
            "accept": "application/json",
            "anthropic-version": "2026-10-21",
            "anthropic-beta": "one,two",
            "anthropic-workspace-id": "wrkspc_1",
        }
        length, type_ = {
            (True, True): (str(len(ONE_SENT)), "application/json"),
            (True, False): ("0", None),
            (False, False): (None, None),
        }[method == "POST", path == BATCHES and method == "POST"]
        assert content == {"content-length": length, "content-type": type_}
        assert (request.body is not None) == (type_ is not None)

    def test_shows_no_credential(
        self, operation: Callable[[BatchesAPI], Operation[Any]], method: str, path: str
    ) -> None:
        for credential in ({"api_key": KEY}, {"api_key": None, "auth_token": KEY}):
            made = operation(api(**credential))
            play = Playbook(made)
            if (method, path) == ("POST", BATCHES):
                play.expect_marker()
            send: Any = play.next()
            assert (send.request.method, send.request.target) == (method, path)
            for shown in (made, send, send.request, send.request.headers):
                assert KEY not in f"{shown!r} {shown}"


def test_headers_that_were_not_asked_for_are_not_sent() -> None:
    headers = dict(first_request(api().get("b"), "GET", f"{BATCHES}/b").headers)
    assert set(headers) == {"x-api-key", "accept", "anthropic-version", "user-agent"}
    assert headers["anthropic-version"] == VERSION


def test_a_user_profile_is_sent_with_a_create_alone() -> None:
    for operation, method, path in OPERATIONS:
        made = operation(api(user_profile_id="uprof_1"))
        profile = dict(first_request(made, method, path).headers).get("anthropic-user-profile-id")
        assert profile == ("uprof_1" if (method, path) == ("POST", BATCHES) else None)


def test_a_create_sends_the_requests_that_were_checked() -> None:
    request = first_request(api().create(iter([ONE])), "POST", BATCHES)
    assert request.body is not None
    assert b"".join(request.body) == b"".join(request.body) == ONE_SENT
    with pytest.raises(InvalidInputError, match="no requests"):
        api().create([])


class TestCredentials:
    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            ({}, "there is no credential: pass api_key"),
            (
                {"api_key": KEY, "auth_token": KEY},
                "both api_key and auth_token were passed: pass one",
            ),
            ({"api_key": ""}, "api_key must be a non-empty str"),
            ({"auth_token": ""}, "auth_token must be a non-empty str"),
            ({"api_key": KEY.encode()}, "api_key must be a non-empty str"),
            ({"api_key": KEY + "\n"}, "api_key contains a character that a header cannot contain"),
            ({"auth_token": KEY + "\r\nx: y"}, "auth_token contains a character that a header"),
            ({"api_key": " " + KEY}, "strip"),
        ],
    )
    def test_that_cannot_be_sent_are_refused_and_not_shown(
        self, settings: dict[str, Any], why: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=why) as caught:
            BatchesAPI(**settings)
        assert KEY not in str(caught.value)
        assert KEY not in repr(caught.value)

    def test_go_to_the_service_unless_told_otherwise(self) -> None:
        made = BatchesAPI(api_key=KEY)
        assert made.base_url == BASE_URL == "https://api.anthropic.com"
        assert repr(made) == "BatchesAPI(base_url='https://api.anthropic.com')"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"base_url": "api.example.test"}, "base_url cannot be used"),
        ({"version": ""}, "version must be a non-empty str"),
        ({"version": "a\nb"}, "version contains a character"),
        ({"betas": "one"}, "betas must be a list of names, not one str"),
        ({"betas": ["one", ""]}, "each of betas must be a non-empty str"),
        ({"betas": ["one", "t\nwo"]}, "each of betas contains a character"),
        ({"workspace_id": ""}, "workspace_id must be a non-empty str"),
        ({"workspace_id": "a\n"}, "workspace_id contains a character"),
        ({"user_profile_id": ""}, "user_profile_id must be a non-empty str"),
        ({"user_profile_id": "a\0"}, "user_profile_id contains a character"),
        ({"max_line": 0}, "max_line must be a number of bytes, 1 or more, not 0"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        api(**settings)


class TestBatchId:
    @pytest.mark.parametrize(
        ("id_", "segment"), [("a/../b", "a%2F..%2Fb"), ("a?b#c", "a%3Fb%23c"), ("%2e", "%252e")]
    )
    def test_is_one_segment_of_the_path_whatever_it_holds(self, id_: str, segment: str) -> None:
        path = f"{BATCHES}/{segment}"
        first_request(api().get(id_), "GET", path)
        first_request(api().cancel(id_), "POST", path + "/cancel")
        first_request(api().delete(id_), "DELETE", path)
        first_request(api().wait_for(id_), "GET", path)
        first_request(api().results_stream(id_), "GET", path)

    @pytest.mark.parametrize("id_", ["", ".", "..", None, 5, "\ud800"])
    @pytest.mark.parametrize("method", ["get", "cancel", "delete", "wait_for", "results_stream"])
    def test_that_would_lead_elsewhere_is_refused_at_once(self, method: str, id_: Any) -> None:
        with pytest.raises(InvalidInputError, match=r"^batch "):
            getattr(api(), method)(id_)

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
    def test_can_be_a_batch_in_its_stead(self, method: str, verb: str, suffix: str) -> None:
        batch = msgspec.convert(batch_json("msgbatch_7"), MessageBatch)
        path = f"{BATCHES}/msgbatch_7{suffix}"
        first_request(getattr(api(), method)(batch), verb, path)
        first_request(getattr(api(), method)(batch=batch), verb, path)

    def test_of_a_batch_is_named_where_a_wait_ends(self) -> None:
        batch = msgspec.convert(batch_json("msgbatch_7"), MessageBatch)
        play = Playbook(api().wait_for(batch, timeout=0, max_outage=0))
        play.expect_request("GET", f"{BATCHES}/msgbatch_7")
        play.respond(batch_json("msgbatch_7"))
        play.expect(BatchState)
        with pytest.raises(WaitTimeoutError, match=r"^batch msgbatch_7 was still"):
            play.next()

    def test_of_a_batch_is_the_one_that_was_deleted(self) -> None:
        batch = msgspec.convert(batch_json("msgbatch_7", "ended"), MessageBatch)
        play = Playbook(api(retry=RetryPolicy(initial_delay=0)).delete(batch))
        play.expect_request("DELETE", f"{BATCHES}/msgbatch_7")
        play.lose()
        play.expect(RetryScheduled)
        play.expect_request("DELETE", f"{BATCHES}/msgbatch_7")
        play.respond(error_json("not_found_error"), 404)
        assert play.expect_done() == DeletedMessageBatch(id="msgbatch_7")

    def test_is_not_a_call_that_nobody_awaited(self) -> None:
        async def create() -> None:
            """Stand for a create that is still to be awaited."""

        coroutine: Any = create()
        try:
            with pytest.raises(
                InvalidInputError, match=r"^batch .* not a coroutine; await it first$"
            ):
                api().wait_for(coroutine)
        finally:
            coroutine.close()


@pytest.mark.parametrize("method", ["list", "list_all"])
class TestLists:
    @pytest.mark.parametrize(
        ("query", "encoded"),
        [
            ({}, ""),
            ({"limit": 1}, "?limit=1"),
            ({"limit": 1000}, "?limit=1000"),
            ({"after_id": "msgbatch_1"}, "?after_id=msgbatch_1"),
            ({"limit": 5, "before_id": "a&b"}, "?limit=5&before_id=a%26b"),
        ],
    )
    def test_encode_their_query(self, method: str, query: dict[str, Any], encoded: str) -> None:
        first_request(getattr(api(), method)(**query), "GET", BATCHES + encoded)

    @pytest.mark.parametrize(
        ("query", "why"),
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
    )
    def test_refuse_a_bad_query_at_once(self, method: str, query: dict[str, Any], why: str) -> None:
        with pytest.raises(InvalidInputError, match=why):
            getattr(api(), method)(**query)


@pytest.mark.parametrize(
    ("start", "begin", "follow"),
    [
        ({}, "", "&after_id=z"),
        ({"after_id": "m"}, "&after_id=m", "&after_id=z"),
        ({"before_id": "m"}, "&before_id=m", "&before_id=a"),
    ],
)
def test_a_walk_over_all_pages_keeps_its_direction_and_its_limit(
    start: dict[str, str], begin: str, follow: str
) -> None:
    play = Playbook(api().list_all(limit=2, **start))
    page = {"data": [batch_json("a"), batch_json("z")], "first_id": "a", "last_id": "z"}
    for query, more in ((begin, True), (follow, False)):
        play.expect_request("GET", f"{BATCHES}?limit=2{query}")
        play.respond({**page, "has_more": more})
        assert len(play.expect(PageReceived).page.data) == 2
    assert play.expect_done() is None


def test_a_cursor_of_the_services_own_is_sent_whatever_it_is() -> None:
    play = Playbook(api().list_all())
    play.expect_request("GET", BATCHES)
    play.respond({"data": [batch_json("a")], "has_more": True, "first_id": "a", "last_id": ".."})
    play.expect(PageReceived)
    play.expect_request("GET", f"{BATCHES}?after_id=..")
    play.respond({"data": [batch_json("b")], "has_more": True, "first_id": "b", "last_id": ""})
    play.expect(PageReceived)
    play.expect_done()


class TestWaitFor:
    @pytest.mark.parametrize("name", ["poll_interval", "timeout", "max_outage"])
    @pytest.mark.parametrize("value", [-1, -0.1, math.inf, math.nan, -math.inf])
    def test_refuses_times_that_are_none(self, name: str, value: Any) -> None:
        with pytest.raises(
            InvalidInputError, match=f"^{name} is in seconds, .* finite, not {value}$"
        ):
            api().wait_for("b", **{name: value})

    def test_refuses_to_poll_without_a_pause(self) -> None:
        with pytest.raises(InvalidInputError, match="poll_interval is in seconds, more than 0"):
            api().wait_for("b", poll_interval=0)

    @pytest.mark.parametrize("until", ASYNC_CALLABLES)
    def test_refuses_a_predicate_that_nobody_would_await(self, until: Any) -> None:
        with pytest.raises(InvalidInputError) as caught:
            api().wait_for("b", until=until)
        assert str(caught.value) == (
            "until is an async function, but is called without await: pass a plain function"
        )

    @pytest.mark.parametrize(
        "until", [PlainCallable(), functools.partial(bool), lambda batch: batch.ended]
    )
    def test_takes_any_plain_predicate(self, until: Any) -> None:
        api().wait_for("b", until=until)

    def test_takes_no_time_at_all_for_the_others(self) -> None:
        play = Playbook(api().wait_for("b", timeout=0, max_outage=0))
        play.expect_request("GET", f"{BATCHES}/b")
        play.respond(batch_json("b"))
        play.expect(BatchState)
        with pytest.raises(WaitTimeoutError):
            play.next()

    def test_polls_with_the_given_pause_until_the_predicate_is_content(self) -> None:
        def canceling(batch: MessageBatch) -> bool:
            return batch.processing_status == "canceling"

        play = Playbook(api().wait_for("b", poll_interval=7, until=canceling))
        play.expect_request("GET", f"{BATCHES}/b")
        play.respond(batch_json("b"))
        play.expect(BatchState)
        play.expect_wait(7)
        play.expect_request("GET", f"{BATCHES}/b")
        play.respond(batch_json("b", "canceling"))
        assert play.expect(BatchState).batch == play.expect_done()


class TestResultsURL:
    @pytest.mark.parametrize(
        "url", ["/r", f"{BASE}/r", f"{BASE}:443/r", f"{BASE.upper()}/r", f"{BASE}/r#x"]
    )
    def test_on_the_own_origin_gets_the_credential(self, url: str) -> None:
        assert dict(results_request(url).headers)["x-api-key"] == KEY
        token = dict(results_request(url, api_key=None, auth_token=KEY).headers)
        assert token["authorization"] == f"Bearer {KEY}"

    def test_asks_for_lines_and_keeps_the_settings(self) -> None:
        headers = dict(results_request("/r?page=1", "/r?page=1", betas=["one"]).headers)
        assert headers["accept"].startswith("application/x-jsonl")
        assert headers["anthropic-beta"] == "one"
        assert headers["anthropic-version"] == VERSION
        assert "content-length" not in headers

    def test_is_taken_below_the_path_of_the_base_url(self) -> None:
        request = results_request("/r", "/proxy/r", base_url=BASE + "/proxy")
        assert request.url == f"{BASE}/proxy/r"

    @pytest.mark.parametrize(
        "url", ["", "r", "//evil.test/r", f"https://me:{KEY}@api.example.test/r", "ftp://x/r"]
    )
    def test_that_cannot_be_fetched_is_an_error_that_does_not_show_it(self, url: str) -> None:
        play = Playbook(api().results_stream(ended(url)))
        with pytest.raises(RemoteProtocolError, match="URL that cannot be fetched") as caught:
            play.next()
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize("batch", ["msgbatch_1", ended(None)])
    def test_is_asked_for_where_it_is_not_known(self, batch: MessageBatch | str) -> None:
        play = Playbook(api().results_stream(batch))
        play.expect_request("GET", f"{BATCHES}/msgbatch_1")
        play.respond(batch_json(status="ended", results_url="/elsewhere"))
        play.expect_request("GET", "/elsewhere")


def test_the_message_type_is_checked_at_once_and_used() -> None:
    no_type: Any = 5
    with pytest.raises(TypeError, match="message_type 5 is not a type"):
        api().results_stream("b", message_type=no_type)
    play = Playbook(api().results_stream(ended("/r"), message_type=dict))
    play.expect_request("GET", "/r")
    play.respond(result_line("a") + result_line("b"))
    messages: list[Any] = [item.result.message["id"] for item in received(play)]
    assert messages == ["msg_a", "msg_b"]


def test_the_longest_line_can_be_chosen() -> None:
    play = Playbook(api(max_line=10).results_stream(ended("/r")))
    play.expect_request("GET", "/r")
    play.respond(result_line("a"))
    [item] = received(play)
    assert "over the limit max_line=10" in item.reason


def test_the_retry_policy_and_the_jitter_are_the_callers() -> None:
    policy = RetryPolicy(attempts=2, initial_delay=8)
    play = Playbook(api(retry=policy, jitter=lambda: 0.25).get("b"))
    play.expect_request("GET", f"{BATCHES}/b")
    play.respond(error_json("api_error"), status=500)
    assert play.expect(RetryScheduled).delay == 2
    play.expect_wait(2)
    play.expect_request("GET", f"{BATCHES}/b")
    play.respond(batch_json("b"))
    assert play.expect_done().id == "b"


@pytest.mark.parametrize("retry", [3, True, "twice"])
def test_a_retry_policy_that_is_none_is_refused(retry: Any) -> None:
    with pytest.raises(
        InvalidInputError, match=r"retry must be a RetryPolicy, not .*: pass retry="
    ):
        api(retry=retry)
