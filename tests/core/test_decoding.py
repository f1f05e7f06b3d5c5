"""From bytes to models: strict where the wire is known, open where it is not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, TypedDict

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches_core import (
    CanceledResult,
    ErroredResult,
    ExpiredResult,
    IrregularMessage,
    Message,
    MessageBatch,
    Page,
    RawResult,
    RemoteProtocolError,
    Result,
    ResultError,
    ResultItem,
    SucceededResult,
    TextBlock,
    UnknownBlock,
    UnknownResult,
    Usage,
)
from batches_core.decoding import (
    UNDECODABLE,
    RawDecoder,
    ResultDecoder,
    custom_id_of,
    decode_body,
    decode_error,
)
from tests.support.playbook import batch_json, error_json, result_line

DECODER = ResultDecoder(Message)
TEXT = {"type": "text", "text": "hi"}
DEEP = b"[" * 100_000


def line(**result: Any) -> bytes:
    return msgspec.json.encode({"custom_id": "a", "result": result})


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "msg_1", "model": "m", "content": [*content], **changes}


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
    {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {"a": [1]}, "toolset_name": "t"},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "n", "input": {}, "caller": {"x": 1}},
    {"type": "web_search_tool_result", **TOOL_RESULT},
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"error_code": "x"}},
    {"type": "web_fetch_tool_result", **TOOL_RESULT},
    {"type": "code_execution_tool_result", **TOOL_RESULT},
    {"type": "bash_code_execution_tool_result", **TOOL_RESULT},
    {"type": "text_editor_code_execution_tool_result", **TOOL_RESULT},
    {"type": "tool_search_tool_result", **TOOL_RESULT},
    {"type": "container_upload", "file_id": "file_1"},
    {"type": "advisor_tool_result", **TOOL_RESULT},
    {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "n", "server_name": "s", "input": {}},
    {"type": "mcp_tool_result", **TOOL_RESULT, "is_error": True},
    {"type": "mcp_tool_listing", "mcp_server_name": "s", "tools": [{"name": "n"}]},
    {"type": "compaction", "content": "so far", "signature": "s", "encrypted_content": "e"},
    {"type": "fallback", "from": {"model": "m"}, "to": {"model": "n"}, "trigger": {"type": "r"}},
]
NEW_BLOCK = {"type": "brand_new", "text": "no", "deep": {"a": [1, None]}}


@pytest.mark.parametrize("block", KNOWN_BLOCKS, ids=lambda block: block["type"])
class TestKnownBlocks:
    def test_are_read_with_all_their_fields(self, block: dict[str, Any]) -> None:
        [read] = read_message({**block, "brand_new": 1}).content
        assert not isinstance(read, UnknownBlock)
        assert msgspec.to_builtins(read).items() >= block.items()

    def test_are_read_the_same_beside_an_unknown_one(self, block: dict[str, Any]) -> None:
        [alone] = read_message(block).content
        assert read_message(block, NEW_BLOCK).content[0] == alone

    def test_of_an_unknown_shape_are_kept_whole_as_unknown_blocks(
        self, block: dict[str, Any]
    ) -> None:
        name = {"tool_use": "name", "fallback": "from"}.get(block["type"])
        if name is None:
            name = next(n for n in block if n not in {"type", "content"})
        odd = {**block, name: 5}
        if block["type"] == "fallback":
            del odd[name]
        assert read_message(odd).content == [UnknownBlock(odd)]
        read = read_message(NEW_BLOCK, odd, TEXT)
        assert read.content == [UnknownBlock(NEW_BLOCK), UnknownBlock(odd), TextBlock(text="hi")]
        assert read.content[1].type == block["type"]
        assert not isinstance(read, IrregularMessage)


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
            {"type": "succeeded", "message": "hi"},
            {"type": "succeeded", "message": [message(TEXT)]},
            {"type": 5},
            {},
        ],
    )
    def test_a_result_without_a_type_or_a_success_without_a_message_is_an_error(
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
            DECODER.decode_lines(good + line())
        with pytest.raises(UNDECODABLE):
            ResultDecoder(dict).decode_lines(good + line(type="brand_new"))

    def test_a_line_reads_the_same_beside_one_that_is_not_strict(self) -> None:
        lines = [
            line(type="succeeded", message=message(TEXT, *KNOWN_BLOCKS, new=1)),
            line(type="succeeded", message=message(TEXT, NEW_BLOCK)),
            line(type="succeeded", message=message(usage=None)),
            line(type="errored", error={"type": "error", "error": {"type": "t", "message": "m"}}),
            line(type="errored", error={"type": "t", "request_id": "req_1"}),
            line(type="errored", error=None),
            line(type="canceled", new=1),
            line(type="expired"),
            line(type="brand_new"),
        ]
        assert DECODER.decode_lines(b"\n".join(lines)) == [DECODER.decode_line(x) for x in lines]


IRREGULAR: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # what is irregular, what the typed fields are then, the text
    ({"usage": None}, {"usage": Usage()}, "hi"),
    ({"usage": 5}, {"usage": Usage()}, "hi"),
    (
        {"usage": {"input_tokens": None, "output_tokens": 5, "cache_creation": 5, "new": 1}},
        {"usage": Usage(output_tokens=5)},
        "hi",
    ),
    ({"id": None}, {"id": ""}, "hi"),
    ({"model": {"id": "m"}}, {"model": ""}, "hi"),
    ({"stop_reason": 5, "role": None}, {"stop_reason": None, "role": "assistant"}, "hi"),
    ({"type": None, "new": {"a": 1}}, {"type": "message"}, "hi"),
    ({"content": None}, {"content": []}, ""),
    ({"content": 5}, {"content": []}, ""),
    ({"content": "hi there"}, {"content": [TextBlock(text="hi there")]}, "hi there"),
    ({"content": TEXT}, {"content": [TextBlock(text="hi")]}, "hi"),
    (
        {"content": [TEXT, 5, None, " you", [TEXT], {"text": "no type"}]},
        {
            "content": [
                TextBlock(text="hi"),
                TextBlock(text=" you"),
                UnknownBlock({"text": "no type"}),
            ]
        },
        "hi you",
    ),
]


class TestIrregularMessages:
    @pytest.mark.parametrize(("changes", "expected", "text"), IRREGULAR)
    def test_keep_what_fits_and_hold_the_whole_object(
        self, changes: dict[str, Any], expected: dict[str, Any], text: str
    ) -> None:
        regular = {"stop_reason": "end_turn", "stop_sequence": "END", "container": {"id": "c"}}
        read = read_message(TEXT, **{**regular, **changes})
        assert isinstance(read, IrregularMessage)
        assert read.text == text
        assert read.fields == message(TEXT, **{**regular, **changes})
        fitting = {name: value for name, value in regular.items() if name not in changes}
        least = {"id": "msg_1", "model": "m", "content": [TextBlock(text="hi")]}
        typed: dict[str, Any] = {**least, **fitting, **expected}
        assert read == IrregularMessage(**typed, fields=read.fields)

    def test_can_lack_any_field(self) -> None:
        for name in ("id", "model", "content"):
            wire = message(TEXT)
            del wire[name]
            item = DECODER.decode_line(line(type="succeeded", message=wire))
            assert isinstance(item.result, SucceededResult)
            read = item.result.message
            assert isinstance(read, IrregularMessage)
            assert read.fields == wire
            assert read.text == ("" if name == "content" else "hi")
        empty = DECODER.decode_line(line(type="succeeded", message={})).result
        assert empty == SucceededResult(
            message=IrregularMessage(id="", model="", content=[], fields={})
        )

    def test_hold_unknown_blocks_as_others_do(self) -> None:
        read = read_message(NEW_BLOCK, {**TEXT, "citations": 5}, usage=None)
        assert read.content == [UnknownBlock(NEW_BLOCK), UnknownBlock({**TEXT, "citations": 5})]
        assert read.text == "hi"


ODD_ERRORS: list[tuple[Any, ResultError]] = [
    (None, ResultError(type="unknown")),
    ("it broke", ResultError(type="unknown", message="it broke", details="it broke")),
    (
        {"message": "no type"},
        ResultError(type="unknown", message="no type", details={"message": "no type"}),
    ),
    (
        {"type": "error", "error": "it broke", "request_id": "req_1"},
        ResultError(
            type="unknown",
            message="it broke",
            request_id="req_1",
            details={"type": "error", "error": "it broke", "request_id": "req_1"},
        ),
    ),
    (
        {"type": "error", "error": {"type": "t", "message": 5}, "request_id": 5},
        ResultError(
            type="t",
            message="{'type': 't', 'message': 5}",
            details={"type": "error", "error": {"type": "t", "message": 5}, "request_id": 5},
        ),
    ),
    (
        {"type": "t", "message": None},
        ResultError(
            type="t",
            message="{'type': 't', 'message': None}",
            details={"type": "t", "message": None},
        ),
    ),
    (
        {"type": "error", "message": "outer", "error": {"type": 5}},
        ResultError(
            type="unknown",
            message="outer",
            details={"type": "error", "message": "outer", "error": {"type": 5}},
        ),
    ),
]


@pytest.mark.parametrize(("wire", "error"), ODD_ERRORS)
@pytest.mark.parametrize("type_", [Message, dict])
def test_an_errored_result_of_an_odd_shape_is_delivered_with_the_whole_error(
    type_: type[Any], wire: Any, error: ResultError
) -> None:
    item = ResultDecoder(type_).decode_line(line(type="errored", error=wire))
    assert item == ResultItem(custom_id="a", result=ErroredResult(error=error))


def test_an_errored_result_without_an_error_is_delivered() -> None:
    item = DECODER.decode_line(line(type="errored"))
    assert item.result == ErroredResult(error=ResultError(type="unknown"))


class Answer(msgspec.Struct):
    content: list[dict[str, Any]]
    stop_reason: str | None = None


SUCCESS = line(type="succeeded", message=message(TEXT, NEW_BLOCK))


def struct(name: str, fields: dict[str, Any]) -> Any:
    flat = [(n, *t) if isinstance(t, tuple) else (n, t) for n, t in fields.items()]
    return msgspec.defstruct(name, flat)


def dataclass(name: str, fields: dict[str, Any]) -> Any:
    made = [
        (n, t[0], dataclasses.field(default_factory=partial(copy, t[1])))
        if isinstance(t, tuple)
        else (n, t)
        for n, t in fields.items()
    ]
    return dataclasses.make_dataclass(name, made)


def typed_dict(name: str, fields: dict[str, Any]) -> Any:
    flat = {n: t[0] if isinstance(t, tuple) else t for n, t in fields.items()}
    return TypedDict(name, flat)  # type: ignore[operator]  # made at run time on purpose


class Song(msgspec.Struct, tag="song"):
    melody: str
    txet: str = ""


class Words(msgspec.Struct, tag="text"):
    text: str


class Blocks(msgspec.Struct):
    txet: str = ""


class Named(TypedDict):
    nmae: str


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
        ("fields", "told"),
        [
            ({"stop_raeson": (str, "")}, "did you mean 'stop_reason'"),
            ({"stopReason": str}, "did you mean 'stop_reason'"),
            ({"usages": (dict, {})}, "did you mean 'usage'"),
            ({"text": (str, "")}, "declare `content`"),
            ({"output_tokens": (int, 0)}, "declare `usage`"),
            ({"usage": msgspec.defstruct("U", [("output_tokns", int, 0)])}, "'output_tokens'"),
            ({"usage": dataclass("U", {"input_token": int}) | None}, "'input_tokens'"),
            ({"content": list[Blocks]}, "'text'"),
            ({"content": tuple[Named | int, ...]}, "'name'"),
        ],
    )
    @pytest.mark.parametrize("make", [struct, dataclass, typed_dict])
    def test_with_a_misspelt_field_is_a_type_error_that_tells_what_was_meant(
        self, make: Callable[[str, dict[str, Any]], Any], fields: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(TypeError, match=re.escape(told)) as caught:
            ResultDecoder(make("Mine", {"id": str, **fields}))
        assert "Mine" in str(caught.value)

    @pytest.mark.parametrize("name", ["txet", "brand_new", "outputTokens"])
    def test_without_any_field_of_a_message_is_a_type_error(self, name: str) -> None:
        with pytest.raises(TypeError, match=f"declares '{name}'"):
            ResultDecoder(struct("Mine", {name: (str, "")}))
        with pytest.raises(TypeError, match=r"'brand_new'.*declare a known one too"):
            ResultDecoder(struct("Mine", {"brand_new": (str, "")}))

    @pytest.mark.parametrize(
        "type_",
        [
            struct("Newer", {"id": str, "brand_new": (str, "")}),
            struct("Newer", {"id": str, "container_id": (str, "")}),
            struct("Nothing", {}),
            struct("Filled", {"content": list[Words], "text": (str, "")}),
            struct("Newer", {"usage": struct("Usage", {"brand_new": (int, 0)})}),
            struct("Usual", {"usage": dict[str, int], "content": list[dict[str, Any]]}),
            struct("Any", {"usage": Any, "content": msgspec.Raw}),
            struct("Blocks", {"content": list[Song | Words]}),
            struct("Renamed", {"why": (str, msgspec.field(name="stop_reason", default=""))}),
            msgspec.defstruct("Placed", [("txet", Any, None)], array_like=True),
            dict[str, Any],
        ],
    )
    def test_can_declare_fields_that_are_newer_than_this_version(self, type_: Any) -> None:
        ResultDecoder(type_)

    @pytest.mark.parametrize(
        "type_", [5, "Message", list[int] | set[int], object(), complex, range]
    )
    def test_that_cannot_be_decoded_is_a_type_error_at_once(self, type_: Any) -> None:
        with pytest.raises(TypeError, match="is not a type that msgspec can decode") as caught:
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
        with pytest.raises(RemoteProtocolError, match=r"^the response is not a batch ") as caught:
            decode_body(body, MessageBatch, "a batch", bytes)
        assert str(caught.value).endswith("no proxy responds in its place")
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


# --- half a surrogate pair -----------------------------------------------------------------

HALVES = [
    (r"\ud83d", r"\ud83d"),
    (r"\udc00", r"\udc00"),
    (r"\uD83D", r"\uD83D"),
    (r"\ud83d\ud83d\ude00", "\\ud83d\N{GRINNING FACE}"),
    (r"\\\ud83d", r"\\ud83d"),
    (r"\\ud83d\ud83d", r"\ud83d\ud83d"),
    (r"\\ud83d\ude00", r"\ud83d\ude00"),
    (r"\n\udfff\u0041", "\n\\udfffA"),
]


@pytest.mark.parametrize(("half", "spelled"), HALVES)
class TestLoneSurrogates:
    def test_are_spelled_out_in_text_and_everything_is_delivered(
        self, half: str, spelled: str
    ) -> None:
        data = line(type="succeeded", message=message({"type": "text", "text": "a HERE b"}))
        read = the_message(DECODER, data.replace(b"HERE", half.encode()))
        assert read.text == f"a {spelled} b"
        assert read.text.encode()

    def test_are_spelled_out_in_keys_and_unknown_variants(self, half: str, spelled: str) -> None:
        wire = {"type": "song", "HERE": {"HERE": ["HERE"]}}
        data = line(type="succeeded", message=message(TEXT, wire)).replace(b"HERE", half.encode())
        assert the_message(DECODER, data).content[1] == {
            "type": "song",
            spelled: {spelled: [spelled]},
        }
        data = line(type="brand_new", HERE=1).replace(b"HERE", half.encode())
        assert DECODER.decode_line(data).result == {"type": "brand_new", spelled: 1}

    def test_may_stand_in_what_is_not_declared(self, half: str, spelled: str) -> None:
        del spelled
        for content in ([TEXT], [TEXT, NEW_BLOCK]):
            data = line(type="succeeded", message=message(*content, new="HERE"))
            data = data.replace(b"HERE", half.encode())
            assert the_message(DECODER, data).text == "hi"

    def test_may_stand_in_the_custom_id(self, half: str, spelled: str) -> None:
        data = b'{"custom_id":"HERE","result":{"type":"canceled"}}'.replace(b"HERE", half.encode())
        assert DECODER.decode_line(data).custom_id == spelled
        assert ResultDecoder(dict).decode_line(data).custom_id == spelled
        assert RawDecoder().decode_line(data) == RawResult(custom_id=spelled, raw=data)
        assert custom_id_of(data.replace(b"canceled", half.encode())) == spelled

    def test_do_not_make_json_of_what_is_none(self, half: str, spelled: str) -> None:
        del spelled
        for broken in (
            *('{"custom_id":"%s","result":', '{"custom_id":"%s","x":NaN}', '{"%s}', "%s"),
            '{"custom_id":"%s\0\0","result":{"type":"canceled"}}',
        ):
            data = (broken % half).encode()
            for decode in (DECODER.decode_line, RawDecoder().decode_line):
                with pytest.raises(UNDECODABLE):
                    decode(data)
            assert custom_id_of(data) is None


@given(
    st.lists(
        st.sampled_from(["\ud83d", "\ude00", "\\", "\\ud83d", '"', "u", "d83d", "x", "\n"]),
        max_size=9,
    )
)
def test_lone_surrogates_read_as_what_the_standard_library_reads_with_its_own_spelling(
    pieces: list[str],
) -> None:
    data = json.dumps({"custom_id": "".join(pieces)}).encode()
    expected: str = json.loads(data)["custom_id"]
    assert custom_id_of(data) == expected.encode(errors="backslashreplace").decode()


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
