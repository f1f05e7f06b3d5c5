"""What a job costs, and what it may cost."""

from __future__ import annotations

import builtins
import importlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest

from batches_core import BatchRequest, InvalidInputError
from batches_core.jobs import Usage
from batches_jobs import _usage
from batches_jobs._cost import Cost, cost_of
from batches_jobs._estimate import Estimator, estimate
from batches_jobs._prices import PriceList

#: A model with prices of its own for batches, and one whose prices depend on the prompt.
SONNET, HAIKU = "claude-sonnet-4-5-20250929", "claude-haiku-5-5"
#: A model that genai-prices has only a standard price of.
RETIRED = "claude-3-haiku-20240307"
MILLION = 1_000_000
AT = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList(AT)


def used(model: str = SONNET, **changes: Any) -> Usage:
    return Usage(**{"model": model, "answers": 1, **changes})


def dollars(prices: PriceList, *usages: Usage) -> float | None:
    total = cost_of(usages, prices).total
    return None if total is None else float(total)


class TestTheCostOfAnswers:
    @pytest.mark.parametrize(
        ("tokens", "expected"),
        [
            ("input_tokens", 1.5),
            ("output_tokens", 7.5),
            ("cache_read_tokens", 0.15),
            ("cache_write_5m_tokens", 1.875),
            ("cache_write_1h_tokens", 3.0),
        ],
    )
    def test_is_that_of_a_batch_for_each_kind_of_token(
        self, prices: PriceList, tokens: str, expected: float
    ) -> None:
        assert dollars(prices, used(SONNET, **{tokens: MILLION})) == expected

    def test_is_the_sum_over_models_and_kinds_of_tokens(self, prices: PriceList) -> None:
        first = used(input_tokens=MILLION, output_tokens=MILLION)
        second = used("claude-haiku-4-5", input_tokens=MILLION)
        cost = cost_of([first, second], prices)
        assert cost.by_model == {SONNET: Decimal(9), "claude-haiku-4-5": Decimal("0.5")}
        assert cost.total == cost.known == Decimal("9.5")
        assert [each.cost for each in cost.priced] == [Decimal(9), Decimal("0.5")]
        assert cost.warnings == ()

    def test_does_not_depend_on_how_many_answers_are_summed(self, prices: PriceList) -> None:
        # A thousand short prompts are not a long one.
        short = used(HAIKU, answers=1000, input_tokens=10 * MILLION)
        assert dollars(prices, short) == 0.5

    @pytest.mark.parametrize(
        ("model", "tokens", "expected"),
        [
            (HAIKU, "input_tokens", 0.25),
            (HAIKU, "output_tokens", 1.25),
            (HAIKU, "cache_read_tokens", 0.025),
            (HAIKU, "cache_write_1h_tokens", 0.5),
            (SONNET, "input_tokens", 3.0),
            ("claude-opus-4-6", "input_tokens", 2.5),
        ],
    )
    def test_of_long_prompts_is_that_of_their_tier(
        self, prices: PriceList, model: str, tokens: str, expected: float
    ) -> None:
        long_ = _usage.long_prompt_threshold(model)
        long = used(model, prompt_over=long_, **{tokens: MILLION})
        assert dollars(prices, long) == expected
        assert cost_of([long], prices).warnings == ()

    def test_of_no_answers_is_nothing(self, prices: PriceList) -> None:
        assert cost_of([], prices) == Cost(
            total=Decimal(0), known=Decimal(0), by_model={}, priced=()
        )

    def test_is_unknown_if_one_model_is(self, prices: PriceList) -> None:
        usages = [
            used("claude-next", input_tokens=5),
            used(input_tokens=MILLION),
            used("claude-next", prompt_over=200_000),
        ]
        cost = cost_of(usages, prices)
        assert cost.total is None
        assert cost.known == Decimal("1.5")
        assert cost.by_model == {"claude-next": None, SONNET: Decimal("1.5")}
        assert cost.warnings == ("the price of 'claude-next' is not known: upgrade genai-prices",)

    def test_of_a_model_without_a_batch_price_is_half_of_the_standard_one(
        self, prices: PriceList
    ) -> None:
        cost = cost_of([used(RETIRED, input_tokens=MILLION)], prices)
        assert cost.total == Decimal("0.125")
        [warning] = cost.warnings
        assert warning.startswith(f"no batch price of {RETIRED} is known: half of the standard")

    def test_before_batch_prices_were_listed_is_half_of_the_standard_one(self) -> None:
        early = PriceList(datetime(2026, 1, 1, tzinfo=UTC))
        cost = cost_of([used(input_tokens=MILLION)], early)
        assert cost.total == Decimal("1.5")
        assert cost.warnings

    def test_is_by_default_that_of_today(self) -> None:
        assert cost_of([used(input_tokens=MILLION)]).total == Decimal("1.5")


class TestWhatIsNoToken:
    def test_web_searches_have_their_full_price(self, prices: PriceList) -> None:
        cost = cost_of([used(web_searches=1000)], prices)
        assert (cost.total, cost.warnings) == (Decimal(10), ())

    def test_web_searches_without_a_price_are_a_warning(self, prices: PriceList) -> None:
        cost = cost_of([used(RETIRED, web_searches=7)], prices)
        assert cost.total == 0
        assert (
            f"7 web searches of {RETIRED} are not included: their price is not known"
            in cost.warnings
        )

    def test_other_tools_are_a_warning(self, prices: PriceList) -> None:
        [warning] = cost_of([used(other_tool_uses=1200)], prices).warnings
        assert warning == (
            f"1,200 uses of the service's tools by {SONNET} are not included: only web searches "
            "are priced"
        )

    def test_a_region_is_a_warning(self, prices: PriceList) -> None:
        [warning] = cost_of([used(inference_geo="us")], prices).warnings
        assert warning == (
            f"1 answers of {SONNET} have the region 'us': a surcharge for it is not included"
        )


class TestAServiceTier:
    def test_that_is_standard_has_the_standard_price_and_a_warning(self, prices: PriceList) -> None:
        cost = cost_of([used(service_tier="standard", input_tokens=MILLION)], prices)
        assert cost.total == Decimal(3)
        [warning] = cost.warnings
        assert warning == (
            f"1 answers of {SONNET} have the service tier 'standard' and not 'batch': the standard "
            "price is taken"
        )

    def test_that_is_unknown_has_no_price(self, prices: PriceList) -> None:
        cost = cost_of([used(service_tier="priority", input_tokens=MILLION)], prices)
        assert cost.total is None
        [warning] = cost.warnings
        assert "service tier 'priority' and not 'batch': its price is not known" in warning

    def test_that_is_unknown_makes_the_cost_of_the_whole_model_unknown(
        self, prices: PriceList
    ) -> None:
        usages = [used(service_tier="priority"), used(input_tokens=MILLION)]
        for order in (usages, usages[::-1]):
            cost = cost_of(order, prices)
            assert cost.by_model == {SONNET: None}
            assert cost.known == Decimal("1.5")

    def test_that_is_missing_is_taken_for_a_batch_with_a_warning(self, prices: PriceList) -> None:
        cost = cost_of([used(service_tier="", input_tokens=MILLION)], prices)
        assert cost.total == Decimal("1.5")
        assert "do not say their service tier" in cost.warnings[0]


def test_a_threshold_that_is_not_the_lists_is_a_warning(
    prices: PriceList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_usage, "_LONG_PROMPTS", MappingProxyType({}))
    cost = cost_of([used(HAIKU, input_tokens=1)], prices)
    [warning] = cost.warnings
    assert "cost more from 100,000 tokens on, and are counted from 200,000 on" in warning


def test_every_threshold_is_that_of_the_prices() -> None:
    library: Any = importlib.import_module("genai_prices.data")
    [provider] = [each for each in library.providers if each.id == "anthropic"]
    prices = PriceList()
    for model in provider.models:
        rates = prices.rates(model.id)
        # Some ids are not names of models that can be called.
        if rates is not None:
            assert rates.thresholds <= {_usage.long_prompt_threshold(model.id)}, model.id


class TestTheLibrary:
    @pytest.mark.parametrize("name", ["genai_prices", "pydantic"])
    def test_that_is_missing_is_named_with_its_extra(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        original = builtins.__import__

        def missing(module: str, *args: Any) -> Any:
            if module == "genai_prices":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return original(module, *args)

        monkeypatch.setattr(builtins, "__import__", missing)
        match = r"pip install 'batches-core\[cost\]'" if name == "genai_prices" else "No module"
        with pytest.raises(ModuleNotFoundError, match=match) as caught:
            PriceList()
        assert caught.value.name == name

    def test_is_asked_once_for_each_kind_of_prompt(self, prices: PriceList) -> None:
        assert prices.rates(SONNET) is prices.rates(SONNET, "")
        assert prices.rates(SONNET) is not prices.rates(SONNET, prompt_over=200_000)


def request(content: Any = "x" * 700, **params: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {
        "custom_id": "a",
        "params": {"model": SONNET, "max_tokens": 100, "messages": messages, **params},
    }


def image(data: str = "A" * 100_000) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source}


class TestAnEstimate:
    def test_counts_a_token_for_3_5_bytes_and_limits_the_output(self, prices: PriceList) -> None:
        found = estimate([request(), request()], prices)
        # 700 characters, and 30 of JSON.
        [model] = found.models
        assert (model.model, model.requests, model.input_bytes) == (SONNET, 2, 2 * 730)
        assert found.input_tokens == model.input_tokens == 418
        assert found.max_output_tokens == 200
        assert found.input_cost == 418 * Decimal("0.0000015")
        assert found.cost_limit == found.input_cost + 200 * Decimal("0.0000075")
        assert found.warnings == ()

    def test_is_made_from_lines_mappings_and_requests(self, prices: PriceList) -> None:
        each = request()
        text = json.dumps(each, separators=(",", ":"))
        as_struct = BatchRequest(custom_id="a", params=MappingProxyType(each["params"]))
        forms: list[Any] = [
            text,
            text.encode(),
            each,
            MappingProxyType(each),
            as_struct,
            b"\n",
            " ",
        ]
        [model] = estimate(forms, prices).models
        assert (model.requests, model.input_bytes) == (5, 5 * 730)

    def test_counts_the_system_prompt_and_the_tools(self, prices: PriceList) -> None:
        plain, more = request(), request(system="s" * 98, tools=["t" * 96])
        first, second = (estimate([each], prices).models[0].input_bytes for each in (plain, more))
        assert second - first == 200

    def test_is_made_for_each_model(self, prices: PriceList) -> None:
        found = estimate([request(), request(model="claude-next"), request(model=HAIKU)], prices)
        costs = {each.model: each.cost_limit for each in found.models}
        assert costs["claude-next"] is None
        assert costs[SONNET] is not None
        assert found.input_cost is found.cost_limit is None
        assert found.warnings == ("the price of 'claude-next' is not known: upgrade genai-prices",)

    def test_prices_long_prompts_by_their_tier(self, prices: PriceList) -> None:
        short, long = request("x" * 340_000, model=HAIKU), request("x" * 360_000, model=HAIKU)
        found = estimate([short, long], prices)
        [model] = found.models
        assert model.requests == 2
        assert found.input_cost is not None
        tokens = [340_030 / 3.5, 360_030 / 3.5]
        expected = tokens[0] * 0.05 / MILLION + tokens[1] * 0.25 / MILLION
        assert float(found.input_cost) == pytest.approx(expected, rel=1e-4)

    def test_of_two_tiers_of_an_unknown_model_is_unknown(self, prices: PriceList) -> None:
        found = estimate([request(model="x"), request("x" * 800_000, model="x")], prices)
        assert found.cost_limit is None
        assert found.requests == 2

    def test_counts_escapes_as_the_characters_that_they_stand_for(self, prices: PriceList) -> None:
        text = "\u4e2d" * 100
        escaped, plain = (
            json.dumps(request(text), ensure_ascii=each, separators=(",", ":"))
            for each in (True, False)
        )
        found = [estimate([each], prices).input_tokens for each in (escaped, plain)]
        assert found[0] == found[1]

    def test_counts_an_image_not_by_its_bytes(self, prices: PriceList) -> None:
        found = estimate([request([image(), {"type": "text", "text": "?"}])], prices)
        assert 1_600 < found.input_tokens < 1_700
        assert found.warnings == ()

    def test_says_which_documents_it_leaves_out(self, prices: PriceList) -> None:
        sources = [
            {"type": "base64", "media_type": "application/pdf", "data": "A" * 100_000},
            {"type": "url", "url": "https://example.test/a.pdf"},
            {"type": "text", "media_type": "text/plain", "data": "x" * 700},
        ]
        blocks = [{"type": "document", "source": each} for each in sources]
        found = estimate([request(blocks)], prices)
        assert 200 < found.input_tokens < 400
        assert found.warnings == ("2 documents are not estimated: the service converts them",)

    @pytest.mark.parametrize("bad", [b"{", {"custom_id": "a"}, {"params": {"x": object()}}, 7])
    def test_says_how_many_requests_it_leaves_out(self, prices: PriceList, bad: Any) -> None:
        found = estimate([bad, request()], prices)
        assert found.requests == 1
        assert found.warnings == ("1 requests cannot be read and are not estimated",)

    def test_does_not_check_the_fields_that_it_reads(self, prices: PriceList) -> None:
        found = estimate([request(max_tokens="many", model=["x"])], prices)
        assert (found.max_output_tokens, found.models[0].model) == (0, "")

    def test_of_nothing_is_nothing(self, prices: PriceList) -> None:
        found = estimate([], prices)
        assert found.requests == 0
        assert found.cost_limit == Decimal(0)

    def test_is_by_default_at_the_prices_of_today(self) -> None:
        assert estimate([request()]).cost_limit is not None
        assert Estimator().result().requests == 0

    def test_can_be_made_with_another_number_of_bytes(self, prices: PriceList) -> None:
        estimator = Estimator(7.3)
        estimator.add(request())
        assert estimator.result(prices).input_tokens == 100

    @pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
    def test_needs_a_positive_number_of_bytes(self, value: float) -> None:
        with pytest.raises(InvalidInputError, match="pass a positive number"):
            Estimator(value)
