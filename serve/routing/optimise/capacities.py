"""The batch optimiser where models have capacities: an LP by HiGHS, and a certified repair.

A vertex of the LP splits at most one query more than there are models. Those, and the queries that
would mind a change least, are settled by a small integer program on the capacity that is left; the
LP's optimum bounds from below what any assignment costs.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array, vstack

from serve.routing.optimise.dual import Assignment, Floats, Integers, Problem

_INTEGER_ROWS = (16, 64, 256)  # queries beside the split ones that the integer program may move
_INTEGER_SECONDS = 2.0
_LP = {"time_limit": 30.0}  # seconds


def check_capacities(capacities: npt.ArrayLike, models: int) -> Floats:
    """The capacities as whole numbers (m,), infinite where there is no limit.

    Raises:
        ValueError: not one number of queries, 0 or more, for each model.
    """
    limits = np.array(capacities, dtype=np.float64)
    if limits.shape != (models,) or not (limits >= 0).all():
        raise ValueError(f"capacities must be {models} numbers of queries, 0 or more")
    return np.floor(limits)


def assign_within(problem: Problem, limits: Floats) -> Assignment:
    """Solves `problem` so that no model gets more queries than `limits` (m,) says.

    Raises:
        ValueError: there is no way to place all queries.
    """
    relaxed = _Relaxation(problem, limits)
    solution = relaxed.solve(problem.requirement)
    if solution is None:
        choice = relaxed.best()
        return problem.assignment(choice, np.inf, problem.totals(choice)[1])
    shares, bound, multiplier = solution
    for rows in _growing(problem, shares, multiplier):
        settled = _settle(problem, limits, shares, rows)
        if settled is not None:
            return problem.assignment(settled, multiplier, bound)
    # Only rounding stands between the LP and a whole assignment: the best one is within it.
    return problem.assignment(relaxed.best(), multiplier, bound)


class _Relaxation:
    """The LP over the allowed pairs (query, model)."""

    def __init__(self, problem: Problem, limits: Floats) -> None:
        n, m = problem.quality.shape
        self.problem = problem
        self.row, self.model = np.nonzero(np.isfinite(problem.cost))
        self.cost = problem.cost[self.row, self.model]
        self.quality = problem.quality[self.row, self.model]
        pairs = np.arange(len(self.row))
        ones = np.ones(len(pairs))
        self.placed = csr_array(coo_array((ones, (self.row, pairs)), shape=(n, len(pairs))))
        taken = csr_array(coo_array((ones, (self.model, pairs)), shape=(m, len(pairs))))
        limited = np.flatnonzero(np.isfinite(limits))
        self.taken, self.limits = taken[limited], limits[limited]

    def solve(self, requirement: float) -> tuple[Floats, float, float] | None:
        """(shares (n, m), cost, multiplier of quality), or None where quality can't be reached."""
        n = len(self.problem.quality)
        scale = float(self.cost.max()) or 1.0
        result = linprog(
            self.cost / scale,
            A_ub=vstack([self.taken, csr_array(-self.quality[None, :])]),
            b_ub=np.append(self.limits, -requirement * n),
            A_eq=self.placed,
            b_eq=np.ones(n),
            bounds=(0, 1),
            method="highs-ds",  # a simplex method, for it ends in a vertex
            options=_LP,
        )
        if result.status == 2:
            return None
        if result.status != 0:
            raise RuntimeError(f"HiGHS gave up: {result.message}")
        shares = np.zeros(self.problem.quality.shape)
        shares[self.row, self.model] = result.x
        return shares, float(result.fun) * scale, -float(result.ineqlin.marginals[-1]) * scale

    def best(self) -> Integers:
        """The best quality within the capacities, the cheaper one of equals.

        The constraints are those of a transportation problem, whose vertices are whole.
        """
        scale = float(self.cost.max()) or 1.0
        result = linprog(
            1e-6 * self.cost / scale - self.quality,
            A_ub=self.taken,
            b_ub=self.limits,
            A_eq=self.placed,
            b_eq=np.ones(len(self.problem.quality)),
            bounds=(0, 1),
            method="highs-ds",
            options=_LP,
        )
        if result.status == 2:
            raise ValueError(
                f"the capacities don't hold the batch's {len(self.problem.quality)} queries on "
                "their candidate models"
            )
        if result.status != 0:
            raise RuntimeError(f"HiGHS gave up: {result.message}")
        shares = np.zeros(self.problem.quality.shape)
        shares[self.row, self.model] = result.x
        choice: Integers = shares.argmax(axis=1)
        return choice


def _growing(problem: Problem, shares: Floats, multiplier: float) -> Iterator[Integers]:
    """Queries to settle anew: the split ones and ever more of those that would mind least."""
    split = shares.max(axis=1) < 1 - 1e-6
    value = problem.cost - multiplier * problem.quality
    chosen = value[np.arange(len(value)), shares.argmax(axis=1)]
    others = np.where(shares > 0.5, np.inf, value)
    regret = np.where(split, -np.inf, np.abs(others.min(axis=1) - chosen))
    order = np.argsort(regret)
    for extra in _INTEGER_ROWS:
        yield order[: int(split.sum()) + extra]


def _settle(problem: Problem, limits: Floats, shares: Floats, rows: Integers) -> Integers | None:
    """Places `rows` whole at the least cost, the others as in `shares`; None if it can't."""
    n, m = problem.quality.shape
    choice: Integers = shares.argmax(axis=1)
    fixed = np.setdiff1d(np.arange(n), rows)
    left = limits - np.bincount(choice[fixed], minlength=m)
    needed = problem.target - float(problem.quality[fixed, choice[fixed]].sum())
    part = _Relaxation(Problem(problem.quality[rows], problem.cost[rows], 0.0), left)
    result = milp(
        part.cost / (float(part.cost.max()) or 1.0),
        integrality=np.ones(len(part.cost)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(part.placed, 1, 1),
            LinearConstraint(part.taken, -np.inf, part.limits),
            LinearConstraint(csr_array(part.quality[None, :]), needed, np.inf),
        ],
        options={"time_limit": _INTEGER_SECONDS, "mip_rel_gap": 1e-6},
    )
    if result.x is None:
        return None
    whole = np.zeros((len(rows), m))
    whole[part.row, part.model] = result.x
    choice[rows] = whole.argmax(axis=1)
    return choice
