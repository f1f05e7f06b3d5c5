"""Tests of `decoding`: known parts of JSON become models, and unknown parts are kept."""

from __future__ import annotations

import contextlib
import json
from typing import Any

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
from tests.support.ids import readable
from tests.support.playbook import batch_json, error_json, result_line

DECODER = ResultDecoder(Message)
TEXT = {"type": "text", "text": "hi"}
DEEPLY_NESTED = b"[" * 100_000


def line(**result: Any) -> bytes:
    return msgspec.json.encode({"custom_id": "a", "result": result})


def message(*content: Any, **changes: Any) -> dict[str, Any]:
    return {"id": "msg_1", "model": "m", "content": [*content], **changes}


def decode_message(*content: Any, **changes: Any) -> Message:
    """Decode a message with this content and these changes, as the message of a success."""
    item = DECODER.decode_line(line(type="succeeded", message=message(*content, **changes)))
    assert isinstance(item.result, SucceededResult)
    assert isinstance(item.result.message, Message)
    return item.result.message


# --- content blocks ----------------------------------------------------------------------


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
each_known_block = pytest.mark.parametrize("block", KNOWN_BLOCKS, ids=readable)


@each_known_block
def test_a_known_block_is_decoded_with_all_its_fields(block: dict[str, Any]) -> None:
    [decoded] = decode_message({**block, "brand_new": 1}).content
    assert not isinstance(decoded, UnknownBlock)
    assert msgspec.to_builtins(decoded).items() >= block.items()


@each_known_block
def test_a_known_block_is_decoded_the_same_beside_an_unknown_one(block: dict[str, Any]) -> None:
    [alone] = decode_message(block).content
    assert decode_message(block, NEW_BLOCK).content[0] == alone


@each_known_block
def test_a_known_block_of_an_unknown_shape_becomes_an_unknown_block(block: dict[str, Any]) -> None:
    name = {"tool_use": "name", "fallback": "from"}.get(block["type"])
    if name is None:
        name = next(n for n in block if n not in {"type", "content"})
    irregular = {**block, name: 5}
    if block["type"] == "fallback":
        del irregular[name]
    assert decode_message(irregular).content == [UnknownBlock(irregular)]
    decoded = decode_message(NEW_BLOCK, irregular, TEXT)
    assert decoded.content == [
        UnknownBlock(NEW_BLOCK),
        UnknownBlock(irregular),
        TextBlock(text="hi"),
    ]
    assert decoded.content[1].type == block["type"]
    assert not isinstance(decoded, IrregularMessage)


def test_unknown_blocks_are_kept_in_their_places() -> None:
    other = {"type": "newer_still"}
    decoded = decode_message(NEW_BLOCK, TEXT, other, TEXT, stop_reason="end_turn", role="assistant")
    assert decoded.content == [
        UnknownBlock(NEW_BLOCK),
        TextBlock(text="hi"),
        UnknownBlock(other),
        TextBlock(text="hi"),
    ]
    assert decoded.text == "hihi"


def test_the_other_fields_of_a_message_do_not_depend_on_its_blocks() -> None:
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
    known, mixed = decode_message(TEXT, **fields), decode_message(TEXT, NEW_BLOCK, **fields)
    assert msgspec.structs.replace(mixed, content=mixed.content[:1]) == known
    assert (known.stop_sequence, known.usage.output_tokens) == ("END", 5)


@pytest.mark.parametrize("stop_reason", [None, "end_turn", "brand_new"])
def test_any_stop_reason_is_kept(stop_reason: str | None) -> None:
    assert decode_message(TEXT, stop_reason=stop_reason).stop_reason == stop_reason


# --- results -----------------------------------------------------------------------------


def test_each_known_result_is_decoded_to_its_class() -> None:
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
    for fields, result in cases:
        assert DECODER.decode_line(line(**fields)) == ResultItem(custom_id="a", result=result)


def test_an_unknown_result_is_kept_whole() -> None:
    fields = {"type": "brand_new", "message": 5, "more": [1]}
    item = DECODER.decode_line(line(**fields))
    assert item.custom_id == "a"
    assert item.result == UnknownResult(fields)


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
    ids=readable,
)
def test_a_result_without_a_type_or_a_success_without_a_message_is_undecodable(
    result: dict[str, Any],
) -> None:
    with pytest.raises(UNDECODABLE):
        DECODER.decode_line(line(**result))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
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
            b'{"custom_id":"a","result":{"type":"brand_new","x":' + DEEPLY_NESTED,
            id="nested too deep",
        ),
    ],
)
def test_a_line_that_is_not_a_result_is_undecodable(data: bytes) -> None:
    with pytest.raises(UNDECODABLE):
        DECODER.decode_line(data)


def test_several_lines_are_decoded_in_one_call_or_not_at_all() -> None:
    valid = result_line("a") + result_line("b")
    assert [item.custom_id for item in DECODER.decode_lines(valid)] == ["a", "b"]
    with pytest.raises(UNDECODABLE):
        DECODER.decode_lines(valid + line())
    with pytest.raises(UNDECODABLE):
        ResultDecoder(dict).decode_lines(valid + line(type="brand_new"))


def test_a_line_is_decoded_the_same_alone_and_beside_irregular_ones() -> None:
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


@pytest.mark.parametrize(
    ("data", "custom_id"),
    [
        (b'{"custom_id":"a","result":5}', "a"),
        (b'{"custom_id":5}', None),
        (b'{"custom_id":"a"', None),
        (b'{"result":{}}', None),
        (b'{"custom_id":"\xff"}', None),
        pytest.param(DEEPLY_NESTED, None, id="nested too deep"),
    ],
)
def test_the_custom_id_of_a_malformed_line_is_found_if_possible(
    data: bytes, custom_id: str | None
) -> None:
    assert custom_id_of(data) == custom_id


# --- irregular messages ------------------------------------------------------------------


#: The irregular fields of a message, what their typed fields become, and the text of the message.
IRREGULAR_FIELDS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
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


@pytest.mark.parametrize(("changes", "expected", "text"), IRREGULAR_FIELDS, ids=readable)
def test_an_irregular_message_keeps_valid_fields_and_the_whole_object(
    changes: dict[str, Any], expected: dict[str, Any], text: str
) -> None:
    regular = {"stop_reason": "end_turn", "stop_sequence": "END", "container": {"id": "c"}}
    decoded = decode_message(TEXT, **{**regular, **changes})
    assert isinstance(decoded, IrregularMessage)
    assert decoded.text == text
    assert decoded.fields == message(TEXT, **{**regular, **changes})
    unchanged = {name: value for name, value in regular.items() if name not in changes}
    required = {"id": "msg_1", "model": "m", "content": [TextBlock(text="hi")]}
    typed: dict[str, Any] = {**required, **unchanged, **expected}
    assert decoded == IrregularMessage(**typed, fields=decoded.fields)


def test_an_irregular_message_may_lack_any_field() -> None:
    for name in ("id", "model", "content"):
        fields = message(TEXT)
        del fields[name]
        item = DECODER.decode_line(line(type="succeeded", message=fields))
        assert isinstance(item.result, SucceededResult)
        decoded = item.result.message
        assert isinstance(decoded, IrregularMessage)
        assert decoded.fields == fields
        assert decoded.text == ("" if name == "content" else "hi")
    empty = DECODER.decode_line(line(type="succeeded", message={})).result
    assert empty == SucceededResult(
        message=IrregularMessage(id="", model="", content=[], fields={})
    )


def test_an_irregular_message_keeps_unknown_blocks() -> None:
    decoded = decode_message(NEW_BLOCK, {**TEXT, "citations": 5}, usage=None)
    assert decoded.content == [UnknownBlock(NEW_BLOCK), UnknownBlock({**TEXT, "citations": 5})]
    assert decoded.text == "hi"


# --- errored results ---------------------------------------------------------------------


#: Irregular errors of results, and what each is decoded to.
IRREGULAR_ERRORS: list[tuple[Any, ResultError]] = [
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


@pytest.mark.parametrize(
    ("value", "error"), IRREGULAR_ERRORS, ids=[readable(value) for value, _ in IRREGULAR_ERRORS]
)
@pytest.mark.parametrize("type_", [Message, dict])
def test_an_irregular_error_of_a_result_is_kept_whole(
    type_: type[Any], value: Any, error: ResultError
) -> None:
    item = ResultDecoder(type_).decode_line(line(type="errored", error=value))
    assert item == ResultItem(custom_id="a", result=ErroredResult(error=error))


def test_an_errored_result_without_an_error_is_decoded() -> None:
    item = DECODER.decode_line(line(type="errored"))
    assert item.result == ErroredResult(error=ResultError(type="unknown"))


# --- message types -----------------------------------------------------------------------


class Answer(msgspec.Struct):
    content: list[dict[str, Any]]
    stop_reason: str | None = None


SUCCESS = line(type="succeeded", message=message(TEXT, NEW_BLOCK))


def message_by(decoder: ResultDecoder[Any], data: bytes = SUCCESS) -> Any:
    """Return the message of a success, by a decoder."""
    result = decoder.decode_line(data).result
    assert isinstance(result, SucceededResult)
    return result.message


def test_a_message_can_be_decoded_to_a_struct_of_the_caller() -> None:
    assert message_by(ResultDecoder(Answer)) == Answer(content=[TEXT, NEW_BLOCK])


def test_a_message_can_be_decoded_to_a_dict() -> None:
    assert message_by(ResultDecoder(dict)) == message() | {"content": [TEXT, NEW_BLOCK]}


def test_a_message_can_be_kept_as_raw_bytes() -> None:
    data = b'{"custom_id":"a","result":{"type":"succeeded","message":{ "id" : 1.0 }}}'
    assert bytes(message_by(ResultDecoder(msgspec.Raw), data)) == b'{ "id" : 1.0 }'


@pytest.mark.parametrize("type_", [Answer, dict, msgspec.Raw])
def test_the_message_type_does_not_change_the_other_results(type_: type[Any]) -> None:
    decoder = ResultDecoder(type_)
    assert decoder.decode_line(line(type="canceled")).result == CanceledResult()
    unknown = decoder.decode_line(line(type="brand_new")).result
    assert unknown == UnknownResult({"type": "brand_new"})


def test_a_message_that_does_not_fit_the_message_type_is_undecodable() -> None:
    with pytest.raises(UNDECODABLE, match="content"):
        ResultDecoder(Answer).decode_line(line(type="succeeded", message={"content": 5}))


# --- response bodies ---------------------------------------------------------------------


def test_a_body_is_decoded_to_its_type() -> None:
    body = msgspec.json.encode(batch_json("msgbatch_1"))
    assert decode_body(body, MessageBatch, "a batch", bytes).id == "msgbatch_1"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        b"null",
        b"{}",
        pytest.param(DEEPLY_NESTED, id="nested too deep"),
        b"<html>\nno\n</html>",
        b'{"id":"\xff"}',
        b"\xff\xfe\0",
        pytest.param(
            msgspec.json.encode(batch_json(created_at="yesterday")), id="an invalid timestamp"
        ),
        pytest.param(msgspec.json.encode(batch_json()) + b"x", id="a byte after a batch"),
    ],
)
def test_a_body_of_another_type_is_quoted_in_an_error_of_one_line(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the response is not a batch ") as caught:
        decode_body(body, MessageBatch, "a batch", bytes)
    assert str(caught.value).endswith("no proxy responds in its place")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000


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
    ids=[
        "regular",
        "error code",
        "invalid error code",
        "null details",
        "only an error",
        "unknown type",
        "only a message",
    ],
)
def test_the_error_body_of_the_api_is_decoded(
    body: dict[str, Any], expected: tuple[str | None, str, str | None, str | None]
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
        pytest.param(DEEPLY_NESTED, "[" * 300 + "…", id="nested too deep"),
    ],
)
def test_an_error_body_that_is_not_the_apis_is_quoted(body: bytes, message: str) -> None:
    assert decode_error(body) == (None, message, None, None)


def test_an_error_body_without_a_message_is_quoted() -> None:
    assert decode_error(b'{"error":{"type":"api_error"}}')[:2] == (
        "api_error",
        '{"error":{"type":"api_error"}}',
    )


# --- lone surrogates ---------------------------------------------------------------------


#: Escapes with a lone surrogate, and what each is decoded to.
LONE_SURROGATES = {
    r"\ud83d": r"\ud83d",
    r"\udc00": r"\udc00",
    r"\uD83D": r"\uD83D",
    r"\ud83d\ud83d\ude00": "\\ud83d\N{GRINNING FACE}",
    r"\\\ud83d": r"\\ud83d",
    r"\\ud83d\ud83d": r"\ud83d\ud83d",
    r"\\ud83d\ude00": r"\ud83d\ude00",
    r"\n\udfff\u0041": "\n\\udfffA",
}
each_lone_surrogate = pytest.mark.parametrize(("escape", "decoded"), LONE_SURROGATES.items())


@each_lone_surrogate
def test_a_lone_surrogate_in_text_becomes_its_escape(escape: str, decoded: str) -> None:
    data = line(type="succeeded", message=message({"type": "text", "text": "a HERE b"}))
    text = message_by(DECODER, data.replace(b"HERE", escape.encode())).text
    assert text == f"a {decoded} b"
    assert text.encode()


@each_lone_surrogate
def test_a_lone_surrogate_in_a_key_or_an_unknown_variant_becomes_its_escape(
    escape: str, decoded: str
) -> None:
    block = {"type": "song", "HERE": {"HERE": ["HERE"]}}
    data = line(type="succeeded", message=message(TEXT, block)).replace(b"HERE", escape.encode())
    assert message_by(DECODER, data).content[1] == {
        "type": "song",
        decoded: {decoded: [decoded]},
    }
    data = line(type="brand_new", HERE=1).replace(b"HERE", escape.encode())
    assert DECODER.decode_line(data).result == {"type": "brand_new", decoded: 1}


@pytest.mark.parametrize("escape", LONE_SURROGATES)
def test_a_lone_surrogate_in_an_undeclared_field_is_accepted(escape: str) -> None:
    for content in ([TEXT], [TEXT, NEW_BLOCK]):
        data = line(type="succeeded", message=message(*content, new="HERE"))
        data = data.replace(b"HERE", escape.encode())
        assert message_by(DECODER, data).text == "hi"


@each_lone_surrogate
def test_a_lone_surrogate_in_a_custom_id_becomes_its_escape(escape: str, decoded: str) -> None:
    data = b'{"custom_id":"HERE","result":{"type":"canceled"}}'.replace(b"HERE", escape.encode())
    assert DECODER.decode_line(data).custom_id == decoded
    assert ResultDecoder(dict).decode_line(data).custom_id == decoded
    assert RawDecoder().decode_line(data) == RawResult(custom_id=decoded, raw=data)
    assert custom_id_of(data.replace(b"canceled", escape.encode())) == decoded


@pytest.mark.parametrize("escape", LONE_SURROGATES)
def test_a_lone_surrogate_does_not_make_invalid_json_decodable(escape: str) -> None:
    for invalid in (
        *('{"custom_id":"%s","result":', '{"custom_id":"%s","x":NaN}', '{"%s}', "%s"),
        '{"custom_id":"%s\0\0","result":{"type":"canceled"}}',
    ):
        data = (invalid % escape).encode()
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
def test_lone_surrogates_become_the_escapes_that_the_standard_library_writes(
    pieces: list[str],
) -> None:
    data = json.dumps({"custom_id": "".join(pieces)}).encode()
    expected: str = json.loads(data)["custom_id"]
    assert custom_id_of(data) == expected.encode(errors="backslashreplace").decode()


# --- any bytes ---------------------------------------------------------------------------


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
def test_any_line_decodes_to_a_result_or_a_documented_error(data: bytes) -> None:
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
