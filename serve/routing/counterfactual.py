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
_LEAST = np.finfo(np.float64).tiny  # stands for 0 in a denominator
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

    def known(self) -> "_Known":
        """All known outcomes, with the errors of their predictions."""
        n, m = len(self.chosen), self.predicted.shape[1]
        seen = np.flatnonzero(~np.isnan(self.outcome))
        elsewhere, model = np.nonzero(~np.isnan(self.truth))
        row = np.concatenate([seen, n + elsewhere])
        column = np.concatenate([self.chosen[seen], model])
        outcome = np.concatenate([self.outcome[seen], self.truth[elsewhere, model]])
        predicted = self.predicted[row, column]
        error = outcome - predicted
        if self.relative:
            error /= np.maximum(predicted, _LEAST)
        # An outcome is known if its model was chosen, and if that model's happened to be known.
        count, known = np.bincount(self.chosen, minlength=m), np.bincount(column[: len(seen)])
        chance = self.propensity[seen] * (known / count[: len(known)].clip(1))[column[: len(seen)]]
        return _Known(row, column, error, np.pad(1 / chance, (0, len(elsewhere))))


@dataclass(frozen=True, slots=True)
class _Known:
    """The k known outcomes.

    Attributes:
        row, column: (k,) of which query and model.
        error: (k,) the outcome less its prediction, relative to it if errors are.
        raised: (k,) how many outcomes it stands for: the inverse of the chance that it is known; 0
            for those on other queries.
    """

    row: Integers
    column: Integers
    error: Floats
    raised: Floats


def estimate(log: Log, wanted: Floats) -> Estimate:
    """The mean outcome of what is wanted.

    Args:
        log: what is known.
        wanted: (n + h, m) the probability with which each model would be chosen for a query. Other
            weights give the mean of outcomes weighted so, such as the difference of two policies.
    """
    n, known = len(log.chosen), log.known()
    mass = wanted * log.predicted if log.relative else wanted
    at = mass[known.row, known.column]
    raised = at * known.raised
    left = mass[:n].sum(axis=0) - np.bincount(known.column, raised, mass.shape[1])
    # Where no outcome of what is wanted is known, that of all other choices has to do.
    weight = np.abs(at) if at.any() else np.ones(len(at))
    shared = _shared(left, weight, known.column)
    total = (wanted[:n] * log.predicted[:n]).sum() + ((raised + shared) * known.error).sum()

    # That each request was seen is a draw (Horvitz and Thompson 1952), in which its error counts
    # both ways; as part of a mean error, it is a sample of all errors besides.
    drawn = (raised - at) * (raised + 2 * shared) * (known.raised > 0)
    variance = max(((drawn + shared**2) * known.error**2).sum(), 0.0)
    unseen = max((mass[:n] ** 2).sum() - (raised * at).sum(), 0.0)
    variance += unseen * (weight * known.error**2).sum() / max(weight.sum(), _LEAST)
    variance += (log.doubt * np.abs(left).sum()) ** 2
    whole = np.abs(mass[:n]).sum()
    reached = min(np.abs(raised).sum() / whole, 1.0) if whole else 1.0
    return Estimate(float(total) / n, sqrt(variance) / n, float(reached))


def _shared(left: Floats, weight: Floats, column: Integers) -> Floats:
    """(k,) how much each known error counts in the errors of what had no chance to be seen.

    That gets the mean error of the model, drawn to that of all models.

    Args:
        left: (m,) what had no chance, by model.
        weight: (k,) of the known errors in means.
        column: (k,) of their models.
    """
    if not len(weight):
        return weight
    belief = _BELIEF * weight.mean()
    own = left / (np.bincount(column, weight, len(left)) + belief)
    shared: Floats = weight * (own[column] + own.sum() * belief / weight.sum())
    return shared
