"""Sums the tokens of answers by what sets their price, such as the model and the prompt's length.

`_collect` reads the answers. `_prices` knows the prices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from batches_core import Message, ResultItem, SucceededResult
from batches_core.jobs import Usage, UsageKey
from batches_core.lowlevel import ResultDecoder, message_decoder

#: A prompt with more tokens than this is a long one. Some models charge more for all tokens of such
#: a request. Source: the service's pricing page, "Long context pricing".
LONG_PROMPT = 200_000
#: Models with another threshold, by the beginning of their name. The source is the same.
_LONG_PROMPTS: Mapping[str, int] = {"claude-haiku-5-5": 100_000}
#: No model has a lower threshold.
_LEAST_THRESHOLD = min(LONG_PROMPT, *_LONG_PROMPTS.values())


def long_prompt_threshold(model: str) -> int:
    """Return the number of input tokens above which a prompt of this model is a long one.

    Tokens that were read from the cache or written to it count as input.
    """
    for beginning, threshold in _LONG_PROMPTS.items():
        if model.startswith(beginning):
            return threshold
    return LONG_PROMPT


def exceeded_threshold(model: str, tokens: float) -> int:
    """Return the threshold that a prompt of so many tokens exceeds; 0 if it exceeds none."""
    threshold = long_prompt_threshold(model)
    return threshold if tokens > threshold else 0


class _CacheCreation(msgspec.Struct, frozen=True, gc=False):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _Tokens(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one call of a model."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _CacheCreation | None = None


class _Iteration(_Tokens, frozen=True, gc=False):
    #: The model, if it is not that of the answer.
    model: str | None = None


class _AnswerUsage(_Tokens, frozen=True, gc=False):
    """The tokens of an answer.

    If an answer took several calls of a model, as with compaction, `iterations` lists the tokens of
    each call. The other counts then leave some calls out, so the iterations are summed instead.
    Source: the service's page on compaction.
    """

    service_tier: str | None = None
    iterations: list[_Iteration] | None = None
    inference_geo: str | None = None
    server_tool_use: dict[str, Any] | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The fields of a message that are needed to sum its tokens."""

    model: str
    usage: _AnswerUsage


class AnswerDecoder:
    """Decodes the lines of a results file to `ResultItem[Answer]`, for `JSONLines`.

    An answer whose usage has an unknown shape is still an answer. The counts that can be read are
    kept, and the others are 0.
    """

    def __init__(self) -> None:
        self._strict = ResultDecoder(Answer)
        self.decode_lines = self._strict.decode_lines

    def decode_line(self, line: bytes) -> ResultItem[Answer]:
        """Decode one line.

        Raises:
            MsgspecError: the line is not JSON, or not a result.
            UnicodeDecodeError: it is not UTF-8.
            RecursionError: it is nested too deeply.
        """
        try:
            return self._strict.decode_line(line)
        except msgspec.ValidationError:
            item = message_decoder().decode_line(line)
            # The strict decoder accepts every other result that this one accepts.
            assert isinstance(item.result, SucceededResult), "only messages differ"  # noqa: S101
            answer = _answer_of(item.result.message)
            return ResultItem(custom_id=item.custom_id, result=SucceededResult(message=answer))


def read_answer(message: bytes) -> Answer | None:
    """Read the tokens of one message, as `AnswerDecoder` does; None if it is no message."""
    try:
        return _answer_decoder.decode(message)
    except _UNDECODABLE:
        line = b'{"custom_id":"","result":{"type":"succeeded","message":%b}}' % message
        try:
            result = _tolerant_decoder().decode_line(line).result
        except _UNDECODABLE:
            return None
        return result.message if isinstance(result, SucceededResult) else None


_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_answer_decoder = msgspec.json.Decoder(Answer)


@functools.cache
def _tolerant_decoder() -> AnswerDecoder:
    return AnswerDecoder()


def _answer_of(message: Message) -> Answer:
    """Return what can be read of a message."""
    usage = message.usage
    tokens = _AnswerUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_creation_input_tokens=usage.cache_creation_input_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation=_converted(usage.cache_creation, _CacheCreation),
        service_tier=usage.service_tier,
        iterations=_converted(usage.iterations, list[_Iteration]),
        inference_geo=usage.inference_geo,
        server_tool_use=_converted(usage.server_tool_use, dict[str, Any]),
    )
    return Answer(model=message.model, usage=tokens)


def _converted(value: Any, type_: Any) -> Any:
    try:
        return msgspec.convert(value, type_, from_attributes=True)
    except msgspec.ValidationError:
        return None


#: Values of ``inference_geo`` that mean that no region was asked for, so there is no surcharge.
_NO_REGION = frozenset({"", "global", "not_available"})
#: The service's tool for searches, and the one that is free. Source: its pages on both tools.
_WEB_SEARCH = "web_search_requests"
_WEB_FETCH = "web_fetch_requests"


class UsageSum:
    """The tokens of answers, summed for each model, service tier, prompt length and region.

    An answer without a service tier is counted with an empty one.
    """

    def __init__(self) -> None:
        #: The counts in the order of the fields of `Usage`, from `answers` on.
        self._sums: dict[UsageKey, list[int]] = {}

    def add(self, answers: Iterable[Answer]) -> None:
        """Add answers."""
        for answer in answers:
            usage = answer.usage
            if not usage.iterations:
                sums = self._add(answer.model, usage, usage)
            else:
                for each in usage.iterations:
                    sums = self._add(each.model or answer.model, usage, each)
            # The last of several calls wrote the answer.
            sums[0] += 1
            if usage.server_tool_use:
                _add_tools(sums, usage.server_tool_use)

    def result(self) -> tuple[Usage, ...]:
        """Return the sums, sorted by `Usage.key`."""
        return tuple(
            Usage(
                model=model,
                service_tier=tier,
                prompt_over=prompt_over,
                inference_geo=geo,
                answers=sums[0],
                input_tokens=sums[1],
                output_tokens=sums[2],
                cache_read_tokens=sums[3],
                cache_write_5m_tokens=sums[4],
                cache_write_1h_tokens=sums[5],
                web_searches=sums[6],
                other_tool_uses=sums[7],
            )
            for (model, tier, prompt_over, geo), sums in sorted(self._sums.items())
        )

    def _add(self, model: str, usage: _AnswerUsage, tokens: _Tokens) -> list[int]:
        new = tokens.input_tokens
        read = tokens.cache_read_input_tokens or 0
        by_time = tokens.cache_creation
        written = tokens.cache_creation_input_tokens or 0
        if by_time is not None and tokens.cache_creation_input_tokens is None:
            written = by_time.ephemeral_5m_input_tokens + by_time.ephemeral_1h_input_tokens
        prompt = new + read + written
        # Most prompts are short for every model.
        prompt_over = exceeded_threshold(model, prompt) if prompt > _LEAST_THRESHOLD else 0
        geo = usage.inference_geo or ""
        key = model, usage.service_tier or "", prompt_over, "" if geo in _NO_REGION else geo
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = [0] * 8
        sums[1] += new
        sums[2] += tokens.output_tokens
        if read:
            sums[3] += read
        if written:
            one_hour = by_time.ephemeral_1h_input_tokens if by_time is not None else 0
            # Without a breakdown, they have the default time to live of five minutes.
            sums[4] += max(0, written - one_hour)
            sums[5] += one_hour
        return sums


def _add_tools(sums: list[int], uses: Mapping[str, Any]) -> None:
    """Add how often the service's tools were used. `web_fetch` costs only its tokens."""
    for name, count in uses.items():
        if isinstance(count, int) and name != _WEB_FETCH:
            sums[6 if name == _WEB_SEARCH else 7] += count
