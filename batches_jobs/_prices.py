"""Looks up the prices of tokens: the batch prices of the library genai-prices, in US dollars.

The prices are data in that library, so nothing is read from the network. `_cost` and `_estimate`
multiply them. `_usage` knows which prompts cost more.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

#: The service's documentation: "All usage is charged at 50% of the standard API prices."
_BATCH_SHARE = Decimal("0.5")
#: The provider of all models, as genai-prices names it.
_PROVIDER = "anthropic"
#: The context by which genai-prices selects the prices of batches.
_BATCH = {"processing": "batch"}


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """What one token of each kind costs, and one web search, in US dollars.

    `input` is the price of tokens that were neither read from the cache nor written to it. If
    `is_assumed` is True, no batch price is known, and these are half of the standard prices.
    `thresholds` are the numbers of input tokens above which all tokens of a request cost more.
    `web_search` is None if its price is not known.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    web_search: Decimal | None = None
    is_assumed: bool = False
    thresholds: frozenset[int] = frozenset()


class PriceList:
    """The prices at the time `at`, by default now.

    Raises:
        ModuleNotFoundError: genai-prices is not installed.
    """

    def __init__(self, at: datetime | None = None) -> None:
        try:
            import genai_prices  # noqa: PLC0415 - only needed to price
        except ModuleNotFoundError as error:
            if error.name != "genai_prices":
                raise
            raise ModuleNotFoundError(
                "genai-prices is not installed: pip install 'batches-core[cost]'",
                name="genai_prices",
            ) from error
        self._library = genai_prices
        self._at = at
        self._known: dict[tuple[str, bool, int], Rates | None] = {}

    def rates(
        self, model: str, service_tier: str = "batch", *, prompt_over: int = 0
    ) -> Rates | None:
        """Return the prices of a model; None if they are not known.

        Prices are known for the service tiers ``batch`` and ``standard``. An empty tier counts as
        ``batch``. `prompt_over` is the threshold that the prompt exceeds, in tokens; 0 for none.
        """
        if service_tier not in {"", "batch", "standard"}:
            return None
        key = model, service_tier != "standard", prompt_over
        if key not in self._known:
            self._known[key] = self._look_up(*key)
        return self._known[key]

    def _look_up(self, model: str, is_batch: bool, prompt_over: int) -> Rates | None:  # noqa: FBT001 - the parts of a key
        context = _BATCH if is_batch else None
        # The length of the prompt sets the price of all tokens of a request. So each kind of token
        # is priced in a request with such a prompt. Its length is a round number, so that the
        # quotients are exact.
        tokens = 2 * prompt_over or 1
        try:
            prompt = self._price(model, context, input_tokens=tokens)
        except LookupError:
            return None
        both = self._price(model, context, input_tokens=tokens, output_tokens=tokens)
        read = self._price(model, context, input_tokens=tokens, cache_read_tokens=tokens)
        written = {"input_tokens": tokens, "cache_write_tokens": tokens}
        short = self._price(model, context, **written, cache_write_5m_tokens=tokens)
        long = self._price(model, context, **written, cache_write_1h_tokens=tokens)
        searches = self._price(model, context, web_searches=1)
        standard = self._price(model, None, input_tokens=tokens)
        # Without a batch price for this model and time, the library returns the standard price.
        is_assumed = is_batch and both.model_price == standard.model_price
        share = (_BATCH_SHARE if is_assumed else 1) / Decimal(tokens)
        return Rates(
            input=prompt.total_price * share,
            output=both.output_price * share,
            cache_read=read.total_price * share,
            cache_write_5m=short.total_price * share,
            cache_write_1h=long.total_price * share,
            # A search is never free, and the library prices an unknown one at nothing.
            web_search=searches.total_price or None,
            is_assumed=is_assumed,
            thresholds=_thresholds(both.model_price),
        )

    def _price(self, model: str, context: dict[str, str] | None, **tokens: int) -> Any:
        return self._library.calc_price(
            self._library.Usage(**tokens),
            model,
            provider_id=_PROVIDER,
            genai_request_timestamp=self._at,
            price_context=context,
        )


def _thresholds(model_price: Any) -> frozenset[int]:
    tiers = (getattr(price, "tiers", ()) for price in vars(model_price).values())
    return frozenset(tier.start for each in tiers for tier in each)
