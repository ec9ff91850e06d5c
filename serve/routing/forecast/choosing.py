"""Chooses how the outcomes of neighbours are averaged, by what held-out past queries tell.

The choice is by the error of the differences between models, since differences decide the routing:
an error that all predictions for a query share moves none of them ahead of another. The defaults
stay unless the gain exceeds its standard error. Source: Breiman et al., "Classification and
regression trees", 1984, section 3.4.3 (the rule of one standard error).
"""

from collections.abc import Sequence

import numpy as np

from deployments.store.evidence import Floats32, Neighbours
from serve.routing.arrays import Floats
from serve.routing.forecast.hardness import compared, joined
from serve.routing.forecast.predictor import Smoothing, weighted

TEMPERATURES = 0.03, 0.06, 0.12, 0.24, 0.5
SHRINKAGES = 0.1, 0.3, 1.0, 3.0
BREADTHS = 0.25, 0.5, 1.0
GRID = [
    Smoothing(temperature, shrinkage, breadth)
    for temperature in TEMPERATURES
    for shrinkage in SHRINKAGES
    for breadth in BREADTHS
]
_FEWEST_ROWS = 100  # fewer can't tell
_DEFAULT = GRID.index(Smoothing())


def losses(
    neighbours: Neighbours,
    mean: Floats,
    truth: Floats32,
    ranks: Sequence[int],
    freshness: Floats32 | None = None,
) -> Floats:
    """The loss of each way of averaging in `GRID` (g, b), for each of b queries.

    The same as that of predictions by `NeighbourPredictor`, at a fraction of the time: the sums for
    all breadths are made at once, and shrinkage needs no new ones.

    Args:
        neighbours: of the queries, the nearest first.
        mean: (m,) the models' mean qualities.
        truth: (b, m) real quality; NaN where unknown.
        ranks: the number of neighbours at each of `BREADTHS`.
        freshness: (b, m) how much each real quality counts, 0 to 1; None if nothing ages.
    """
    b, k = neighbours.ids.shape
    m, known = len(mean), neighbours.outcomes
    at = np.searchsorted(ranks, known.row % k, side="right")  # the smallest breadth that has it
    counting = (~np.isnan(truth)).astype(np.float32)
    if freshness is not None:
        counting *= freshness
    inside = (at < len(ranks)) & ~np.isnan(known.quality)
    parts = [part[inside] for part in compared(known, mean)]
    found = []
    for temperature in TEMPERATURES:
        place, weight = weighted(neighbours, m, temperature)
        if known.freshness is not None:
            weight = weight * known.freshness
        place, weight = (at * b * m + place)[inside], weight[inside]
        sums = [
            np.bincount(place, weight * part, len(ranks) * b * m).reshape(-1, b, m).cumsum(axis=0)
            for part in parts
        ]
        for shrinkage in SHRINKAGES:
            found.append(_loss(joined(sums, mean, shrinkage) - truth, counting))
    return np.concatenate(found)


def choose(loss: Floats) -> Smoothing:
    """The best of `GRID` by the losses (g, b) of b queries; the defaults unless it is clearly
    better."""
    if loss.shape[1] < _FEWEST_ROWS:
        return GRID[_DEFAULT]
    best = int(loss.mean(axis=1).argmin())
    gain = loss[_DEFAULT] - loss[best]
    clear = gain.mean() > gain.std() / len(gain) ** 0.5
    return GRID[best if clear else _DEFAULT]


def _loss(error: Floats, counting: Floats32) -> Floats:
    """Weighted squared errors (..., b) of the differences between models; of the quality itself
    where only one model's is known."""
    several = (counting > 0).sum(axis=-1, keepdims=True) > 1
    error, total = np.nan_to_num(error), counting.sum(axis=-1, keepdims=True)
    sums = (counting * error).sum(axis=-1, keepdims=True)
    common = np.divide(sums, total, out=np.zeros_like(sums), where=total > 0)
    loss: Floats = (counting * (error - several * common) ** 2).sum(axis=-1)
    return loss
