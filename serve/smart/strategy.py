"""Smart routing's strategy: the shared decider's order, and what is done without it."""

import logging
from collections.abc import Mapping

import numpy as np
from ray.serve.metrics import Counter

from serve.actors import ActorAway
from serve.routing.decider import Question
from serve.routing.forecast.predictor import price_prior
from serve.routing.optimise.floor import above_floor
from serve.routing.prices import Price
from serve.routing.strategy import Asked, Ranking
from serve.smart.client import SharedDecider

logger = logging.getLogger("ray.serve")


class SmartStrategy:
    """Asks the shared decider; while that is away, prices alone decide, and a metric says so."""

    name = "smart"

    def __init__(self, decider: SharedDecider, priors: Mapping[str, float | None]) -> None:
        self._decider, self._priors = decider, priors
        self._prices: dict[str, Price] = {}
        self._requirement = 0.0
        self._without = Counter(
            "llm_router_smart_fallbacks",
            description="Smart decisions by price alone, the shared decider being away.",
        )

    def configure(self, prices: dict[str, Price], requirement: float) -> None:
        """Takes new prices and the mean quality that requests want where they don't say."""
        self._prices, self._requirement = prices, requirement

    async def rank(self, asked: Asked) -> Ranking:
        """The available models, best first."""
        if len(asked.available) == 1:
            return Ranking(list(asked.available))
        requirement = self._requirement if asked.requirement is None else asked.requirement
        question = Question(
            asked.query,
            await asked.embedding if asked.embedding is not None else None,
            asked.characters,
            tuple(asked.candidates),
            tuple(asked.available),
            requirement,
            asked.floor,
            tuple(asked.asleep),
        )
        try:
            decision = await self._decider.decide(question)
        except ActorAway as error:
            self._without.inc()
            logger.warning("smart routing decides by price: %s", error)
            return by_price(question, self._prices, self._priors)
        return Ranking(decision.ranked, decision.reason, decision.quality, decision.policy)


def by_price(
    question: Question, prices: Mapping[str, Price], priors: Mapping[str, float | None]
) -> Ranking:
    """The available models as a floor would rank them, their qualities guessed as they are before
    any answer is scored: by the priors that are configured, else by prices."""
    guesses = dict(zip(prices, price_prior(list(prices.values())), strict=True))
    guesses |= {model: prior for model, prior in priors.items() if prior is not None}
    models = list(question.available)
    cost = np.array([prices[model].input + prices[model].output for model in models])
    quality = np.array([guesses[model] for model in models])
    everyone = np.ones(len(models), np.bool_)
    order = above_floor(quality, cost, question.requirement, everyone)
    return Ranking([models[column] for column in order], "by price: the store is away")
