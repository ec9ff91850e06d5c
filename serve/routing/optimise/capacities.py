"""The batch optimiser with capacities: the LP relaxation solved by HiGHS, then rounded.

A vertex of the LP splits at most m + 1 queries between models. These, and the queries of least
regret, are assigned by a small integer program within the remaining capacity. The optimum of the LP
is a lower bound of any assignment's cost, so the gap of the result is proven. HiGHS comes with
SciPy; source: Huangfu and Hall, "Parallelizing the dual revised simplex method", Mathematical
Programming Computation 10 (2018).
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import coo_array, csr_array, vstack

from serve.routing.arrays import Floats, Integers
from serve.routing.optimise.problem import Assignment, Problem

_EXTRA_QUERIES = (16, 64, 256)  # beside the split ones in the integer program, in turn
_INTEGER_SECONDS, _LP_SECONDS = 2.0, 30.0
_RELATIVE_GAP = 1e-6  # at which the integer program stops
_INFEASIBLE = 2  # SciPy's status


def solve_within(problem: Problem, limits: Floats) -> Assignment:
    """Solves `problem` with at most `limits` (m,) queries for each model.

    Raises:
        ValueError: the limits are too small for the batch.
        RuntimeError: HiGHS didn't solve the LP in time.
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
    # The LP reaches the requirement but no assignment was found that does: take the best one.
    return problem.assignment(relaxed.best(), multiplier, bound)


class _Relaxation:
    """The LP over the p allowed pairs of a query and a model.

    Attributes:
        row, model: (p,) the query and the model of each pair.
        cost, quality: (p,) of each pair, in USD and 0 to 1.
        placed: (n, p) its product with the pairs' shares is how much of each query is assigned.
        taken: (l, p) likewise, how many queries each of the l limited models gets.
        limits: (l,) the most that each of them may get.
    """

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
        """Solves the LP.

        Returns:
            The share of each query that each model gets (n, m), their cost in USD, and the
            multiplier in USD for one unit of quality; None if the requirement is out of reach.
        """
        n = len(self.problem.quality)
        scale = float(self.cost.max()) or 1.0
        result = linprog(
            self.cost / scale,
            A_ub=vstack([self.taken, csr_array(-self.quality[None, :])]),
            b_ub=np.append(self.limits, -requirement * n),
            A_eq=self.placed,
            b_eq=np.ones(n),
            bounds=(0, 1),
            method="highs-ds",  # simplex, since it ends at a vertex
            options={"time_limit": _LP_SECONDS},
        )
        if result.status == _INFEASIBLE:
            return None
        if result.status != 0:
            raise RuntimeError(f"HiGHS did not solve the batch: {result.message}")
        shares = np.zeros(self.problem.quality.shape)
        shares[self.row, self.model] = result.x
        return shares, float(result.fun) * scale, -float(result.ineqlin.marginals[-1]) * scale

    def best(self) -> Integers:
        """(n,) the choice of the best quality within the limits; of equally good ones the cheapest.

        The constraints are those of a transportation problem, whose vertices are integral.
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
            options={"time_limit": _LP_SECONDS},
        )
        if result.status == _INFEASIBLE:
            raise ValueError(
                f"the capacities are too small for the batch: its {len(self.problem.quality)} "
                "queries do not fit on their candidate models"
            )
        if result.status != 0:
            raise RuntimeError(f"HiGHS did not solve the batch: {result.message}")
        shares = np.zeros(self.problem.quality.shape)
        shares[self.row, self.model] = result.x
        choice: Integers = shares.argmax(axis=1)
        return choice


def _growing(problem: Problem, shares: Floats, multiplier: float) -> Iterator[Integers]:
    """The queries to assign anew: the split ones and, each time, more of those of least regret."""
    split = shares.max(axis=1) < 1 - 1e-6
    value = problem.cost - multiplier * problem.quality
    chosen = value[np.arange(len(value)), shares.argmax(axis=1)]
    others = np.where(shares > 0.5, np.inf, value)
    regret = np.where(split, -np.inf, np.abs(others.min(axis=1) - chosen))
    order = np.argsort(regret)
    for extra in _EXTRA_QUERIES:
        yield order[: int(split.sum()) + extra]


def _settle(problem: Problem, limits: Floats, shares: Floats, rows: Integers) -> Integers | None:
    """Assigns the queries `rows` by an integer program and the others as in `shares`.

    Returns:
        The choice (n,); None if the program found none that meets the requirement.
    """
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
        options={"time_limit": _INTEGER_SECONDS, "mip_rel_gap": _RELATIVE_GAP},
    )
    if result.x is None:
        return None
    whole = np.zeros((len(rows), m))
    whole[part.row, part.model] = result.x
    choice[rows] = whole.argmax(axis=1)
    return choice
