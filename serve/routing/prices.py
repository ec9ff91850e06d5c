"""What a request costs: a price for each model, from its config or from LiteLLM's price map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployments import litellm_catalogue
from serve.routing.dual import Floats

_LOCAL = {"vllm", "sglang", "huggingface", "hflocal"}  # backends that no provider has prices for


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one token of the prompt and for one of the answer."""

    input: float
    output: float

    def __post_init__(self) -> None:
        if not (0 <= self.input < np.inf and 0 <= self.output < np.inf):
            raise ValueError(f"a price must be a number of USD, 0 or more, not {self}")


def price_of(config: Mapping[str, Any]) -> Price:
    """The price of a model: its config's two costs, else what LiteLLM knows of it.

    Args:
        config: `name`, and of the rest what there is of `backend`, `model`,
            `cost_per_input_token`, `cost_per_output_token`.

    Raises:
        ValueError: there is no price, only half of one, or an impossible one.
    """
    name = config.get("name")
    given = (config.get("cost_per_input_token"), config.get("cost_per_output_token"))
    if None not in given:
        try:
            return Price(float(given[0]), float(given[1]))  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ValueError(f"model '{name}': {error}") from error
    if given != (None, None):
        raise ValueError(
            f"model '{name}' has one of its two prices; give both cost_per_input_token and "
            "cost_per_output_token"
        )
    price = _listed(config)
    if price is None:
        raise ValueError(
            f"model '{name}' has no price, and none is listed for it; smart routing needs "
            "cost_per_input_token and cost_per_output_token (USD for one token)"
        )
    return price


def costs(prices: Sequence[Price], input_tokens: Floats, output_tokens: Floats) -> Floats:
    """USD of each query on each model, (n, m).

    Args:
        prices: of the m models.
        input_tokens: (n,) lengths of the prompts.
        output_tokens: (n, m) lengths of the answers.
    """
    input_price = np.array([price.input for price in prices])
    output_price = np.array([price.output for price in prices])
    total: Floats = np.asarray(input_tokens)[:, None] * input_price + output_tokens * output_price
    return total


def _listed(config: Mapping[str, Any]) -> Price | None:
    """LiteLLM's price; None where it has none, or only that of a model that one runs oneself."""
    backend, model = config.get("backend"), config.get("model") or config.get("name")
    if backend in _LOCAL or not model:
        return None
    provider = "gemini" if backend == "google" else backend
    for key in (f"{provider}/{model}", str(model)):
        entry = litellm_catalogue.prices().get(key, {})
        kinds = ("input_cost_per_token", "output_cost_per_token")
        price: list[Any] = [entry.get(kind) for kind in kinds]
        # The map writes 0 for models of unknown price; what is free must be said in the config.
        if None not in price and any(price):
            return Price(float(price[0]), float(price[1]))
    return None
