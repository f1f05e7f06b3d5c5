"""Estimates what requests will cost before they are sent.

Input tokens are estimated from bytes. The output is not estimated: `max_tokens` is its limit.
`_prices` knows the prices. `_cost` computes the real cost, `_budget` what may be sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from batches_core import InvalidInputError, RequestLike

from ._cost import price_warnings, unknown_price
from ._prices import PriceList, Rates
from ._usage import exceeded_threshold

#: The bytes of a token, in UTF-8. Source: the service's glossary, "a token approximately represents
#: 3.5 English characters".
BYTES_PER_TOKEN = 3.5
#: The tokens of an image. Source: the service's page on vision, for the largest image that most
#: models do not scale down. Models with a higher resolution use more.
_IMAGE_TOKENS = 1_600
#: An escape such as ``\u4e2d`` has six bytes. The character itself has about three.
_SAVED_BY_ESCAPE = 3


class ModelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests to one model may cost, in US dollars.

    `input_bytes` is the size of the prompts: messages, system prompt and tools, without images and
    documents. `input_tokens` is estimated from it. `max_output_tokens` is the sum of `max_tokens`.
    `cost_limit` is the cost if every answer has `max_tokens`. Costs are None if the price is not
    known.
    """

    model: str
    requests: int
    input_bytes: int
    input_tokens: int
    max_output_tokens: int
    input_cost: Decimal | None
    cost_limit: Decimal | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests of a job may cost: an estimate for the input, a limit for the output.

    The fields are the sums over `models`. A cost is None if it is None for one of the models. Cache
    reads are not deducted. Cache writes, the use of tools and retries are not added.
    """

    models: tuple[ModelEstimate, ...]
    requests: int
    input_tokens: int
    max_output_tokens: int
    input_cost: Decimal | None
    cost_limit: Decimal | None
    warnings: tuple[str, ...] = ()


class _Params(msgspec.Struct):
    model: Any = ""
    max_tokens: Any = 0
    messages: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


class _Request(msgspec.Struct):
    params: _Params


class _Totals(msgspec.Struct):
    requests: int = 0
    input_bytes: int = 0
    #: Tokens that are not estimated from bytes.
    extra_tokens: int = 0
    max_output_tokens: int = 0


_UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_request_decoder = msgspec.json.Decoder(_Request)
_plain_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder(enc_hook=dict)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The size of one request.

    `input_bytes` is the size of its text. `extra_tokens` are the tokens that are not estimated from
    bytes. `not_estimated` is the number of documents that are left out.
    """

    model: str
    input_bytes: int
    extra_tokens: int
    max_output_tokens: int
    not_estimated: int

    def tokens(self, bytes_per_token: float) -> float:
        """Return the estimated number of input tokens."""
        return self.input_bytes / bytes_per_token + self.extra_tokens


def measure(request: RequestLike) -> Measured | None:
    """Measure one request; None if it is unreadable."""
    try:
        encoded = request if isinstance(request, (bytes, str)) else _encoder.encode(request)
        params = _request_decoder.decode(encoded).params
        size = extra = not_estimated = 0
        for raw in map(bytes, (params.messages, params.system, params.tools)):
            size += len(raw) - _SAVED_BY_ESCAPE * raw.count(b"\\u")
            if b'"source"' in raw:
                for kind, source in _sources(_plain_decoder.decode(raw)):
                    if source.get("type") == "base64":
                        size -= len(str(source.get("data", "")))
                    if kind == "image":
                        extra += _IMAGE_TOKENS
                    elif source.get("type") in {"base64", "url", "file"}:
                        not_estimated += 1
    except (*_UNDECODABLE, TypeError, ValueError):
        return None
    return Measured(
        model=params.model if isinstance(params.model, str) else "",
        input_bytes=size,
        extra_tokens=extra,
        max_output_tokens=params.max_tokens if isinstance(params.max_tokens, int) else 0,
        not_estimated=not_estimated,
    )


class Estimator:
    """Sums up requests, one by one, for an `Estimate`.

    `bytes_per_token` is 3.5 by default. A better value for the job's own text is the size of some
    prompts, divided by the input tokens of their answers.

    Raises:
        InvalidInputError: `bytes_per_token` is not a positive number.
    """

    def __init__(self, bytes_per_token: float = BYTES_PER_TOKEN) -> None:
        if not 0 < bytes_per_token < math.inf:
            raise InvalidInputError(
                f"bytes_per_token is {bytes_per_token!r}: pass a positive number"
            )
        self._bytes_per_token = bytes_per_token
        #: By model, and the threshold that the prompts exceed.
        self._totals: dict[tuple[str, int], _Totals] = {}
        self._unread = 0
        self._not_estimated = 0

    def add(self, request: RequestLike) -> None:
        """Add a request. A blank line is skipped. An unreadable request is only counted."""
        if isinstance(request, (bytes, str)) and not request.strip():
            return
        measured = measure(request)
        if measured is None:
            self._unread += 1
            return
        self._not_estimated += measured.not_estimated
        model = measured.model
        key = model, exceeded_threshold(model, measured.tokens(self._bytes_per_token))
        totals = self._totals.setdefault(key, _Totals())
        totals.requests += 1
        totals.input_bytes += measured.input_bytes
        totals.extra_tokens += measured.extra_tokens
        totals.max_output_tokens += measured.max_output_tokens

    def result(self, prices: PriceList | None = None) -> Estimate:
        """Return the estimate for the requests so far. `prices` are by default the prices of now.

        Raises:
            ModuleNotFoundError: genai-prices is not installed.
        """
        prices = PriceList() if prices is None else prices
        warnings: list[str] = []
        models: dict[str, ModelEstimate] = {}
        for (model, prompt_over), totals in sorted(self._totals.items()):
            rates = prices.rates(model, prompt_over=prompt_over)
            warnings += [unknown_price(model)] if rates is None else price_warnings(model, rates)
            estimate = self._estimate(model, totals, rates)
            models[model] = _sum(models[model], estimate) if model in models else estimate
        if self._not_estimated:
            warnings.append(
                f"{self._not_estimated:,} documents are not estimated: the service converts them"
            )
        if self._unread:
            warnings.append(f"{self._unread:,} requests cannot be read and are not estimated")
        return Estimate(
            models=tuple(models.values()),
            requests=sum(each.requests for each in models.values()),
            input_tokens=sum(each.input_tokens for each in models.values()),
            max_output_tokens=sum(each.max_output_tokens for each in models.values()),
            input_cost=_total(each.input_cost for each in models.values()),
            cost_limit=_total(each.cost_limit for each in models.values()),
            warnings=tuple(dict.fromkeys(warnings)),
        )

    def _estimate(self, model: str, totals: _Totals, rates: Rates | None) -> ModelEstimate:
        tokens = math.ceil(totals.input_bytes / self._bytes_per_token) + totals.extra_tokens
        input_cost = cost_limit = None
        if rates is not None:
            input_cost = tokens * rates.input
            cost_limit = input_cost + totals.max_output_tokens * rates.output
        return ModelEstimate(
            model=model,
            requests=totals.requests,
            input_bytes=totals.input_bytes,
            input_tokens=tokens,
            max_output_tokens=totals.max_output_tokens,
            input_cost=input_cost,
            cost_limit=cost_limit,
        )


def estimate(requests: Iterable[RequestLike], prices: PriceList | None = None) -> Estimate:
    """Return what requests may cost, such as the lines of an open file. They are read once.

    Raises:
        ModuleNotFoundError: genai-prices is not installed.
    """
    prices = PriceList() if prices is None else prices
    estimator = Estimator()
    for request in requests:
        estimator.add(request)
    return estimator.result(prices)


def _sources(value: Any) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Yield the type of each content block that has a source, and the source."""
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if isinstance(source := value.get("source"), dict):
                yield value.get("type"), source
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _sum(first: ModelEstimate, second: ModelEstimate) -> ModelEstimate:
    return ModelEstimate(
        model=first.model,
        requests=first.requests + second.requests,
        input_bytes=first.input_bytes + second.input_bytes,
        input_tokens=first.input_tokens + second.input_tokens,
        max_output_tokens=first.max_output_tokens + second.max_output_tokens,
        input_cost=_total((first.input_cost, second.input_cost)),
        cost_limit=_total((first.cost_limit, second.cost_limit)),
    )


def _total(costs: Iterable[Decimal | None]) -> Decimal | None:
    total = Decimal(0)
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total
