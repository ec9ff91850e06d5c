"""Now and then asks a model that may be better than is known, within a share of the spend.

What was chosen is all that is ever learned, so a model that began badly would never be asked again.
A model is promising for a request if it would be chosen were its quality two standard deviations
higher than predicted, of the mean of its scored answers; with some 150 of them it is known well
enough. One of ten requests with a promising model goes to the most promising one, as long as there
are savings for it: every request saves a share of its predicted cost, and an explored one takes
what its answer is predicted to cost, but no less than the best model's would.

Source: optimism in the face of uncertainty, as in Auer, Cesa-Bianchi and Fischer, "Finite-time
analysis of the multiarmed bandit problem", Machine Learning 47 (2002); the budget and the constant
probability, which makes every choice's propensity known, are our own.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from serve.routing.arrays import Floats

_SHARE = 0.1  # of the requests with a promising model
_HOPE = 2.0  # standard deviations
_KNOWN = 0.04  # standard deviation of a mean; a model that is known so well is not explored
_SAVED = 10_000.0  # requests; the most that is saved for later is what these save
_FREE = 1e-12  # USD; where all models are free, requests are counted


@dataclass(frozen=True, slots=True)
class Pick:
    """The model to ask first.

    Attributes:
        column: of the model.
        propensity: the probability with which it was picked, 0 to 1.
        explores: whether it is not the best one.
    """

    column: int
    propensity: float = 1.0
    explores: bool = False


class Explorer:
    """What one router has saved for exploration. Not thread-safe.

    Args:
        share: of the predicted spend, 0 to 1; 0 explores nothing.
        draw: a random number, 0 to 1.
    """

    def __init__(self, share: float, draw: Callable[[], float] = random.random) -> None:
        self.share = share
        self._draw = draw
        self._saved = 0.0  # USD

    def pick(
        self,
        order: Sequence[int],
        quality: Floats,
        cost: Floats,
        multiplier: float,
        scores: Floats,
    ) -> Pick:
        """The best model, or a promising one.

        Args:
            order: columns of at least two models that may be asked, best first.
            quality: (m,) predicted, 0 to 1.
            cost: (m,) predicted, in USD.
            multiplier: USD that a unit of quality is worth.
            scores: (m,) of how many past queries each model's answers have been scored, as much as
                these count.
        """
        best, others = order[0], np.array(order[1:])
        fee = np.maximum(cost, max(float(cost[best]), _FREE))
        self._saved += self.share * float(fee[best]) - self._saved / _SAVED
        price = cost - multiplier * quality
        deviation = np.sqrt(quality * (1 - quality) / (scores + 1))
        hoped = price - multiplier * _HOPE * deviation
        eligible = (deviation > _KNOWN) & (hoped < price[best]) & (fee <= self._saved)
        promising = others[eligible[others]]
        if not promising.size:
            return Pick(best)
        if self._draw() >= _SHARE:
            return Pick(best, 1 - _SHARE)
        column = int(promising[hoped[promising].argmin()])
        self._saved -= float(fee[column])
        return Pick(column, _SHARE, explores=True)
