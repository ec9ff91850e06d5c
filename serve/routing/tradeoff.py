"""What each quality would have cost on past queries, as predicted.

Of each past query there is a prediction that was made without knowledge of the query itself. For
each requirement the batch optimiser chooses by these predictions; by how much they exceed the real
quality of what it chose is taken off, as `Backtest.optimism` does for the policies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Integers
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import Backtest
from serve.routing.optimise.batch import assign
from serve.routing.optimise.problem import Problem

STEPS = 40
MOST_QUERIES = 500
# Choosing takes the longer the more predictions there are: with many models, fewer queries.
_MOST_PREDICTIONS, _FEWEST_QUERIES = 100_000, 50
_BELIEF = 50.0  # outcomes; the weight of the prior belief that predictions are unbiased


@dataclass(frozen=True, slots=True)
class Point:
    """One requirement.

    Attributes:
        requirement: the mean quality to hold, 0 to 1.
        quality: the mean that is predicted, less what predictions exceed reality by.
        cost: USD for one query, in the mean.
        shares: of the queries, for each model that gets any, by its column.
    """

    requirement: float
    quality: float
    cost: float
    shares: dict[int, float]


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """The curve over a sample of n past queries.

    Attributes:
        points: by rising requirement.
        models: the quality and the cost of always using each of m models, as in `Point`.
        queries: n.
    """

    points: Sequence[Point]
    models: Sequence[tuple[float, float]]
    queries: int

    def at(self, requirement: float) -> tuple[float, float]:
        """The quality and the cost of a requirement: between those of the points around it."""
        wanted = [point.requirement for point in self.points]
        quality = np.interp(requirement, wanted, [point.quality for point in self.points])
        cost = np.interp(requirement, wanted, [point.cost for point in self.points])
        return float(quality), float(cost)


def tradeoff(past: Backtest, cost: Floats, columns: Sequence[int]) -> Tradeoff | None:
    """The curve; None where no past query is known. Takes up to a second.

    Args:
        past: predictions for past queries.
        cost: (n, m) their predicted costs in USD.
        columns: the models that may be used.
    """
    rows = _sample(len(past.quality), len(columns))
    if not len(rows) or not len(columns):
        return None
    at = np.ix_(rows, np.asarray(columns, np.int64))
    quality, truth, usd = past.quality[at], past.truth[at], cost[at]
    everyone = np.arange(len(rows))

    def real(choice: Integers) -> float:
        """The quality of what was chosen, as in `Point`."""
        chosen = quality[everyone, choice]
        error = chosen - truth[everyone, choice]
        known = ~np.isnan(error)
        counting = known.astype(np.float64)
        if past.freshness is not None:
            counting *= past.freshness[at][everyone, choice]
        excess = float((counting * np.nan_to_num(error)).sum() / (counting.sum() + _BELIEF))
        corrected: float = chosen.mean() - excess
        return min(max(corrected, 0.0), 1.0)

    cheapest = Problem.of(quality, usd, 0.0).cheapest()
    least = float(quality[everyone, cheapest].mean())
    most = float(quality.max(axis=1).mean())
    points = []
    for aim in np.linspace(least, most, STEPS):
        found = assign(quality, usd, float(aim))
        reached = real(found.choice)
        counts = np.bincount(found.choice, minlength=len(columns)) / len(rows)
        shares = {columns[column]: float(counts[column]) for column in np.flatnonzero(counts)}
        # What the server would be asked for, to aim at this.
        wanted = min(max(float(aim) - found.quality + reached, 0.0), 1.0)
        points.append(Point(wanted, reached, found.cost / len(rows), shares))
    points.sort(key=lambda point: point.requirement)
    alone = [
        (real(np.full(len(rows), column)), float(usd[:, column].mean()))
        for column in range(len(columns))
    ]
    return Tradeoff(points, alone, len(rows))


def _sample(n: int, models: int) -> Integers:
    """Rows at even distances."""
    most = min(MOST_QUERIES, max(_MOST_PREDICTIONS // max(models, 1), _FEWEST_QUERIES))
    return np.unique(np.linspace(0, n - 1, min(n, most)).astype(np.int64)) if n else _NONE


_NONE = np.zeros(0, np.int64)
