"""Promise: estimates of what was not chosen are right on average if predictions or propensities
are, and their intervals cover the truth."""

from dataclasses import replace

import numpy as np
import pytest

from serve.routing.arrays import Floats
from serve.routing.counterfactual import Estimate, Log, estimate

N, M = 400, 3
TARGET = 2


def truth(seed: int) -> Floats:
    """(N, M) outcomes, of which the models' means differ."""
    random = np.random.default_rng(seed)
    return (random.random((N, M)) < [0.4, 0.6, 0.8]).astype(np.float64)


def logged(seed: int, shares: list[float], predicted: Floats, doubt: float = 0.0) -> Log:
    """A log of models chosen at random with these shares."""
    random = np.random.default_rng([seed, 1])
    chosen = random.choice(M, N, p=shares)
    propensity = np.array(shares)[chosen]
    seen = truth(seed)[np.arange(N), chosen]
    return Log(chosen, propensity, seen, predicted, np.zeros((0, M)), doubt)


def always(column: int, rows: int = N) -> Floats:
    wanted = np.zeros((rows, M))
    wanted[:, column] = 1.0
    return wanted


def mean_error(logs: list[Log]) -> tuple[float, float]:
    """Of the estimates of a model that was seldom chosen: the mean, and its standard error."""
    errors = [
        estimate(log, always(TARGET)).mean - truth(seed)[:, TARGET].mean()
        for seed, log in enumerate(logs)
    ]
    return float(np.mean(errors)), float(np.std(errors) / len(errors) ** 0.5)


def test_wrong_predictions_do_no_harm_if_the_propensities_are_right() -> None:
    wrong = np.full((N, M), 0.1)
    mean, error = mean_error([logged(seed, [0.6, 0.3, 0.1], wrong) for seed in range(400)])
    assert abs(mean) < 4 * error < 0.02


def test_wrong_propensities_do_no_harm_if_the_predictions_are_right() -> None:
    right = np.tile([0.4, 0.6, 0.8], (N, 1))
    logs = [logged(seed, [0.6, 0.3, 0.1], right) for seed in range(400)]
    mean, error = mean_error([replace(log, propensity=np.full(N, 0.5)) for log in logs])
    assert abs(mean) < 4 * error < 0.02


def test_scores_that_are_missing_do_no_harm_if_only_the_model_decides_which() -> None:
    wrong = np.full((N, M), 0.1)
    logs = []
    for seed in range(400):
        log = logged(seed, [0.4, 0.3, 0.3], wrong)
        missing = np.random.default_rng([seed, 2]).random(N) < np.array([0.1, 0.5, 0.7])[log.chosen]
        logs.append(replace(log, outcome=np.where(missing, np.nan, log.outcome)))
    mean, error = mean_error(logs)
    assert abs(mean) < 4 * error < 0.02


@pytest.mark.parametrize("shares", [[0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
def test_the_interval_covers_the_truth(shares: list[float]) -> None:
    rough = np.tile([0.5, 0.5, 0.6], (N, 1))
    covered = []
    for seed in range(500):
        low, high = estimate(logged(seed, shares, rough), always(TARGET)).interval
        covered.append(low <= truth(seed)[:, TARGET].mean() <= high)
    assert np.mean(covered) >= 0.93


def test_what_was_seen_for_certain_is_known_exactly() -> None:
    log = Log(
        np.full(N, TARGET), np.ones(N), truth(0)[:, TARGET], np.zeros((N, M)), np.zeros((0, M)), 0.1
    )
    known = estimate(log, always(TARGET))
    assert known.mean == pytest.approx(truth(0)[:, TARGET].mean())
    assert known.error == pytest.approx(0, abs=1e-9)
    assert known.seen == 1


def test_where_nothing_had_a_chance_the_prediction_stands_with_all_its_doubt() -> None:
    log = Log(np.zeros(N, np.int64), np.ones(N), truth(0)[:, 0], np.full((N, M), 0.7), NONE, 0.1)
    guessed = estimate(log, always(TARGET))
    assert guessed.seen == 0
    assert guessed.error > 0.1


def test_errors_on_other_queries_correct_what_was_never_seen() -> None:
    others = np.full((200, M), np.nan)
    others[:, TARGET] = 0.5
    predicted = np.full((N + 200, M), 0.9)
    log = Log(np.zeros(N, np.int64), np.ones(N), np.full(N, 0.9), predicted, others, 0.0)
    found = estimate(log, always(TARGET, N + 200))
    assert found.mean == pytest.approx(0.5, abs=0.05)


def test_the_same_estimates_in_other_units_of_cost() -> None:
    predicted = np.random.default_rng(0).uniform(1, 2, (N, M))

    def found(unit: float) -> Estimate:
        log = replace(logged(0, [0.6, 0.3, 0.1], predicted * unit, 0.1), relative=True)
        log = replace(log, outcome=(log.outcome + 1) * unit)
        return estimate(log, always(TARGET))

    dollars, cents = found(1.0), found(100.0)
    assert cents.mean == pytest.approx(100 * dollars.mean)
    assert cents.error == pytest.approx(100 * dollars.error)


NONE = np.zeros((0, M))


def test_impossible_logs_are_refused() -> None:
    nothing = np.zeros(0)
    with pytest.raises(ValueError, match="no requests"):
        Log(nothing.astype(np.int64), nothing, nothing, NONE, NONE, 0.0)
    with pytest.raises(ValueError, match="propensity must be above 0"):
        replace(logged(0, [0.6, 0.3, 0.1], np.zeros((N, M))), propensity=np.zeros(N))
