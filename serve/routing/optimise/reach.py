"""The multipliers that make a difference to recent requests, so that one is never far from them.

The multiplier of `optimise.online` adds up what requests fall short of a requirement or exceed it.
Where no multiplier would change the choice (all queries are easy; the best model is down), that
sum would grow without end, and later requests would have to work it off: integral wind-up. So the
multiplier stays within reach of those at which the choice changes. Source: Åström and Hägglund,
"Advanced PID control" (2006), chapter 3.5, on limits of an integral.
"""

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import NamedTuple

import numpy as np

from serve.routing.arrays import Floats

_WINDOW = 1000.0  # requests; what came before them is forgotten
_MARGIN = 3.0  # standard deviations
_WIDEST = 12.0  # of log λ, between the two multipliers of one request
_NARROWEST = 0.5  # of log λ, on each side
SAME_QUALITY, _SAME_COST = (
    1e-9,
    1e-30,
)  # USD; smaller differences are none, so that logs are finite


class Turns(NamedTuple):
    """For one request, in USD: below `low` its cheapest model is chosen, above `high` its best."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reach:
    """Running means and variances of log `Turns`.

    Attributes:
        low, low_variance: of the multiplier below which the cheapest model is chosen.
        high, high_variance: of that above which the best one is.
    """

    low: float
    low_variance: float
    high: float
    high_variance: float

    @classmethod
    def of(cls, quality: Floats, cost: Floats) -> "Reach | None":
        """That of a batch, (n, m) each; None if no multiplier would change any of its choices."""
        known = [turns for q, c in zip(quality, cost, strict=True) if (turns := turns_of(q, c))]
        if not known:
            return None
        logs = np.log(known)
        (low, high), (low_variance, high_variance) = logs.mean(axis=0), logs.var(axis=0)
        return cls(float(low), float(low_variance), float(high), float(high_variance))

    @property
    def lowest(self) -> float:
        """The least multiplier within reach, in USD."""
        return exp(self.low - _far(self.low_variance))

    @property
    def highest(self) -> float:
        """The largest one."""
        return exp(self.high + _far(self.high_variance))

    def bounded(self, multiplier: float) -> float:
        """The multiplier within reach, in USD."""
        return min(max(multiplier, self.lowest), self.highest)

    def with_one_more(self, turns: Turns, age: float) -> "Reach":
        """Moved by one request; `age` is the number of requests before it."""
        share = 1 / (min(age, _WINDOW) + 1)
        low, low_variance = _moved(self.low, self.low_variance, log(turns.low), share)
        high, high_variance = _moved(self.high, self.high_variance, log(turns.high), share)
        return Reach(low, low_variance, high, high_variance)

    def towards(self, other: "Reach", share: float) -> "Reach":
        """Moved by a share, 0 to 1, of the way to another one."""
        return Reach(
            self.low + share * (other.low - self.low),
            self.low_variance + share * (other.low_variance - self.low_variance),
            self.high + share * (other.high - self.high),
            self.high_variance + share * (other.high_variance - self.high_variance),
        )


def turns_of(quality: Floats, cost: Floats) -> Turns | None:
    """Of one request, (m,) each; None if its cheapest model is its best, too."""
    cheapest, best = cost.argmin(), quality.argmax()
    gain, loss = quality - quality[cheapest], quality[best] - quality
    if gain[best] <= SAME_QUALITY or cost[best] - cost[cheapest] <= _SAME_COST:
        return None
    better, worse = gain > SAME_QUALITY, loss > SAME_QUALITY
    low = float(((cost - cost[cheapest])[better] / gain[better]).min())
    high = float(((cost[best] - cost)[worse] / loss[worse]).max())
    # A better model that costs the same, or nearly so, would make it 0.
    return Turns(max(low, high * exp(-_WIDEST)), high)


def _far(variance: float) -> float:
    return max(_MARGIN * sqrt(variance), _NARROWEST)


def _moved(mean: float, variance: float, value: float, share: float) -> tuple[float, float]:
    """An exponentially weighted mean and variance, with one more value."""
    apart = value - mean
    return mean + share * apart, (1 - share) * (variance + share * apart**2)
