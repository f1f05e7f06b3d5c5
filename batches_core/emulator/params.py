"""The checks of a request's params that the service makes while it processes a batch.

An invalid request becomes an errored result, and the create succeeds. `create_body` has the checks
that a create must pass.
"""

from __future__ import annotations

from typing import Any

#: The known top-level params, those of betas included. The service refuses any other by name.
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
#: The version of the API that refuses the sampling params.
_VERSION_WITHOUT_SAMPLING = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")
#: The smallest thinking budget that the service accepts, in tokens.
_MIN_THINKING_BUDGET = 1024


def check_params(
    params: dict[str, Any], version: str, user_profile_id: str | None = None
) -> tuple[str, str] | None:
    """Return the type and message of the first error in a request's params, or None.

    `version` is the value of the create's ``anthropic-version`` header, `user_profile_id` that of
    its ``anthropic-user-profile-id`` header.
    """
    for check in (
        _check_fields,
        _check_max_tokens,
        _check_messages,
        _check_sampling,
        _check_thinking,
        _check_billing,
    ):
        problem = check(params, version)
        if problem is not None:
            return "invalid_request_error", problem
    if user_profile_id and params.get("user_profile_id") not in (None, user_profile_id):
        return "invalid_request_error", "user_profile_id: Differs from the batch's own"
    if not params["model"].startswith("claude"):
        return "not_found_error", f"model: {params['model']}"
    return None


def object_or_empty(value: Any) -> dict[str, Any]:
    """Return a param that should be a JSON object, or an empty one if it is anything else.

    The service checks more params than `check_params`. The emulator treats a param of a wrong
    type that it does not check as absent.
    """
    return value if isinstance(value, dict) else {}


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
    problems = (_check_message(index, message) for index, message in enumerate(messages))
    return next(filter(None, problems), None)


def _check_message(index: int, message: Any) -> str | None:
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
    if not isinstance(budget, int) or budget < _MIN_THINKING_BUDGET:
        least = f"Input should be greater than or equal to {_MIN_THINKING_BUDGET}"
        return f"thinking.enabled.budget_tokens: {least}"
    if budget >= params["max_tokens"]:
        return "`max_tokens` must be greater than `thinking.budget_tokens`"
    return None


def _check_billing(params: dict[str, Any], _: str) -> str | None:
    if object_or_empty(params.get("billing_policy")).get("bill_to") == "user_profile":
        return "billing_policy.bill_to: Not supported in a batch"
    return None
