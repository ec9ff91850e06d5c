"""Promise: an answer costs what LiteLLM's price list says, to the last kind of token."""

import pytest
from litellm import completion_cost, model_cost
from litellm.litellm_core_utils.llm_cost_calc.utils import generic_cost_per_token
from litellm.types.utils import ModelResponse
from litellm.types.utils import Usage as LiteLLMUsage

from deployments.backends.litellm.catalogue import listed
from deployments.contract import Usage
from serve.routing.prices import Price, price_of

USAGES = [
    Usage(100, 20),
    Usage(10_000, 500, cached_tokens=8_000),
    Usage(10_000, 500, cached_tokens=2_000, cache_written_tokens=7_000),
    Usage(10_000, 500, cache_written_tokens=7_000, cache_written_1h_tokens=3_000),
    Usage(1_000, 5_000, reasoning_tokens=4_500),
    *(Usage(tokens, 500, 1_000, 300, 2_000) for tokens in (130_000, 200_000, 210_000, 600_000)),
    *(
        Usage(tokens, 500, 1_000, 300, 2_000, service_tier=tier)
        for tokens in (10_000, 300_000)
        for tier in ("priority", "flex", "fast", "default", "standard")
    ),
]
MODELS = [
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-7"),
    ("gemini", "gemini-2.5-pro"),
    ("gemini", "gemini-2.5-flash"),
    ("deepseek", "deepseek-reasoner"),
]


def in_litellms_form(usage: Usage) -> LiteLLMUsage:
    short = usage.cache_written_tokens - usage.cache_written_1h_tokens
    kept = {
        "ephemeral_5m_input_tokens": short,
        "ephemeral_1h_input_tokens": usage.cache_written_1h_tokens,
    }
    return LiteLLMUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        prompt_tokens_details={
            "cached_tokens": usage.cached_tokens,
            "cache_creation_tokens": usage.cache_written_tokens,
            "cache_creation_token_details": kept if usage.cache_written_1h_tokens else None,
        },
        completion_tokens_details={"reasoning_tokens": usage.reasoning_tokens},
    )


@pytest.mark.parametrize(("backend", "model"), MODELS)
def test_an_answer_costs_what_litellm_says(backend: str, model: str) -> None:
    price = price_of({"name": "m", "backend": backend, "model": model})
    for usage in USAGES:
        answer = ModelResponse(model=model, usage=in_litellms_form(usage))
        theirs = completion_cost(
            answer, model, custom_llm_provider=backend, service_tier=usage.service_tier
        )
        assert price.cost(usage) == pytest.approx(theirs), usage


def test_every_listed_model_costs_what_litellm_says() -> None:
    compared = 0
    for key, entry in model_cost.items():
        provider = entry.get("litellm_provider", "")
        # The time of day, and a discount of LiteLLM's own that isn't in the list, are left out.
        if entry.get("off_peak_pricing") or provider == "fireworks_ai":
            continue
        try:
            price = price_of({"name": key})
        except ValueError:
            continue
        for usage in USAGES:
            theirs = generic_cost_per_token(
                key, in_litellms_form(usage), provider, usage.service_tier, model_info=entry
            )
            assert price.cost(usage) == pytest.approx(sum(theirs)), (key, usage)
        compared += 1
    assert compared > 1000


def test_the_list_is_litellms() -> None:
    """It is read from LiteLLM's file, whose name is not promised to anybody."""
    for key, entry in model_cost.items():
        assert listed(None, key) == entry


def test_a_price_of_two_numbers_covers_tokens_of_all_kinds() -> None:
    usage = Usage(100, 20, 30, 5, 40, 10, "priority")
    assert Price(1.0, 10.0).cost(usage) == 300.0


def test_a_configured_price_replaces_the_listed_one() -> None:
    own = {"cost_per_input_token": 1.0, "cost_per_output_token": 10.0}
    assert price_of({"name": "gpt-5", "backend": "openai", **own}) == Price(1.0, 10.0)


@pytest.mark.parametrize("backend", ["groq", "hosted_vllm", "lm_studio", "ollama"])
def test_another_providers_price_for_a_model_of_the_same_name_is_ignored(backend: str) -> None:
    assert listed("openai", "gpt-4o")["input_cost_per_token"] > 0
    assert not listed(backend, "gpt-4o")


def test_no_answer_costs_less_than_nothing_whatever_its_provider_counts() -> None:
    price = Price(1.0, 1.0, cached=0.0, written=1.0, written_1h=0.0)
    assert price.cost(Usage(0, 0, cached_tokens=9, cache_written_1h_tokens=9)) == 0


def test_of_a_model_that_embeds_the_price_of_its_input_suffices() -> None:
    model = {"name": "m", "backend": "x", "task": "embedding", "cost_per_input_token": 1e-6}
    assert price_of(model) == Price(1e-6, 0)
    listed = {"name": "text-embedding-3-small", "backend": "openai", "task": "embedding"}
    assert price_of(listed).cost(Usage(1_000_000, 0)) == pytest.approx(0.02)
