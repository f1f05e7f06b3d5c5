from __future__ import annotations

from typing import Any

import pytest
from anthropic.types.beta import message_create_params as beta_params
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

from batches_core.emulator import Emulator, Result, answer, succeeded
from tests.support.emulator_client import ABSENT, KEY, VERSION, Client, params, request, requests

USER = {"role": "user", "content": "hi"}
TOOLS = [{"name": "find", "input_schema": {}}, {"name": "look", "input_schema": {}}]
#: The params that the installed version of the official client knows.
CURRENT_PARAMS = {
    *MessageCreateParamsNonStreaming.__annotations__,
    *beta_params.MessageCreateParamsNonStreaming.__annotations__,
}
SENT_AS_HEADERS = {"betas", "workspace_id"}
PUT_TO_USE = {"model", "messages", "max_tokens", "temperature"}
ENABLED = {"type": "enabled", "budget_tokens": 1024}


# --- checks of params ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": ABSENT}, "model: Field required"),
        ({"max_tokens": ABSENT}, "max_tokens: Field required"),
        ({"messages": ABSENT}, "messages: Field required"),
        ({"modle": "claude-test"}, "modle: Extra inputs are not permitted"),
        ({"model": 4}, "model: "),
        ({"stream": True}, "stream: "),
        ({"speed": "fast"}, "speed: "),
        ({"max_tokens": "5"}, "max_tokens: "),
        ({"max_tokens": 1.5}, "max_tokens: "),
        ({"max_tokens": True}, "max_tokens: "),
        ({"max_tokens": None}, "max_tokens: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"max_tokens": -1}, "max_tokens: "),
        ({"messages": "hi"}, "messages: "),
        ({"messages": []}, "messages: "),
        ({"messages": [USER, "hi"]}, "messages.1: "),
        ({"messages": [USER, {"role": "tool", "content": "hi"}]}, "messages.1.role: "),
        ({"messages": [{"content": "hi"}]}, "messages.0.role: "),
        ({"messages": [{"role": [], "content": "hi"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user"}]}, "messages.0.content: "),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content: "),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: "),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0: "),
        ({"temperature": 1.1}, "temperature: "),
        ({"temperature": -1}, "temperature: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"thinking": {"type": "enabled"}}, "thinking.enabled.budget_tokens: "),
        ({"thinking": {**ENABLED, "budget_tokens": 1023}}, "thinking.enabled.budget_tokens: "),
        ({"thinking": {**ENABLED, "budget_tokens": 2000}}, "`max_tokens` must be greater"),
        ({"billing_policy": {"bill_to": "user_profile"}}, "billing_policy.bill_to: "),
    ],
    ids=repr,
)
def test_invalid_params_become_a_nested_errored_result(
    changes: dict[str, Any], message: str
) -> None:
    result = Client().result(**changes)
    assert set(result) == {"type", "error"}
    assert result["type"] == "errored"
    assert set(result["error"]) == {"type", "error", "request_id"}
    assert result["error"]["type"] == "error"
    assert result["error"]["request_id"].startswith("req_01")
    error = result["error"]["error"]
    assert set(error) == {"type", "message"}
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(message)


def test_an_unknown_model_becomes_a_not_found_result() -> None:
    error = Client().result(model="gpt-test")["error"]["error"]
    assert error == {"type": "not_found_error", "message": "model: gpt-test"}


@pytest.mark.parametrize(
    "changes",
    [
        {"stream": False, "speed": None},
        {"temperature": 0},
        {"temperature": 1.0, "top_p": 0.5, "top_k": 4},
        {"max_tokens": 1},
        {"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "o"}]}]},
        {"thinking": {"type": "disabled"}},
        {"thinking": ENABLED, "max_tokens": 1025},
        {"system": "Be brief.", "tools": TOOLS, "stop_sequences": ["."], "metadata": {}},
        {"messages": [USER, {"role": "system", "content": "hi"}]},
        {"thinking": {"type": "between_tools"}},
        {"billing_policy": {"type": "billing_policy", "bill_to": "self"}, "user_profile_id": "up"},
        {"diagnostics": {}, "fallbacks": "default", "thread": {"type": "create"}},
        # A param that these checks do not know is treated as absent.
        {"thinking": "yes"},
        {"thinking": {"type": ["enabled"]}},
        {"tool_choice": {"type": ["any"]}},
    ],
    ids=repr,
)
def test_valid_params_become_a_succeeded_result(changes: dict[str, Any]) -> None:
    assert Client().result(**changes)["type"] == "succeeded"


@pytest.mark.parametrize("changes", [{"temperature": 1}, {"top_p": 0.5}, {"top_k": 4}], ids=repr)
def test_only_the_newest_version_makes_sampling_params_an_errored_result(
    changes: dict[str, Any],
) -> None:
    assert Client().result("2023-06-01", **changes)["type"] == "succeeded"
    assert Client().result("2026-10-21")["type"] == "succeeded"
    error = Client().result("2026-10-21", **changes)["error"]["error"]
    assert error["type"] == "invalid_request_error"
    assert error["message"].startswith(f"{next(iter(changes))}: ")


@pytest.mark.parametrize("name", sorted(CURRENT_PARAMS - SENT_AS_HEADERS - PUT_TO_USE))
def test_each_param_of_the_official_client_is_known(name: str) -> None:
    absent: dict[str, Any] = {name: None}
    assert Client().result(**absent)["type"] == "succeeded"


@pytest.mark.parametrize(
    ("header", "fields", "type_"),
    [
        ("up_1", {"user_profile_id": "up_1"}, "succeeded"),
        ("up_1", {"user_profile_id": None}, "succeeded"),
        ("up_1", {}, "succeeded"),
        ("", {"user_profile_id": "up_2"}, "succeeded"),
        ("up_1", {"user_profile_id": "up_2"}, "errored"),
    ],
)
def test_a_user_profile_that_differs_from_the_creates_header_becomes_an_errored_result(
    header: str, fields: dict[str, Any], type_: str
) -> None:
    client = Client()
    headers = KEY + VERSION + ((("anthropic-user-profile-id", header),) if header else ())
    created = client.call("POST", "", {"requests": [request("a", **fields), request("b")]}, headers)
    client.now += 60
    results = client.results(created.json["id"])
    assert (results["a"]["type"], results["b"]["type"]) == (type_, "succeeded")
    if type_ == "errored":
        error = results["a"]["error"]["error"]
        assert error["type"] == "invalid_request_error"
        assert error["message"].startswith("user_profile_id: ")


# --- made-up answers -------------------------------------------------------------------


def message(**changes: Any) -> Any:
    result = Client().result(**changes)
    assert result["type"] == "succeeded"
    return result["message"]


def test_an_answer_is_a_message_like_the_services() -> None:
    written = message(model="claude-one")
    assert written["id"].startswith("msg_01")
    usage = written["usage"]
    assert usage["input_tokens"] > 0
    assert usage["output_tokens"] > 0
    assert usage["service_tier"] == "batch"
    del written["id"], written["usage"]
    assert [block.keys() for block in written["content"]] == [{"type", "text"}]
    assert written.pop("content")[0]["text"].endswith(".")
    assert written == {
        "type": "message",
        "role": "assistant",
        "model": "claude-one",
        "stop_reason": "end_turn",
        "stop_sequence": None,
    }


def test_a_longer_question_has_more_input_tokens() -> None:
    short = message()["usage"]["input_tokens"]
    longer = message(messages=[{"role": "user", "content": "hi " * 50}])["usage"]["input_tokens"]
    longest = message(
        messages=[{"role": "user", "content": "hi " * 50}], system=[{"type": "text", "text": "x"}]
    )["usage"]["input_tokens"]
    assert short < longer < longest


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"tool_choice": {"type": "any"}, "tools": TOOLS}, "find"),
        ({"tool_choice": {"type": "tool", "name": "look"}, "tools": TOOLS}, "look"),
        ({"tool_choice": {"type": "any"}, "tools": []}, "tool"),
        ({"tool_choice": {"type": "any"}, "tools": ["find"]}, "tool"),
        ({"tool_choice": {"type": "any"}, "tools": [{}]}, "tool"),
        ({"tool_choice": {"type": "any"}}, "tool"),
    ],
    ids=repr,
)
def test_an_answer_calls_a_tool_if_tool_choice_requires_one(
    changes: dict[str, Any], name: str
) -> None:
    written = message(**changes)
    (block,) = written["content"]
    assert written["stop_reason"] == "tool_use"
    assert (block["type"], block["name"]) == ("tool_use", name)
    assert block["id"].startswith("toolu_01")
    assert isinstance(block["input"], dict)


@pytest.mark.parametrize("choice", [{"type": "auto"}, {"type": "none"}, "any", None], ids=repr)
def test_an_answer_calls_no_tool_unless_tool_choice_requires_one(choice: Any) -> None:
    written = message(tool_choice=choice, tools=TOOLS)
    assert [block["type"] for block in written["content"]] == ["text"]


@pytest.mark.parametrize("thinking", [ENABLED, {"type": "adaptive"}], ids=repr)
@pytest.mark.parametrize(("choice", "then"), [("auto", "text"), ("any", "tool_use")])
def test_an_answer_begins_with_a_thinking_block_if_thinking_is_on(
    thinking: dict[str, Any], choice: str, then: str
) -> None:
    content = message(thinking=thinking, tools=TOOLS, tool_choice={"type": choice})["content"]
    assert [block["type"] for block in content] == ["thinking", then]
    assert content[0]["thinking"]
    assert content[0]["signature"]


def test_max_tokens_cuts_the_text_of_an_answer() -> None:
    whole = message()
    cut = message(max_tokens=5)
    assert (whole["stop_reason"], cut["stop_reason"]) == ("end_turn", "max_tokens")
    assert cut["content"][0]["text"]
    assert whole["content"][0]["text"].startswith(cut["content"][0]["text"])
    assert len(cut["content"][0]["text"]) < len(whole["content"][0]["text"])


def test_no_answer_has_more_output_tokens_than_max_tokens() -> None:
    for max_tokens in (1, 5, 20):
        assert message(max_tokens=max_tokens)["usage"]["output_tokens"] <= max_tokens


def test_answer_and_succeeded_can_be_called_directly() -> None:
    assert answer("a", params())["message"] == message()
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    result = succeeded("a", params(), blocks, "stop_sequence")
    assert result["message"]["content"] == blocks
    assert result["message"]["stop_reason"] == "stop_sequence"
    assert succeeded("a", {}, "one")["message"]["content"] == blocks[:1]


# --- responders ------------------------------------------------------------------------


def test_a_responder_is_called_once_for_each_valid_request() -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def responder(custom_id: str, wanted: dict[str, Any]) -> Result:
        asked.append((custom_id, wanted))
        return {"type": "canceled"} if custom_id == "b" else succeeded(custom_id, wanted, "Yes.")

    client = Client(Emulator(responder=responder))
    id_ = client.create([request("a"), request("b", system="Hm."), request("c", max_tokens=0)])
    client.get(id_)
    assert asked == []
    client.now += 60
    counts = client.get(id_)["request_counts"]
    results = client.results(id_)
    assert client.results(id_) == results
    assert sorted(asked) == [("a", params()), ("b", params(system="Hm."))]
    assert results["a"]["message"]["content"] == [{"type": "text", "text": "Yes."}]
    assert {name: result["type"] for name, result in results.items()} == {
        "a": "succeeded",
        "b": "canceled",
        "c": "errored",
    }
    assert [counts[name] for name in ("succeeded", "canceled", "errored")] == [1, 1, 1]


def test_after_a_responder_raised_the_next_request_processes_the_whole_batch() -> None:
    left = 2

    def responder(custom_id: str, wanted: dict[str, Any]) -> Result:
        nonlocal left
        left -= 1
        if not left:
            raise KeyError(custom_id)
        return answer(custom_id, wanted)

    client = Client(Emulator(responder=responder))
    id_ = client.create(requests(3))
    client.now += 60
    with pytest.raises(KeyError):
        client.get(id_)
    assert client.get(id_)["request_counts"]["succeeded"] == 3
    assert client.results(id_).keys() == {"r0", "r1", "r2"}


# --- the results file ------------------------------------------------------------------


def test_results_are_not_in_the_order_of_the_requests() -> None:
    client = Client()
    id_ = client.create(requests(30))
    client.now += 600
    names = list(client.results(id_))
    in_order = [f"r{index}" for index in range(30)]
    assert sorted(names) == sorted(in_order)
    assert names != in_order
    assert names != in_order[::-1]
    assert list(client.results(id_)) == names


def test_chunks_of_the_results_do_not_end_where_lines_end() -> None:
    client = Client(Emulator(parallel=1000))
    id_ = client.create(requests(200))
    client.now += 60
    chunks = client.call("GET", f"/{id_}/results").chunks
    assert len(chunks) > 3
    # A few of them can end with a line by chance.
    assert sum(chunk.endswith(b"\n") for chunk in chunks[:-1]) < len(chunks) // 2
    assert chunks[-1].endswith(b"\n")
    assert any(chunk.count(b"\n") > 1 for chunk in chunks)
    assert b"".join(chunks).count(b"\n") == 200


def test_a_line_can_be_longer_than_a_chunk_and_no_chunk_is_empty() -> None:
    length = 0
    client = Client(Emulator(responder=lambda *_: {"type": "new", "padding": "x" * length}))

    def chunks() -> list[bytes]:
        id_ = client.create([request()])
        client.now += 60
        return client.call("GET", f"/{id_}/results").chunks

    frame = len(chunks()[0])
    for length in (1_000_000, 1_000_001, 1 << 20, (1 << 20) - frame):
        pieces = chunks()
        assert sum(map(len, pieces)) == frame + length
        assert len(pieces) > 1
        assert all(pieces)


def test_the_same_requests_get_the_same_responses_in_every_run() -> None:
    def play() -> list[bytes]:
        client = Client()
        wanted = [*requests(5), request("bad", messages=[]), request("cut", max_tokens=2)]
        ids = [client.create(wanted), client.create(reversed(wanted))]
        client.now += 11
        client.ok("POST", f"/{ids[1]}/cancel")
        client.now += 600
        bodies = [
            client.call("GET", f"/{id_}{path}").body for id_ in ids for path in ("", "/results")
        ]
        return [*bodies, client.call("GET").body]

    assert play() == play()


def test_different_requests_have_different_answers() -> None:
    client = Client()
    id_ = client.create(requests(20))
    client.now += 600
    texts = {result["message"]["content"][0]["text"] for result in client.results(id_).values()}
    assert len(texts) == 20


# --- the errored share -----------------------------------------------------------------


def failed(client: Client, wanted: list[dict[str, Any]]) -> set[str]:
    """Return the custom_ids of a new batch that fail; all others must succeed."""
    id_ = client.create(wanted)
    client.now += 10 * len(wanted)
    results = client.results(id_)
    counts = client.get(id_)["request_counts"]
    errors = {id_: result["error"] for id_, result in results.items() if "error" in result}
    assert counts["errored"] == len(errors)
    assert counts["succeeded"] == len(wanted) - len(errors)
    assert {error["error"]["type"] for error in errors.values()} <= {"api_error"}
    assert all(error["request_id"].startswith("req_01") for error in errors.values())
    return set(errors)


@pytest.mark.parametrize(("share", "least", "most"), [(0, 0, 0), (0.1, 60, 140), (1, 1000, 1000)])
def test_the_errored_share_of_the_requests_fails(share: float, least: int, most: int) -> None:
    client = Client(Emulator(errored=share))
    assert least <= len(failed(client, requests(1000))) <= most


def test_other_requests_fail_in_another_batch_and_the_same_in_another_run() -> None:
    client = Client(Emulator(errored=0.5))
    first, second = failed(client, requests(40)), failed(client, requests(40))
    assert first != second
    assert failed(Client(Emulator(errored=0.5)), requests(40)) == first


def test_a_failing_request_reaches_no_responder_and_an_invalid_one_keeps_its_error() -> None:
    def responder(custom_id: str, _: dict[str, Any]) -> Result:
        raise AssertionError(custom_id)

    client = Client(Emulator(errored=1, responder=responder))
    assert failed(client, requests(3)) == {"r0", "r1", "r2"}
    assert client.result(modle=1)["error"]["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_errored_must_be_a_share_from_0_to_1(share: float) -> None:
    with pytest.raises(ValueError, match="errored must be a share from 0 to 1"):
        Emulator(errored=share)
