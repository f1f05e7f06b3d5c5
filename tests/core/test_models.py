"""Tests of `models`: the objects of the API as typed, immutable values."""

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
from tests.support.ids import readable
from tests.support.playbook import batch_json

# --- batches and pages -------------------------------------------------------------------


#: A batch as the service sent it on 2026-05-01, in response to its create.
LIVE_BATCH = (
    b'{"archived_at":null,"cancel_initiated_at":null,'
    b'"created_at":"2026-05-01T20:29:05.358585+00:00","ended_at":null,'
    b'"expires_at":"2026-05-02T20:29:05.358585+00:00","id":"msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX",'
    b'"processing_status":"in_progress","request_counts":{"canceled":0,"errored":0,"expired":0,'
    b'"processing":1,"succeeded":0},"results_url":null,"type":"message_batch"}'
)


def batch(**changes: Any) -> MessageBatch:
    return msgspec.convert(batch_json(**changes), MessageBatch)


def test_a_batch_of_the_live_service_is_decoded() -> None:
    created = datetime(2026, 5, 1, 20, 29, 5, 358585, tzinfo=UTC)
    assert msgspec.json.decode(LIVE_BATCH, type=MessageBatch) == MessageBatch(
        id="msgbatch_01QqYr4Qk28BBxwJ9N9L4PxX",
        processing_status="in_progress",
        request_counts=RequestCounts(processing=1),
        created_at=created,
        expires_at=created + timedelta(days=1),
    )


@pytest.mark.parametrize("name", ["ended_at", "archived_at", "cancel_initiated_at", "results_url"])
def test_an_optional_field_of_a_batch_may_be_null_or_missing(name: str) -> None:
    fields = batch_json()
    for without in ({**fields, name: None}, {n: v for n, v in fields.items() if n != name}):
        assert getattr(msgspec.convert(without, MessageBatch), name) is None


@pytest.mark.parametrize(
    "name", ["id", "processing_status", "request_counts", "created_at", "expires_at"]
)
def test_a_required_field_of_a_batch_may_not_be_missing(name: str) -> None:
    fields = batch_json()
    del fields[name]
    with pytest.raises(msgspec.ValidationError, match=name):
        msgspec.convert(fields, MessageBatch)


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
    ids=["Z", "microseconds", "another time zone"],
)
def test_a_timestamp_of_any_form_has_a_time_zone(text: str, moment: datetime) -> None:
    changes = dict.fromkeys(
        ["created_at", "expires_at", "ended_at", "archived_at", "cancel_initiated_at"], text
    )
    decoded = batch(**changes)
    for name in changes:
        assert getattr(decoded, name) == moment
        assert getattr(decoded, name).utcoffset() is not None


def test_a_timestamp_without_an_offset_is_taken_as_utc() -> None:
    fields = batch_json(created_at="2026-05-01T20:29:05", archived_at="2026-05-30T20:29:05.5")
    decoded = msgspec.json.decode(msgspec.json.encode(fields), type=MessageBatch)
    assert decoded.created_at == datetime(2026, 5, 1, 20, 29, 5, tzinfo=UTC)
    assert decoded.archived_at == datetime(2026, 5, 30, 20, 29, 5, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "ended"),
    [("in_progress", False), ("canceling", False), ("ended", True), ("brand_new", False)],
)
def test_any_processing_status_is_kept(status: str, *, ended: bool) -> None:
    decoded = batch(status=status)
    assert decoded.processing_status == status
    assert decoded.ended is ended


def test_unknown_fields_of_a_batch_are_ignored() -> None:
    counts = {"processing": 1, "brand_new": 5}
    assert batch(brand_new=[1], request_counts=counts) == batch(request_counts={"processing": 1})


def test_the_total_of_the_counts_is_the_size_of_the_batch() -> None:
    assert RequestCounts().total == 0
    counts = RequestCounts(processing=1, succeeded=20, errored=300, canceled=4000, expired=50000)
    assert counts.total == 54321


@pytest.mark.parametrize(
    "cursors", [{}, {"first_id": None, "last_id": None}], ids=["missing", "null"]
)
def test_an_empty_page_has_no_cursors(cursors: dict[str, None]) -> None:
    assert msgspec.convert({"data": [], **cursors}, Page) == Page(data=[])


def test_a_page_has_batches_and_cursors() -> None:
    fields = {"data": [batch_json("b"), batch_json("a")], "has_more": True, "first_id": "b"}
    page = msgspec.convert({**fields, "last_id": "a"}, Page)
    assert [listed.id for listed in page.data] == [page.first_id, page.last_id] == ["b", "a"]
    assert page.has_more


def test_a_deletion_names_the_deleted_batch() -> None:
    deleted = DeletedMessageBatch(id="msgbatch_1")
    assert msgspec.json.encode(deleted) == b'{"id":"msgbatch_1","type":"message_batch_deleted"}'


# --- messages ----------------------------------------------------------------------------


def test_the_text_of_a_message_is_the_text_of_its_text_blocks() -> None:
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


@pytest.mark.parametrize("type_", [5, None, []], ids=readable)
def test_an_unknown_block_without_a_type_has_an_empty_type(type_: Any) -> None:
    assert UnknownBlock(type=type_).type == UnknownBlock().type == ""


NEWER_FIELDS: dict[str, Any] = {
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
    fields = {"id": "msg_1", "model": "m", "content": [], **NEWER_FIELDS}
    message = msgspec.convert(fields, Message)
    for name, value in NEWER_FIELDS.items():
        if name != "usage":
            assert getattr(message, name) == value
    for name, value in NEWER_FIELDS["usage"].items():
        assert getattr(message.usage, name) == value


def test_usage_may_lack_any_field_and_have_others() -> None:
    fields = {
        "input_tokens": 3,
        "output_tokens": 5,
        "cache_read_input_tokens": None,
        "cache_creation": {"ephemeral_5m_input_tokens": 7},
        "service_tier": "batch",
        "brand_new": 1,
    }
    usage = msgspec.convert(fields, Usage)
    assert (usage.input_tokens, usage.output_tokens, usage.service_tier) == (3, 5, "batch")
    assert usage.cache_read_input_tokens is usage.cache_creation_input_tokens is None
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 7
    assert usage.cache_creation.ephemeral_1h_input_tokens == 0
    assert msgspec.convert({}, Usage) == Usage()


@pytest.mark.parametrize("block", get_args(KnownBlock))
def test_the_type_of_each_block_class_is_its_tag_in_json(block: Any) -> None:
    assert block.type == block.__struct_config__.tag


# --- results -----------------------------------------------------------------------------


ERROR = {"type": "invalid_request_error", "message": "no", "details": {"a": 1}}
NESTED = {"type": "error", "error": ERROR, "request_id": "req_1"}
FLAT = {**ERROR, "request_id": "req_1"}


def test_a_nested_and_a_flat_result_error_are_decoded_the_same() -> None:
    nested, flat = (msgspec.convert(fields, ResultError) for fields in (NESTED, FLAT))
    assert nested == flat
    assert nested == ResultError(
        type="invalid_request_error", message="no", request_id="req_1", details={"a": 1}
    )


@pytest.mark.parametrize(
    "fields", [{"type": "error", "error": {"type": "t"}}, {"type": "t"}], ids=["nested", "flat"]
)
def test_a_result_error_needs_only_a_type(fields: dict[str, Any]) -> None:
    assert msgspec.convert({**fields, "request_id": None}, ResultError) == ResultError(type="t")


def test_a_result_error_is_decoded_from_its_own_json() -> None:
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
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_result_has_its_type(result: Any, type_: str) -> None:
    assert result.type == type_
    assert msgspec.to_builtins(result)["type"] == type_


# --- every model -------------------------------------------------------------------------


def test_models_are_immutable_values() -> None:
    model: Any = batch()
    with pytest.raises(AttributeError):
        model.id = "other"
    assert pickle.loads(pickle.dumps(model)) == model  # noqa: S301 - our own
    assert len({TextBlock(text="a"), TextBlock(text="a")}) == 1
