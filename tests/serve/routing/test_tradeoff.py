"""Promise: the curve says what each quality costs at least, as predicted, and corrects what
predictions promise too much."""

import numpy as np
import pytest

from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import Backtest
from serve.routing.tradeoff import MOST_QUERIES, STEPS, Tradeoff, tradeoff

COLUMNS = [0, 1, 2]


def past(rows: int = 2000, excess: float = 0.0) -> tuple[Backtest, Floats]:
    """Predictions that are too high by `excess`, and costs: better models cost more."""
    random = np.random.default_rng(0)
    means = np.array([0.5, 0.7, 0.9])
    truth = np.clip(means + random.normal(0, 0.1, (rows, 3)), 0, 0.95)
    quality = np.clip(truth + excess, 0, 1)
    cost = np.array([1e-6, 5e-6, 2e-5]) * random.uniform(0.5, 2, (rows, 3))
    return Backtest(quality, np.ones((rows, 3)), truth), cost


def curve(excess: float = 0.0, columns: list[int] = COLUMNS) -> Tradeoff:
    found = tradeoff(*past(excess=excess), columns)
    assert found is not None
    return found


def test_more_quality_costs_more_from_the_cheapest_choices_to_the_best() -> None:
    found = curve()
    assert len(found.points) == STEPS
    assert found.queries == MOST_QUERIES
    for low, high in zip(found.points, found.points[1:], strict=False):
        assert low.requirement <= high.requirement
        assert low.cost <= high.cost * (1 + 1e-9)
    for point in found.points:
        assert point.quality >= point.requirement - 1e-6
        assert sum(point.shares.values()) == pytest.approx(1)
    assert found.points[0].shares[0] > 0.9
    best_quality, best_cost = found.models[2]
    assert found.at(best_quality)[1] < best_cost, "cheaper than always using the best model"


def test_what_predictions_promise_too_much_is_taken_off() -> None:
    fair, rosy = curve(), curve(excess=0.05)
    for (exact, _), (corrected, _) in zip(fair.models, rosy.models, strict=True):
        assert corrected == pytest.approx(exact, abs=0.01)
    assert rosy.at(0.8)[1] == pytest.approx(fair.at(0.8)[1], rel=0.1)


def test_between_the_points_it_is_a_line_and_beyond_them_their_ends() -> None:
    found = curve()
    assert found.at(0.0) == (found.points[0].quality, found.points[0].cost)
    assert found.at(1.0) == (found.points[-1].quality, found.points[-1].cost)
    assert found.points[9].cost <= found.at(found.points[9].requirement)[1] <= found.points[11].cost


def test_only_the_given_models_count_and_are_named_by_their_columns() -> None:
    found = curve(columns=[2, 0])
    assert len(found.models) == 2
    assert {column for point in found.points for column in point.shares} == {0, 2}


def test_where_no_past_query_is_known_there_is_none() -> None:
    none = np.zeros((0, 3))
    assert tradeoff(Backtest(none, none, none), none, COLUMNS) is None
