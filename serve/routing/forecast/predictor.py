"""Prediction from neighbours: a kernel average of past outcomes, shrunk to each model's mean.

A model without outcomes among the neighbours gets its mean, and one without any outcomes its prior,
which comes from its config or its price. Lack of evidence never means a prediction of zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32, Means, Neighbours
from serve.routing.arrays import Floats
from serve.routing.prices import Price

TEMPERATURE = 0.12  # of the kernel exp(−(1 − cosine) / temperature)
_PRIOR_WEIGHT = 1.0  # of the model's mean, in answers to an identical query
_MEAN_WEIGHT = 4.0  # of the prior within the model's mean, in answers
_TYPICAL_TOKENS = 256.0  # an answer's length before any has been seen
_NEIGHBOURS = 16, 256


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predictions for b queries on m models, each (b, m).

    Attributes:
        quality: 0 to 1.
        output_tokens: length of the answer.
        uncertainty: standard deviation of the estimated quality.
    """

    quality: Floats
    output_tokens: Floats
    uncertainty: Floats


class Predictor(Protocol):
    """Predicts quality and length from an embedding, neighbours and means."""

    def predict(
        self,
        queries: Sequence[str],
        embeddings: Floats32,
        neighbours: Neighbours,
        means: Means,
    ) -> Prediction:
        """Predicts for b queries, given their embeddings (b, d) and the store's evidence."""
        ...


def default_n_similar(n: int) -> int:
    """The number of neighbours to look at among n past queries: 6 √n, between 16 and 256.

    More neighbours average out noise, fewer are more similar; the optimum grows with the root of n.
    The factor was chosen by cross-validation on recorded outcomes, where more than 256 gained
    nothing and took longer to find.
    """
    return int(min(max(6 * n**0.5, _NEIGHBOURS[0]), _NEIGHBOURS[1]))


def price_prior(prices: Sequence[Price]) -> Floats:
    """(m,) prior qualities: more expensive models are assumed to be better.

    0.65 at the geometric mean of the prices, and 0.15 more for each factor of ten. Cautious, since
    a price is a weak signal and real outcomes soon outweigh it.
    """
    level = np.log10([max(price.input + price.output, 1e-12) for price in prices])
    prior: Floats = np.clip(0.65 + 0.15 * (level - level.mean()), 0.3, 0.9)
    return prior


class NeighbourPredictor:
    """Predicts by the kernel average.

    Args:
        prior: (m,) prior qualities, 0 to 1.
    """

    def __init__(self, prior: npt.ArrayLike) -> None:
        self._prior = np.asarray(prior, np.float64)

    def predict(
        self,
        queries: Sequence[str],
        embeddings: Floats32,
        neighbours: Neighbours,
        means: Means,
    ) -> Prediction:
        kernel = np.exp((neighbours.similarity.astype(np.float32) - 1) / TEMPERATURE)[..., None]
        mean, tokens = believed(means, self._prior)
        quality, evidence = _shrunk(neighbours.quality, kernel * neighbours.weight, mean)
        lengths, _ = _shrunk(neighbours.output_tokens, kernel * neighbours.weight, tokens)
        return Prediction(quality, lengths, np.sqrt(quality * (1 - quality) / (evidence + 1)))


def believed(means: Means, prior: Floats) -> tuple[Floats, Floats]:
    """(m,) mean quality and answer length of each model, including its prior.

    Priors are shifted to the level of the known models, since queries may be harder or easier than
    the priors assume.
    """
    known = means.count > 0
    seen = np.where(known, np.nan_to_num(means.quality), 0.0)
    level = (means.count * (seen - prior)).sum() / (means.count.sum() + _MEAN_WEIGHT)
    start = np.clip(prior + level, 0.02, 0.98)
    quality = (means.count * seen + _MEAN_WEIGHT * start) / (means.count + _MEAN_WEIGHT)
    lengths = means.output_tokens[~np.isnan(means.output_tokens)]
    typical = float(lengths.mean()) if lengths.size else _TYPICAL_TOKENS
    tokens = np.where(np.isnan(means.output_tokens), typical, means.output_tokens)
    return quality, tokens.astype(np.float64)


def _shrunk(values: Floats32, weight: Floats32, mean: Floats) -> tuple[Floats, Floats]:
    """Weighted means of values (b, k, m) and `mean` (m,), and effective sample sizes; (b, m) each.

    An effective sample size is the number of equally weighted values with the same variance.
    """
    known = np.where(np.isnan(values), 0, weight)
    total = known.sum(axis=1, dtype=np.float64)
    sums = np.einsum("bkm,bkm->bm", known, np.nan_to_num(values), dtype=np.float64)
    squares = np.einsum("bkm,bkm->bm", known, known, dtype=np.float64)
    size = np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
    return (sums + _PRIOR_WEIGHT * mean) / (total + _PRIOR_WEIGHT), size
