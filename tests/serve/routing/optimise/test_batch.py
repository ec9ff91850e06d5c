"""Promise: a batch costs little more than its proven bound, and capacities hold."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from serve.routing.arrays import Floats
from serve.routing.optimise.batch import assign


def batch(n: int, m: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Dearer models are better and harder queries worse for all models, with noise on both."""
    random = np.random.default_rng(seed)
    cost = np.geomspace(1e-5, 1e-2, m) * np.exp(random.normal(0, 0.5, (n, m)))
    skill = np.linspace(-1, 1.5, m) + random.normal(0, 1, (n, 1)) + random.normal(0, 0.5, (n, m))
    return 1 / (1 + np.exp(-skill)), cost


def between(quality: Floats, cost: Floats, part: float) -> float:
    """A requirement between the quality of the cheapest models and that of the best."""
    least = quality[np.arange(len(quality)), cost.argmin(axis=1)].mean()
    return float(least + part * (quality.max(axis=1).mean() - least))


def integer_optimum(quality: Floats, cost: Floats, requirement: float) -> float:
    n, m = quality.shape
    one_each = np.kron(np.eye(n), np.ones(m))
    result = milp(
        cost.ravel(),
        integrality=np.ones(n * m),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(quality.reshape(1, -1), requirement * n, np.inf),
        ],
    )
    return float(result.fun)


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(("n", "m"), [(1000, 20), (2000, 5), (5000, 13)])
def test_a_large_batch_is_within_a_thousandth_of_the_bound(n: int, m: int, part: float) -> None:
    quality, cost = batch(n, m)
    requirement = between(quality, cost, part)
    answer = assign(quality, cost, requirement)
    assert answer.shortfall == 0
    assert answer.quality >= requirement - 1e-8
    assert 0 <= answer.gap <= 0.001


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 10**6), st.integers(0, 99))
def test_the_bound_is_below_the_integer_optimum_and_the_totals_are_true(
    n: int, m: int, seed: int, part: int
) -> None:
    quality, cost = batch(n, m, seed)
    requirement = between(quality, cost, part / 100)
    answer = assign(quality, cost, requirement)
    optimum = integer_optimum(quality, cost, requirement)
    assert answer.lower_bound <= optimum * (1 + 1e-6)
    assert answer.cost >= optimum * (1 - 1e-6)
    rows = np.arange(n)
    assert answer.cost == pytest.approx(cost[rows, answer.choice].sum())
    assert answer.quality == pytest.approx(quality[rows, answer.choice].mean())


def test_a_requirement_that_the_cheapest_models_meet_costs_no_more_than_they_do() -> None:
    quality, cost = batch(200, 6)
    answer = assign(quality, cost, 0.0)
    assert answer.multiplier == 0
    assert (answer.choice == cost.argmin(axis=1)).all()


def test_of_models_of_one_price_the_best_is_chosen() -> None:
    answer = assign([[0.2, 0.8], [0.9, 0.1]], np.ones((2, 2)), 0.0)
    assert list(answer.choice) == [1, 0]


def test_an_unreachable_requirement_gives_the_best_quality_and_the_shortfall() -> None:
    quality, cost = batch(300, 6)
    answer = assign(quality, cost, 1.0)
    assert (answer.choice == quality.argmax(axis=1)).all()
    assert answer.shortfall == pytest.approx(1.0 - quality.max(axis=1).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_only_allowed_models_are_chosen(seed: int, part: float) -> None:
    quality, cost = batch(60, 5, seed)
    allowed = np.random.default_rng(seed).random((60, 5)) < 0.5
    allowed[np.arange(60), np.random.default_rng(seed + 1).integers(0, 5, 60)] = True
    answer = assign(quality, cost, between(quality, cost, part), allowed=allowed)
    assert allowed[np.arange(60), answer.choice].all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.integers(20, 40))
def test_no_model_gets_more_than_its_capacity(seed: int, part: float, each: int) -> None:
    quality, cost = batch(80, 4, seed)
    limits = np.array([each, each, each, np.inf])
    answer = assign(quality, cost, between(quality, cost, part), capacities=limits)
    assert (np.bincount(answer.choice, minlength=4) <= limits).all()
    assert answer.cost >= answer.lower_bound - 1e-9


def test_with_capacities_too_the_cost_is_near_the_bound() -> None:
    quality, cost = batch(1000, 8)
    requirement = between(quality, cost, 0.4)
    free = assign(quality, cost, requirement)
    limits = np.full(8, 150.0)
    answer = assign(quality, cost, requirement, capacities=limits)
    assert (np.bincount(answer.choice, minlength=8) <= 150).all()
    assert answer.shortfall == 0
    assert answer.cost > free.cost
    assert answer.gap <= 0.001


def test_capacities_that_keep_quality_down_give_the_best_and_the_shortfall() -> None:
    quality = np.tile([0.2, 0.9], (10, 1))
    answer = assign(quality, np.tile([1.0, 2.0], (10, 1)), 0.8, capacities=[10, 4])
    assert np.bincount(answer.choice).tolist() == [6, 4]
    assert answer.shortfall == pytest.approx(0.8 - (6 * 0.2 + 4 * 0.9) / 10)


def test_capacities_too_small_for_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="10 queries"):
        assign(np.full((10, 2), 0.5), np.ones((10, 2)), 0.1, capacities=[4, 5])


def test_capacities_and_candidates_hold_together() -> None:
    quality, cost = np.full((4, 2), 0.5), np.tile([1.0, 5.0], (4, 1))
    allowed = [[True, True], [True, True], [True, False], [True, False]]
    answer = assign(quality, cost, 0.1, allowed=allowed, capacities=[2, 2])
    assert answer.choice.tolist() == [1, 1, 0, 0]


def test_an_empty_batch_gives_an_empty_choice() -> None:
    answer = assign(np.zeros((0, 3)), np.zeros((0, 3)), 0.7)
    assert answer.choice.size == 0
    assert answer.cost == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": [[0.5, np.nan]]}, "quality"),
        ({"quality": [[0.5, 1.5]]}, "quality"),
        ({"cost": [[1.0, -1.0]]}, "cost"),
        ({"cost": [[1.0, np.inf]]}, "cost"),
        ({"cost": [[1.0]]}, "shape"),
        ({"requirement": 1.2}, "performance_requirement"),
        ({"requirement": float("nan")}, "performance_requirement"),
        ({"allowed": [[False, False]]}, "query 0 has no candidate"),
        ({"capacities": [1.0, -1.0]}, "capacities"),
        ({"capacities": [1.0]}, "capacities"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"quality": [[0.5, 0.6]], "cost": [[1.0, 2.0]], "requirement": 0.5}
    with pytest.raises(ValueError, match=message):
        assign(**good | change)
