"""Promise: a model that may be better than is known is asked now and then, within the budget."""

from collections.abc import Iterator

import numpy as np
import pytest

from serve.routing.optimise.exploring import Explorer, Pick

# The first is the best one, the second is hardly known, the third well known and bad.
ORDER = [0, 1, 2]
QUALITY = np.array([0.7, 0.5, 0.4])
COST = np.array([1.0, 1.0, 1.0])
SCORES = np.array([1000, 6, 1000])
MULTIPLIER = 5.0


def picks(
    share: float,
    requests: int,
    draws: Iterator[float] | None = None,
    *,
    cost: np.ndarray = COST,
    scores: np.ndarray = SCORES,
) -> list[Pick]:
    explorer = Explorer(share, lambda: 0.0 if draws is None else next(draws))
    return [explorer.pick(ORDER, QUALITY, cost, MULTIPLIER, scores) for _ in range(requests)]


@pytest.mark.parametrize(("cost", "fee"), [(COST, 1.0), (np.array([1.0, 1.5, 1.0]), 1.5)])
def test_what_explored_answers_cost_stays_within_the_share_of_the_spend(
    cost: np.ndarray, fee: float
) -> None:
    explored = [pick for pick in picks(0.05, 5_000, cost=cost) if pick.explores]
    assert {pick.column for pick in explored} == {1}
    assert 0.7 * 0.05 * 5_000 < len(explored) * fee <= 0.05 * 5_000


@pytest.mark.parametrize("cost", [np.zeros(3), np.array([3.0, 1.0, 3.0])])
def test_free_and_cheaper_models_are_explored_no_more_often(cost: np.ndarray) -> None:
    explored = sum(pick.explores for pick in picks(0.05, 5_000, cost=cost))
    assert 0.7 * 0.05 * 5_000 < explored <= 0.05 * 5_000


def test_no_more_than_one_of_ten_requests_explores() -> None:
    random = np.random.default_rng(0)
    explored = sum(pick.explores for pick in picks(1.0, 5_000, iter(random.random, None)))
    assert explored == pytest.approx(500, abs=100)


def test_propensities_are_the_frequencies_of_the_picks() -> None:
    """What was picked, weighted by 1 / propensity, counts each request once for each model."""
    random = np.random.default_rng(0)
    made = [pick for pick in picks(1.0, 20_000, iter(random.random, None)) if pick.propensity < 1]
    for explores in (True, False):
        weighted = sum(1 / pick.propensity for pick in made if pick.explores == explores)
        assert weighted == pytest.approx(len(made), rel=0.1)


def test_without_a_share_or_a_promising_model_the_best_one_is_asked() -> None:
    assert set(picks(0.0, 1_000)) == {Pick(0)}
    well_known = np.array([1000, 1000, 1000])
    assert set(picks(1.0, 1_000, scores=well_known)) == {Pick(0)}


def test_no_more_is_saved_than_ten_thousand_requests_save() -> None:
    explorer = Explorer(0.01, lambda: 0.0)
    for _ in range(100_000):
        explorer.pick(ORDER, QUALITY, COST, MULTIPLIER, np.array([1000, 1000, 1000]))
    explored = 0
    while explorer.pick(ORDER, QUALITY, COST, MULTIPLIER, SCORES).explores:
        explored += 1
    assert explored <= 102
