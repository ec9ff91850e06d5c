"""Online dual descent: each request is decided on arrival, and the running mean holds a quality.

The multiplier λ (USD for one unit of quality) is the price of quality: a request goes to the model
of least cost − λ · quality, and log λ then moves by a step times (requirement − predicted quality).
The steps add up, so the mean can fall short of the requirement by at most the distance that the
multiplier travels, divided by the number of requests. Stepping in log λ makes this independent of
the scale of costs. Source: Balseiro, Lu and Mirrokni, "The best of many worlds: dual mirror descent
for online allocation problems", Operations Research 71 (2023).

What is held is the mean over the last few hundred requests. The multiplier stays within reach of
those that made a difference (`optimise.reach`), so a surplus or a shortfall that no choice could
avoid is forgotten. And where the last fifty choices miss the aim on average, the traffic has
changed: steps are then up to five times as long, until they don't.
"""

from dataclasses import asdict, dataclass, fields, replace
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.routing.arrays import Booleans, Floats
from serve.routing.optimise.batch import assign
from serve.routing.optimise.problem import check_requirement
from serve.routing.optimise.reach import SAME_QUALITY, Reach, Turns, turns_of

Ranked = npt.NDArray[np.intp]

_FIRST_STEP, LAST_STEP = 4.0, 0.05  # of log λ, for one unit of quality
_TRUST = 1000  # decisions; a multiplier that comes from a batch counts as much as one after these
_MEMORY = 1000.0  # scores; the window of the running average
_CAUTION = 20.0  # scores; the weight of the prior belief that predictions are unbiased
_LARGEST_BIAS = 0.2
_LATELY = 50.0  # decisions; the window in which a change of the traffic shows
_FAR_OFF, _HURRY = 0.05, 4.0  # of quality, from where steps grow; by how much at twice of that
_NUDGE = 1 + 1e-9  # just above the λ at which two models tie, so that the better one is chosen


@dataclass(frozen=True, slots=True)
class Policy:
    """The state kept between requests of one requirement. Immutable: methods return a new one.

    Attributes:
        requirement: mean quality to hold, 0 to 1.
        optimism: by how much predictions exceeded the real quality of their choices on past
            queries.
        multiplier: USD that one unit of quality is worth; None while none has made a difference.
        reach: which multipliers made a difference to recent requests; None while none did.
        decisions: how many choices have moved the multiplier.
        error: weighted sum of (predicted − optimism − real quality) over scored answers.
        scores: total weight of those scores.
        missed: running mean of (aim − predicted quality) over the last choices of this router.
        offset: of the aim, to make up for what several routers fell short together; see
            `serve.routing.shared_policies`.
    """

    requirement: float
    optimism: float = 0.0
    multiplier: float | None = None
    reach: Reach | None = None
    decisions: int = 0
    error: float = 0.0
    scores: float = 0.0
    offset: float = 0.0
    missed: float = 0.0

    def __post_init__(self) -> None:
        check_requirement(self.requirement)

    @classmethod
    def started(
        cls, requirement: float, quality: Floats, cost: Floats, optimism: float = 0.0
    ) -> "Policy":
        """A policy that starts with the multiplier of a batch of past queries.

        Args:
            requirement: mean quality to hold, 0 to 1.
            quality: (n, m) qualities, each predicted without knowledge of its own query.
            cost: (n, m) predicted costs in USD.
            optimism: of these predictions, as measured by `Backtest.optimism`.
        """
        policy = cls(requirement, optimism)
        if not len(quality):
            return policy
        reach = Reach.of(quality, cost)
        if reach is None:
            return policy
        multiplier = reach.bounded(assign(quality, cost, policy.aim).multiplier)
        return replace(policy, multiplier=multiplier, reach=reach, decisions=_TRUST)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Policy":
        """The policy described by `to_dict`, also by that of an earlier version."""
        known = {field.name: state[field.name] for field in fields(cls) if field.name in state}
        reach = known.pop("reach", None)
        return cls(**known, reach=None if reach is None else Reach(**reach))

    def to_dict(self) -> dict[str, Any]:
        """The state as plain numbers, for a database or a message."""
        return asdict(self)

    @property
    def aim(self) -> float:
        """The mean predicted quality to hold so that the real mean holds the requirement."""
        return min(max(self.requirement + self.optimism + self.bias + self.offset, 0.0), 1.0)

    @property
    def bias(self) -> float:
        """By how much predictions, less `optimism`, still exceed the scores; shrunk towards 0."""
        bias = self.error / (self.scores + _CAUTION)
        return min(max(bias, -_LARGEST_BIAS), _LARGEST_BIAS)

    @property
    def step(self) -> float:
        """How far the next decision moves log λ for one unit of quality that it falls short."""
        excess = abs(self.missed) / _FAR_OFF - 1
        hurry = 1 + _HURRY * min(max(excess, 0.0), 1.0)
        return max(LAST_STEP * hurry, _FIRST_STEP / sqrt(self.decisions + 1))

    def decide(
        self, quality: Floats, cost: Floats, allowed: Booleans, first: int | None = None
    ) -> tuple[Ranked, "Policy"]:
        """Ranks the models for one request and returns the policy for the next one.

        Args:
            quality: (m,) predicted qualities, 0 to 1.
            cost: (m,) predicted costs in USD.
            allowed: (m,) which models may answer; not those that are down or full.
            first: the column of a model that is asked although it may not be the best; what it is
                predicted to fall short is made up for like any other shortfall.

        Returns:
            The columns of the allowed models, best first: the first is the choice, the others are
            fallbacks. And the policy as moved by this choice.

        Raises:
            ValueError: no model is allowed.
        """
        candidates = np.flatnonzero(allowed)
        if not candidates.size:
            raise ValueError("the request has no candidate model")
        if candidates.size == 1:
            # This wasn't a choice, so it must not move the price for those that are.
            return candidates, self
        q, c = quality[candidates], cost[candidates]
        turns = turns_of(q, c)
        reach = self._reach(turns)
        multiplier = self._multiplier(q, c, reach)
        # Ties go to the better model: if all are free, quality alone decides.
        order = np.lexsort((-q, c - multiplier * q, candidates != first))
        missed = self.aim - float(q[order[0]])
        return candidates[order], replace(
            self,
            multiplier=self._moved(multiplier, missed, reach, turns),
            reach=reach,
            decisions=self.decisions + 1,
            missed=self.missed + (missed - self.missed) / _LATELY,
        )

    def weighs(self, quality: Floats, cost: Floats, allowed: Booleans) -> float | None:
        """The multiplier that `decide` would choose by, in USD; None if there is no choice."""
        candidates = np.flatnonzero(allowed)
        if candidates.size < 2:
            return self.multiplier
        q, c = quality[candidates], cost[candidates]
        return self._multiplier(q, c, self._reach(turns_of(q, c)))

    def correct(self, predicted: float, score: float, replaced: float | None = None) -> "Policy":
        """Learns from the score of an answer.

        Args:
            predicted: the quality predicted when its model was chosen, 0 to 1.
            score: its real quality, 0 to 1.
            replaced: the score given before, if this one replaces it.

        Raises:
            ValueError: a quality is not between 0 and 1.
        """
        for value in (predicted, score, score if replaced is None else replaced):
            if not 0 <= value <= 1:
                raise ValueError(f"a score must be between 0 and 1, not {value}")
        if replaced is not None:
            return replace(self, error=self.error + replaced - score)
        keep = 1 - 1 / _MEMORY
        return replace(
            self,
            error=self.error * keep + predicted - self.optimism - score,
            scores=self.scores * keep + 1,
        )

    def _reach(self, turns: Turns | None) -> Reach | None:
        """Which multipliers make a difference, with those of one more request."""
        if turns is None:
            return self.reach
        if self.reach is None:
            return Reach(log(turns.low), 0.0, log(turns.high), 0.0)
        return self.reach.with_one_more(turns, self.decisions)

    def _moved(
        self, multiplier: float, missed: float, reach: Reach | None, turns: Turns | None
    ) -> float | None:
        """The multiplier after a choice that missed the aim by so much."""
        if reach is None:
            return self.multiplier
        moved = multiplier * exp(self.step * missed)
        if missed > 0:
            highest = reach.highest if turns is None else max(reach.highest, turns.high)
            moved = min(moved, max(multiplier, highest))
        return raised(moved, reach)

    def _multiplier(self, quality: Floats, cost: Floats, reach: Reach | None) -> float:
        if self.multiplier is not None:
            return self.multiplier
        # Nothing is known of other requests: this one has to hold the requirement by itself.
        alone = assign(quality[None], cost[None], self.aim).multiplier * _NUDGE
        if reach is None:  # it may be infinite, and only orders the fallbacks
            return min(alone, float(np.ptp(cost)) / SAME_QUALITY)
        return reach.bounded(alone)


def raised(multiplier: float, reach: Reach | None) -> float:
    """The multiplier, or the least one within reach: below it, choices are the same."""
    return multiplier if reach is None else max(multiplier, reach.lowest)
