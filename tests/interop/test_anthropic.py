"""Tests of the emulator with the official SDK, both its blocking and its async client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import anthropic
import pytest
from anthropic.types import TextBlock, ToolUseBlock
from anthropic.types.messages import (
    MessageBatch,
    MessageBatchCanceledResult,
    MessageBatchErroredResult,
    MessageBatchSucceededResult,
)

from batches_core.emulator import Emulator
from transports.emulator import running_emulator

KEY = "sk-ant-test"
CREATED_AT = datetime(2026, 5, 1, 20, 29, 5, 358585, UTC)


class Clock:
    """A clock that shows the time to which it was set."""

    def __init__(self) -> None:
        self.now = CREATED_AT.timestamp()

    def __call__(self) -> float:
        return self.now


class Batches(Protocol):
    """The methods of ``client.messages.batches``, blocking for either client."""

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Call the method of this name."""
        ...

    def items(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        """Call the method of this name, and collect the items of its return value."""
        ...

    def close(self) -> None: ...


class SyncBatches:
    def __init__(self, **settings: Any) -> None:
        self._client = anthropic.Anthropic(**settings)

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self._client.messages.batches, method)(*arguments, **options)

    def items(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        return list(self.call(method, *arguments, **options))

    def close(self) -> None:
        self._client.close()


class AsyncBatches:
    def __init__(self, **settings: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = anthropic.AsyncAnthropic(**settings)

    async def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return await getattr(self._client.messages.batches, method)(*arguments, **options)

    async def _items(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        return [item async for item in await self._call(method, *arguments, **options)]

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._runner.run(self._call(method, *arguments, **options))

    def items(self, method: str, *arguments: Any, **options: Any) -> list[Any]:
        return self._runner.run(self._items(method, *arguments, **options))

    def close(self) -> None:
        with self._runner:
            self._runner.run(self._client.close())


@pytest.fixture(autouse=True)
def _no_environment_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def base_url(clock: Clock) -> Iterator[str]:
    """Run an emulator that processes one request at a time, each for 5 to 10 s."""
    emulator = Emulator(parallel=1, seconds_per_request=10, api_keys=[KEY])
    with running_emulator(emulator, clock=clock) as url:
        yield url


@pytest.fixture(params=[SyncBatches, AsyncBatches], ids=["sync", "async"])
def client_type(request: pytest.FixtureRequest) -> type[SyncBatches | AsyncBatches]:
    client_type: type[SyncBatches | AsyncBatches] = request.param
    return client_type


@pytest.fixture
def batches(client_type: type[SyncBatches | AsyncBatches], base_url: str) -> Iterator[Batches]:
    with contextlib.closing(client_type(base_url=base_url, api_key=KEY)) as client:
        yield client


def request_dict(custom_id: str, **changes: Any) -> dict[str, Any]:
    """Build a valid request; `changes` replace or add params."""
    message = {"role": "user", "content": "Which way?"}
    params = {"model": "claude-test", "max_tokens": 2000, "messages": [message], **changes}
    return {"custom_id": custom_id, "params": params}


def create(batches: Batches, count: int = 1) -> MessageBatch:
    requests = [request_dict(f"r{index}") for index in range(count)]
    batch = batches.call("create", requests=requests)
    assert isinstance(batch, MessageBatch)
    return batch


def test_the_sdk_creates_a_batch_and_retrieves_it_until_it_has_ended(
    batches: Batches, clock: Clock
) -> None:
    created = create(batches, 3)
    assert created.processing_status == "in_progress"
    assert created.request_counts.processing == 3
    assert created.created_at == CREATED_AT
    assert created.expires_at == CREATED_AT + timedelta(days=1)
    assert created.results_url is None
    assert batches.call("retrieve", created.id) == created
    clock.now += 30
    ended = batches.call("retrieve", created.id)
    assert ended.processing_status == "ended"
    assert ended.request_counts.succeeded == 3
    assert ended.ended_at > CREATED_AT
    assert ended.results_url.endswith(f"/{created.id}/results")


def test_the_sdk_iterates_over_results_of_every_kind(batches: Batches, clock: Clock) -> None:
    tools = [{"name": "find", "input_schema": {"type": "object"}}]
    requests = [request_dict(f"r{index}") for index in range(100)]
    requests.append(request_dict("tool", tools=tools, tool_choice={"type": "any"}))
    requests.append(request_dict("invalid", temperature=7))
    batch = batches.call("create", requests=requests)
    clock.now += 2000
    items = batches.items("results", batch.id)
    results = {item.custom_id: item.result for item in items}
    assert len(items) == 102
    assert results.keys() == {request["custom_id"] for request in requests}
    errored, tool = results.pop("invalid"), results.pop("tool")
    assert isinstance(errored, MessageBatchErroredResult)
    assert errored.error.error.type == "invalid_request_error"
    assert errored.error.error.message.startswith("temperature: ")
    assert (errored.error.request_id or "").startswith("req_")
    assert isinstance(tool, MessageBatchSucceededResult)
    assert isinstance(tool.message.content[0], ToolUseBlock)
    for result in results.values():
        assert isinstance(result, MessageBatchSucceededResult)
        assert isinstance(result.message.content[0], TextBlock)
        assert result.message.usage.output_tokens > 0
        assert result.message.usage.service_tier == "batch"


def test_the_sdk_finds_no_results_before_the_end_of_a_batch(batches: Batches) -> None:
    batch = create(batches)
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        batches.items("results", batch.id)


def test_the_sdk_lists_batches_over_all_pages_in_both_directions(batches: Batches) -> None:
    a, b, c, d, e = (create(batches).id for _ in range(5))
    page = batches.call("list", limit=2)
    assert ([batch.id for batch in page.data], page.has_more) == ([e, d], True)
    for options, ids in (
        ({}, [e, d, c, b, a]),
        ({"after_id": e}, [d, c, b, a]),
        ({"before_id": a}, [c, b, e, d]),
    ):
        listed = batches.items("list", limit=2, **options)
        assert [batch.id for batch in listed] == ids
        assert all(isinstance(batch, MessageBatch) for batch in listed)


def test_the_sdk_lists_an_empty_workspace(batches: Batches) -> None:
    assert batches.items("list", limit=2) == []


def test_the_sdk_cancels_a_batch_that_ends_with_partial_results(
    batches: Batches, clock: Clock
) -> None:
    batch = create(batches, 3)
    clock.now += 1
    canceled = batches.call("cancel", batch.id)
    assert canceled.processing_status == "canceling"
    assert canceled.cancel_initiated_at == CREATED_AT + timedelta(seconds=1)
    clock.now += 9
    ended = batches.call("retrieve", batch.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (1, 2)
    results = {item.custom_id: item.result for item in batches.items("results", batch.id)}
    assert isinstance(results["r0"], MessageBatchSucceededResult)
    assert isinstance(results["r1"], MessageBatchCanceledResult)
    assert isinstance(results["r2"], MessageBatchCanceledResult)


def test_the_sdk_deletes_a_batch_only_after_it_has_ended(batches: Batches, clock: Clock) -> None:
    batch = create(batches)
    with pytest.raises(anthropic.BadRequestError, match="has not finished") as caught:
        batches.call("delete", batch.id)
    assert caught.value.response.headers["x-should-retry"] == "false"
    clock.now += 10
    deleted = batches.call("delete", batch.id)
    assert (deleted.id, deleted.type) == (batch.id, "message_batch_deleted")
    with pytest.raises(anthropic.NotFoundError):
        batches.call("retrieve", batch.id)


def test_an_unknown_batch_is_a_not_found_error_of_the_sdk(batches: Batches) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        batches.call("retrieve", "msgbatch_none")
    assert caught.value.status_code == 404
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == "not_found_error"
    assert caught.value.body["request_id"] == caught.value.request_id


def test_an_invalid_request_is_a_bad_request_error_of_the_sdk(batches: Batches) -> None:
    expected = "requests.0.custom_id: String should have at most 64 characters"
    with pytest.raises(anthropic.BadRequestError, match=expected):
        batches.call("create", requests=[request_dict("x" * 65)])
    assert batches.items("list") == []


def test_a_wrong_key_is_an_authentication_error_of_the_sdk(
    client_type: type[SyncBatches | AsyncBatches], base_url: str
) -> None:
    with (
        contextlib.closing(client_type(base_url=base_url, api_key="sk-ant-other")) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.call("list")
    assert caught.value.status_code == 401


def test_the_sdk_can_send_a_token_in_place_of_a_key(
    client_type: type[SyncBatches | AsyncBatches], base_url: str
) -> None:
    with contextlib.closing(client_type(base_url=base_url, auth_token=KEY)) as client:
        assert client.items("list") == []
