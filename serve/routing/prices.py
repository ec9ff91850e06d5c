"""What requests cost: each model's price, from its config or from LiteLLM's price list."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from deployments.config import ModelConfig
from deployments.contract import Usage
from deployments.registry import listed
from serve.routing.arrays import Floats

# LiteLLM's suffix for each service tier that a provider reports.
_TIERS = {
    "flex": "_flex",
    "balanced": "_balanced",
    "priority": "_priority",
    "fast": "_priority",
    "ultrafast": "_ultrafast",
}
_ABOVE = re.compile(r"_above_(\d+)(k?)_tokens$")


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one token of the prompt and for one of the answer.

    Attributes:
        input: for a token of the prompt.
        output: for a token of the answer.
        cached: for one of the prompt that was read from the provider's cache; None is `input`.
        written: for one that was written to the cache; None is `input`.
        written_1h: for one that was written to be kept for an hour; None is `written`.
        reasoning: for one of the answer's reasoning; None is `output`.
        above: the price where the prompt has more than so many tokens, the fewest first.
        tiers: the price at a service tier, by the provider's name for it.
    """

    input: float
    output: float
    cached: float | None = None
    written: float | None = None
    written_1h: float | None = None
    reasoning: float | None = None
    above: tuple[tuple[float, "Price"], ...] = ()
    tiers: Mapping[str, "Price"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (0 <= self.input < np.inf and 0 <= self.output < np.inf):
            raise ValueError(f"a price must be a number of USD, 0 or more, not {self}")

    def cost(self, usage: Usage) -> float:
        """USD that an answer cost."""
        price = self.tiers.get(usage.service_tier or "", self)
        for tokens, longer in price.above:
            if usage.prompt_tokens > tokens:
                price = longer
        return price._cost(usage)

    def _cost(self, usage: Usage) -> float:
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        written_1h = written if self.written_1h is None else self.written_1h
        reasoning = self.output if self.reasoning is None else self.reasoning
        plain = usage.prompt_tokens - usage.cached_tokens - usage.cache_written_tokens
        text = usage.completion_tokens - usage.reasoning_tokens
        # A provider's counts may contradict one another.
        return (
            max(plain, 0) * self.input
            + usage.cached_tokens * cached
            + max(usage.cache_written_tokens - usage.cache_written_1h_tokens, 0) * written
            + usage.cache_written_1h_tokens * written_1h
            + max(text, 0) * self.output
            + usage.reasoning_tokens * reasoning
        )


def price_of(config: Mapping[str, Any]) -> Price:
    """The price of a model: as its config says, else as LiteLLM lists it.

    Args:
        config: `name`, and of the rest what there is of `backend`, `model`, `task`,
            `cost_per_input_token`, `cost_per_output_token`.

    Raises:
        ValueError: there is no price, only half of one, or an impossible one.
    """
    name = config.get("name")
    given = (config.get("cost_per_input_token"), config.get("cost_per_output_token"))
    if config.get("task") == "embedding" and None not in given[:1]:
        given = given[0], given[1] or 0  # there is no answer
    if None not in given:
        try:
            return Price(float(given[0]), float(given[1]))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ValueError(f"model '{name}': {error}") from error
    if given != (None, None):
        raise ValueError(
            f"model '{name}' has only one of its two prices; give both cost_per_input_token and "
            "cost_per_output_token"
        )
    price = _listed(config)
    if price is None:
        raise ValueError(
            f"model '{name}' has no price, and none is listed for it; smart routing needs "
            "cost_per_input_token and cost_per_output_token (USD for one token)"
        )
    return price


def prices_of(models: Iterable[ModelConfig]) -> dict[str, Price]:
    """The price of each model that has one, by name; an adapter has its model's."""
    prices = {}
    for model in models:
        with suppress(ValueError):
            price = price_of(model.model_dump())
            prices.update({served.name: price for served in model.served})
    return prices


def rates(prices: Sequence[Price]) -> Floats:
    """(2, m) USD for one token of a prompt, and for one of an answer."""
    return np.array([[p.input for p in prices], [p.output for p in prices]], np.float64)


def costs(rates: Floats, input_tokens: Floats, output_tokens: Floats) -> Floats:
    """USD of each query on each model, (n, m).

    Args:
        rates: (2, m), see `rates`.
        input_tokens: (n,) lengths of the prompts.
        output_tokens: (n, m) lengths of the answers.
    """
    total: Floats = np.asarray(input_tokens)[:, None] * rates[0] + output_tokens * rates[1]
    return total


def _listed(config: Mapping[str, Any]) -> Price | None:
    """LiteLLM's price; None if it lists none."""
    entry = _by_range(listed(config))
    price = entry.get("input_cost_per_token"), entry.get("output_cost_per_token")
    # The list has 0 for unknown prices, so a free model must be configured as such.
    if None in price or not any(price):
        return None
    standard = _at_tier(entry, "")
    tiers = {
        name: _at_tier(entry, suffix)
        for name, suffix in _TIERS.items()
        if f"input_cost_per_token{suffix}" in entry or f"output_cost_per_token{suffix}" in entry
    }
    return replace(standard, tiers=tiers)


def _by_range(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An entry in the common form, also if its prices are a table by prompt length."""
    ranges = [rates for rates in entry.get("tiered_pricing") or () if "range" in rates]
    if not ranges:
        return entry
    ranges.sort(key=lambda rates: rates["range"][0])
    flat = {"output_cost_per_token": entry.get("output_cost_per_token"), **ranges[0]}
    for rates in ranges[1:]:
        above = f"_above_{rates['range'][0]:.0f}_tokens"
        flat |= {f"{key}{above}": rate for key, rate in rates.items() if key != "range"}
    return flat


def _at_tier(entry: Mapping[str, Any], tier: str) -> Price:
    """The price at a service tier, by its suffix; the standard one if the list has no other."""
    lengths = {
        match.group(): int(match[1]) * (1000 if match[2] else 1)
        for key in entry
        if (match := _ABOVE.search(key.removesuffix(tier)))
    }
    # xAI charges the higher price from the threshold itself on.
    inclusive = entry.get("litellm_provider") == "xai"
    price = standard = _rates(entry, "", tier, None)
    above = []
    for length, tokens in sorted(lengths.items(), key=lambda item: item[1]):
        price = _rates(entry, length, tier, price)
        above.append((tokens - inclusive, price))
    return replace(standard, above=tuple(above))


def _rates(entry: Mapping[str, Any], length: str, tier: str, otherwise: Price | None) -> Price:
    """The prices at a tier for prompts beyond a length; `otherwise` for what isn't listed."""

    def rate(key: str, rest: float | None) -> float | None:
        said = entry.get(f"{key}{length}{tier}", entry.get(f"{key}{length}"))
        return rest if said is None else float(said)

    def of(attribute: str) -> float | None:
        return getattr(otherwise, attribute) if otherwise else None

    own_output = tier and f"output_cost_per_token{tier}" in entry
    reasoning = "output_cost_per_reasoning_token"
    return Price(
        input=rate("input_cost_per_token", of("input")) or 0.0,
        output=rate("output_cost_per_token", of("output")) or 0.0,
        cached=rate("cache_read_input_token_cost", of("cached")),
        written=rate("cache_creation_input_token_cost", of("written")),
        written_1h=rate("cache_creation_input_token_cost_above_1hr", of("written_1h")),
        # A tier with a price of its own for answers has it for reasoning, too.
        reasoning=entry.get(f"{reasoning}{tier}")
        if own_output
        else rate(reasoning, of("reasoning")),
    )


def fingerprint(prices: Mapping[str, Price]) -> str:
    """Identifies the prices of these models, in this order, as far as decisions go by them."""
    plain = [[model, price.input, price.output] for model, price in prices.items()]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:16]
