"""The result of one valid request: made-up answers, and helpers for a responder of your own.

The same request always gets the same answer. The module `params` checks whether a request is valid;
`EmulatedBatch` decides which requests are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from .digest import digest
from .params import object_or_empty

#: A result as on the wire: ``{"type": "succeeded", "message": {…}}`` and so on.
Result: TypeAlias = dict[str, Any]
#: A function that answers a valid request: it gets the custom_id and params and returns a result.
Responder: TypeAlias = Callable[[str, dict[str, Any]], Result]

#: A token counts as this many characters: a rough but steady measure.
_CHARACTERS_PER_TOKEN = 4
#: The fields of a content block that count as output tokens: those of the blocks made up here, and
#: of the blocks that responders usually build.
_OUTPUT_FIELDS = ("text", "thinking", "input")

_WORDS = (  # noqa: SIM905 - prose reads better as prose
    "The answer depends on what is asked and on what is known already so we begin with the facts "
    "then weigh them and say in plain words which way they point and how sure that is"
).split()
#: How many words are chosen with one digest. It has 128 bits, and each choice uses about 5 of them.
_WORDS_PER_DIGEST = 15


def errored(type_: str, message: str, request_id: str | None = None) -> Result:
    """Build an errored result.

    `type_` is the API's error type, such as ``"overloaded_error"``. The error is nested in another
    object, as in the live service's results.
    """
    error = {"type": "error", "error": {"type": type_, "message": message}}
    return {"type": "errored", "error": {**error, "request_id": request_id}}


def succeeded(
    custom_id: str,
    params: Mapping[str, Any],
    content: str | list[dict[str, Any]],
    stop_reason: str = "end_turn",
) -> Result:
    """Build a succeeded result.

    `custom_id` and `params` are those of the request. `content` is the text of the answer, or its
    content blocks. The token counts of the usage are estimated from the characters.
    """
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    written = sum(len(str(block.get(name, ""))) for block in blocks for name in _OUTPUT_FIELDS)
    output_tokens = -(-written // _CHARACTERS_PER_TOKEN)
    max_tokens = params.get("max_tokens")
    if isinstance(max_tokens, int):
        output_tokens = min(output_tokens, max_tokens)
    asked = len(str(params.get("messages", ""))) + len(str(params.get("system", "")))
    message = {
        "id": f"msg_01{digest(custom_id, 'message'):032x}"[:28],
        "type": "message",
        "role": "assistant",
        "model": params.get("model"),
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": asked // _CHARACTERS_PER_TOKEN + 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "batch",
        },
    }
    return {"type": "succeeded", "message": message}


def answer(custom_id: str, params: dict[str, Any]) -> Result:
    """Answer any valid request with a succeeded result, the same way every time.

    The answer begins with a thinking block if thinking is on. It calls a tool if ``tool_choice``
    requires one, and is a text otherwise. ``max_tokens`` cuts the text.
    """
    choice = object_or_empty(params.get("tool_choice"))
    blocks: list[dict[str, Any]] = []
    if object_or_empty(params.get("thinking")).get("type") in ("enabled", "adaptive"):
        signature = f"{digest(custom_id, 'signature'):x}"
        thought = f"What is asked in {custom_id}? {_prose(custom_id + ' thought', 12)}"
        blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
    if choice.get("type") in ("any", "tool"):
        tools = params.get("tools")
        first = object_or_empty(tools[0] if isinstance(tools, list) and tools else None)
        name = choice.get("name") or first.get("name") or "tool"
        call = {"type": "tool_use", "id": f"toolu_01{digest(custom_id, 'tool'):032x}"[:30]}
        blocks.append({**call, "name": name, "input": {"query": custom_id}})
        return succeeded(custom_id, params, blocks, "tool_use")
    text = _prose(custom_id, 20 + digest(custom_id, "length") % 120)
    most = params["max_tokens"] * _CHARACTERS_PER_TOKEN
    blocks.append({"type": "text", "text": text[:most]})
    stop_reason = "max_tokens" if len(text) > most else "end_turn"
    return succeeded(custom_id, params, blocks, stop_reason)


def _prose(seed: str, words: int) -> str:
    chosen: list[str] = []
    for _ in range(words):
        if not len(chosen) % _WORDS_PER_DIGEST:
            chance = digest(seed, str(len(chosen)))
        chance, word = divmod(chance, len(_WORDS))
        chosen.append(_WORDS[word])
    return " ".join(chosen).capitalize() + "."
