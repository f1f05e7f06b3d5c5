"""The wire's objects as typed values: what is optional, what is derived, what is kept."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import pytest

from batches_core import (
    CanceledResult,
    DeletedMessageBatch,
    ErroredResult,
    ExpiredResult,
    Message,
    MessageBatch,
    Page,
    RequestCounts,
    ResultError,
    SucceededResult,
    TextBlock,
    ThinkingBlock,
    UnknownBlock,
    UnknownResult,
    Usage,
)
from batches_core.models import KnownBlock
from tests.support.playbook import batch_json

LIVE_CREATE = (
    b'{"archived_at":null,"cancel_initiated_at":null,'
    b'"created_at":"2026-05-01T20:29:05.358585+00:00","ended_at":null,'
    b'"expires_at":"2026-05-02T20:29:05.358585+00:00","id":"msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX",'
    b'"processing_status":"in_progress","request_counts":{"canceled":0,"errored":0,"expired":0,'
    b'"processing":1,"succeeded":0},"results_url":null,"type":"message_batch"}'
)


def batch(**changes: Any) -> MessageBatch:
    return msgspec.convert(batch_json(**changes), MessageBatch)


def test_a_batch_as_the_live_service_sends_it_is_read() -> None:
    created = datetime(2026, 5, 1, 20, 29, 5, 358585, tzinfo=UTC)
    assert msgspec.json.decode(LIVE_CREATE, type=MessageBatch) == MessageBatch(
        id="msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX",
        processing_status="in_progress",
        request_counts=RequestCounts(processing=1),
        created_at=created,
        expires_at=created + timedelta(days=1),
    )


OPTIONAL = ["ended_at", "archived_at", "cancel_initiated_at", "results_url"]


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_field_of_a_batch_may_be_null_or_missing(name: str) -> None:
    wire = batch_json()
    for without in ({**wire, name: None}, {n: v for n, v in wire.items() if n != name}):
        assert getattr(msgspec.convert(without, MessageBatch), name) is None


@pytest.mark.parametrize(
    "name", ["id", "processing_status", "request_counts", "created_at", "expires_at"]
)
def test_a_required_field_of_a_batch_may_not_be_missing(name: str) -> None:
    wire = batch_json()
    del wire[name]
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(wire, MessageBatch)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-01T20:29:05Z", datetime(2026, 5, 1, 20, 29, 5, tzinfo=UTC)),
        (
            "2026-05-01T20:29:05.358585+00:00",
            datetime(2026, 5, 1, 20, 29, 5, 358585, tzinfo=UTC),
        ),
        ("2026-05-01T22:29:05+02:00", datetime(2026, 5, 1, 20, 29, 5, tzinfo=UTC)),
    ],
)
def test_timestamps_of_either_form_are_aware(text: str, moment: datetime) -> None:
    changes = dict.fromkeys(
        ["created_at", "expires_at", "ended_at", "archived_at", "cancel_initiated_at"], text
    )
    read = batch(**changes)
    for name in changes:
        assert getattr(read, name) == moment
        assert getattr(read, name).utcoffset() is not None


@pytest.mark.parametrize(
    ("status", "ended"),
    [("in_progress", False), ("canceling", False), ("ended", True), ("brand_new", False)],
)
def test_a_processing_status_is_kept_known_or_not(status: str, *, ended: bool) -> None:
    read = batch(status=status)
    assert read.processing_status == status
    assert read.ended is ended


def test_unknown_fields_are_ignored_everywhere() -> None:
    counts = {"processing": 1, "brand_new": 5}
    assert batch(brand_new=[1], request_counts=counts) == batch(request_counts={"processing": 1})


def test_the_counts_add_up_to_the_size_of_the_batch() -> None:
    assert RequestCounts().total == 0
    counts = RequestCounts(processing=1, succeeded=20, errored=300, canceled=4000, expired=50000)
    assert counts.total == 54321


@pytest.mark.parametrize("cursors", [{}, {"first_id": None, "last_id": None}])
def test_an_empty_page_has_no_cursors(cursors: dict[str, None]) -> None:
    assert msgspec.convert({"data": [], **cursors}, Page) == Page(data=[])


def test_a_page_holds_batches_and_cursors() -> None:
    wire = {"data": [batch_json("b"), batch_json("a")], "has_more": True, "first_id": "b"}
    page = msgspec.convert({**wire, "last_id": "a"}, Page)
    assert [one.id for one in page.data] == [page.first_id, page.last_id] == ["b", "a"]
    assert page.has_more


def test_a_deletion_names_the_batch_that_is_gone() -> None:
    deleted = DeletedMessageBatch(id="msgbatch_1")
    assert msgspec.json.encode(deleted) == b'{"id":"msgbatch_1","type":"message_batch_deleted"}'


def test_the_text_of_a_message_is_that_of_its_text_blocks_alone() -> None:
    blocks: list[Any] = [
        TextBlock(text="Hel"),
        ThinkingBlock(thinking="hm"),
        UnknownBlock(type="brand_new", fields={"text": "no"}),
        UnknownBlock({"type": "text", "text": "l", "citations": 5}),
        UnknownBlock({"type": "text", "text": 5}),
        TextBlock(text="lo"),
    ]
    assert Message(id="msg_1", model="m", content=blocks).text == "Helllo"
    assert Message(id="msg_1", model="m", content=[]).text == ""


@pytest.mark.parametrize("type_", [5, None, []])
def test_an_unknown_block_without_a_type_has_an_empty_one(type_: Any) -> None:
    assert UnknownBlock(type=type_).type == UnknownBlock().type == ""


NEWER: dict[str, Any] = {
    "usage": {
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "iterations": [{"type": "message", "input_tokens": 3}],
        "fallback_credit": {"type": "redeemed"},
        "inference_geo": "eu",
        "speed": "standard",
    },
    "container": {"id": "c", "expires_at": "2026-05-01T20:29:05Z", "skills": None},
    "context_management": {"applied_edits": []},
    "diagnostics": {"cache_miss_reason": {"type": "unavailable"}},
    "input_transformations": [{"type": "thinking_dropped"}],
    "stop_details": {"type": "refusal", "category": None},
}


def test_a_message_has_every_field_that_the_service_is_known_to_send() -> None:
    wire = {"id": "msg_1", "model": "m", "content": [], **NEWER}
    read = msgspec.convert(wire, Message)
    for name, value in NEWER.items():
        if name != "usage":
            assert getattr(read, name) == value
    for name, value in NEWER["usage"].items():
        assert getattr(read.usage, name) == value


def test_usage_may_leave_anything_out_or_add_to_it() -> None:
    wire = {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": None,
        "cache_creation": {"ephemeral_5m_input_tokens": 7},
        "service_tier": "batch",
        "brand_new": 1,
    }
    usage = msgspec.convert(wire, Usage)
    assert (usage.input_tokens, usage.output_tokens, usage.service_tier) == (3, 5, "batch")
    assert usage.cache_read_input_tokens is usage.cache_creation_input_tokens is None
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 7
    assert usage.cache_creation.ephemeral_1h_input_tokens == 0
    assert msgspec.convert({}, Usage) == Usage()


ERROR = {"type": "invalid_request_error", "message": "no", "details": {"a": 1}}
NESTED = {"type": "error", "error": ERROR, "request_id": "req_1"}
FLAT = {**ERROR, "request_id": "req_1"}


class TestResultError:
    def test_nested_and_flat_read_the_same(self) -> None:
        nested, flat = (msgspec.convert(wire, ResultError) for wire in (NESTED, FLAT))
        assert nested == flat
        assert nested == ResultError(
            type="invalid_request_error", message="no", request_id="req_1", details={"a": 1}
        )

    @pytest.mark.parametrize("wire", [{"type": "error", "error": {"type": "t"}}, {"type": "t"}])
    def test_needs_no_more_than_a_type(self, wire: dict[str, Any]) -> None:
        assert msgspec.convert({**wire, "request_id": None}, ResultError) == ResultError(type="t")

    def test_is_read_again_from_its_own_json(self) -> None:
        error = msgspec.convert(NESTED, ResultError)
        assert msgspec.json.decode(msgspec.json.encode(error), type=ResultError) == error


@pytest.mark.parametrize(
    ("result", "type_"),
    [
        (SucceededResult(message=None), "succeeded"),
        (ErroredResult(error=ResultError(type="t")), "errored"),
        (CanceledResult(), "canceled"),
        (ExpiredResult(), "expired"),
        (UnknownResult(type="brand_new", fields={}), "brand_new"),
    ],
)
def test_every_result_tells_its_type(result: Any, type_: str) -> None:
    assert result.type == type_
    assert msgspec.to_builtins(result)["type"] == type_


@pytest.mark.parametrize("block", get_args(KnownBlock))
def test_every_block_has_the_type_that_the_wire_tags_it_with(block: Any) -> None:
    assert block.type == block.__struct_config__.tag


def test_the_wires_objects_are_immutable_values() -> None:
    read: Any = batch()
    with pytest.raises(AttributeError):
        read.id = "other"
    assert pickle.loads(pickle.dumps(read)) == read  # noqa: S301 - our own
    assert len({TextBlock(text="a"), TextBlock(text="a")}) == 1


def test_a_timestamp_without_an_offset_is_taken_as_utc() -> None:
    data = batch_json(created_at="2026-05-01T20:29:05", archived_at="2026-05-30T20:29:05.5")
    batch = msgspec.json.decode(msgspec.json.encode(data), type=MessageBatch)
    assert batch.created_at == datetime(2026, 5, 1, 20, 29, 5, tzinfo=UTC)
    assert batch.archived_at == datetime(2026, 5, 30, 20, 29, 5, 500_000, tzinfo=UTC)
