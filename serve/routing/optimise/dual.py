"""The batch optimiser: every query on one model, at the least cost that holds the mean quality.

    minimise Σ cost[i, x_i]   subject to   Σ quality[i, x_i] >= n · requirement,
                                           no model taken more often than its capacity.

Without capacities the Lagrangian dual has one multiplier λ (USD for one unit of quality) and is a
concave, piecewise linear function of it, so that a cutting-plane search finds its exact maximum,
which is also the optimum of the LP relaxation. Source: Handler and Zang, "A dual algorithm for the
constrained shortest path problem", Networks 10 (1980). With capacities, see `capacities`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

_MAX_CUTS = 200  # the search ends by itself after a few tens; floats must not make it endless
_MAX_MOVES = 50
_POOL = 384
_CLOSE_ENOUGH = 1e-5  # relative gap under which looking for a cheaper move stops


@dataclass(frozen=True, slots=True)
class Assignment:
    """One model for each query.

    Attributes:
        choice: (n,) column of the chosen model for each query.
        cost: predicted cost of the batch, in USD.
        quality: mean predicted quality.
        multiplier: USD that one unit of quality was worth; infinite where cost played no part.
        lower_bound: no assignment that reaches this quality costs less than this, in USD.
        shortfall: how far `quality` stays under the requirement; 0 where it is met.
    """

    choice: Integers
    cost: float
    quality: float
    multiplier: float
    lower_bound: float
    shortfall: float

    @property
    def gap(self) -> float:
        """Proven upper limit of what could be saved, as a part of the lower bound."""
        excess = self.cost - self.lower_bound
        if excess <= 0:
            return 0.0
        return excess / self.lower_bound if self.lower_bound > 0 else np.inf


@dataclass(frozen=True, slots=True)
class Problem:
    """A checked batch. `cost` is infinite and `quality` 0 where a model is not allowed."""

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
        """Checks what a caller gave; all arrays are (n queries, m models).

        Raises:
            ValueError: shapes differ, a number is out of its range, a query has no candidate.
        """
        q = np.array(quality, dtype=np.float64)
        c = np.array(cost, dtype=np.float64)
        mask = np.ones(q.shape, np.bool_) if allowed is None else np.asarray(allowed, np.bool_)
        if q.ndim != 2 or q.shape != c.shape or q.shape != mask.shape:
            raise ValueError(
                "quality, cost and allowed must have one shape (queries, models), not "
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
        """The sum of qualities to reach."""
        return self.requirement * len(self.quality)

    def totals(self, choice: Integers) -> tuple[float, float]:
        """Sums of quality and cost of an assignment."""
        rows = np.arange(len(choice))
        return float(self.quality[rows, choice].sum()), float(self.cost[rows, choice].sum())

    def meets(self, total_quality: float) -> bool:
        """Whether a sum of qualities reaches the target, up to the tolerance of the solvers."""
        return total_quality >= self.target - 1e-6

    def cheapest(self) -> Integers:
        """The cheapest model of each query, the better one of equals."""
        tied = self.cost <= self.cost.min(axis=1, keepdims=True)
        choice: Integers = np.where(tied, self.quality, -np.inf).argmax(axis=1)
        return choice

    def best(self) -> Integers:
        """The best model of each query, the cheaper one of equals."""
        allowed = np.isfinite(self.cost)
        quality = np.where(allowed, self.quality, -np.inf)
        tied = quality >= quality.max(axis=1, keepdims=True)
        choice: Integers = np.where(tied, self.cost, np.inf).argmin(axis=1)
        return choice

    def assignment(self, choice: Integers, multiplier: float, lower_bound: float) -> Assignment:
        """Describes `choice`."""
        quality, cost = self.totals(choice)
        missing = 0.0 if self.meets(quality) else self.requirement - quality / len(choice)
        mean = quality / len(choice) if len(choice) else 0.0
        return Assignment(choice, cost, mean, multiplier, min(lower_bound, cost), missing)


def check_requirement(requirement: float) -> None:
    """Raises ValueError unless `requirement` is a quality between 0 and 1."""
    if not 0 <= requirement <= 1:
        raise ValueError(f"performance_requirement must be between 0 and 1, not {requirement}")


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
        requirement: mean quality to hold. Where it can't be held, the best quality is chosen and
            the answer's `shortfall` says by how much it stays under.
        allowed: (n, m) whether a model is a candidate for a query; all are without it.
        capacities: (m,) most queries of this batch that a model may get; infinite for no limit.

    Raises:
        ValueError: the arrays don't fit together, a number is out of its range, a query has no
            candidate, or the capacities don't hold the batch.
    """
    problem = Problem.of(quality, cost, requirement, allowed)
    free = _assign_freely(problem)
    if capacities is None:
        return free
    from serve.routing.optimise.capacities import assign_within, check_capacities

    limits = check_capacities(capacities, problem.quality.shape[1])
    if (np.bincount(free.choice, minlength=len(limits)) <= limits).all():
        return free
    return assign_within(problem, limits)


def above_floor(quality: Floats, cost: Floats, floor: float, allowed: Booleans) -> Integers:
    """Columns of the allowed models, best first: those with at least the quality `floor` by their
    cost, then the others by their quality; arrays (m,).

    Raises:
        ValueError: no model is allowed.
    """
    if not allowed.any():
        raise ValueError("the request has no candidate model")
    enough = quality >= floor
    order: Integers = np.lexsort((np.where(enough, cost, -quality), ~enough))
    return order[allowed[order]]


def _assign_freely(problem: Problem) -> Assignment:
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
    """The multiplier of the dual's maximum, and an optimal choice there on either side of the
    target. Rows whose two sides agree keep their choice for all multipliers between, so each cut
    looks at fewer rows than the one before."""
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
        # A row that gains nothing by moving stays: ties must not hide that the search is over.
        side[open_rows] = np.where(below > 0, cut, low[open_rows])
        if problem.meets(problem.totals(side)[0]):
            high = side
        else:
            low = side
    return low, high, multiplier


def _fill(problem: Problem, low: Integers, high: Integers) -> Integers:
    """Moves rows from `low` to `high`, largest gain first, until the target is met."""
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
    """Spends what `choice` has over the target: the one or two moves that save most, repeatedly.

    What an assignment costs over the bound is the sum of its regrets at the multiplier and the
    price of what it has over the target, so only the moves of least regret can come close to it.
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
        # Two moves of one query are one move; the diagonal stands for a move alone.
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
    """Rows and models of the moves away from `choice` that cost least at the multiplier."""
    value = problem.cost - multiplier * problem.quality
    value -= value.min(axis=1, keepdims=True)
    value[np.arange(len(choice)), choice] = np.inf
    pool = min(_POOL, value.size)
    flat = np.argpartition(value, pool - 1, axis=None)[:pool]
    flat = flat[np.isfinite(value.ravel()[flat])]
    row, model = np.unravel_index(flat, value.shape)
    return row, model
