"""Chooses models for a whole batch at once: the least cost that holds a mean quality."""

import numpy as np
import numpy.typing as npt

from serve.routing.arrays import Floats
from serve.routing.optimise.dual import solve
from serve.routing.optimise.problem import Assignment, Problem


def assign(
    quality: npt.ArrayLike,
    cost: npt.ArrayLike,
    requirement: float,
    *,
    allowed: npt.ArrayLike | None = None,
    capacities: npt.ArrayLike | None = None,
) -> Assignment:
    """Chooses a model for each query of a batch.

    Args:
        quality: (n, m) predicted qualities, 0 to 1.
        cost: (n, m) predicted costs in USD.
        requirement: mean quality to hold, 0 to 1. If it is out of reach, the best possible quality
            is chosen and `shortfall` says how far below the requirement that is.
        allowed: (n, m) whether a model is a candidate for a query; by default all are.
        capacities: (m,) the most queries of this batch that a model may get; infinite for no limit.

    Raises:
        ValueError: shapes differ, a number is out of range, a query has no candidate, or the
            capacities are too small for the batch.
    """
    problem = Problem.of(quality, cost, requirement, allowed)
    unlimited = solve(problem)
    if capacities is None:
        return unlimited
    limits = _limits(capacities, problem.quality.shape[1])
    if (np.bincount(unlimited.choice, minlength=len(limits)) <= limits).all():
        return unlimited
    # SciPy takes long to import, and most processes never solve a batch with capacities.
    from serve.routing.optimise.capacities import solve_within

    return solve_within(problem, limits)


def _limits(capacities: npt.ArrayLike, models: int) -> Floats:
    """The capacities as whole numbers, (m,); infinite where there is no limit."""
    limits = np.array(capacities, dtype=np.float64)
    if limits.shape != (models,) or not (limits >= 0).all():
        raise ValueError(f"capacities must be {models} numbers of queries, each 0 or more")
    return np.floor(limits)
