"""Smart routing's strategy: the shared decider's ranking, or a ranking by price without it."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from ray.serve.metrics import Counter

from serve.actors import ActorUnavailable
from serve.routing.decider import Routes
from serve.routing.forecast.predictor import price_prior
from serve.routing.optimise.floor import above_floor
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking

logger = logging.getLogger("ray.serve")


class Forecasts(Protocol):
    """What the strategy needs of `serve.smart.service.Smart`."""

    @property
    def priors(self) -> Mapping[str, float | None]: ...

    async def decide(self, question: Question) -> Ranking: ...

    async def route(self, question: BatchQuestion) -> Routes: ...


class SmartStrategy:
    """Asks the shared decider. While it is unavailable, prices alone decide, and a metric says so.

    Args:
        forecasts: access to the decider.
        prices: returns the current price of each model.
    """

    def __init__(self, forecasts: Forecasts, prices: Callable[[], Mapping[str, Price]]) -> None:
        self._forecasts, self._prices = forecasts, prices
        self._without = Counter(
            "llm_router_smart_fallbacks",
            description="Smart decisions made by price alone, without the shared decider.",
        )

    async def rank(self, question: Question) -> Ranking:
        """The available models, best first."""
        if len(question.available) == 1:
            return Ranking(list(question.available))
        try:
            return await self._forecasts.decide(question)
        except ActorUnavailable as error:
            self._without.inc()
            logger.warning("smart routing decides by price alone: %s", error)
            return by_price(question, self._prices(), self._forecasts.priors)

    async def route(self, question: BatchQuestion) -> Routes:
        """Optimises a whole batch.

        Raises:
            LLMError: see `Smart.route`.
        """
        return await self._forecasts.route(question)


def by_price(
    question: Question, prices: Mapping[str, Price], priors: Mapping[str, float | None]
) -> Ranking:
    """The available models, ranked as for a floor. Their qualities are guessed as they are before
    any answer is scored: by the configured priors, else by prices."""
    guesses = dict(zip(prices, price_prior(list(prices.values())), strict=True))
    guesses |= {model: prior for model, prior in priors.items() if prior is not None}
    models = list(question.available)
    cost = np.array([prices[model].input + prices[model].output for model in models])
    quality = np.array([guesses[model] for model in models])
    everyone = np.ones(len(models), np.bool_)
    order = above_floor(quality, cost, question.requirement, everyone)
    return Ranking([models[column] for column in order], "by price: the store is unavailable")
