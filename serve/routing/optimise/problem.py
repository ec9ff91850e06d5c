"""The batch problem and its solution, as both optimisers see them.

Over all choices x of one model for each of n queries:

    minimise    Σ cost[i, x_i]
    subject to  Σ quality[i, x_i] >= n · requirement
                and, with capacities, no model chosen more often than its capacity

The problem is that of OmniRouter: Mei et al., "OmniRouter: Budget and Performance Controllable
Multi-LLM Routing", arXiv:2502.20576. How it is solved is our own; see `dual` and `capacities`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serve.routing.arrays import Floats, Integers


@dataclass(frozen=True, slots=True)
class Assignment:
    """One model for each query.

    Attributes:
        choice: (n,) column of the chosen model for each query.
        cost: predicted cost of the batch, in USD.
        quality: mean predicted quality.
        multiplier: USD that one unit of quality was worth; infinite if cost played no part.
        lower_bound: in USD; no assignment that reaches this quality costs less.
        shortfall: how far `quality` is below the requirement; 0 if it is met.
    """

    choice: Integers
    cost: float
    quality: float
    multiplier: float
    lower_bound: float
    shortfall: float

    @property
    def gap(self) -> float:
        """At most this much could be saved, relative to the lower bound; proven, not estimated."""
        excess = self.cost - self.lower_bound
        if excess <= 0:
            return 0.0
        return excess / self.lower_bound if self.lower_bound > 0 else np.inf


@dataclass(frozen=True, slots=True)
class Problem:
    """A validated batch.

    Attributes:
        quality: (n, m) predicted qualities, 0 to 1; 0 where a model is not allowed.
        cost: (n, m) predicted costs in USD; infinite where a model is not allowed.
        requirement: mean quality to hold, 0 to 1.
    """

    quality: Floats
    cost: Floats
    requirement: float

    @classmethod
    def of(
        cls,
        quality: npt.ArrayLike,
        cost: npt.ArrayLike,
        requirement: float,
        allowed: npt.ArrayLike | None = None,
    ) -> "Problem":
        """Validates a caller's arrays, all (n, m).

        Raises:
            ValueError: shapes differ, a number is out of range, or a query has no candidate.
        """
        q = np.array(quality, dtype=np.float64)
        c = np.array(cost, dtype=np.float64)
        mask = np.ones(q.shape, np.bool_) if allowed is None else np.asarray(allowed, np.bool_)
        if q.ndim != 2 or q.shape != c.shape or q.shape != mask.shape:
            raise ValueError(
                "quality, cost and allowed must have the same shape (queries, models), not "
                f"{q.shape}, {c.shape} and {mask.shape}"
            )
        check_requirement(requirement)
        if q.shape[0] and not mask.any(axis=1).all():
            raise ValueError(f"query {int(np.argmin(mask.any(axis=1)))} has no candidate model")
        if not ((q >= 0) & (q <= 1) | ~mask).all():
            raise ValueError("every quality must be between 0 and 1")
        if not ((c >= 0) & np.isfinite(c) | ~mask).all():
            raise ValueError("every cost must be a finite number of USD, 0 or more")
        q[~mask] = 0.0
        c[~mask] = np.inf
        return cls(q, c, float(requirement))

    @property
    def target(self) -> float:
        """The total quality to reach: n · requirement."""
        return self.requirement * len(self.quality)

    def totals(self, choice: Integers) -> tuple[float, float]:
        """The total quality and the total cost of a choice (n,)."""
        rows = np.arange(len(choice))
        return float(self.quality[rows, choice].sum()), float(self.cost[rows, choice].sum())

    def meets(self, total_quality: float) -> bool:
        """Whether a total quality reaches the target, within the solvers' tolerance."""
        return total_quality >= self.target - 1e-6

    def cheapest(self) -> Integers:
        """(n,) the cheapest model for each query; of equally cheap ones the best."""
        tied = self.cost <= self.cost.min(axis=1, keepdims=True)
        choice: Integers = np.where(tied, self.quality, -np.inf).argmax(axis=1)
        return choice

    def best(self) -> Integers:
        """(n,) the best model for each query; of equally good ones the cheapest."""
        allowed = np.isfinite(self.cost)
        quality = np.where(allowed, self.quality, -np.inf)
        tied = quality >= quality.max(axis=1, keepdims=True)
        choice: Integers = np.where(tied, self.cost, np.inf).argmin(axis=1)
        return choice

    def assignment(self, choice: Integers, multiplier: float, lower_bound: float) -> Assignment:
        """The solution that consists of this choice (n,)."""
        quality, cost = self.totals(choice)
        missing = 0.0 if self.meets(quality) else self.requirement - quality / len(choice)
        mean = quality / len(choice) if len(choice) else 0.0
        return Assignment(choice, cost, mean, multiplier, min(lower_bound, cost), missing)


def check_requirement(requirement: float) -> None:
    """Raises ValueError unless `requirement` is a quality between 0 and 1."""
    if not 0 <= requirement <= 1:
        raise ValueError(f"performance_requirement must be between 0 and 1, not {requirement}")
