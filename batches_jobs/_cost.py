"""Computes what the answers of a job cost.

`_prices` knows the prices. `_estimate` computes what requests may cost before they are sent, and
`_budget` whether they may be sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from batches_core.jobs import Usage

from ._prices import PriceList, Rates
from ._usage import long_prompt_threshold


class PricedUsage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of one `Usage.key`, and their cost in US dollars.

    `cost` is None if the price is not known.
    """

    usage: Usage
    cost: Decimal | None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the answers of a job cost, in US dollars.

    - `total`: the whole cost; None if the price of some tokens is not known;
    - `known`: the cost of all tokens whose price is known;
    - `by_model`: the cost of each model; None if it is not known;
    - `priced`: the cost for each model, service tier, prompt length and region;
    - `warnings`: why the cost can differ from the bill.

    Tokens and web searches are priced. A warning names what is not included: other tools, and the
    surcharge for a region.
    """

    total: Decimal | None
    known: Decimal
    by_model: dict[str, Decimal | None]
    priced: tuple[PricedUsage, ...]
    warnings: tuple[str, ...] = ()


def cost_of(usages: Iterable[Usage], prices: PriceList | None = None) -> Cost:
    """Return what tokens cost, such as those of `JobStatus.usage`.

    `prices` are by default the prices of now.

    Raises:
        ModuleNotFoundError: genai-prices is not installed.
    """
    prices = PriceList() if prices is None else prices
    known = Decimal(0)
    by_model: dict[str, Decimal | None] = {}
    priced: list[PricedUsage] = []
    warnings: list[str] = []
    for usage in usages:
        rates = prices.rates(usage.model, usage.service_tier, prompt_over=usage.prompt_over)
        cost = None if rates is None else _cost(usage, rates)
        priced.append(PricedUsage(usage=usage, cost=cost))
        warnings += _warnings(usage, rates)
        before = by_model.get(usage.model, Decimal(0))
        if cost is None:
            by_model[usage.model] = None
        else:
            known += cost
            by_model[usage.model] = None if before is None else before + cost
    is_known = None not in by_model.values()
    return Cost(
        total=known if is_known else None,
        known=known,
        by_model=by_model,
        priced=tuple(priced),
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _cost(usage: Usage, rates: Rates) -> Decimal:
    return (
        usage.input_tokens * rates.input
        + usage.output_tokens * rates.output
        + usage.cache_read_tokens * rates.cache_read
        + usage.cache_write_5m_tokens * rates.cache_write_5m
        + usage.cache_write_1h_tokens * rates.cache_write_1h
        + usage.web_searches * (rates.web_search or 0)
    )


def _warnings(usage: Usage, rates: Rates | None) -> Iterable[str]:
    model, tier = usage.model, usage.service_tier
    if tier not in {"", "batch"}:
        price = "the standard price is taken" if tier == "standard" else "its price is not known"
        yield (
            f"{usage.answers:,} answers of {model} have the service tier {tier!r} and not 'batch': "
            f"{price}"
        )
    elif not tier:
        yield (
            f"{usage.answers:,} answers of {model} do not say their service tier: the batch price "
            "is taken"
        )
    if usage.inference_geo:
        yield (
            f"{usage.answers:,} answers of {model} have the region {usage.inference_geo!r}: a "
            "surcharge for it is not included"
        )
    if usage.other_tool_uses:
        yield (
            f"{usage.other_tool_uses:,} uses of the service's tools by {model} are not included: "
            "only web searches are priced"
        )
    if rates is not None:
        if usage.web_searches and rates.web_search is None:
            yield (
                f"{usage.web_searches:,} web searches of {model} are not included: their price is "
                "not known"
            )
        yield from price_warnings(model, rates)
    elif tier in {"", "batch", "standard"}:
        yield unknown_price(model)


def unknown_price(model: str) -> str:
    """Return the warning about a model without a price."""
    return f"the price of {model!r} is not known: upgrade genai-prices"


def price_warnings(model: str, rates: Rates) -> Iterable[str]:
    """Yield the warnings about the prices of a model."""
    if rates.is_assumed:
        yield f"no batch price of {model} is known: half of the standard price is taken"
    threshold = long_prompt_threshold(model)
    if other := sorted(rates.thresholds - {threshold}):
        yield (
            f"prompts of {model} cost more from {other[0]:,} tokens on, and are counted from "
            f"{threshold:,} on: the cost can be wrong; upgrade batches-core"
        )
