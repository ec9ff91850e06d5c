"""Online dual descent: requests are decided as they come, and their running mean holds a quality.

The multiplier λ (USD for one unit of quality) prices quality: a request goes to the model of least
cost − λ · quality, and log λ moves by a step times (requirement − predicted quality). The steps add
up, so that the mean can stay under the requirement by no more than the multiplier's way over the
number of requests; working on log λ makes it independent of what the models cost. Source: online
mirror descent on the dual, Balseiro, Lu and Mirrokni, "The best of many worlds: dual mirror descent
for online allocation problems", Operations Research 71 (2023).
"""

from dataclasses import asdict, dataclass, replace
from math import exp, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from serve.routing.optimise.dual import Booleans, Floats, assign, check_requirement

Ranked = npt.NDArray[np.intp]

_FIRST_STEP, _LAST_STEP = 4.0, 0.05
_TRUST = 1000  # a batch's multiplier counts as much as that of so many decisions
_MEMORY = 1000.0  # decisions and scores over which averages forget
_CAUTION = 20.0  # scores that count as much as the belief that predictions are right
_LARGEST_BIAS = 0.2
_LOWEST, _HIGHEST = -12.0, 4.0  # how far log λ may go from the scale of costs
_NUDGE = 1 + 1e-9  # over the λ at which two models are equal, so that the better one is chosen


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept between the requests of one requirement; never changed, only replaced.

    Attributes:
        requirement: mean quality to hold.
        optimism: how much predictions were too high for what they chose on past queries.
        multiplier: USD that one unit of quality is worth; None before the first choice.
        scale: running mean of the spread of costs between a request's candidates, in USD.
        decisions: how many choices have moved the multiplier.
        error: weighted sum of (predicted − optimism − real quality) over scored answers.
        scores: weight of those scores.
    """

    requirement: float
    optimism: float = 0.0
    multiplier: float | None = None
    scale: float = 0.0
    decisions: int = 0
    error: float = 0.0
    scores: float = 0.0

    def __post_init__(self) -> None:
        check_requirement(self.requirement)

    @classmethod
    def started(
        cls, requirement: float, quality: Floats, cost: Floats, optimism: float = 0.0
    ) -> "Policy":
        """A policy that begins at the multiplier of a batch: past queries, predicted out of fold.

        Args:
            requirement: mean quality to hold.
            quality: (n, m) predicted qualities.
            cost: (n, m) predicted costs in USD.
            optimism: of these predictions, as `Backtest.optimism` measures it.
        """
        policy = cls(requirement, optimism)
        if not len(quality):
            return policy
        scale = float(np.ptp(cost, axis=1).mean())
        multiplier = _bounded(assign(quality, cost, policy.aim).multiplier, scale)
        return replace(policy, multiplier=multiplier, scale=scale, decisions=_TRUST)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> "Policy":
        """The policy that `to_dict` described."""
        return cls(**state)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for a database or a message."""
        return asdict(self)

    @property
    def aim(self) -> float:
        """The mean predicted quality to hold, so that the real one holds the requirement."""
        return min(max(self.requirement + self.optimism + self.bias, 0.0), 1.0)

    @property
    def bias(self) -> float:
        """How much too high predictions still are, as far as scores have shown."""
        bias = self.error / (self.scores + _CAUTION)
        return min(max(bias, -_LARGEST_BIAS), _LARGEST_BIAS)

    def decide(self, quality: Floats, cost: Floats, allowed: Booleans) -> tuple[Ranked, "Policy"]:
        """Ranks the models for one request, and gives the policy for the next one.

        Args:
            quality: (m,) predicted qualities.
            cost: (m,) predicted costs in USD.
            allowed: (m,) which models may answer; a model that is down or full may not.

        Returns:
            The columns of the allowed models, best first: the first is the choice, the others are
            for when it fails. And the policy, moved by the choice.

        Raises:
            ValueError: no model is allowed.
        """
        candidates = np.flatnonzero(allowed)
        if not candidates.size:
            raise ValueError("the request has no candidate model")
        if candidates.size == 1:
            # No choice was made, so it must not move the price that others' choices are made at.
            return candidates, self
        q, c = quality[candidates], cost[candidates]
        spread = float(c.max() - c.min())
        age = min(self.decisions, _MEMORY)
        scale = (self.scale * age + spread) / (age + 1)
        multiplier = self.multiplier
        if multiplier is None:
            # Nothing is known of other requests, so this one alone has to hold the requirement.
            multiplier = _bounded(assign(q[None], c[None], self.aim).multiplier * _NUDGE, scale)
        # Of equal ones the better: where nothing costs anything, quality alone decides.
        order = np.lexsort((-q, c - multiplier * q))
        step = max(_LAST_STEP, _FIRST_STEP / sqrt(self.decisions + 1))
        moved = multiplier * exp(step * (self.aim - float(q[order[0]])))
        return candidates[order], replace(
            self,
            multiplier=_bounded(moved, scale),
            scale=scale,
            decisions=self.decisions + 1,
        )

    def correct(self, predicted: float, score: float, replaced: float | None = None) -> "Policy":
        """Learns from what an answer was worth, both 0 to 1.

        Args:
            predicted: the quality that was predicted when its model was chosen.
            score: its real quality.
            replaced: the score given for it before, if this one takes its place.

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


def _bounded(multiplier: float, scale: float) -> float:
    return min(max(multiplier, scale * exp(_LOWEST)), scale * exp(_HIGHEST))
