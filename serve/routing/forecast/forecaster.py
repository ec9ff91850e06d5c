"""What a query will be worth and cost on each model: evidence, a fitted predictor, and prices.

A library call and the shared actor of the server forecast by the same class; they differ only in
where the evidence lies.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Evidence, Floats32, Neighbours, Snapshot
from serve.routing.arrays import Booleans, Floats
from serve.routing.forecast.learned import Refit, refit
from serve.routing.forecast.predictor import (
    NeighbourPredictor,
    Prediction,
    default_n_similar,
    price_prior,
)
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy
from serve.routing.optimise.problem import Assignment
from serve.routing.prices import Price, costs

CHARACTERS_PER_TOKEN = 4.0  # where nothing is known: near enough to weigh prompts' costs

_MOST_OPTIMISMS = 1000  # for so many requirements and candidates they are remembered
_BLOCK = 256  # queries predicted at a time; bounds the memory that neighbours' outcomes take


class Forecaster:
    """Predicts from evidence; fitted on a snapshot of it, it also knows how far off it is.

    Args:
        evidence: the past queries.
        prices: of the m models.
        own_priors: (m,) qualities to begin with; NaN where the price shall tell.
        n_similar: the fewest past queries to predict from; as evidence grows, more are looked at.

    Attributes:
        characters_per_token: of prompts, as far as is known.

    Raises:
        ValueError: `n_similar` is under 1, or a prior is not between 0 and 1.
    """

    def __init__(
        self,
        evidence: Evidence,
        prices: Sequence[Price],
        own_priors: npt.ArrayLike | None = None,
        n_similar: int = 16,
    ) -> None:
        if n_similar < 1:
            raise ValueError(f"n_similar must be 1 or more, not {n_similar}")
        own = np.full(len(prices), np.nan) if own_priors is None else np.array(own_priors, float)
        if not ((own >= 0) & (own <= 1) | np.isnan(own)).all():
            raise ValueError(f"prior_quality must be between 0 and 1, not {own.tolist()}")
        self.evidence = evidence
        self.prices = list(prices)
        self.characters_per_token = CHARACTERS_PER_TOKEN
        self._n_similar = n_similar
        self._prior = np.where(np.isnan(own), price_prior(self.prices), own)
        self.adopt(self.refit(Snapshot.nothing(len(self.prices))))

    def refit(self, snapshot: Snapshot) -> Refit:
        """Fits a predictor on past queries. Takes seconds to a minute and changes nothing yet."""
        return refit(snapshot, self._prior, max(self._n_similar, default_n_similar(len(snapshot))))

    def adopt(self, fitted: Refit) -> None:
        """Swaps in what `refit` gave, whole."""
        lengths = [len(query) / self.characters_per_token for query in fitted.queries]
        cost = costs(self.prices, np.array(lengths), fitted.backtest.output_tokens)
        # All at once: other threads may be forecasting.
        self._past = _Past(fitted, cost)

    @property
    def fitted(self) -> Refit:
        """What was swapped in last."""
        return self._past.fitted

    def predict(self, queries: Sequence[str], embeddings: Floats32) -> Prediction:
        """Predictions for b queries, given their embeddings (b, d)."""
        k = max(self._n_similar, default_n_similar(len(self.evidence)))
        predictor, means = self.fitted.predictor, self.evidence.means()
        parts = []
        for start in range(0, len(queries), _BLOCK):
            near = self.evidence.neighbours(embeddings[start : start + _BLOCK], k)
            texts, vectors = queries[start : start + _BLOCK], embeddings[start : start + _BLOCK]
            parts.append(predictor.predict(texts, vectors, near, means))
        if len(parts) == 1:
            return parts[0]
        empty = np.zeros((0, len(self.prices)))
        return Prediction(
            np.concatenate([empty, *(part.quality for part in parts)]),
            np.concatenate([empty, *(part.output_tokens for part in parts)]),
            np.concatenate([empty, *(part.uncertainty for part in parts)]),
        )

    def expect(self) -> Prediction:
        """What the next query can be expected to be, nothing being known of it; (1, m)."""
        shape = (1, 0, len(self.prices))
        none = np.zeros(shape, np.float32)
        near = Neighbours(
            np.zeros((1, 0), np.int64), np.zeros((1, 0), np.float32), none, none, none
        )
        means = self.evidence.means()
        return NeighbourPredictor(self._prior).predict(
            [""], np.zeros((1, 0), np.float32), near, means
        )

    def costs(self, input_tokens: npt.ArrayLike, prediction: Prediction) -> Floats:
        """Predicted USD, (b, m), of queries whose prompts have these lengths (b,)."""
        return costs(self.prices, np.asarray(input_tokens, np.float64), prediction.output_tokens)

    def optimism(self, requirement: float, columns: Sequence[int]) -> float:
        """How much too high predictions are for what a requirement makes these models answer."""
        return self._past.optimism(requirement, tuple(columns))

    def start_policy(self, requirement: float, columns: Sequence[int]) -> Policy:
        """A policy for these candidates, begun at the multiplier that past queries would have
        had. Takes tens of milliseconds."""
        past = self._past
        optimism = past.optimism(requirement, tuple(columns))
        quality = past.fitted.backtest.quality[:, columns]
        return Policy.started(requirement, quality, past.cost[:, columns], optimism)

    def assign(
        self,
        prediction: Prediction,
        cost: Floats,
        requirement: float,
        allowed: Booleans,
        capacities: npt.ArrayLike | None = None,
    ) -> Assignment:
        """Optimises a batch; its `quality` is what predictions say less what they were too high
        by on past queries, as far as that could be aimed for. See `optimise.batch.assign`."""
        optimism = self.optimism(requirement, [int(c) for c in np.flatnonzero(allowed.any(axis=0))])
        aim = min(max(requirement + optimism, 0.0), 1.0)
        answer = assign(prediction.quality, cost, aim, allowed=allowed, capacities=capacities)
        quality = answer.quality - (aim - requirement)
        return replace(answer, quality=min(max(quality, 0.0), 1.0))


class _Past:
    """A fitted predictor with what its backtest would have cost, (n, m) USD."""

    def __init__(self, fitted: Refit, cost: Floats) -> None:
        self.fitted, self.cost = fitted, cost
        self._optimism: dict[tuple[float, tuple[int, ...]], float] = {}

    def optimism(self, requirement: float, columns: tuple[int, ...]) -> float:
        key = (requirement, columns)
        optimism = self._optimism.get(key)
        if optimism is None:
            if len(self._optimism) >= _MOST_OPTIMISMS:
                self._optimism.clear()
            optimism = self.fitted.backtest.optimism(self.cost, *key)
            self._optimism[key] = optimism
        return optimism
