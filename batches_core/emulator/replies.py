"""What becomes of one request: the checks that the service makes late, and made-up answers.

Knows the params of a Messages call, not batches. The same request always gets the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

#: A result as it stands on the wire: ``{"type": "succeeded", "message": {…}}`` and so on.
Result: TypeAlias = dict[str, Any]
#: What a user can pass to write the answers: custom_id and params in, a result out.
Responder: TypeAlias = Callable[[str, dict[str, Any]], Result]

#: The top-level params that are known, those of betas included; the service refuses others by name.
_KNOWN_PARAMS = frozenset(
    [
        *("model", "messages", "max_tokens", "system", "stop_sequences", "stream", "metadata"),
        *("temperature", "top_p", "top_k"),
        *("tools", "tool_choice", "mcp_servers", "container"),
        *("thinking", "output_config", "cache_control", "context_management", "compaction"),
        *("service_tier", "speed", "inference_geo", "user_profile_id", "billing_policy"),
        *("diagnostics", "thread", "fallbacks", "fallback_credit_token"),
    ]
)
_ROLES = ("user", "assistant", "system")
#: Refused by name under this version of the API.
_VERSION_WITHOUT_SAMPLING = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")
#: The least budget of thinking, in tokens.
_LEAST_THINKING = 1024
#: Tokens are counted as so many characters each: a rough but steady measure.
_CHARACTERS_A_TOKEN = 4
#: Where the blocks that are made up here, or usual elsewhere, keep what the model wrote.
_WRITTEN = ("text", "thinking", "input")

_WORDS = (  # noqa: SIM905 - prose reads better as prose
    "The answer depends on what is asked and on what is known already so we begin with the facts "
    "then weigh them and say in plain words which way they point and how sure that is"
).split()


def digest(*parts: str) -> int:
    """Give a large number that depends on the parts alone: this module's kind of chance."""
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest())


def errored(type_: str, message: str, request_id: str | None = None) -> Result:
    """Build an errored result, nested as the live service does."""
    error = {"type": "error", "error": {"type": type_, "message": message}}
    return {"type": "errored", "error": {**error, "request_id": request_id}}


def succeeded(
    custom_id: str,
    params: Mapping[str, Any],
    content: str | list[dict[str, Any]],
    stop_reason: str = "end_turn",
) -> Result:
    """Build a succeeded result around a text or content blocks, for a responder of one's own."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    written = sum(len(str(block.get(name, ""))) for block in blocks for name in _WRITTEN)
    output_tokens = -(-written // _CHARACTERS_A_TOKEN)
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
            "input_tokens": asked // _CHARACTERS_A_TOKEN + 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": "batch",
        },
    }
    return {"type": "succeeded", "message": message}


def check_params(
    params: dict[str, Any], version: str, user_profile_id: str | None = None
) -> tuple[str, str] | None:
    """Find the first fault that the service tells as an errored result: its type and message.

    `user_profile_id` is the header's that came with the create.
    """
    for check in (
        _check_fields,
        _check_max_tokens,
        _check_messages,
        _check_sampling,
        _check_thinking,
        _check_billing,
    ):
        fault = check(params, version)
        if fault is not None:
            return "invalid_request_error", fault
    if user_profile_id and params.get("user_profile_id") not in (None, user_profile_id):
        return "invalid_request_error", "user_profile_id: Differs from the batch's own"
    if not params["model"].startswith("claude"):
        return "not_found_error", f"model: {params['model']}"
    return None


# Each check may rely on those before it.


def _check_fields(params: dict[str, Any], _: str) -> str | None:
    for name in ("model", "max_tokens", "messages"):
        if name not in params:
            return f"{name}: Field required"
    for name in params:
        if name not in _KNOWN_PARAMS:
            return f"{name}: Extra inputs are not permitted"
    if not isinstance(params["model"], str):
        return "model: Input should be a valid string"
    if params.get("stream"):
        return "stream: Streaming is not supported in a batch"
    if params.get("speed") is not None:
        return "speed: Not supported in a batch"
    return None


def _check_max_tokens(params: dict[str, Any], _: str) -> str | None:
    max_tokens = params["max_tokens"]
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool):
        return "max_tokens: Input should be a valid integer"
    if max_tokens < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    return None


def _check_messages(params: dict[str, Any], _: str) -> str | None:
    messages = params["messages"]
    if not isinstance(messages, list):
        return "messages: Input should be a valid array"
    if not messages:
        return "messages: at least one message is required"
    faults = (_fault_of_message(index, message) for index, message in enumerate(messages))
    return next(filter(None, faults), None)


def _fault_of_message(index: int, message: Any) -> str | None:
    if not isinstance(message, dict):
        return f"messages.{index}: Input should be an object"
    if message.get("role") not in _ROLES:
        return f"messages.{index}.role: Input should be 'user', 'assistant' or 'system'"
    content = message.get("content")
    if not isinstance(content, (str, list)):
        return f"messages.{index}.content: Input should be a valid string or array"
    if not content:
        return f"messages.{index}: all messages must have non-empty content"
    return None


def _check_sampling(params: dict[str, Any], version: str) -> str | None:
    if version == _VERSION_WITHOUT_SAMPLING:
        for name in _SAMPLING:
            if name in params:
                return f"{name}: Not supported with anthropic-version {version}"
    temperature = params.get("temperature", 1)
    if not isinstance(temperature, (int, float)) or not 0 <= temperature <= 1:
        return "temperature: Input should be between 0 and 1"
    return None


def _check_thinking(params: dict[str, Any], _: str) -> str | None:
    thinking = params.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return None
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < _LEAST_THINKING:
        least = f"Input should be greater than or equal to {_LEAST_THINKING}"
        return f"thinking.enabled.budget_tokens: {least}"
    if budget >= params["max_tokens"]:
        return "`max_tokens` must be greater than `thinking.budget_tokens`"
    return None


def _check_billing(params: dict[str, Any], _: str) -> str | None:
    if _object(params.get("billing_policy")).get("bill_to") == "user_profile":
        return "billing_policy.bill_to: Not supported in a batch"
    return None


def answer(custom_id: str, params: dict[str, Any]) -> Result:
    """Answer any valid request, the same way every time.

    A tool is called where one must be, thinking comes first where it is on, and ``max_tokens``
    cuts the text.
    """
    choice = _object(params.get("tool_choice"))
    blocks: list[dict[str, Any]] = []
    if _object(params.get("thinking")).get("type") in ("enabled", "adaptive"):
        signature = f"{digest(custom_id, 'signature'):x}"
        thought = f"What is asked in {custom_id}? {_prose(custom_id + ' thought', 12)}"
        blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
    if choice.get("type") in ("any", "tool"):
        tools = params.get("tools")
        first = _object(tools[0] if isinstance(tools, list) and tools else None)
        name = choice.get("name") or first.get("name") or "tool"
        call = {"type": "tool_use", "id": f"toolu_01{digest(custom_id, 'tool'):032x}"[:30]}
        blocks.append({**call, "name": name, "input": {"query": custom_id}})
        return succeeded(custom_id, params, blocks, "tool_use")
    text = _prose(custom_id, 20 + digest(custom_id, "length") % 120)
    most = params["max_tokens"] * _CHARACTERS_A_TOKEN
    blocks.append({"type": "text", "text": text[:most]})
    stop_reason = "max_tokens" if len(text) > most else "end_turn"
    return succeeded(custom_id, params, blocks, stop_reason)


def _object(value: Any) -> dict[str, Any]:
    # Late checks look at less than the service's: what is odd is answered as if it were not there.
    return value if isinstance(value, dict) else {}


def _prose(seed: str, words: int) -> str:
    chosen: list[str] = []
    for _ in range(words):
        # A fresh number for every fifteen words; each word takes one factor of it.
        if not len(chosen) % 15:
            chance = digest(seed, str(len(chosen)))
        chance, word = divmod(chance, len(_WORDS))
        chosen.append(_WORDS[word])
    return " ".join(chosen).capitalize() + "."
