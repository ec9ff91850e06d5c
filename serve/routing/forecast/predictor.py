"""Prediction from neighbours: a kernel average of past outcomes, shrunk to each model's mean.

A model without outcomes among the neighbours gets its mean, moved by how hard they were for the
others. One without any outcomes has a prior for a mean, which comes from its config or its price.
Lack of evidence never means a prediction of zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32, Means, Neighbours
from serve.routing.arrays import Floats, Integers
from serve.routing.forecast.hardness import compared, joined
from serve.routing.prices import Price

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
    """Predicts quality and length from an embedding, neighbours and means.

    Attributes:
        smoothing: how the outcomes of neighbours are averaged, and so how many are needed.
    """

    smoothing: "Smoothing"

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


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How the outcomes of neighbours are averaged.

    Attributes:
        temperature: of the kernel exp(−(1 − cosine) / temperature).
        shrinkage: the weight of the model's mean, in answers to an identical query.
        breadth: the number of neighbours, as a share of `default_n_similar`.
    """

    temperature: float = 0.12
    shrinkage: float = 1.0
    breadth: float = 1.0

    def n_similar(self, n: int, fewest: int) -> int:
        """The number of neighbours to look at among n past queries, and at least `fewest`."""
        return max(fewest, round(self.breadth * default_n_similar(n)))


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
        smoothing: how their outcomes are averaged.
    """

    def __init__(self, prior: npt.ArrayLike, smoothing: Smoothing = Smoothing()) -> None:
        self.smoothing = smoothing
        self._prior = np.asarray(prior, np.float64)
        self._last: tuple[Means, tuple[Floats, Floats]] | None = None

    def predict(
        self,
        queries: Sequence[str],
        embeddings: Floats32,
        neighbours: Neighbours,
        means: Means,
    ) -> Prediction:
        mean, tokens = self._believed(means)
        place, weight = weighted(neighbours, len(mean), self.smoothing.temperature)
        shrinkage, known = self.smoothing.shrinkage, neighbours.outcomes
        shape = len(neighbours.ids), len(mean)
        fresh = weight if known.freshness is None else weight * known.freshness
        sums = [_summed(fresh * part, place, shape) for part in compared(known, mean)]
        quality = joined(sums, mean, shrinkage)
        squares = np.where(np.isnan(known.quality), 0, fresh * weight)
        size = _sample_size(sums[0], _summed(squares, place, shape))
        uncertainty = np.sqrt(quality * (1 - quality) / (size + 1))
        unknown = np.isnan(known.output_tokens)
        counted, length = np.where(unknown, 0, weight), np.where(unknown, 0, known.output_tokens)
        lengths = _summed(counted * length, place, shape) + shrinkage * tokens
        lengths /= _summed(counted, place, shape) + shrinkage
        return Prediction(quality, lengths, uncertainty)

    def _believed(self, means: Means) -> tuple[Floats, Floats]:
        """`believed`, which is the same for every request until the means change."""
        last = self._last  # read once, since other threads may be predicting
        if last is None or last[0] is not means:
            self._last = last = means, believed(means, self._prior)
        return last[1]


def believed(means: Means, prior: Floats) -> tuple[Floats, Floats]:
    """(m,) mean quality and answer length of each model, including its prior.

    Priors are shifted to the level of the known models, since queries may be harder or easier than
    the priors assume.
    """
    count = means.count
    seen = np.where(np.isnan(means.quality), 0.0, means.quality)
    level = count @ (seen - prior) / (count.sum() + _MEAN_WEIGHT)
    start = np.clip(prior + level, 0.02, 0.98)
    quality = (count * seen + _MEAN_WEIGHT * start) / (count + _MEAN_WEIGHT)
    unknown = np.isnan(means.output_tokens)
    typical = _TYPICAL_TOKENS if unknown.all() else means.output_tokens[~unknown].mean()
    return quality, np.where(unknown, typical, means.output_tokens).astype(np.float64)


def weighted(neighbours: Neighbours, models: int, temperature: float) -> tuple[Integers, Floats]:
    """For each known outcome (e,): which of the b * m predictions it counts for, and its weight.

    n answers to one query count as n / (1 + (1 - kernel) (n - 1)): each by itself for the query
    itself, but all as one for a query that is far from it, since more of them say more of that
    query, not of others. It is the precision of a mean of n in a random-effects model, whose
    variance between queries grows with their distance and is that of an answer where they have
    nothing in common. Source: DerSimonian and Laird, "Meta-analysis in clinical trials",
    Controlled Clinical Trials 7 (1986).
    """
    b, k = neighbours.similarity.shape
    kernel = np.exp((neighbours.similarity.ravel().astype(np.float64) - 1) / temperature)
    first = np.repeat(np.arange(b) * models, k)
    known = neighbours.outcomes
    near = kernel[known.row]
    apart = np.clip(1 - near, 0.0, 1.0)  # a cosine of equal vectors may exceed 1 a little
    counted = known.weight / (1 + apart * (known.weight - 1))
    return first[known.row] + known.column, near * counted


def _summed(parts: Floats, place: Integers, shape: tuple[int, int]) -> Floats:
    """(b, m) sums of the parts (e,), each of which belongs to one of the b * m places."""
    sums = np.bincount(place, parts, shape[0] * shape[1])
    return sums.reshape(shape).astype(np.float64, copy=False)  # without parts, bincount counts


def _sample_size(total: Floats, squares: Floats) -> Floats:
    """The number of equally weighted values whose mean has the same variance, from the sums of the
    weights and of their squares."""
    return np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)
