"""Ridge regression of all models' qualities on embedding and text features.

The outcomes are turned to their principal axes first, and each axis has a penalty of its own: the
first (how hard a query is for everyone) carries most of what can be learned, the later ones (which
model is good at what) mostly noise, and one penalty for all would either blur the one or believe
the other. Source: Breiman and Friedman, "Predicting multivariate responses in multiple linear
regression", J. R. Statist. Soc. B 59 (1997). Penalties are chosen by the leave-one-out error, which
has a closed form (Hastie, Tibshirani and Friedman, "The Elements of Statistical Learning", §7.10).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Floats32, Snapshot
from serve.routing.dual import Floats
from serve.routing.features import text_features

_PENALTIES = np.geomspace(10, 1e5, 13)
_LARGEST_FEATURE = 4.0  # standard deviations; texts unlike any seen must not be extrapolated far
_CAUTION = 2.0  # outcomes that a query's own difficulty is shrunk by, where some are not known


@dataclass(frozen=True, slots=True)
class Ridge:
    """The fitted regression: inputs are shifted and scaled, then mapped linearly."""

    shift: Floats
    scale: Floats
    weights: Floats
    mean: Floats

    def predict(self, queries: Sequence[str], embeddings: Floats32) -> Floats:
        """(b, m) qualities, 0 to 1."""
        inputs = _scaled(_raw_inputs(queries, embeddings), self.shift, self.scale)
        return np.clip(inputs @ self.weights + self.mean, 0.0, 1.0)


def fit_ridge(snapshot: Snapshot) -> tuple[Ridge, Floats]:
    """Fits on all rows.

    Returns:
        The regression, and (n, m) what it would predict for each row if fitted without that row.
    """
    raw = _raw_inputs(snapshot.queries, snapshot.embeddings)
    dimensions = snapshot.embeddings.shape[1]
    shift = raw.mean(axis=0)
    # The embedding keeps its geometry: one scale for all its dimensions, each a third of a
    # feature's, for they are many.
    scale = raw.std(axis=0) + 1e-9
    scale[:dimensions] = 3 * max(float(np.sqrt(raw[:, :dimensions].var(axis=0).mean())), 1e-9)
    inputs = _scaled(raw, shift, scale)
    outcomes, mean = _completed(snapshot.quality.astype(np.float64))
    axes = np.linalg.eigh(outcomes.T @ outcomes)[1]
    targets = outcomes @ axes

    eigenvalues, vectors = np.linalg.eigh(inputs.T @ inputs)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    rotated = inputs @ vectors
    moments = rotated.T @ targets
    best = np.full(targets.shape[1], np.inf)
    penalty = np.full_like(best, _PENALTIES[-1])
    left_out = np.zeros_like(targets)
    for candidate in _PENALTIES:
        shrink = 1 / (eigenvalues + candidate)
        leverage = np.minimum(rotated**2 @ shrink, 0.999)
        residual = (targets - rotated @ (shrink[:, None] * moments)) / (1 - leverage)[:, None]
        error = (residual**2).mean(axis=0)
        better = error < best
        best[better], penalty[better] = error[better], candidate
        left_out[:, better] = (targets - residual)[:, better]
    weights = vectors @ (moments / (eigenvalues[:, None] + penalty)) @ axes.T
    return Ridge(shift, scale, weights, mean), np.clip(left_out @ axes.T + mean, 0.0, 1.0)


def _raw_inputs(queries: Sequence[str], embeddings: Floats32) -> Floats:
    return np.hstack([embeddings.astype(np.float64), text_features(queries)])


def _scaled(raw: Floats, shift: Floats, scale: Floats) -> Floats:
    return np.clip((raw - shift) / scale, -_LARGEST_FEATURE, _LARGEST_FEATURE)


def _completed(quality: Floats) -> tuple[Floats, Floats]:
    """Outcomes (n, m) less each model's mean (m,); what is not known is filled in with how much
    better or worse than usual the query went for the models that are known."""
    known = ~np.isnan(quality)
    mean = np.where(known, quality, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    rest = np.where(known, quality - mean, 0)
    difficulty = rest.sum(axis=1) / (known.sum(axis=1) + _CAUTION)
    return np.where(known, rest, difficulty[:, None]), mean
