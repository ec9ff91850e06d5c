"""Predicts a model from how hard a query is for the others, and how the model differs from them.

How hard the neighbours were is told by all outcomes of the other models; how a model differs, by
its own outcomes, each less what the others scored on the same query. Both are kernel averages,
shrunk by themselves. So a model of few outcomes moves with hard queries as the others do, and
chance in which queries it has answered is taken out. Where it alone has answered one, its outcome
is compared with what the neighbourhood tells of the others. Where all models have answered all,
what comes out is each model's plain average. Source: the difference estimator of Särndal, Swensson
and Wretman, "Model Assisted Survey Sampling", 1992, chapter 6.
"""

from collections.abc import Sequence

import numpy as np

from deployments.store.evidence import Outcomes
from serve.routing.arrays import Floats

_UNTOLD = 3.0  # outcomes; the weight of the neighbourhood beside the others' on the same query
_LEAST = 0.02  # quality of a model without outcomes nearby, and 1 less the most


def compared(outcomes: Outcomes, mean: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """What each of e outcomes adds to the four sums of `joined`, (e,) each, before it is weighted.

    In terms of deviations from models' means: one; the outcome less a mean of the others' on the
    same query, in which some more outcomes are yet untold; the weight of each there; and the
    outcome times that weight. All are 0 where the quality is unknown.

    Args:
        outcomes: of past queries.
        mean: (m,) the models' mean qualities.
    """
    row = outcomes.row
    deviation = outcomes.quality - mean[outcomes.column]
    unknown = np.isnan(deviation)
    deviation[unknown] = 0
    one = 1.0 - unknown
    share = one / (np.bincount(row, one)[row] - 1 + _UNTOLD)
    others = np.bincount(row, deviation)[row] - deviation
    return one, deviation - share * others, share, share * deviation


def joined(sums: Sequence[Floats], mean: Floats, shrinkage: float) -> Floats:
    """(..., m) predicted qualities.

    Args:
        sums: four of (..., m), over each model's outcomes among the neighbours, of what `compared`
            returns times the neighbours' weights.
        mean: (m,) the models' mean qualities.
        shrinkage: the weight of no deviation from them.
    """
    weight, difference, share, part = sums
    others = _of_others(part) / (_of_others(share) + shrinkage)
    own = (difference - _UNTOLD * share * others) / (weight + shrinkage)
    least = _LEAST * shrinkage / (weight + shrinkage)  # only its own outcomes make it certain
    return np.clip(mean + others + own, least, 1 - least)


def _of_others(sums: Floats) -> Floats:
    """(..., m) for each model the sum over all others."""
    rest: Floats = sums.sum(axis=-1, keepdims=True) - sums
    return rest
