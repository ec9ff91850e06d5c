"""What two probes' answers tell: the models' qualities, once it is known whether the two agree.

Each predicted quality is corrected by a logistic regression on its own logit, one for the queries
on which the probes agree and one for the others. Few parameters, held near "agreement tells
nothing" by a ridge, so that a few dozen past answers do no harm. Source: Platt, "Probabilistic
outputs for support vector machines", Advances in Large Margin Classifiers (1999). The fit bounds
the curvature, so that no step overshoots: Jaakkola and Jordan, "Bayesian parameter estimation via
variational methods", Statistics and Computing 10 (2000).
"""

from dataclasses import dataclass

import numpy as np

from serve.routing.arrays import Booleans, Floats

_RIDGE = 3.0  # on the distance from "the prediction is right"; about that many past answers
_LEAST = 0.01  # predicted quality, and 1 less the greatest; keeps logits finite
_STEPS = 20  # each about halves the distance that is left

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Past:
    """n past queries, and what m models did on them.

    Attributes:
        quality: (n, m) predicted without knowledge of the query itself, 0 to 1.
        cost: (n, m) predicted likewise, in USD.
        truth: (n, m) real quality; NaN where unknown.
        agreement: for pairs of models, (n,): 1 where their answers agree, 0 where they don't, NaN
            where an answer isn't known.
    """

    quality: Floats
    cost: Floats
    truth: Floats
    agreement: dict[Pair, Floats]

    def __len__(self) -> int:
        return len(self.truth)

    def part(self, rows: Booleans) -> "Past":
        """These rows only, (n,)."""
        agreement = {pair: known[rows] for pair, known in self.agreement.items()}
        return Past(self.quality[rows], self.cost[rows], self.truth[rows], agreement)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Corrects predicted qualities: logit of the quality = shift + slope · logit of the prediction.

    Attributes:
        shift, slope: (m,), of each model.
    """

    shift: Floats
    slope: Floats

    @classmethod
    def fit(cls, quality: Floats, truth: Floats) -> "Calibration":
        """The most likely one for real qualities `truth`, (n, m) each; NaN where unknown."""
        known = ~np.isnan(truth)
        target, logits = np.where(known, truth, 0.0), _logit(quality)
        shift, slope = np.zeros(quality.shape[1]), np.ones(quality.shape[1])
        for _ in range(_STEPS):
            guess = shift + slope * logits
            error, curve = known * (_sigmoid(guess) - target), known * _curvature(guess)
            down = error.sum(axis=0) + _RIDGE * shift
            across = (error * logits).sum(axis=0) + _RIDGE * (slope - 1)
            bend, mixed = curve.sum(axis=0) + _RIDGE, (curve * logits).sum(axis=0)
            tilt = (curve * logits**2).sum(axis=0) + _RIDGE
            scale = bend * tilt - mixed**2
            shift = shift - (tilt * down - mixed * across) / scale
            slope = slope - (bend * across - mixed * down) / scale
        return cls(shift, slope)

    @classmethod
    def none(cls, models: int) -> "Calibration":
        """Corrects nothing."""
        return cls(np.zeros(models), np.ones(models))

    def corrected(self, quality: Floats) -> Floats:
        """(n, m) corrected qualities for predicted ones."""
        return _sigmoid(self.shift + self.slope * _logit(quality))


@dataclass(frozen=True, slots=True)
class Probes:
    """Two models to ask at once, and what their agreement tells.

    Attributes:
        models: the columns of the two.
        weights: (3,) of the logistic regression of agreement on 1 and the logits of both qualities.
        apart, agreed: the qualities of all models where the two disagree, and where they agree.
    """

    models: Pair
    weights: Floats
    apart: Calibration
    agreed: Calibration

    @classmethod
    def fit(cls, past: Past, models: Pair) -> "Probes":
        """Fits on the past queries of which it is known whether the two agree."""
        known = past.agreement[models]
        agree, differ = known == 1, known == 0
        either = agree | differ
        return cls(
            models,
            _logistic(_inputs(past.quality[either], models), known[either]),
            Calibration.fit(past.quality[differ], past.truth[differ]),
            Calibration.fit(past.quality[agree], past.truth[agree]),
        )

    def chance(self, quality: Floats) -> Floats:
        """(n,) the probability that the two will agree, by predicted qualities (n, m)."""
        return _sigmoid(_inputs(quality, self.models) @ self.weights)


def _inputs(quality: Floats, models: Pair) -> Floats:
    first, second = (_logit(quality[:, model]) for model in models)
    return np.column_stack([np.ones(len(quality)), first, second])


def _logistic(inputs: Floats, target: Floats) -> Floats:
    """(k,) weights of the logistic regression of `target` (n,) on `inputs` (n, k)."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        guess = inputs @ weights
        slope = inputs.T @ (_sigmoid(guess) - target) + weights
        curve = (inputs.T * _curvature(guess)) @ inputs + np.eye(len(weights))
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def _logit(quality: Floats) -> Floats:
    inside = np.clip(quality, _LEAST, 1 - _LEAST)
    logits: Floats = np.log(inside / (1 - inside))
    return logits


def _sigmoid(logits: Floats) -> Floats:
    quality: Floats = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return quality


def _curvature(logits: Floats) -> Floats:
    """Of the parabola that touches the logistic loss at these logits and is nowhere below it."""
    distance = np.maximum(np.abs(logits), 1e-3)
    curvature: Floats = np.tanh(distance / 2) / (2 * distance)
    return curvature
