"""What other choices would have brought, estimated from those that were made.

Of each request only the chosen model's outcome is known. An estimate adds to what is predicted of
the wanted models the errors of the predictions where the wanted model was the chosen one, each by
the inverse of the probability of being seen. It is doubly robust: without bias if either the
predictions or the probabilities are right. Source: Dudík, Erhan, Langford and Li, "Doubly robust
policy evaluation and optimization", Statistical Science 29 (2014), equation 9. Propensities are .1
or more here (`optimise.exploring`), so weights need no clipping.

Most choices are made with probability 1, so much of what is wanted had no chance to be seen. There
the prediction has to do, less its mean error wherever the outcome of what is wanted is known. That
takes off what choosing by predictions promises too much (`Backtest.optimism`); the interval allows
for the error of that mean, and for a doubt whether it holds where nothing was seen.

Which requests there were is given: the interval is about their outcomes.
Shapes: n requests, h other past queries, m models.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from serve.routing.arrays import Floats, Integers

_Z = 1.959964  # 95 %
_BELIEF = 20.0  # errors; the weight of all models' mean error in that of one


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean over all requests.

    Attributes:
        mean: the estimate.
        error: its standard error.
        seen: the share of what is wanted that had a chance to be seen, 0 to 1.
    """

    mean: float
    error: float
    seen: float

    @property
    def interval(self) -> tuple[float, float]:
        """Covers the truth in 95 %."""
        return self.mean - _Z * self.error, self.mean + _Z * self.error


@dataclass(frozen=True, slots=True)
class Log:
    """Requests as they were answered, and what else is known.

    Attributes:
        chosen: (n,) columns of the chosen models.
        propensity: (n,) the probability of each choice, above 0 to 1.
        outcome: (n,) of the chosen models; NaN where unknown. Whether it is known may depend on
            the model and on what predictions are made from, but on nothing else.
        predicted: (n + h, m) outcomes of the requests, then of other queries, each predicted
            without knowledge of the query's own outcomes.
        truth: (h, m) outcomes on the other queries; NaN where unknown.
        doubt: standard deviation of the mean error where nothing was seen, from where it was.
        relative: whether errors are in proportion to what is predicted, as those of costs are.
    """

    chosen: Integers
    propensity: Floats
    outcome: Floats
    predicted: Floats
    truth: Floats
    doubt: float
    relative: bool = False

    def __post_init__(self) -> None:
        if not len(self.chosen):
            raise ValueError("there are no requests to estimate from")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise ValueError("every propensity must be above 0, and 1 at most")

    def chance(self) -> Floats:
        """(n,) the probability with which the outcome of the chosen model is known: that of the
        choice times the known share of the model's outcomes."""
        models = self.predicted.shape[1]
        known = np.bincount(self.chosen[~np.isnan(self.outcome)], minlength=models)
        count = np.bincount(self.chosen, minlength=models)
        return self.propensity * (known / np.maximum(count, 1))[self.chosen]


def estimate(log: Log, wanted: Floats) -> Estimate:
    """The mean outcome of what is wanted.

    Args:
        log: what is known.
        wanted: (n + h, m) the probability with which each model would be chosen for a query. Other
            weights give the mean of outcomes weighted so, such as the difference of two policies.
    """
    n, m = len(log.chosen), wanted.shape[1]
    seen = np.flatnonzero(~np.isnan(log.outcome))
    elsewhere, model = np.nonzero(~np.isnan(log.truth))
    row = np.concatenate([seen, n + elsewhere])
    column = np.concatenate([log.chosen[seen], model])
    outcome = np.concatenate([log.outcome[seen], log.truth[elsewhere, model]])
    error = outcome - log.predicted[row, column]
    if log.relative:
        error /= np.maximum(log.predicted[row, column], np.finfo(np.float64).tiny)
    mass = wanted * log.predicted if log.relative else wanted
    at, chance = mass[row, column], log.chance()[seen]

    raised = at[: len(seen)] / chance
    reached = np.bincount(column[: len(seen)], raised, m)
    left = mass[:n].sum(axis=0) - reached
    whole = np.abs(mass[:n]).sum()
    share = min(np.abs(raised).sum() / whole, 1.0) if whole else 1.0
    alone = max((mass[:n] ** 2).sum() - (raised * at[: len(seen)]).sum(), 0.0)

    # What is left gets the mean error of the model, drawn to that of all. Where no outcome of what
    # is wanted is known, it gets that of all other choices.
    weight = np.abs(at) if at.any() else np.ones(len(at))
    total = np.bincount(column, weight, m)
    belief = _BELIEF * weight.mean() if len(weight) else 0.0
    own = np.divide(left, total + belief, out=np.zeros(m), where=total + belief > 0)
    common = (own * belief).sum() / max(weight.sum(), np.finfo(np.float64).tiny)
    spent = weight * (own[column] + common)
    mean = (wanted[:n] * log.predicted[:n]).sum() + (raised * error[: len(seen)]).sum()
    mean += (spent * error).sum()
    single = (weight * error**2).sum() / max(weight.sum(), np.finfo(np.float64).tiny)
    doubt = (log.doubt * np.abs(left).sum()) ** 2
    # That each request was seen is a draw (Horvitz and Thompson 1952), in which its error counts in
    # both ways; as part of the mean error, it is a sample of all errors besides.
    counts = spent**2
    counts[: len(seen)] += (1 - chance) * raised * (raised + 2 * spent[: len(seen)])
    variance = max((counts * error**2).sum(), 0.0) + alone * single + doubt
    return Estimate(float(mean) / n, sqrt(variance) / n, float(share))
