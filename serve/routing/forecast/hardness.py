"""Predicts a model from how hard a query is for the others, and how the model differs from them.

How hard the neighbours were is told by all outcomes of the other models; how a model differs, by
its own outcomes, each less what the others scored on the same query. Both are kernel averages,
shrunk by themselves. So a model of few outcomes moves with hard queries as the others do, and
chance in which queries it has answered is taken out. Where it alone has answered one, its outcome
is compared with what the neighbourhood tells of the others. Where all models have answered all,
equally often and equally long ago, what comes out is each model's plain average. Source: the
difference estimator of Särndal, Swensson and Wretman, "Model Assisted Survey Sampling", 1992,
chapter 6.
"""

from collections.abc import Sequence

import numpy as np

from deployments.store.evidence import Outcomes
from serve.routing.arrays import Floats, Integers

_UNTOLD = 3.0  # outcomes; the weight of the neighbourhood beside the others' on the same query
# The lowest quality that is predicted without own outcomes nearby, unless the model's mean is
# lower; the highest is 1 less it.
_LEAST = 0.02


def compared(outcomes: Outcomes, mean: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """What each of e outcomes adds to the four sums of `joined`, (e,) each, before it is weighted.

    With d the outcome less its model's mean, and s = 1 / (number of the others' outcomes on the
    same query + `_UNTOLD`): 1, d − s · (sum of the others' d), s, and s · d. All are 0 where the
    quality is unknown. Where scores age, another's outcome counts there by how fresh it is beside
    the freshest on the query.

    Args:
        outcomes: of past queries.
        mean: (m,) the models' mean qualities.
    """
    row = outcomes.row
    deviation = outcomes.quality - mean[outcomes.column]
    unknown = np.isnan(deviation)
    deviation[unknown] = 0
    one = 1.0 - unknown
    counted = one if outcomes.freshness is None else _beside_freshest(row, one * outcomes.freshness)
    share = one / (np.bincount(row, counted)[row] - counted + _UNTOLD)
    told = counted * deviation
    others = np.bincount(row, told)[row] - told
    return one, deviation - share * others, share, share * deviation


def joined(sums: Sequence[Floats], mean: Floats, shrinkage: float) -> Floats:
    """(..., m) predicted qualities; certainty, near 0 or 1, takes own outcomes.

    Args:
        sums: four of (..., m), over each model's outcomes among the neighbours, of what `compared`
            returns times the neighbours' weights.
        mean: (m,) the models' mean qualities.
        shrinkage: the weight of no deviation from them.
    """
    weight, difference, share, part = sums
    others = _of_others(part) / (_of_others(share) + shrinkage)
    own = (difference - _UNTOLD * share * others) / (weight + shrinkage)
    rest = shrinkage / (weight + shrinkage)
    least = np.minimum(_LEAST, mean) * rest
    most = 1 - np.minimum(_LEAST, 1 - mean) * rest
    return np.clip(mean + others + own, least, most)


def _beside_freshest(row: Integers, freshness: Floats) -> Floats:
    """(e,) how fresh each outcome is, relative to the freshest of the same row."""
    freshest = np.zeros(row.max(initial=-1) + 1)
    np.maximum.at(freshest, row, freshness)
    nothing = np.zeros(len(row))
    return np.divide(freshness, freshest[row], out=nothing, where=freshness > 0)


def _of_others(sums: Floats) -> Floats:
    """(..., m) for each model the sum over all others."""
    rest: Floats = sums.sum(axis=-1, keepdims=True) - sums
    return rest
