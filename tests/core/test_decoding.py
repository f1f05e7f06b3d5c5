"""From bytes to models: strict where the wire is known, open where it is not."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches_core import (
    CanceledResult,
    ErroredResult,
    ExpiredResult,
    Message,
    MessageBatch,
    Page,
    RemoteProtocolError,
    Result,
    ResultError,
    ResultItem,
    SucceededResult,
    TextBlock,
    UnknownBlock,
    UnknownResult,
)
from batches_core.decoding import (
    UNDECODABLE,
    ResultDecoder,
    custom_id_of,
    decode_body,
    decode_error,
)
from tests.playbook import batch_json, error_json, result_line

DECODER = ResultDecoder(Message)
TEXT = {"type": "text", "text": "hi"}
DEEP = b"[" * 100_000


def line(**result: Any) -> bytes:
    return msgspec.json.encode({"custom_id": "a", "result": result})


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "msg_1", "model": "m", "content": content, **changes}


def read_message(*content: Any, **changes: Any) -> Message:
    item = DECODER.decode_line(line(type="succeeded", message=message(*content, **changes)))
    assert isinstance(item.result, SucceededResult)
    assert isinstance(item.result.message, Message)
    return item.result.message


TOOL_RESULT = {"tool_use_id": "srvtoolu_1", "content": [{"type": "x"}]}
KNOWN_BLOCKS: list[dict[str, Any]] = [
    TEXT,
    {"type": "text", "text": "hi", "citations": [{"type": "char_location"}]},
    {"type": "thinking", "thinking": "hm", "signature": "sig"},
    {"type": "redacted_thinking", "data": "x"},
    {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {"a": [1]}},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "n", "input": {}, "caller": {"x": 1}},
    {"type": "web_search_tool_result", **TOOL_RESULT},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"error_code": "x"}},
    {"type": "web_fetch_tool_result", **TOOL_RESULT},
    {"type": "code_execution_tool_result", **TOOL_RESULT},
    {"type": "bash_code_execution_tool_result", **TOOL_RESULT},
    {"type": "text_editor_code_execution_tool_result", **TOOL_RESULT},
    {"type": "tool_search_tool_result", **TOOL_RESULT},
    {"type": "container_upload", "file_id": "file_1"},
]
NEW_BLOCK = {"type": "brand_new", "text": "no", "deep": {"a": [1, None]}}


@pytest.mark.parametrize("block", KNOWN_BLOCKS, ids=lambda block: block["type"])
class TestKnownBlocks:
    def test_are_read_with_all_their_fields(self, block: dict[str, Any]) -> None:
        [read] = read_message({**block, "brand_new": 1}).content
        assert not isinstance(read, UnknownBlock)
        assert {name: getattr(read, name) for name in block} == block

    def test_are_read_the_same_beside_an_unknown_one(self, block: dict[str, Any]) -> None:
        [alone] = read_message(block).content
        assert read_message(block, NEW_BLOCK).content[0] == alone

    def test_of_a_broken_shape_are_an_error_with_or_without_an_unknown_one(
        self, block: dict[str, Any]
    ) -> None:
        name = next(n for n in block if n not in {"type", "content"})
        for content in ([{**block, name: 5}], [NEW_BLOCK, {**block, name: 5}]):
            with pytest.raises(UNDECODABLE):
                DECODER.decode_line(line(type="succeeded", message=message(*content)))


class TestOpenness:
    def test_unknown_blocks_are_kept_in_their_places(self) -> None:
        other = {"type": "newer_still"}
        read = read_message(NEW_BLOCK, TEXT, other, TEXT, stop_reason="end_turn", role="assistant")
        assert read.content == [
            UnknownBlock(NEW_BLOCK),
            TextBlock(text="hi"),
            UnknownBlock(other),
            TextBlock(text="hi"),
        ]
        assert read.text == "hihi"

    def test_the_other_fields_of_a_message_do_not_depend_on_its_blocks(self) -> None:
        fields = {
            "stop_reason": "end_turn",
            "stop_sequence": "END",
            "stop_details": {"a": 1},
            "container": {"id": "c"},
            "usage": {"input_tokens": 3, "output_tokens": 5, "service_tier": "batch"},
            "role": "assistant",
            "type": "message",
            "brand_new": 1,
        }
        strict, opened = read_message(TEXT, **fields), read_message(TEXT, NEW_BLOCK, **fields)
        assert msgspec.structs.replace(opened, content=opened.content[:1]) == strict
        assert (strict.stop_sequence, strict.usage.output_tokens) == ("END", 5)

    @pytest.mark.parametrize("stop_reason", [None, "end_turn", "brand_new"])
    def test_a_stop_reason_is_kept_known_or_not(self, stop_reason: str | None) -> None:
        assert read_message(TEXT, stop_reason=stop_reason).stop_reason == stop_reason

    def test_an_unknown_result_is_kept_whole(self) -> None:
        fields = {"type": "brand_new", "message": 5, "more": [1]}
        item = DECODER.decode_line(line(**fields))
        assert item.custom_id == "a"
        assert item.result == UnknownResult(fields)

    def test_known_results_are_what_they_are(self) -> None:
        error = {"type": "overloaded_error", "message": "no"}
        nested = {"type": "error", "error": error, "request_id": "req_1"}
        flat = {**error, "request_id": "req_1"}
        expected = ErroredResult(
            error=ResultError(type="overloaded_error", message="no", request_id="req_1")
        )
        cases: list[tuple[dict[str, Any], Result[Message]]] = [
            ({"type": "canceled"}, CanceledResult()),
            ({"type": "expired", "brand_new": 1}, ExpiredResult()),
            ({"type": "errored", "error": nested}, expected),
            ({"type": "errored", "error": flat}, expected),
        ]
        for wire, result in cases:
            assert DECODER.decode_line(line(**wire)) == ResultItem(custom_id="a", result=result)

    @pytest.mark.parametrize(
        "result",
        [
            {"type": "succeeded"},
            {"type": "succeeded", "message": None},
            {"type": "succeeded", "message": {"id": "x"}},
            {"type": "succeeded", "message": message(5)},
            {"type": "succeeded", "message": message({"text": "no type"})},
            {"type": "succeeded", "message": message({"type": 5})},
            {"type": "succeeded", "message": message(TEXT, id=None)},
            {"type": "succeeded", "message": message(NEW_BLOCK, usage=5)},
            {"type": "errored"},
            {"type": "errored", "error": "no"},
            {"type": "errored", "error": {"message": "no type"}},
            {"type": 5},
            {},
        ],
    )
    def test_a_result_whose_known_parts_are_broken_is_an_error(
        self, result: dict[str, Any]
    ) -> None:
        with pytest.raises(UNDECODABLE):
            DECODER.decode_line(line(**result))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'{"custom_id":"a"}',
            b'{"custom_id":"a","result":null}',
            b'{"custom_id":5,"result":{"type":"canceled"}}',
            b'{"custom_id":5,"result":{"type":"brand_new"}}',
            b'{"custom_id":"a","result":{"type":"canceled"}',
            b'{"custom_id":"\xff","result":{"type":"canceled"}}',
            b'{"custom_id":"a","result":{"type":"brand_new","x":"\xff"}}',
            pytest.param(
                b'{"custom_id":"a","result":{"type":"brand_new","x":' + DEEP, id="nested too deep"
            ),
        ],
    )
    def test_what_is_no_result_is_an_error(self, data: bytes) -> None:
        with pytest.raises(UNDECODABLE):
            DECODER.decode_line(data)

    def test_many_lines_are_read_in_one_call_or_not_at_all(self) -> None:
        good = result_line("a") + result_line("b")
        assert [item.custom_id for item in DECODER.decode_lines(good)] == ["a", "b"]
        with pytest.raises(UNDECODABLE):
            DECODER.decode_lines(good + line(type="brand_new"))


class Answer(msgspec.Struct):
    content: list[dict[str, Any]]
    stop_reason: str | None = None


SUCCESS = line(type="succeeded", message=message(TEXT, NEW_BLOCK))


def the_message(decoder: ResultDecoder[Any], data: bytes = SUCCESS) -> Any:
    result = decoder.decode_line(data).result
    assert isinstance(result, SucceededResult)
    return result.message


class TestMessageType:
    def test_can_be_a_struct_of_the_users(self) -> None:
        assert the_message(ResultDecoder(Answer)) == Answer(content=[TEXT, NEW_BLOCK])

    def test_can_be_a_dict(self) -> None:
        assert the_message(ResultDecoder(dict)) == message() | {"content": [TEXT, NEW_BLOCK]}

    def test_can_be_raw_and_keeps_the_bytes(self) -> None:
        data = b'{"custom_id":"a","result":{"type":"succeeded","message":{ "id" : 1.0 }}}'
        assert bytes(the_message(ResultDecoder(msgspec.Raw), data)) == b'{ "id" : 1.0 }'

    @pytest.mark.parametrize("type_", [Answer, dict, msgspec.Raw])
    def test_changes_nothing_for_the_other_results(self, type_: type[Any]) -> None:
        decoder = ResultDecoder(type_)
        assert decoder.decode_line(line(type="canceled")).result == CanceledResult()
        new = decoder.decode_line(line(type="brand_new")).result
        assert new == UnknownResult({"type": "brand_new"})

    def test_that_does_not_fit_the_message_is_an_error_of_the_line(self) -> None:
        with pytest.raises(UNDECODABLE, match="content"):
            ResultDecoder(Answer).decode_line(line(type="succeeded", message={"content": 5}))

    @pytest.mark.parametrize(
        "type_", [5, "Message", list[int] | set[int], object(), complex, range]
    )
    def test_that_cannot_be_decoded_is_a_type_error_at_once(self, type_: Any) -> None:
        with pytest.raises(TypeError, match="is no type that msgspec can decode") as caught:
            ResultDecoder(type_)
        assert repr(type_) in str(caught.value)


class TestDecodeBody:
    def test_gives_the_object(self) -> None:
        body = msgspec.json.encode(batch_json("msgbatch_1"))
        assert decode_body(body, MessageBatch, "a batch", bytes).id == "msgbatch_1"

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"{}",
            pytest.param(DEEP, id="nested too deep"),
            b"<html>\nno\n</html>",
            b'{"id":"\xff"}',
            b"\xff\xfe\0",
            msgspec.json.encode(batch_json(created_at="yesterday")),
            msgspec.json.encode(batch_json()) + b"x",
        ],
    )
    def test_of_something_else_is_an_error_that_quotes_it_on_one_line(self, body: bytes) -> None:
        with pytest.raises(RemoteProtocolError, match=r"^the answer is not a batch ") as caught:
            decode_body(body, MessageBatch, "a batch", bytes)
        assert str(caught.value).endswith("no proxy answers in its place")
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 1000


class TestDecodeError:
    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (error_json("api_error", "no"), ("api_error", "no", None, "req_1")),
            (
                error_json("rate_limit_error", "no", details={"error_code": "spent"}),
                ("rate_limit_error", "no", "spent", "req_1"),
            ),
            (
                error_json("api_error", "no", details={"error_code": 5, "x": 1}),
                ("api_error", "no", None, "req_1"),
            ),
            (error_json("api_error", "no", details=None), ("api_error", "no", None, "req_1")),
            (
                {"error": {"type": "request_too_large", "message": "big"}},
                ("request_too_large", "big", None, None),
            ),
            (error_json("brand_new_error", "a\nb"), ("brand_new_error", "a\nb", None, "req_1")),
            ({"error": {"message": "no"}}, (None, "no", None, None)),
        ],
    )
    def test_reads_the_apis_own(
        self, body: dict[str, Any], expected: tuple[str | None, str, str | None, str | None]
    ) -> None:
        assert decode_error(msgspec.json.encode(body)) == expected

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"", "no explanation given"),
            (b" \r\n", "no explanation given"),
            (b"<html>\r\n<b>no</b></html>", "<html> <b>no</b></html>"),
            (b"\xff\0", "\N{REPLACEMENT CHARACTER}" * 2),
            (b"[]", "[]"),
            (b"{}", "{}"),
            (b'{"error":"no"}', '{"error":"no"}'),
            (b'{"error":{"type":5}}', '{"error":{"type":5}}'),
            pytest.param(DEEP, "[" * 300 + "…", id="nested too deep"),
        ],
    )
    def test_quotes_what_is_none(self, body: bytes, message: str) -> None:
        assert decode_error(body) == (None, message, None, None)

    def test_without_a_message_quotes_the_body(self) -> None:
        assert decode_error(b'{"error":{"type":"api_error"}}')[:2] == (
            "api_error",
            '{"error":{"type":"api_error"}}',
        )


@pytest.mark.parametrize(
    ("data", "custom_id"),
    [
        (b'{"custom_id":"a","result":5}', "a"),
        (b'{"custom_id":5}', None),
        (b'{"custom_id":"a"', None),
        (b'{"result":{}}', None),
        (b'{"custom_id":"\xff"}', None),
        pytest.param(DEEP, None, id="nested too deep"),
    ],
)
def test_the_id_of_a_bad_line_is_found_where_it_can_be(data: bytes, custom_id: str | None) -> None:
    assert custom_id_of(data) == custom_id


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "error", "message", "content", "text", "id", "model", "request_id"]
            ),
            inner | st.sampled_from(["text", "succeeded", "errored", "canceled", "brand_new"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)
LINES = st.one_of(
    st.binary(max_size=40),
    JSON.map(msgspec.json.encode),
    st.fixed_dictionaries({"custom_id": st.just("a"), "result": JSON}).map(msgspec.json.encode),
    st.builds(
        lambda cut, patch: SUCCESS[:cut] + patch + SUCCESS[cut + len(patch) :],
        st.integers(0, len(SUCCESS)),
        st.binary(max_size=3),
    ),
)


@given(LINES)
@example(b"\xff")
def test_any_bytes_decode_to_a_value_or_a_documented_error(data: bytes) -> None:
    with contextlib.suppress(*UNDECODABLE):
        assert isinstance(DECODER.decode_line(data), ResultItem)
    custom_id = custom_id_of(data)
    assert custom_id is None or isinstance(custom_id, str)


@given(LINES)
def test_any_body_decodes_to_a_value_or_a_remote_protocol_error(data: bytes) -> None:
    for type_ in (MessageBatch, Page, dict):
        with contextlib.suppress(RemoteProtocolError):
            assert isinstance(decode_body(data, type_, "it", bytes), type_)


@given(LINES)
def test_any_error_body_has_a_message(data: bytes) -> None:
    type_, message, code, request_id = decode_error(data)
    assert message
    assert all(field is None or isinstance(field, str) for field in (type_, code, request_id))
