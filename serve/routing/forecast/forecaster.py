"""Forecasts the quality and cost of queries on each model, from evidence, a predictor and prices.

The Python API and the server use the same class; only their evidence differs.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Evidence, Floats32, Neighbours, Outcomes, Snapshot
from serve.routing.arrays import Booleans, Floats
from serve.routing.cascade.choosing import Cascade
from serve.routing.cascade.fitting import (
    FittedCascade,
    agreement_of,
    candidate_pairs,
    fit_pairs,
    paying_pairs,
)
from serve.routing.cascade.posterior import Pair, Past
from serve.routing.forecast.fitting import Backtest, Refit, backtest_rows, optimism, refit
from serve.routing.forecast.lengths import ShapeLengths
from serve.routing.forecast.predictor import (
    NeighbourPredictor,
    Prediction,
    price_prior,
)
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy
from serve.routing.optimise.problem import Assignment
from serve.routing.prices import Price, costs, rates

CHARACTERS_PER_TOKEN = 4.0  # until it is known; good enough to compare the costs of prompts

_CACHED_OPTIMISMS = 1000  # pairs of a requirement and candidates
_STEPS = 3  # towards a multiplier that what probing gives is consistent with
_BLOCK = 256  # queries at a time; bounds the memory for neighbours' outcomes


class Forecaster:
    """Predicts from evidence; once fitted on a snapshot of it, also knows its own optimism. Never
    changes; threads may forecast at once.

    Args:
        evidence: the past queries.
        prices: of the m models.
        own_priors: (m,) prior qualities, 0 to 1; NaN to derive one from the price.
        n_similar: the fewest past queries to predict from; their number grows with the evidence.

    Attributes:
        evidence: the past queries.
        prior: (m,) prior qualities, where nothing is known.
        characters_per_token: of prompts, as far as known.
        lengths: of answers of other shapes than text; `predict` predicts text.

    Raises:
        ValueError: `n_similar` is less than 1, or a prior is not between 0 and 1.
    """

    def __init__(
        self,
        evidence: Evidence,
        prices: Sequence[Price],
        own_priors: npt.ArrayLike | None = None,
        n_similar: int = 16,
    ) -> None:
        if n_similar < 1:
            raise ValueError(f"n_similar must be at least 1, not {n_similar}")
        own = np.full(len(prices), np.nan) if own_priors is None else np.array(own_priors, float)
        if not ((own >= 0) & (own <= 1) | np.isnan(own)).all():
            raise ValueError(f"prior_quality must be between 0 and 1, not {own.tolist()}")
        self.evidence = evidence
        self.prices = list(prices)
        self._rates = rates(self.prices)
        self.characters_per_token = CHARACTERS_PER_TOKEN
        self.lengths = ShapeLengths({})
        self._n_similar = n_similar
        self.prior = np.where(np.isnan(own), price_prior(self.prices), own)
        self._past = self._backtested(self.refit(Snapshot.nothing(len(self.prices))))

    def refit(self, snapshot: Snapshot) -> Refit:
        """Fits a predictor on past queries, for `updated`; where models' answers are known, finds
        the pairs that it pays to probe. Takes seconds to a minute."""
        fitted = refit(snapshot, self.prior, self._n_similar)
        if snapshot.said is None or len(fitted.characters) < 2:
            return fitted
        said, cost = snapshot.said[backtest_rows(snapshot)], self._backtest_cost(fitted)
        agreement = {
            pair: agreement_of(said, pair) for pair in candidate_pairs(cost, fitted.backtest.truth)
        }
        pairs = paying_pairs(_past_of(fitted.backtest, cost, agreement))
        if not pairs:
            return fitted
        known = np.column_stack([agreement[pair] for pair in pairs])
        return replace(fitted, pairs=pairs, agreement=known)

    def updated(
        self,
        *,
        evidence: Evidence | None = None,
        fitted: Refit | None = None,
        characters_per_token: float | None = None,
        lengths: ShapeLengths | None = None,
    ) -> "Forecaster":
        """A forecaster that differs in what is given: other past queries of the same models, the
        result of `refit`, the length of tokens in prompts, the lengths of answers by shape."""
        other = copy(self)
        if evidence is not None:
            other.evidence = evidence
        if characters_per_token is not None:
            other.characters_per_token = characters_per_token
        if lengths is not None:
            other.lengths = lengths
        if fitted is not None:
            other._past = other._backtested(fitted)
        return other

    @property
    def fitted(self) -> Refit:
        """The fitted predictor in use."""
        return self._past.fitted

    def predict(self, queries: Sequence[str], embeddings: Floats32) -> Prediction:
        """Predictions for b queries, given their embeddings (b, d)."""
        predictor, means = self.fitted.predictor, self.evidence.means()
        k = predictor.smoothing.n_similar(len(self.evidence), self._n_similar)
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
        """The prediction for a query of which nothing is known; (1, m)."""
        none = np.zeros((1, 0), np.float32)
        near = Neighbours(np.zeros((1, 0), np.int64), none, Outcomes.nothing())
        means = self.evidence.means()
        return NeighbourPredictor(self.prior).predict([""], none, near, means)

    def costs(self, input_tokens: npt.ArrayLike, prediction: Prediction) -> Floats:
        """(b, m) predicted costs in USD of queries whose prompts have these lengths (b,)."""
        return costs(self._rates, np.asarray(input_tokens, np.float64), prediction.output_tokens)

    def optimism(self, requirement: float, columns: Sequence[int]) -> float:
        """By how much predictions exceed the real quality of the choices for a requirement."""
        return self._past.optimism(requirement, tuple(columns))

    @property
    def cascade(self) -> Cascade | None:
        """The pairs of models that may be probed, and what their agreement tells; None if it never
        paid."""
        fitted = self._past.cascade
        return None if fitted is None else fitted.cascade

    def start_policy(self, requirement: float, columns: Sequence[int]) -> Policy:
        """A policy for these candidates that starts with the multiplier of past queries.

        Takes tens of milliseconds; with pairs, in a few steps, since what probing gives depends on
        the multiplier.

        Args:
            requirement: mean quality to hold, 0 to 1.
            columns: of models; beyond these, of the cascade's pairs.
        """
        past = self._past
        models = [column for column in columns if column < len(self.prices)]
        quality, cost = past.fitted.backtest.quality[:, models], past.cost[:, models]
        policy = Policy.started(
            requirement, quality, cost, past.optimism(requirement, tuple(models))
        )
        if past.cascade is None or len(models) == len(columns):
            return policy
        for _ in range(_STEPS):
            if policy.multiplier is None:
                break
            quality, cost, truth = (
                part[:, columns] for part in past.cascade.arms(policy.multiplier)
            )
            excess = optimism(quality, cost, truth, requirement)
            policy = Policy.started(requirement, quality, cost, excess)
        return policy

    @property
    def past(self) -> tuple[Backtest, Floats]:
        """Predictions for past queries, each made without knowledge of the query, and their costs
        in USD, (n, m)."""
        return self.fitted.backtest, self._past.cost

    def assign(
        self,
        prediction: Prediction,
        cost: Floats,
        requirement: float,
        allowed: Booleans,
        capacities: npt.ArrayLike | None = None,
    ) -> Assignment:
        """Optimises a batch as `optimise.batch.assign` does.

        The result's `quality` is corrected for optimism: predicted quality less the amount by which
        predictions exceeded reality on past queries, as far as it could be aimed for.
        """
        optimism = self.optimism(requirement, [int(c) for c in np.flatnonzero(allowed.any(axis=0))])
        aim = min(max(requirement + optimism, 0.0), 1.0)
        answer = assign(prediction.quality, cost, aim, allowed=allowed, capacities=capacities)
        quality = answer.quality - (aim - requirement)
        return replace(answer, quality=min(max(quality, 0.0), 1.0))

    def _backtested(self, fitted: Refit) -> "_Past":
        return _Past(fitted, self._backtest_cost(fitted))

    def _backtest_cost(self, fitted: Refit) -> Floats:
        lengths = fitted.characters / self.characters_per_token
        return costs(self._rates, lengths, fitted.backtest.output_tokens)


class _Past:
    """A fitted predictor, the costs of its backtest (n, m) in USD, the cascade if there are probes,
    and a cache of optimisms."""

    def __init__(self, fitted: Refit, cost: Floats) -> None:
        self.fitted, self.cost = fitted, cost
        self.cascade: FittedCascade | None = None
        if fitted.agreement is not None:
            agreement = dict(zip(fitted.pairs, fitted.agreement.T, strict=True))
            self.cascade = fit_pairs(_past_of(fitted.backtest, cost, agreement), fitted.pairs)
        self._optimism: dict[tuple[float, tuple[int, ...]], float] = {}

    def optimism(self, requirement: float, columns: tuple[int, ...]) -> float:
        key = (requirement, columns)
        optimism = self._optimism.get(key)
        if optimism is None:
            if len(self._optimism) >= _CACHED_OPTIMISMS:
                self._optimism.clear()
            optimism = self.fitted.backtest.optimism(self.cost, *key)
            self._optimism[key] = optimism
        return optimism


def _past_of(backtest: Backtest, cost: Floats, agreement: Mapping[Pair, Floats]) -> Past:
    return Past(backtest.quality, cost, backtest.truth, {**agreement})
