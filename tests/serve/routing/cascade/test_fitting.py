"""Promise: probes are sent where they pay on queries that nothing was fitted on, and only there."""

import numpy as np
import pytest

from serve.routing.arrays import Floats
from serve.routing.cascade.choosing import Cascade
from serve.routing.cascade.fitting import candidate_pairs, fit_cascade, followed
from serve.routing.cascade.posterior import Calibration, Past

COSTS = [1e-5, 1.1e-5, 1e-3]  # USD: two cheap models, and a good one
PAIR = (0, 1)


def past(n: int = 1_000, *, telling: bool, seed: int = 0) -> Past:
    """Queries of all degrees of ease: cheap models know two thirds of the answers, the other one
    nine in ten. Only if agreement is `telling`, the cheap ones agree on right answers alone."""
    random = np.random.default_rng(seed)
    ease = random.random(n)
    quality = np.column_stack([0.36 + 0.6 * ease, 0.34 + 0.6 * ease, 0.85 + 0.1 * ease])
    luck = random.random((n, 3))
    luck[: n // 2, 1] = luck[: n // 2, 0]  # cheap models know much the same
    truth = (luck < quality).astype(np.float64)
    both = truth[:, 0] * truth[:, 1]
    agreement = both if telling else (random.random(n) < both.mean()).astype(np.float64)
    return Past(quality, np.tile(COSTS, (n, 1)), truth, {PAIR: agreement})


def reached(past: Past, cascade: Cascade, multiplier: float) -> tuple[float, float]:
    quality, cost = followed(past, cascade.plan(past.quality, past.cost, multiplier))
    return float(quality.mean()), float(cost.mean())


def test_where_agreement_tells_right_from_wrong_probing_costs_less_for_more_quality() -> None:
    fitted = fit_cascade(past(telling=True)).cascade
    assert [probes.models for probes in fitted.probes] == [PAIR]
    quality, cost = reached(past(telling=True, seed=1), fitted, 1.0)
    assert quality > 0.92  # the good model alone: .9
    assert cost < 0.6 * COSTS[2]


def test_where_agreement_tells_nothing_nobody_is_probed() -> None:
    fitted = fit_cascade(past(telling=False)).cascade
    assert not len(fitted.plan(*_arrays(past(telling=False, seed=1)), 3e-3).probes)


def test_a_few_past_answers_do_no_harm() -> None:
    fitted = fit_cascade(past(20, telling=False)).cascade
    plain = Cascade(fitted.alone, [])
    fresh = past(telling=False, seed=1)
    for multiplier in (1e-5, 1e-3, 1e-1):
        quality, cost = reached(fresh, fitted, multiplier)
        without, cheaper = reached(fresh, plain, multiplier)
        assert multiplier * quality - cost >= multiplier * (without - 0.02) - cheaper


@pytest.mark.parametrize("requirement", [0.7, 0.8, 0.9])
def test_the_multiplier_holds_a_requirement_on_new_queries(requirement: float) -> None:
    fitted = fit_cascade(past(telling=True))
    quality, _ = reached(past(telling=True, seed=1), fitted.cascade, fitted.multiplier(requirement))
    assert quality > requirement - 0.03


def test_a_requirement_that_the_cheapest_holds_costs_nothing_more() -> None:
    assert fit_cascade(past(telling=True)).multiplier(0.2) == 0.0


def test_a_requirement_out_of_reach_gets_the_best_that_there_is() -> None:
    fitted = fit_cascade(past(telling=True))
    assert np.isfinite(fitted.multiplier(1.0))
    quality, _ = reached(past(telling=True, seed=1), fitted.cascade, fitted.multiplier(1.0))
    assert quality > 0.92


def test_unknown_outcomes_and_answers_are_left_out() -> None:
    known = past(telling=True)
    hidden = np.random.default_rng(2).random(known.truth.shape) < 0.3
    partly = Past(
        known.quality,
        known.cost,
        np.where(hidden, np.nan, known.truth),
        {PAIR: np.where(hidden[:, 0], np.nan, known.agreement[PAIR])},
    )
    quality, _ = reached(known, fit_cascade(partly).cascade, 1.0)
    assert quality > 0.92


def test_a_probes_own_answer_is_not_paid_for_twice() -> None:
    known = past(telling=True)
    plan = fit_cascade(known).cascade.plan(known.quality, known.cost, 1.0)
    _, cost = followed(known, plan)
    agreed = known.agreement[PAIR] == 1
    assert np.allclose(cost[agreed], COSTS[0] + COSTS[1])
    assert np.allclose(cost[~agreed], sum(COSTS))


def test_probes_are_cheap_models() -> None:
    cost = np.tile([1.0, 0.2, 0.1, 0.3], (5, 1))
    truth = np.tile([0.9, 0.5, 0.6, 0.8], (5, 1))
    assert candidate_pairs(cost, truth) == [(1, 2)]


def test_where_all_models_are_free_there_is_nothing_to_save() -> None:
    known = past(200, telling=True)
    free = np.zeros_like(known.cost)
    assert candidate_pairs(free, known.truth) == []
    fitted = fit_cascade(Past(known.quality, free, known.truth, {}))
    assert fitted.multiplier(0.9) == 0.0


def test_without_outcomes_predictions_stay_as_they_are() -> None:
    quality = np.array([[0.2, 0.9]])
    calibration = Calibration.fit(quality, np.full((1, 2), np.nan))
    assert np.allclose(calibration.corrected(quality), quality)


def test_predictions_that_are_always_too_high_are_lowered() -> None:
    quality = np.full((1_000, 1), 0.9)
    truth = (np.arange(1_000) % 2).astype(np.float64)[:, None]
    assert Calibration.fit(quality, truth).corrected(quality)[0, 0] == pytest.approx(0.5, abs=0.01)


def _arrays(past: Past) -> tuple[Floats, Floats]:
    return past.quality, past.cost
