"""The batch optimiser without capacities: the Lagrangian dual solved exactly, then repaired.

With one multiplier λ (USD for one unit of quality) the dual is a concave, piecewise linear function
of λ. A cutting-plane search finds its exact maximum, which is also the optimum of the LP relaxation
and thus a lower bound of any assignment's cost. The two choices that are optimal there lie on
either side of the target; queries are moved from one to the other until the target is met, and
then the spare quality is spent on cheaper models. Source of the search: Handler and Zang, "A dual
algorithm for the constrained shortest path problem", Networks 10 (1980).
"""

import numpy as np

from serve.routing.arrays import Integers
from serve.routing.optimise.problem import Assignment, Problem

_MAX_CUTS = 200  # a few dozen suffice; the bound guards against cycling by rounding errors
_MAX_MOVES = 50  # of one or two queries, when spending spare quality
_POOL = 384  # moves considered there; pairs of them are compared, so memory is quadratic
_CLOSE_ENOUGH = 1e-5  # relative gap at which the search for cheaper moves stops


def solve(problem: Problem) -> Assignment:
    """The cheapest assignment found that meets the requirement, else the best possible one."""
    low, high = problem.cheapest(), problem.best()
    if problem.meets(problem.totals(low)[0]):
        return problem.assignment(low, 0.0, problem.totals(low)[1])
    if not problem.meets(problem.totals(high)[0]):
        return problem.assignment(high, np.inf, problem.totals(high)[1])
    low, high, multiplier = _search(problem, low, high)
    quality, cost = problem.totals(low)
    bound = cost + multiplier * (problem.target - quality)
    choice = _tighten(problem, _fill(problem, low, high), multiplier, bound)
    return problem.assignment(choice, multiplier, bound)


def _search(problem: Problem, low: Integers, high: Integers) -> tuple[Integers, Integers, float]:
    """The multiplier that maximises the dual, and an optimal choice on each side of the target.

    A query for which both sides agree keeps that choice at every multiplier in between, so each cut
    looks at fewer queries than the one before.

    Args:
        problem: whose requirement `high` meets and `low` doesn't.
        low: (n,) the cheapest choice.
        high: (n,) the best choice.

    Returns:
        Both choices, moved together, and the multiplier in USD for one unit of quality.
    """
    low, high = low.copy(), high.copy()
    multiplier = 0.0
    for _ in range(_MAX_CUTS):
        open_rows = np.flatnonzero(low != high)
        q, c = problem.quality[open_rows], problem.cost[open_rows]
        at = np.arange(len(open_rows))
        low_q, low_c = q[at, low[open_rows]], c[at, low[open_rows]]
        gain = float((q[at, high[open_rows]] - low_q).sum())
        extra = float((c[at, high[open_rows]] - low_c).sum())
        if gain <= 0:
            break
        multiplier = extra / gain
        value = c - multiplier * q
        cut = value.argmin(axis=1)
        below = low_c - multiplier * low_q - value[at, cut]
        if below.sum() <= 1e-12 * max(extra, 1e-300):
            break
        side = low.copy()
        # A query that gains nothing by moving stays, so that ties can't keep the search going.
        side[open_rows] = np.where(below > 0, cut, low[open_rows])
        if problem.meets(problem.totals(side)[0]):
            high = side
        else:
            low = side
    return low, high, multiplier


def _fill(problem: Problem, low: Integers, high: Integers) -> Integers:
    """Moves queries from `low` to `high`, the largest gain first, until the target is met."""
    choice = low.copy()
    rows = np.flatnonzero(low != high)
    gain = problem.quality[rows, high[rows]] - problem.quality[rows, low[rows]]
    order = np.argsort(-gain)
    reached = problem.totals(low)[0] + np.cumsum(gain[order])
    enough = int(np.argmax(reached >= problem.target)) + 1
    if reached.size and reached[-1] < problem.target:
        enough = len(order)
    moved = rows[order[:enough]]
    choice[moved] = high[moved]
    return choice


def _tighten(problem: Problem, choice: Integers, multiplier: float, bound: float) -> Integers:
    """Spends quality in excess of the target, by the one or two moves that save most each time.

    The cost of an assignment above the bound is the sum of its regrets at the multiplier plus the
    price of its excess quality. So only moves of little regret can bring it close to the bound.
    """
    choice = choice.copy()
    quality, cost = problem.totals(choice)
    if cost - bound <= _CLOSE_ENOUGH * bound:
        return choice
    row, model = _least_regret(problem, choice, multiplier)
    possible = (row[:, None] != row) | np.eye(len(row), dtype=np.bool_)
    for _ in range(_MAX_MOVES if row.size else 0):
        gain = problem.quality[row, model] - problem.quality[row, choice[row]]
        extra = problem.cost[row, model] - problem.cost[row, choice[row]]
        total = extra[:, None] + extra
        # A query can't move twice: on the diagonal, a pair of moves stands for a single one.
        np.fill_diagonal(total, extra)
        both = gain[:, None] + gain
        np.fill_diagonal(both, gain)
        total[~possible | (quality + both < problem.target)] = np.inf
        first, second = np.unravel_index(int(total.argmin()), total.shape)
        if total[first, second] >= 0:
            break
        choice[row[[first, second]]] = model[[first, second]]
        quality, cost = problem.totals(choice)
        if cost - bound <= _CLOSE_ENOUGH * bound:
            break
    return choice


def _least_regret(
    problem: Problem, choice: Integers, multiplier: float
) -> tuple[Integers, Integers]:
    """The moves away from `choice` of least regret at the multiplier, as queries and models."""
    value = problem.cost - multiplier * problem.quality
    value -= value.min(axis=1, keepdims=True)
    value[np.arange(len(choice)), choice] = np.inf
    pool = min(_POOL, value.size)
    flat = np.argpartition(value, pool - 1, axis=None)[:pool]
    flat = flat[np.isfinite(value.ravel()[flat])]
    row, model = np.unravel_index(flat, value.shape)
    return row, model
